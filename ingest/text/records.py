"""The text of a record: which of its fields holds it."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.errors import BadInput

TEXT_FIELDS = ("text", "content", "story")
"""Fields that hold the text of a record, first choice first, where none is named."""


class RecordReader:
    """The text of each record of one file; its first record decides which field that is."""

    def __init__(self, text_field: str | None) -> None:
        self._wanted = text_field
        self._field: str | None = None

    def __call__(self, record: object, where: str) -> str:
        """The record's text; where: what a sentence about it begins with."""
        if isinstance(record, str):
            return record
        if not isinstance(record, dict):
            raise BadInput(f"{where} is neither a text nor an object; correct it or take it out.")
        if self._field is None:
            likely = (self._wanted, *TEXT_FIELDS)
            columns = {
                name: isinstance(value, str) or (value is None and name in likely)
                for name, value in record.items()
            }
            self._field = choose_field(columns, self._wanted, where)
        if self._field not in record:
            raise BadInput(
                f"{where} has no field {self._field!r}, only {_list(record)}; correct it or name "
                "the field that all have with --text-field."
            )
        text = record[self._field]
        if not isinstance(text, str | None):
            raise BadInput(
                f"{where} has no text in its field {self._field!r}, but a {type(text).__name__}; "
                "correct it or name another field with --text-field."
            )
        return text or ""


def choose_field(columns: Mapping[str, bool], wanted: str | None, where: str) -> str:
    """The column that holds the text; `columns` says of each whether it is of strings."""
    texts = [name for name, is_text in columns.items() if is_text]
    if wanted is not None and wanted not in texts:
        what = "no text in its field" if wanted in columns else "no field"
        raise BadInput(
            f"{where} has {what} {wanted!r}, among {_list(columns)}; name another "
            "with --text-field."
        )
    if wanted is not None:
        return wanted
    for name in TEXT_FIELDS:
        if name in texts:
            return name
    if len(texts) == 1:
        return texts[0]
    what = "several fields of text" if texts else "no field of text"
    raise BadInput(
        f"{where} has {what} among {_list(columns)}; name the right one with --text-field."
    )


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
