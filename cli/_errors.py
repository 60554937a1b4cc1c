"""How the process ends: 0, 1 with one told sentence, 2 for a usage error, 130 for Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from atlas.errors import AtlasError

INTERRUPTED = 130  # 128 + SIGINT, as shells count it


def leave(run: Callable[[], object]) -> NoReturn:
    """Call `run`, which runs the command line, and end the process with its exit code.

    A reader that went away (`| head`) is no error worth a word. ATLAS_DEBUG=1 in the environment
    lets exceptions through with their tracebacks.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # In a locale that cannot write a token, its escape is better than an end with an error.
            stream.reconfigure(errors="backslashreplace")
    try:
        returned = run()
        code = returned if isinstance(returned, int) else 0
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (SystemExit, BrokenPipeError):
        # click exits by itself when the pipe it writes to closes.
        _drop_output()
        code = 1
    except Exception as error:
        if os.environ.get("ATLAS_DEBUG"):
            raise
        click.echo(f"Error: {sentence(error)}", err=True)
        code = 1
    sys.exit(code)


def sentence(error: Exception) -> str:
    """The one sentence that tells `error`."""
    if isinstance(error, AtlasError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        step = "; make room there" if error.errno == errno.ENOSPC else ""
        return f"{where}{error.strerror}{step}."
    if isinstance(error, MemoryError):
        return "Out of memory; ask for fewer rows at a time."
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"Unexpected {what} (a fault of this program); set ATLAS_DEBUG=1 to see where."


def _drop_output() -> None:
    # Otherwise Python complains about the pipe when it flushes stdout at exit.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
