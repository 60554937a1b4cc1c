"""Data sets of the Hugging Face hub, streamed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from atlas.errors import BadInput
from atlas.ingest.text.files import READERS, Records, kind_of
from atlas.ingest.text.records import RecordReader

_DATASET_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.-]+)?", re.ASCII)


def hub_records(name: str, text_field: str | None) -> Callable[[], Records]:
    """What reads a dataset's records; BadInput where the hub has none of that name."""
    if kind_of(Path(name)) in READERS or not _DATASET_NAME.fullmatch(name):
        raise BadInput(f"There is no file or folder {name}; check the path.")
    try:
        import datasets
    except ImportError as error:
        raise BadInput(
            f"There is no file or folder {name}; if it is a dataset on the Hugging Face hub, "
            "install what reads it: pip install 'feature-atlas[hub]'."
        ) from error
    repository, _, config = name.partition(":")
    with _told_hub_errors(name):
        splits = datasets.load_dataset(repository, config or None, streaming=True)
        split = "train" if "train" in splits else next(iter(splits))

    def records() -> Records:
        read = RecordReader(text_field)
        with _told_hub_errors(name):
            for number, record in enumerate(splits[split], 1):
                yield f"{split}#{number}", read(record, f"{name}, record {number},")

    return records


@contextlib.contextmanager
def _told_hub_errors(name: str) -> Iterator[None]:
    """The library raises errors of many kinds, its own and those of others below it."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise BadInput(
            f"{name} is no file or folder here, nor a dataset that the hub gives ({reason}); check "
            "the name, and the connection."
        ) from error
