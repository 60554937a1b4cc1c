"""Opening, creating, locking, upgrading: what `Atlas` promises whatever it holds."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from atlas import scripts, store
from atlas.errors import (
    AtlasError,
    AtlasLocked,
    BadInput,
    NewerAtlas,
    NotAnAtlas,
    NotFound,
    QueryError,
)
from atlas.store import Atlas


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.atlas"
    Atlas.create(path).close()
    return path


def test_a_new_atlas_has_every_table_and_object(path: Path) -> None:
    with Atlas.open(path) as atlas:
        tables = {name for (name,) in atlas.rows("select table_name from duckdb_tables()")}
        functions = {
            name
            for (name,) in atlas.rows(
                "select function_name from duckdb_functions() where not internal"
            )
        }
    assert {"meta", "runs", "documents", "tokens", "saes", "features", "activations"} <= tables
    assert {one.name for one in scripts.objects() if one.kind != "view"} <= functions


def test_the_file_is_readable_by_a_plain_client(path: Path) -> None:
    with duckdb.connect(str(path), read_only=True) as plain:
        assert plain.execute("select count(*) from features").fetchall() == [(0,)]
        version = plain.execute(
            "select tags['storage_version'] from duckdb_databases() where path is not null"
        ).fetchall()
    assert version[0][0].startswith("v1.5")


def test_comments_are_the_files_headers_and_survive_reopening(path: Path) -> None:
    with Atlas.open(path) as atlas:
        comments = atlas.rows(
            "select function_name, comment from duckdb_functions() where comment is not null"
            " union all select view_name, comment from duckdb_views() where not internal"
        )
    for one in scripts.objects():
        assert (one.name, one.doc) in comments
        assert one.summary


def test_loading_the_objects_again_changes_nothing(path: Path) -> None:
    def kept() -> list[tuple[object, ...]]:
        """As the file holds them: what was just created, DuckDB may print in other words."""
        with Atlas.open(path) as atlas:
            return atlas.rows(
                "select function_name, lower(macro_definition), comment from duckdb_functions()"
                " where not internal order by all"
            )

    before = kept()
    with Atlas.open(path, write=True) as atlas, atlas.transaction():
        scripts.load(atlas._connection)
    assert kept() == before
    assert before


def test_objects_that_lost_their_file_are_dropped_at_the_next_upgrade(path: Path) -> None:
    with Atlas.open(path, write=True) as atlas:
        atlas.execute("create view old_view as select 1")
        atlas.execute("create macro old_macro(x) as x")
        atlas.execute("create macro old_table(x) as table select x as y")
        atlas.set_meta("sql", "of an older version")
    with Atlas.open(path, write=True) as atlas:
        names = {n for (n,) in atlas.rows("select function_name from duckdb_functions()")}
        names |= {n for (n,) in atlas.rows("select view_name from duckdb_views()")}
        assert atlas.meta("sql") == scripts.fingerprint()
    assert not names & {"old_view", "old_macro", "old_table"}


def test_create_refuses_a_path_that_is_taken(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        Atlas.create(path)
    assert path.read_bytes() == before


def test_a_failed_create_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "load", lambda con: con.execute("select no_such_thing"))
    with pytest.raises(QueryError):
        Atlas.create(tmp_path / "b.atlas")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda atlas: atlas.rows("from clustering_cards"),
        lambda atlas: atlas.rows("select nothing from saes"),
        lambda atlas: atlas.feature_id("a/0-resid_post/1"),
        lambda atlas: {}["nothing"],
    ],
)
def test_what_an_older_atlas_lacks_is_told_with_what_renews_it(path: Path, ask: Any) -> None:
    with Atlas.open(path, write=True) as atlas:
        atlas.execute("drop view clustering_cards")
        atlas.execute("drop macro feature_id")
    kinds = (QueryError, NotFound, KeyError)
    renews = (
        r"earlier version made .*a\.atlas, and any command that writes, such as `atlas link .*`"
    )
    with pytest.raises(kinds) as told_plainly, Atlas.open(path) as atlas:
        ask(atlas)
    assert "earlier version" not in str(told_plainly.value)
    with Atlas.open(path, write=True) as atlas:
        atlas.set_meta("sql", "of an older version")
    with pytest.raises((QueryError, NotFound), match=renews), Atlas.open(path) as atlas:
        ask(atlas)
    with pytest.raises(QueryError, match="syntax error") as other, Atlas.open(path) as atlas:
        atlas.rows("select 1 +")
    assert "earlier version" not in str(other.value)


def test_no_folder_no_atlas(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="folder"):
        Atlas.create(tmp_path / "none" / "b.atlas")


def test_what_is_not_an_atlas_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 2000)
    (tmp_path / "empty").touch()
    duckdb.connect(str(tmp_path / "other.db")).close()
    for name in ("text", "empty", "other.db"):
        with pytest.raises(NotAnAtlas, match="not an atlas"):
            Atlas.open(tmp_path / name)
    with pytest.raises(NotAnAtlas, match="folder"):
        Atlas.open(tmp_path)
    with pytest.raises(NotFound, match="atlas ingest"):
        Atlas.open(tmp_path / "absent")
    assert (tmp_path / "text").read_text() == "hello " * 2000


def test_a_newer_atlas_is_refused_and_untouched(path: Path) -> None:
    with Atlas.open(path, write=True) as atlas:
        atlas.set_meta("format", str(store.format_version() + 1))
    before = path.read_bytes()
    for write in (False, True):
        with pytest.raises(NewerAtlas, match="upgrade the package"):
            Atlas.open(path, write=write)
    assert path.read_bytes() == before


def test_an_older_atlas_is_upgraded_when_opened_for_writing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = store.format_version()
    step = tmp_path / "900_more.sql"
    step.write_text("create table more (x integer);\nalter table runs add column note varchar;")
    files = [*scripts.schema_files(), (900, step)]
    monkeypatch.setattr(scripts, "schema_files", lambda: files)
    with Atlas.open(path) as atlas:
        assert atlas.meta("format") == str(version)
    with Atlas.open(path, write=True) as atlas:
        assert atlas.meta("format") == "900"
        assert atlas.rows("select note from runs") == []
    with Atlas.open(path, write=True) as atlas:
        assert atlas.rows("from more") == []


def test_an_upgrade_that_fails_leaves_the_old_atlas(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = store.format_version()
    step = tmp_path / "900_wrong.sql"
    step.write_text("create table more (x integer);\nselect no_such_thing;")
    files = [*scripts.schema_files(), (900, step)]
    monkeypatch.setattr(scripts, "schema_files", lambda: files)
    with pytest.raises(QueryError):
        Atlas.open(path, write=True)
    with Atlas.open(path) as atlas:
        assert atlas.meta("format") == str(version)
        assert atlas.rows("select 1 from duckdb_tables() where table_name = 'more'") == []


def test_an_atlas_of_the_first_format_says_where_its_saes_read(tmp_path: Path) -> None:
    path = tmp_path / "old.atlas"
    Atlas.create(path).close()
    current = {name for (name,) in _tables(path)}
    path.unlink()
    with duckdb.connect(str(path)) as old:
        old.execute(scripts.schema_files()[0][1].read_text())
        old.execute("insert into meta values ('format', '1')")
        old.execute(
            "insert into saes by name select 0 as sae_id, 0 as model_id, 'a/3-mlp_out' as name,"
            " 3 as layer, 'mlp_out' as hook, 'topk' as architecture, 4 as d_in, 8 as d_sae, 2 as k,"
            " 0 as first_feature_id, 0.5 as input_scale, [0, 0, 0, 0] as b_dec"
        )
        old.execute("insert into sae_metrics values (0, 'l0', 2, 0)")
    with Atlas.open(path, write=True) as atlas:
        assert atlas.rows(
            "select activation, d_out, output_scale, normalize, quality from saes"
        ) == [("topk", 4, 0.5, "none", None)]
        assert atlas.rows("from sae_sites order by role") == [
            (0, "input", 0, 0, 3, "mlp_out", 0, 4, None, None),
            (0, "output", 0, 0, 3, "mlp_out", 0, 4, None, None),
        ]
        assert atlas.rows("select metric, version from sae_metrics") == [("l0", 1)]
    assert {name for (name,) in _tables(path)} == current


def _tables(path: Path) -> list[tuple[str]]:
    with duckdb.connect(str(path), read_only=True) as plain:
        return plain.execute("select table_name from duckdb_tables()").fetchall()


def test_a_transaction_is_all_or_nothing(path: Path) -> None:
    with Atlas.open(path, write=True) as atlas:
        with pytest.raises(ZeroDivisionError), atlas.transaction():
            atlas.execute("insert into meta values ('half', 'written')")
            raise ZeroDivisionError
        assert atlas.meta("half") is None
        with atlas.transaction():
            atlas.execute("insert into meta values ('whole', 'written')")
    with Atlas.open(path) as atlas:
        assert atlas.meta("whole") == "written"
        with pytest.raises(BadInput, match="reading only"), atlas.transaction():
            pass


HOLDER = """
    import sys, time
    from pathlib import Path
    from atlas.store import Atlas
    with Atlas.open(sys.argv[1], write=sys.argv[2] == "write"):
        print("held", flush=True)
        time.sleep(float(sys.argv[3]))
"""


def _hold(path: Path, mode: str, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(path), mode, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_the_lock(path: Path) -> None:
    holder = _hold(path, "write", 60)
    try:
        for write in (False, True):
            with pytest.raises(AtlasLocked, match=f"process {holder.pid}.*--wait"):
                Atlas.open(path, write=write)
    finally:
        holder.kill()
        holder.wait()


def test_readers_share_and_keep_a_writer_out(path: Path) -> None:
    holder = _hold(path, "read", 60)
    try:
        with Atlas.open(path) as atlas:
            assert atlas.rows("select count(*) from features") == [(0,)]
        with pytest.raises(AtlasLocked, match="another process"):
            Atlas.open(path, write=True)
    finally:
        holder.kill()
        holder.wait()


def test_waiting_for_the_lock(path: Path) -> None:
    holder = _hold(path, "write", 0.7)
    started = time.monotonic()
    with Atlas.open(path, write=True, wait=30):
        assert 0.1 < time.monotonic() - started < 29
    holder.wait()


def test_the_same_process_in_two_modes_is_told(path: Path) -> None:
    with Atlas.open(path), pytest.raises(AtlasLocked, match="in this process"):
        Atlas.open(path, write=True)


def test_a_log_that_another_file_left_behind_is_told(path: Path, tmp_path: Path) -> None:
    """Of an atlas that was killed while it was written, then deleted, and made anew."""
    killed = tmp_path / "killed.atlas"
    script = (
        "import os, sys; from atlas.store import Atlas; a = Atlas.create(sys.argv[1]);"
        " a.execute('checkpoint'); a.set_meta('key', 'value'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(killed)], check=False).returncode == 9
    log = killed.with_name("killed.atlas.wal").read_bytes()
    path.with_name(f"{path.name}.wal").write_bytes(log)
    with pytest.raises(AtlasError, match=r"\.wal is the unfinished write .* delete it"):
        Atlas.open(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_write_protected_atlas(path: Path) -> None:
    path.chmod(0o444)
    with pytest.raises(BadInput, match="write-protected"):
        Atlas.open(path, write=True)


@pytest.mark.parametrize(
    "query",
    [
        "select nothing",
        "selec 1",
        "from no_such_table",
        "select 1 +",
        "select error('because')",
        "select 1; select bad",
    ],
)
def test_a_refused_query_is_one_sentence(path: Path, query: str) -> None:
    with Atlas.open(path) as atlas, pytest.raises(QueryError) as told:
        atlas.rows(query)
    text = str(told.value)
    assert "\n" not in text
    assert "Error:" not in text
    assert text.endswith((".", "?"))


def test_names_in_queries_are_never_python_variables(path: Path) -> None:
    secret = pa.table({"x": [1]})
    with Atlas.open(path) as atlas, pytest.raises(QueryError):
        atlas.rows("from secret")
    assert secret.num_rows == 1


def _double(values: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.multiply(values, 2)


def test_a_kernel_answers_for_its_stub_here_and_on_cursors_only(path: Path) -> None:
    with Atlas.open(path, write=True) as atlas:
        atlas.execute("create macro _twice(x) as error('twice() needs Python: use atlas')::BIGINT")
        atlas.execute("create macro twice(x) as _twice(x) + 0")
    with Atlas.open(path) as atlas:
        with pytest.raises(QueryError, match="needs Python"):
            atlas.rows("select twice(2)")
        atlas.register_kernel("_twice", _double, ["BIGINT"], "BIGINT")
        assert atlas.rows("select twice(21)") == [(42,)]
        assert atlas.cursor().execute("select sum(twice(i)) from range(5000) t(i)").fetchall() == [
            (5000 * 4999,)
        ]
    with (
        duckdb.connect(str(path), read_only=True) as plain,
        pytest.raises(duckdb.Error, match="needs Python"),
    ):
        plain.execute("select twice(2)").fetchall()


def test_a_kernel_without_a_stub_in_the_file_is_left_out(path: Path) -> None:
    with Atlas.open(path) as atlas:
        atlas.register_kernel("_of_a_later_version", _double, ["BIGINT"], "BIGINT")
        with pytest.raises(QueryError):
            atlas.rows("select _of_a_later_version(1)")


def test_exit_without_close_is_quiet(path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from atlas.store import Atlas; a = Atlas.open({str(path)!r}); a.rows('select 1')",
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=True,
    )
    assert done.stderr == ""
