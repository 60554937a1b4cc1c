"""class Atlas: one DuckDB file, opened for reading or for writing, and the rules of doing so.

A writing process locks out every other one (DuckDB's rule), so the library keeps writes to one
short transaction and tells a process that meets the lock so in one sentence, or lets it wait.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import itertools
import os
import re
import secrets
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import duckdb
from duckdb.func import ARROW

from atlas import scripts
from atlas.errors import (
    AtlasError,
    AtlasLocked,
    BadInput,
    NewerAtlas,
    NotAnAtlas,
    NotFound,
    QueryError,
)

if TYPE_CHECKING:
    import pyarrow

Parameters = Sequence[object] | Mapping[str, object] | None

_CONFIG = {
    # Readable by DuckDB 1.5 too, which is supported until March 2027.
    "storage_compatibility_version": "v1.5.0",
    # An atlas never needs the network, and a name in a query is never a Python variable.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
_POLL_SECONDS = 0.1
_UNKNOWN_NAME = (duckdb.CatalogException, duckdb.BinderException, KeyError)
"""What comes of a table, macro, parameter or column that an atlas does not have; the last one of
a column of rows that were read with `*`."""
_open: weakref.WeakSet[Atlas] = weakref.WeakSet()
_serial = itertools.count()


class Atlas:
    """An open atlas.

    Use `atlas.open` and `atlas.create`, which also connect the macros that need Python. One Atlas
    belongs to one thread; another thread takes a `cursor()` of its own.
    """

    def __init__(
        self, path: Path, connection: duckdb.DuckDBPyConnection, *, writable: bool
    ) -> None:
        self.path = path
        self.writable = writable
        self._connection = connection
        self._redirects: list[str] = []
        _open.add(self)

    # -- opening and closing ------------------------------------------------------------------

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Self:
        """Make a new, empty atlas and open it for writing; BadInput if the path is taken."""
        path = Path(path)
        if os.path.lexists(path):
            raise BadInput(f"{path} exists already; choose another path or open it.")
        if not path.parent.is_dir():
            raise BadInput(f"The folder {path.parent} does not exist; make it first.")
        connection = _connect(path, write=True, wait=0.0)
        try:
            made = cls(path, connection, writable=True)
            with made.transaction():
                made._migrate(0)
                made.set_meta("stamp", hashlib.sha256(b"").hexdigest())
        except BaseException:
            connection.close()
            remove(path)
            raise
        return made

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, write: bool = False, wait: float = 0.0) -> Self:
        """Open an atlas, read-only unless `write`.

        wait: seconds to wait for another process's lock before AtlasLocked is raised.

        Opened for writing, an atlas of an older version is brought up to date. Opened for reading
        it is used as it was written: the file carries its own views and macros. A name that it
        lacks is told so at the end of `with`.
        """
        path = Path(path)
        if not path.exists():
            raise NotFound(
                f"There is no atlas at {path}; make one with `atlas ingest {path} MODEL "
                "--corpus SRC` or `atlas demo`."
            )
        if path.is_dir():
            raise NotAnAtlas(f"{path} is a folder, not an atlas; name the atlas file.")
        if write:
            check_writable(path)
        connection = _connect(path, write=write, wait=wait)
        try:
            opened = cls(path, connection, writable=write)
            version = opened._version()
            if write and not opened.is_current():
                with opened.transaction():
                    opened._migrate(version)
        except BaseException:
            connection.close()
            raise
        return opened

    def close(self) -> None:
        """Close the file; does nothing if it is closed already."""
        self._connection.close()
        _open.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._tell_age(error)
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"<Atlas {str(self.path)!r}{' for writing' if self.writable else ''}>"

    # -- version ------------------------------------------------------------------------------

    def _version(self) -> int:
        """The file's format version; told errors for a foreign or a newer file."""
        has_meta = self._connection.execute(
            "select count(*) from duckdb_tables() where table_name in ('meta', 'saes', 'features')"
            " and database_name = current_database()"
        ).fetchone()
        text = self.meta("format") if has_meta == (3,) else None
        if text is None or not text.isdigit():
            raise NotAnAtlas(
                f"{self.path} is a DuckDB database but not an atlas; name an atlas "
                "file, or make one with `atlas ingest`."
            )
        if int(text) > format_version():
            raise NewerAtlas(
                f"{self.path} has format {text}, written by a newer version of feature-atlas, and "
                f"this one reads up to format {format_version()}; upgrade the package."
            )
        return int(text)

    def is_current(self) -> bool:
        """Whether its tables, views and macros are those of this version of the package."""
        current = (str(format_version()), scripts.fingerprint())
        return (self.meta("format"), self.meta("sql")) == current

    def _tell_age(self, error: BaseException | None) -> None:
        """Tell the likely reason why an older atlas lacks a name that was asked for."""
        cause = error.__cause__ if isinstance(error, AtlasError) else error
        if self.writable or not isinstance(cause, _UNKNOWN_NAME) or self.is_current():
            return
        kind = type(error) if isinstance(error, AtlasError) else QueryError
        if isinstance(cause, duckdb.Error):
            # DuckDB goes on with names that look alike, which are not meant.
            missing = sentence(cause).split("; ")[0].rstrip(".")
        else:
            missing = f"A column {cause} does not exist"
        raise kind(
            f"{missing}; an earlier version made {self.path}, and any command that writes, such as "
            f"`atlas link {self.path}`, brings it up to date."
        ) from cause

    def _migrate(self, version: int) -> None:
        for number, path in scripts.schema_files():
            if number > version:
                self._connection.execute(path.read_text(encoding="utf-8"))
        scripts.load(self._connection)
        self.set_meta("format", str(format_version()))
        self.set_meta("sql", scripts.fingerprint())

    # -- querying -----------------------------------------------------------------------------

    def sql(self, query: str, parameters: Parameters = None) -> duckdb.DuckDBPyRelation:
        """The query as a lazy relation: `.pl()`, `.df()`, `.to_arrow_table()`, `.fetchall()`.

        A relation runs again at every read; `.materialize()` keeps its rows.
        """
        with told():
            relation = self._connection.sql(query, params=parameters)
        if relation is None:
            raise QueryError("The statement returns no rows; use execute() for it.")
        return relation

    def execute(self, query: str, parameters: Parameters = None) -> duckdb.DuckDBPyConnection:
        """Run one statement and return the connection, from which rows are fetched.

        Fetch them all before the next statement: until then the connection is busy.
        """
        with told():
            return self._connection.execute(query, parameters)

    def rows(self, query: str, parameters: Parameters = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with told():
            return self._connection.execute(query, parameters).fetchall()

    def row(self, query: str, parameters: Parameters = None) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        with told():
            found = self._connection.execute(query, parameters).fetchall()
        return found[0] if found else None

    def insert(
        self, table: str, rows: pyarrow.Table | pyarrow.RecordBatchReader, columns: str = "*"
    ) -> None:
        """Append rows to a table, column by column name; columns left out become null.

        columns: SQL over those of `rows`, where the table has others.
        """
        with told():
            self._connection.register("_incoming", rows)
            try:
                self._connection.execute(
                    f"insert into {table} by name select {columns} from _incoming"
                )
            finally:
                self._connection.unregister("_incoming")

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A second connection to the same file, for another thread; Python's macros included."""
        cursor = self._connection.cursor()
        for redirect in self._redirects:
            cursor.execute(redirect)
        return cursor

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: commit at the end, roll back on any error."""
        if not self.writable:
            raise BadInput(f"{self.path} is open for reading only; open it with write=True.")
        with told():
            self._connection.execute("begin")
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self._connection.execute("rollback")
                raise

    def register_kernel(
        self,
        stub: str,
        function: Callable[..., object],
        parameters: Sequence[str],
        returns: str,
        *,
        side_effects: bool = False,
    ) -> None:
        """Let a Python function answer for the stub macro of that name in this process.

        stub: name of a scalar macro in sql/ whose body is `error(…)`.
        function: vectorised; takes and returns Arrow arrays, at most 2,048 rows a call.
        parameters, returns: DuckDB types; each argument is cast to its type.

        The stub stays in the file for clients without Python; a TEMP macro of the same name hides
        it here, on this connection and on every later cursor. An atlas whose file has no such
        stub (written by an older version) is left alone.
        """
        known = self.row(
            "select count(*) from duckdb_functions() where function_name = ? and function_type ="
            " 'macro' and database_name = current_database()",
            [stub],
        )
        if known == (0,):
            return
        # Functions belong to the process's one database object, which every Atlas of this file
        # shares, so each takes a name of its own.
        name = f"{stub}_py{next(_serial)}"
        self._connection.create_function(
            name,
            function,
            list(parameters),
            returns,
            type=ARROW,
            side_effects=side_effects,
        )
        arguments = [f"a{i}" for i in range(len(parameters))]
        casts = [f"{one}::{kind}" for one, kind in zip(arguments, parameters, strict=True)]
        redirect = (
            f"create or replace temp macro {stub}({', '.join(arguments)}) as"
            f" {name}({', '.join(casts)})"
        )
        self._connection.execute(redirect)
        self._redirects.append(redirect)

    # -- small facts --------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """One entry of the table `meta`, or None."""
        found = self.row("select value from meta where key = ?", [key])
        return None if found is None else str(found[0])

    def set_meta(self, key: str, value: str) -> None:
        """Write one entry of the table `meta`."""
        self._connection.execute("delete from meta where key = ?", [key])
        self._connection.execute("insert into meta values (?, ?)", [key, value])

    @property
    def stamp(self) -> str:
        """Changes with every committed run: what a cache beside the atlas is valid for."""
        return self.meta("stamp") or ""

    def advance_stamp(self, added: str) -> None:
        """Set the stamp that follows from adding something, told by its hash, to what is here."""
        self.set_meta("stamp", hashlib.sha256(f"{self.stamp}+{added}".encode()).hexdigest())

    def feature_id(self, feature: str | int) -> int:
        """The id of a feature given by name or id; NotFound with what exists otherwise."""
        with told(NotFound):
            found = self._connection.execute("select feature_id(?::varchar)", [str(feature)])
            return int(found.fetchall()[0][0])

    def feature_name(self, feature: str | int) -> str:
        """The name of a feature given by name or id: `model/layer-hook[-variant]/index`."""
        with told(NotFound):
            found = self._connection.execute(
                "select feature_name(feature_id(?::varchar))", [str(feature)]
            )
            return str(found.fetchall()[0][0])


def format_version() -> int:
    """The format this package writes: the number of the last schema file."""
    return scripts.schema_files()[-1][0]


def check_writable(path: Path) -> None:
    """Raise BadInput where the file's permissions forbid to write it."""
    if not os.access(path, os.W_OK):
        raise BadInput(f"{path} is write-protected; copy it or change its permissions.")


def bring_up_to_date(path: Path, wait: float = 0.0) -> None:
    """Give an atlas of an earlier version today's tables, views and macros; most have them."""
    with Atlas.open(path, wait=wait) as atlas:
        if atlas.is_current():
            return
    with Atlas.open(path, write=True, wait=wait):
        pass


def remove(path: Path) -> None:
    """Delete an atlas file and its write-ahead log, if there."""
    for name in (path, path.with_name(path.name + ".wal")):
        name.unlink(missing_ok=True)


def scratch_path(path: Path) -> Path:
    """A fresh name beside `path`, for building a file that `os.replace` then puts in place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


# -- DuckDB's errors, told ----------------------------------------------------------------------

_UDF_ERROR = re.compile(r"Python exception occurred while executing the UDF: (?:\w+: )?(.*)", re.S)
_PREFIX = re.compile(r"^(?:\w+ )+Error: ")


def sentence(error: duckdb.Error) -> str:
    """DuckDB's message as one sentence: no class prefix, no stack, no caret lines."""
    text = str(error)
    if udf := _UDF_ERROR.search(text):
        return udf[1].strip().splitlines()[0]
    text = _PREFIX.sub("", text.strip())
    lines = [line.strip() for line in text.splitlines()]
    place = next((line for line in lines[1:] if line.startswith("LINE ")), None)
    hint = next(
        (line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))), None
    )
    parts = [lines[0] if lines else "unknown error"]
    if place:
        parts.append(f"at {place}")
    if hint:
        parts.append(hint)
    text = "; ".join(part.rstrip(".!") for part in parts)
    return text if text.endswith("?") else f"{text}."


@contextlib.contextmanager
def told(kind: type[AtlasError] = QueryError) -> Iterator[None]:
    """Turn DuckDB's errors inside the block into `kind`, with one sentence."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except RuntimeError as error:
        # Ctrl-C arrives from DuckDB's Python client under this class and text.
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise
    except duckdb.Error as error:
        raise kind(sentence(error)) from error


def _connect(path: Path, *, write: bool, wait: float) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + wait
    while True:
        try:
            return duckdb.connect(str(path), read_only=not write, config=dict(_CONFIG))
        except duckdb.Error as error:
            told_error = _opening_error(path, error, write)
            if not isinstance(told_error, AtlasLocked) or time.monotonic() >= deadline:
                raise told_error from error
            time.sleep(_POLL_SECONDS)


def _opening_error(path: Path, error: duckdb.Error, write: bool) -> AtlasError:
    text = str(error)
    if "lock on file" in text:
        holder = re.search(r"held in (.*?) \(PID (\d+)\)", text)
        who = f" (process {holder[2]})" if holder else ""
        doing = "being used" if write else "being written"
        return AtlasLocked(
            f"{path} is {doing} by another process{who}; try again when it is done, or wait for it "
            "with --wait SECONDS."
        )
    if "different configuration" in text:
        return AtlasLocked(f"{path} is open in this process in another mode; close that one first.")
    if "not a valid DuckDB database" in text or "serialization" in text.lower():
        return NotAnAtlas(
            f"{path} is not an atlas; name an atlas file, or make one with `atlas ingest`."
        )
    if "WAL does not match" in text:
        return AtlasError(
            f"{path}.wal is the unfinished write of an earlier file of that name; delete it or put "
            "that file back."
        )
    if "version number" in text:
        return NewerAtlas(
            f"{path} was written by a newer DuckDB than {duckdb.__version__}; upgrade duckdb."
        )
    return AtlasError(f"{path} could not be opened: {sentence(error)}")


@atexit.register
def _close_all() -> None:
    # A connection left open at exit makes DuckDB's client print a leak report on stderr.
    for atlas in list(_open):
        atlas.close()
