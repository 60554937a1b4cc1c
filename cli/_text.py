"""Small texts: numbers, durations and tokens as people read them."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_MARKS = str.maketrans({"\n": "⏎", "\t": "⇥"})


def amount(number: float) -> str:
    """Three digits and a suffix: 950, 12.3k, 4.56M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size * 0.9995:
            return f"{number / size:#.3g}".rstrip(".") + suffix
    if number == int(number):
        return str(int(number))
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """0:05, 12:30, 1:02:03."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def size(n_bytes: float) -> str:
    """Bytes in powers of 1,024: '12.3 MiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"


def safe(text: str) -> str:
    """Text that cannot steer the terminal: control and direction characters escaped, lines kept."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """The same on one line, with marks for line ends and tabs."""
    return safe(text.translate(_MARKS))


def token(text: str) -> str:
    """A token between quotes, so that its spaces show."""
    return f"'{one_line(text)}'"
