"""The shell of `atlas sql`: statements ended by `;`, dot-commands, history, completion."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atlas.catalog import entries, entry, relations
from atlas.cli._errors import sentence
from atlas.cli._output import ROW_FORMATS, plain_table, print_table, write_query
from atlas.errors import BadInput

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from atlas.store import Atlas

COMMANDS = {
    ".help": "this list",
    ".tables": "tables and views with their columns",
    ".macros": "views and macros; .macros NAME explains one",
    ".mode": f"how rows are written: {', '.join(ROW_FORMATS[:-1])}",
    ".timer": "on or off: how long each statement took",
    ".quit": "leave (also Ctrl-D)",
}
_MODES = ROW_FORMATS[:-1]
_LITERALS = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$", re.S
)
_UNCLOSED = re.compile(r"['\"]|/\*|\$\w*\$")


def is_complete(text: str) -> bool:
    """Whether the shell runs `text` at Enter: a dot-command, nothing, or SQL ended by `;`."""
    text = text.strip()
    if not text or text.startswith("."):
        return True
    bare = _LITERALS.sub(" ", text)
    return bare.rstrip().endswith(";") and not _UNCLOSED.search(bare)


def state_folder() -> Path:
    """The user's folder for what programs remember between runs, such as history."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base, "atlas")


class Shell:
    """Reads statements and runs them on one atlas until the user leaves.

    An error is told in one sentence and the shell goes on; Ctrl-C stops the running query.
    """

    def __init__(self, atlas: Atlas, mode: str | None = None) -> None:
        self.atlas = atlas
        self.mode = mode or "table"
        self.timer = False
        self._connection = atlas.cursor()
        self._actions: dict[str, Callable[[str], None]] = {
            ".help": self._help,
            ".tables": self._tables,
            ".macros": self._macros,
            ".mode": self._set_mode,
            ".timer": self._set_timer,
        }

    def run(self) -> None:
        """Read and run until `.quit` or Ctrl-D."""
        session = self._session()
        row = self.atlas.row("select models, saes, features from overview")
        if row:
            click.echo(f"{self.atlas.path}: {row[0]} models, {row[1]} SAEs, {row[2]:,} features.")
        click.echo("End SQL with ; — Tab completes, .help lists commands, Ctrl-D leaves.")
        while True:
            try:
                text = session.prompt()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if not self.handle(text):
                return

    def handle(self, text: str) -> bool:
        """Run one entry; False if it asks to leave."""
        text = text.strip()
        if text in (".quit", ".exit"):
            return False
        started = time.monotonic()
        try:
            if text.startswith("."):
                name, _, rest = text.partition(" ")
                self._dot_command(name, rest.strip().rstrip(";"))
                return True
            for statement in self._statements(text):
                write_query(self._connection, statement, self.mode)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
        except BrokenPipeError:
            return False
        except Exception as error:
            self._recover(error)
        if self.timer and text:
            click.echo(f"{time.monotonic() - started:.3f} s", err=True)
        return True

    def _statements(self, text: str) -> list[str]:
        from atlas.store import told

        with told():
            return [one.query for one in self._connection.extract_statements(text)]

    def _recover(self, error: Exception) -> None:
        click.echo(f"Error: {sentence(error)}", err=True)
        # A failed statement may leave a transaction that refuses everything after it.
        import duckdb

        with contextlib.suppress(duckdb.Error):
            self._connection.rollback()

    # -- dot-commands -----------------------------------------------------------------------------

    def _dot_command(self, name: str, argument: str) -> None:
        action = self._actions.get(name)
        if action is None:
            raise BadInput(f"There is no command {name}; .help lists them.")
        action(argument)

    def _help(self, _: str) -> None:
        for name, meaning in COMMANDS.items():
            click.echo(f"{name:<9}{meaning}")

    def _tables(self, _: str) -> None:
        table = plain_table()
        for title in ("name", "kind", "columns"):
            table.add_column(title, overflow="fold")
        for one in relations(self.atlas):
            if not one.name.startswith("_"):
                table.add_row(one.name, one.kind, ", ".join(one.columns))
        print_table(table)

    def _macros(self, name: str) -> None:
        if name:
            one = entry(self.atlas, name)
            click.echo(f"{one.signature}  ({one.kind})\n\n{one.doc}")
            return
        table = plain_table()
        for title in ("topic", "signature", "what it gives"):
            table.add_column(title, overflow="fold")
        for one in entries(self.atlas):
            table.add_row(one.topic, one.signature, one.summary)
        print_table(table)

    def _set_mode(self, mode: str) -> None:
        if mode and mode not in _MODES:
            raise BadInput(f"There is no mode {mode!r}; choose from {', '.join(_MODES)}.")
        self.mode = mode or self.mode
        click.echo(f"mode {self.mode}")

    def _set_timer(self, wanted: str) -> None:
        if wanted not in ("", "on", "off"):
            raise BadInput(f"The timer is on or off, not {wanted!r}.")
        self.timer = wanted == "on" if wanted else not self.timer
        click.echo(f"timer {'on' if self.timer else 'off'}")

    # -- prompt -----------------------------------------------------------------------------------

    def _session(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.lexers import PygmentsLexer
        from pygments.lexers.sql import SqlLexer

        from atlas.cli._completion import SqlCompleter

        return PromptSession(
            f"{self.atlas.path.stem}> ",
            multiline=True,
            prompt_continuation=lambda width, *_: " " * (width - 2) + "… ",
            lexer=PygmentsLexer(SqlLexer),
            completer=SqlCompleter(self.atlas, COMMANDS),
            complete_while_typing=False,
            history=_history(),
            key_bindings=_enter_runs_complete(),
            enable_history_search=True,
        )


def _history() -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = state_folder() / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8"):
            pass
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _enter_runs_complete() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=False)

    return bindings
