"""Runs the truths of sql/checks/ against an atlas: each is a query that must return no rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atlas import scripts
from atlas.errors import AtlasError
from atlas.store import Atlas

_SHOWN = 3


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    summary: str
    """What must hold."""
    violations: int
    """Rows that the query returned; 0 means that it holds."""
    examples: tuple[str, ...]
    """Up to three of them, as `column=value` texts."""
    error: str | None = None
    """Why the query could not run at all."""

    @property
    def passed(self) -> bool:
        """Whether the truth holds."""
        return self.violations == 0 and self.error is None


def run_checks(atlas: Atlas) -> Iterator[Check]:
    """Each check's finding, in the order of their names."""
    for path in scripts.check_files():
        text = path.read_text(encoding="utf-8")
        summary = scripts.header(text).partition("\n")[0]
        query = f"from (\n{text.strip().rstrip(';')}\n)"
        try:
            violations = atlas.row(f"select count(*) {query}")
            assert violations is not None
            examples: tuple[str, ...] = ()
            if violations[0]:
                relation = atlas.sql(f"{query} limit {_SHOWN}")
                examples = tuple(
                    ", ".join(f"{k}={v}" for k, v in zip(relation.columns, row, strict=True))
                    for row in relation.fetchall()
                )
        except AtlasError as error:
            yield Check(path.stem, summary, 0, (), str(error))
        else:
            yield Check(path.stem, summary, int(violations[0]), examples)
