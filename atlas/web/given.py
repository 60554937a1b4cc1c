"""The parameters of one request: text from outside, taken as what it should be or refused."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from atlas.errors import BadInput

MAX_TEXT = 10_000
"""Characters of a text parameter."""


class Given:
    """Parameters by name. Absent and empty ones are the same; BadInput for what does not fit."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def text(self, name: str, most: int = MAX_TEXT) -> str:
        """A text that must be there, of `most` characters at most."""
        found = self.optional(name, most)
        if found is None:
            raise BadInput(f"The request names no {name!r}; add {name}=… to the address.")
        return found

    def optional(self, name: str, most: int = MAX_TEXT) -> str | None:
        """A text, None if it is not there."""
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            value = str(value)
        if len(value) > most:
            raise BadInput(f"{name!r} has {len(value):,} characters; give {most:,} at most.")
        if "\0" in value or (not value.isascii() and _has_surrogate(value)):
            raise BadInput(f"{name!r} is no text; give it without control characters.")
        return value

    def one_of(self, name: str, allowed: Collection[str], default: str) -> str:
        """One of the words that are allowed."""
        found = self.optional(name) or default
        if found not in allowed:
            raise BadInput(f"{name} is one of {', '.join(allowed)}, not {found[:100]!r}.")
        return found

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number; one beyond the bounds is taken as the bound."""
        found = self.optional(name, 32)
        try:
            number = default if found is None else int(found)
        except ValueError:
            raise BadInput(f"{name} is a whole number, not {found!r}.") from None
        return min(max(number, least), most)

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        found = self.optional(name, 32)
        try:
            number = default if found is None else float(found)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise BadInput(f"{name} is a number, not {found!r}.")
        return number

    def flag(self, name: str) -> bool:
        """True for '1' and 'true', False if absent."""
        return self.one_of(name, ("0", "1", "false", "true"), "0") in ("1", "true")


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= one <= "\udfff" for one in text)
