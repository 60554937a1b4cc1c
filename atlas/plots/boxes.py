"""The boxes of a lineage: what is written in each, and where it stands on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atlas.plots.layered import levelled, ordered
from atlas.plots.lettering import INCH, LEADING, fit, width

# All that is placed is placed in inches, from the left and from the top.
LETTERS, HEADER = 7.0, 8.0
"""Points: of labels, and of what stands above a column."""
LINE = LETTERS * LEADING / INCH
PAD = 0.045
"""Between a box and what is written in it."""
INDENT = 0.2
"""Of counterparts: where the lines to them have room."""
_BETWEEN, _WITHIN = 0.09, 0.04
"""Between the boxes of two features, and between those of a feature and its counterparts."""

Record = dict[str, Any]
"""A row of the macro `lineage`, with a `label` besides."""
Edge = tuple[int, int, float]
"""Upstream feature, downstream feature, value of the measure."""


@dataclass(frozen=True)
class Box:
    """A feature, or a counterpart of one: what is written in its box, and where that stands."""

    row: Record
    across: float
    words: tuple[tuple[str, float, int, bool], ...]
    """(text, inches from the left of the box, line, bold)"""
    left: float = 0.0
    top: float = 0.0

    @property
    def is_counterpart(self) -> bool:
        """Whether it is of another model."""
        return self.row["counterpart_of"] is not None

    @property
    def down(self) -> float:
        """Its height."""
        return 2 * PAD + LINE * (1 + max(line for _, _, line, _ in self.words))

    @property
    def middle(self) -> float:
        """How far down the middle of its height is."""
        return self.top + self.down / 2


def column(rows: Sequence[Record], step: int, headers: Mapping[int, str]) -> list[Box]:
    """The boxes of a step, each feature's before those of its counterparts; not placed yet.

    Boxes of features are as wide as the column, those of counterparts as wide as they need.

    headers: what stands above each column
    """
    values = {row["feature"]: row["value"] for row in rows if row["counterpart_of"] is None}
    here = [row for row in rows if row["steps"] == step]
    # Labels are narrower the more columns there are, so that a page is wide enough.
    room = min(1.8, max(1.1, 8.5 / len(headers) - 0.4))

    def box(row: Record, room: float, lines: int) -> Box:
        own = row["counterpart_of"] is None
        bold = own and row["steps"] == 0
        if own:
            name = row["feature"].rsplit("/", 1)[1]
            words = [(name, PAD, 0, True)]
            left, line = PAD + width(name, LETTERS, bold=True) + 0.06, 0
        else:
            # In full, as neither the model nor the layer is that of the column.
            words = [(f"≈ {row['feature']}", PAD, 0, False)]
            left, line = PAD, 1
            if values[row["counterpart_of"]] > 0:
                r = f"r = {row['value'] / values[row['counterpart_of']]:.2f}"
                words.append((r, left, line, False))
                left += width(r, LETTERS) + 0.08
        found = fit(row["label"] or "", room - left - PAD, lines, LETTERS, bold=bold)
        words += [(text, left, line + i, bold) for i, text in enumerate(found)]
        across = max(x + width(text, LETTERS, bold=b) for text, x, _, b in words) + PAD
        return Box(row, across, tuple(words))

    loose = [box(row, room, 2 if row["counterpart_of"] is None else 1) for row in here]
    across = max(
        width(headers[step], HEADER, bold=True),
        *(one.across + INDENT * one.is_counterpart for one in loose),
    )
    found = []
    for row in here:
        if row["counterpart_of"] is None:
            # Edges end at the sides of the column, and so cross no box.
            found.append(replace(box(row, across, 2), across=across))
            found += [
                box(one, across - INDENT, 1)
                for one in here
                if one["counterpart_of"] == row["feature"]
            ]
    return found


def placed(
    columns: Mapping[int, Sequence[Box]], edges: Sequence[Edge], left: float, top: float
) -> list[Box]:
    """The boxes where they belong, each feature's before those of its counterparts, below it.

    columns: by step, in their order
    edges: among the features
    left, top: where the first column starts, and the highest box of all
    """
    stacks = [
        {stack[0].row["feature_id"]: stack for stack in with_counterparts(boxes)}
        for boxes in columns.values()
    ]
    order = ordered([list(column) for column in stacks], edges)
    each = {key: stack for column in stacks for key, stack in column.items()}
    tops = levelled(
        order, edges,
        heights={
            key: sum(box.down for box in stack) + _WITHIN * (len(stack) - 1)
            for key, stack in each.items()
        },
        ports={key: stack[0].down / 2 for key, stack in each.items()},
        gap=_BETWEEN,
    )  # fmt: skip
    found = []
    for keys in order:
        for key in keys:
            down = top + tops[key]
            for box in each[key]:
                found.append(replace(box, left=left + INDENT * box.is_counterpart, top=down))
                down += box.down + _WITHIN
        # The more edges, the more room to tell them apart.
        gap = 0.6 + min(0.7, 0.015 * sum(a in keys for a, _, _ in edges))
        left += max(each[key][0].across for key in keys) + gap
    return found


def with_counterparts(boxes: Sequence[Box]) -> list[list[Box]]:
    """Boxes in their order, each feature's together with those of its counterparts."""
    found: list[list[Box]] = []
    for box in boxes:
        if not box.is_counterpart:
            found.append([])
        found[-1].append(box)
    return found
