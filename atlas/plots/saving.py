"""What all figures share: formats, colours, and files that are the same for the same content."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
"""Endings of the files that can be drawn."""

COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5539", "#999999"),
    *("#332288", "#117733", "#882255", "#AA4499", "#999933", "#DDCC77", "#661100", "#222222"),
)
"""Of palettes that colour-blind readers can tell apart: Okabe and Ito's, then Tol's."""

GREY = "#444"
"""Of what is said beside the data."""


def check_format(path: Path) -> None:
    """BadInput unless the file's ending is one of `FORMATS`."""
    if path.suffix[1:].lower() not in FORMATS:
        endings = ", ".join(f".{one}" for one in FORMATS)
        raise BadInput(f"{path} says no format that can be drawn; end it in one of {endings}.")


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes.

    BadInput for a file whose ending is no format, or that cannot be written.
    """
    from matplotlib import rc_context

    check_format(path)
    part = path.with_name(f".{path.name}.part")
    kind = path.suffix[1:].lower()
    # Without dates, and with names that depend on nothing, the same atlas gives the same file.
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}, "png": None}
    try:
        with rc_context({"svg.hashsalt": "atlas", "svg.fonttype": "none"}):
            figure.savefig(part, format=kind, dpi=150, metadata=undated[kind])
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise BadInput(
            f"{path} cannot be written ({error.strerror}); name a file in a folder of yours."
        ) from error
