"""`atlas sql`: where queries come from, what is printed, and the shell."""

from __future__ import annotations

import json

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import atlas
from atlas.cli._completion import SqlCompleter
from atlas.cli._shell import COMMANDS, Shell, is_complete, state_folder
from tests.commandline import invoke, succeed, told
from tests.synthetic import SAES


@pytest.fixture(scope="module")
def opened(toy):
    with atlas.open(toy) as store:
        yield store


# -- queries --------------------------------------------------------------------------------------


def test_query_as_argument_from_a_file_and_from_a_pipe(toy, tmp_path):
    query = "select 'é日' as a, 1 as b"
    file = tmp_path / "query.sql"
    file.write_text(f"\ufeff-- with a byte order mark\n{query};\n", encoding="utf-8")
    expected = "a,b\né日,1\n"
    assert succeed("sql", toy, query) == expected
    assert succeed("sql", toy, "--file", file) == expected
    assert succeed("sql", toy, input=query) == expected
    assert succeed("sql", toy, "--file", "-", input=query) == expected


def test_last_of_several_statements_is_shown(toy):
    text = succeed("sql", toy, "create temp table t as select 7 as x; from t", "-f", "ndjson")
    assert json.loads(text) == {"x": 7}


def test_statement_without_rows_prints_nothing(toy):
    assert succeed("sql", toy, "set threads = 1") == ""


def test_python_answers_behind_macros(toy, opened):
    text = succeed("sql", toy, "select feature from similar(3, k := 2) order by rank", "-f", "csv")
    expected = opened.rows("select feature from similar_exact(3, k := 2) order by rank")
    assert text.splitlines()[1:] == [row[0] for row in expected]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["selec 1"], "selec"),
        (["select * from sae_card"], "sae_cards"),
        (["from contexts('toy-a/0-resid_post/99')"], "0 to 23"),
        (["delete from labels"], "read-only"),
        ([""], "empty"),
        (["/* nothing */"], "empty"),
        (["--file", "/nowhere/query.sql"], "No such file"),
    ],
)
def test_refused_queries(toy, words, hint):
    assert hint in told(invoke("sql", toy, *words))


def test_query_that_is_not_text(toy, tmp_path):
    file = tmp_path / "query.sql"
    file.write_bytes(b"select '\xff'")
    assert "UTF-8" in told(invoke("sql", toy, "--file", file))


def test_two_queries_are_a_usage_error(toy, tmp_path):
    assert invoke("sql", toy, "select 1", "--file", tmp_path / "q.sql").exit_code == 2


def test_error_after_the_first_rows_ends_in_a_told_error(toy):
    result = invoke(
        "sql", toy, "select if(range = 9999, error('too late'), range) from range(10000)",
        "-f", "ndjson",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "too late" in result.stderr
    assert len(result.stdout.splitlines()) < 10000


# -- shell ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", True),
        (".tables", True),
        ("select 1", False),
        ("select 1;", True),
        ("select 1; \n ", True),
        ("select ';", False),
        ("select ';';", True),
        ("select 'it''s;", False),
        ('select ";', False),
        ("select 1 -- ;", False),
        ("select 1; -- why", True),
        ("select /* ; ", False),
        ("select /* ; */ 1;", True),
        ("select $$ ; ", False),
        ("select $$ ; $$;", True),
        ("select $a$ ; $b$;", False),
    ],
)
def test_enter_runs_what_is_complete(text, complete):
    assert is_complete(text) == complete


@pytest.fixture
def shell(opened):
    return Shell(opened, "ndjson")


def said(capfdbinary):
    out, err = capfdbinary.readouterr()
    return out.decode(), err.decode()


def test_statements_run_one_after_the_other(shell, capfdbinary):
    assert shell.handle("select 1 as a; select 2 as b;")
    assert said(capfdbinary) == ('{"a": 1}\n{"b": 2}\n', "")


def test_errors_are_told_and_the_shell_goes_on(shell, capfdbinary):
    for wrong in ("selec;", "from nowhere;", "select error('my own');", ".nope", ".mode xml"):
        assert shell.handle(wrong)
        out, err = said(capfdbinary)
        assert out == ""
        assert err.startswith("Error: ")
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err
    assert shell.handle("begin; from nowhere;")
    said(capfdbinary)
    assert shell.handle("select 3 as c;")
    assert said(capfdbinary) == ('{"c": 3}\n', "")


def test_temporary_tables_last_as_long_as_the_shell(shell, capfdbinary):
    shell.handle("create temp table mine as select 5 as x;")
    said(capfdbinary)
    shell.handle("from mine;")
    assert said(capfdbinary)[0] == '{"x": 5}\n'


def test_dot_commands(shell, capfdbinary):
    for command in COMMANDS:
        assert shell.handle(command) == (command != ".quit")
        out, err = said(capfdbinary)
        assert err == ""
        assert (out != "") == (command != ".quit")
    shell.handle(".macros contexts")
    assert "feature: name or id" in said(capfdbinary)[0]
    shell.handle(".tables")
    assert "first_feature_id" in said(capfdbinary)[0]


def test_mode_and_timer(shell, capfdbinary):
    shell.handle(".mode csv")
    shell.handle(".timer on")
    said(capfdbinary)
    shell.handle("select 1 as a;")
    out, err = said(capfdbinary)
    assert out == "a\n1\n"
    assert float(err.removesuffix(" s\n")) < 60


def test_keys_reach_the_shell(shell, capfdbinary, tmp_path, monkeypatch):
    from prompt_toolkit.application import create_app_session

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("select 1\r")  # not complete: a second line
        keys.send_text("as a;\r")
        keys.send_text("oops\x03")  # Ctrl-C drops the line
        keys.send_text("select sae from sae_cards order by sae_id limit 1;\r")
        keys.send_text("\x04")  # Ctrl-D leaves
        shell.run()
    out, err = said(capfdbinary)
    assert err == ""
    assert out.splitlines()[-2:] == ['{"a": 1}', f'{{"sae": "{SAES[0]}"}}']
    assert "select 1" in (state_folder() / "history").read_text()


def test_history_that_cannot_be_written_is_done_without(shell, capfdbinary, tmp_path, monkeypatch):
    from prompt_toolkit.application import create_app_session

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text(".quit\r")
        shell.run()
    assert said(capfdbinary)[1] == ""


# -- completion -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def completer(opened):
    return SqlCompleter(opened, COMMANDS)


def offered(completer, text):
    event = CompleteEvent(completion_requested=True)
    return {one.text: one for one in completer.get_completions(Document(text), event)}


def test_after_from_tables_views_and_table_macros(completer):
    found = offered(completer, "select * from s")
    assert {"saes", "sae_cards", "similar(", "suppresses("} <= set(found)
    assert "scale" not in found
    assert "sum(" not in found
    assert offered(completer, "from saes, fea")["features"]
    assert offered(completer, "from contexts(3, n := 2) c, simi")["similar("]


def test_macros_show_their_signature_and_summary(completer):
    one = offered(completer, "from contex")["contexts("]
    assert one.display_text == "contexts(feature, n := 10)"
    assert one.display_meta_text.startswith("Where a feature fires")


def test_elsewhere_columns_functions_and_keywords(completer):
    found = offered(completer, "select de")
    assert {"density", "decoder", "decoder_cosine(", "dense_rank(", "desc"} <= set(found)
    assert "features" in found["density"].display_meta_text


def test_in_quotes_names_of_saes(completer):
    found = offered(completer, "from contexts('toy-a/")
    assert set(found) == {f"{SAES[0]}/", f"{SAES[1]}/"}
    assert "features" in offered(completer, "select 'a''b' from feat")


def test_dot_commands_complete(completer):
    assert set(offered(completer, ".m")) == {".macros", ".mode"}
    assert "contexts" in offered(completer, ".macros cont")
    assert "density" not in offered(completer, ".macros de")


def test_helpers_are_not_offered(completer):
    assert not any(text.startswith("_") for text in offered(completer, "from _"))
