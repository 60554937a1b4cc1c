"""The atlas as all requests to the page share it: its connections, and what is computed once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, TypeVar

import duckdb
import numpy as np
from numpy.typing import NDArray

from atlas import store
from atlas.store import told

T = TypeVar("T")

_POLL_SECONDS = 0.05


class Stopped(Exception):
    """Nobody waits for the answer any more."""


class Viewed:
    """An atlas opened for reading, served from several threads at once."""

    def __init__(self, atlas: store.Atlas) -> None:
        self.path = atlas.path
        self._atlas = atlas
        self._lock = threading.Lock()
        self._kept: dict[Hashable, Any] = {}
        self._making: dict[Hashable, threading.Lock] = {}
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self.tables = frozenset(
            name
            for (name,) in atlas.rows(
                "select table_name from duckdb_tables() where database_name = current_database()"
                " union all select view_name from duckdb_views()"
                " where database_name = current_database() and not internal"
            )
        )
        """Tables and views of the file; one written by an older version has fewer."""

    def connect(self) -> Connection:
        """A connection for one request."""
        with self._lock:
            made = Connection(self._atlas)
            self._connections.add(made)
        return made

    def has(self, *tables: str) -> bool:
        """Whether the file has all of these tables or views."""
        return self.tables.issuperset(tables)

    def keep(self, key: Hashable, make: Callable[[Connection], T]) -> T:
        """What `make` returned when the key was first asked for: the file cannot change meanwhile.

        It is given a connection that no client's leaving stops, since others will want the result.
        Who asks for the same key waits; if `make` raises, the next of them makes it.
        """
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            if key not in self._kept:
                self._kept[key] = self.connect().answer(make)
            kept: T = self._kept[key]
        return kept

    def stop(self) -> None:
        """Stop whatever is being answered."""
        with self._lock:
            for connection in self._connections:
                connection.stop()


class Connection(store.Atlas):
    """An atlas through a connection of its own, for one thread, whose queries another can stop."""

    def __init__(self, atlas: store.Atlas) -> None:
        super().__init__(atlas.path, atlas.cursor(), writable=False)
        self._redirects = atlas._redirects
        self._turn = threading.Lock()
        self._begun = False
        self._finished = threading.Event()
        self._stopped = threading.Event()
        self._also: list[Callable[[], object]] = []

    def answer(self, function: Callable[[Connection], T]) -> T:
        """What `function` returns; Stopped if it was told to stop. Closes the connection."""
        with self._turn:
            if self._stopped.is_set():
                raise Stopped
            self._begun = True
        try:
            # A KeyboardInterrupt here is no Ctrl-C, which only the main thread hears.
            with suppress(KeyboardInterrupt):
                return function(self)
            raise Stopped
        finally:
            self._finished.set()
            self.close()

    def stop(self) -> None:
        """End the query that runs and every later one; returns at once, from any thread."""
        with self._turn:
            if self._finished.is_set() or self._stopped.is_set():
                return
            self._stopped.set()
            if not self._begun:
                self._finished.set()
                self.close()
                return
        threading.Thread(target=self._stop, name="atlas-stop", daemon=True).start()

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopped.is_set()

    def when_stopped(self, function: Callable[[], object]) -> None:
        """Have something else ended too when this is told to stop, or now if it was."""
        self._also.append(function)
        if self._stopped.is_set():
            function()

    def _stop(self) -> None:
        for function in self._also:
            function()
        # Again and again, because one that comes between two queries is forgotten.
        while not self._finished.wait(_POLL_SECONDS):
            with suppress(duckdb.Error):
                self._connection.interrupt()


def columns_of(
    atlas: store.Atlas, query: str, parameters: store.Parameters = None
) -> dict[str, NDArray[Any]]:
    """The columns of a query as NumPy arrays; a null is NaN where it is no number, else 0."""
    with told():
        found = atlas.execute(query, parameters).fetchnumpy()
    return {
        name: np.ma.filled(column, np.nan if column.dtype.kind == "f" else 0)
        if np.ma.isMaskedArray(column)
        else column
        for name, column in found.items()
    }


def records(
    atlas: store.Atlas, query: str, parameters: store.Parameters = None
) -> list[dict[str, Any]]:
    """The rows of a query as objects."""
    with told():
        found = atlas.execute(query, parameters)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
