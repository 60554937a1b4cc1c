"""How much of a text fits into a space, in the letters that figures are written in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

INCH = 72.0
"""Points."""

LEADING = 1.25
"""Height of a line by the size of its letters."""


_HINTED = 1.08
"""How much more room letters take when fitted to the pixels of a PNG, at most: measured on labels
of 4 to 30 letters at 7 and 9 points and 150 dots an inch, with matplotlib 3.11."""

_ROUNDING = 1e-6


@lru_cache(maxsize=65536)
def width(text: str, size: float, *, bold: bool = False) -> float:
    """Inches that a text of letters of so many points takes across."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    points, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return _HINTED * float(points) / INCH


def fit(text: str, across: float, lines: int, size: float, *, bold: bool = False) -> list[str]:
    """As much of a text as fits into so many lines, the last of which ends in … if that is not all.

    Lines break between words; neither inside of “quoted” ones nor before a ·.

    across: inches
    """
    text = re.sub(r"[\r\n\t]", " ", text).strip()
    words = re.findall(r"(?:“[^”]*”|\S+)(?: ·)?", text)
    found: list[str] = []
    while words and len(found) < lines:
        n = _fitting(words, across, size, bold)
        found.append(" ".join(words[: max(n, 1)]))
        words = words[max(n, 1) :]
        if not n:
            break
    # Words are left, or one is too wide by itself.
    if found and (words or width(found[-1], size, bold=bold) > across + _ROUNDING):
        found[-1] = _cut(found[-1], across, size, bold)
    return found


def _fitting(words: Sequence[str], across: float, size: float, bold: bool) -> int:
    """How many of the words fit into a line; 0 if not even the first does."""
    space = width("n n", size, bold=bold) - width("nn", size, bold=bold)
    taken = 0.0
    for n, word in enumerate(words):
        taken += width(word, size, bold=bold) + (space if n else 0.0)
        # What has been fitted once fits into its own width.
        if taken > across + _ROUNDING:
            return n
    return len(words)


def _cut(line: str, across: float, size: float, bold: bool) -> str:
    line = line.rstrip(" ·")
    while line and width(line + "…", size, bold=bold) > across:
        line = line[:-1].rstrip(" ·")
    return line + "…"
