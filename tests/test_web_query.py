"""SQL from the page: what it answers, and that no query reaches a file, a write or much memory."""

from __future__ import annotations

import time

import pytest
from layers import page

from atlas.web import query


@pytest.fixture(scope="module")
def client(toy):
    with page(toy) as opened:
        yield opened


def ask(client, text, **more):
    return client.post("/api/sql", json={"query": text, **more})


def refused(client, text):
    response = ask(client, text)
    assert response.status_code == 422, response.text
    sentence = response.json()["error"]
    assert "\n" not in sentence
    return sentence


def test_rows_and_columns(client):
    found = ask(client, "select 1 as one, 'a' as two union all select 2, null order by 1").json()
    assert found["columns"] == [
        {"name": "one", "type": "INTEGER"},
        {"name": "two", "type": "VARCHAR"},
    ]
    assert found["rows"] == [[1, "a"], [2, None]]
    assert not found["truncated"]
    assert found["seconds"] >= 0


def test_values_that_json_has_not(client):
    text = (
        "select 9007199254740993, 'nan'::double, 0.1::float, '\\xAB'::blob, date '2026-01-02',"
        " [1, null], {'x': 'y'}, 1.50::decimal(4, 2)"
    )
    (row,) = ask(client, text).json()["rows"]
    assert row == ["9007199254740993", None, 0.1, "ab", "2026-01-02", [1, None], {"x": "y"}, 1.5]


def test_the_query_language_is_there(client):
    near = ask(client, "from similar('toy-a/0-resid_post/3', k := 2)").json()
    assert [row[0] for row in near["rows"]] == [1, 2]
    assert ask(client, "explain from features").json()["rows"]
    assert len(ask(client, "show tables").json()["rows"]) > 20


def test_rows_are_bounded(client):
    found = ask(client, "from range(1000000000000)", limit=7).json()
    assert len(found["rows"]) == 7
    assert found["truncated"]
    found = ask(client, "select repeat('x', 50000) from range(100000)", limit=10_000).json()
    assert found["truncated"]
    assert len(found["rows"]) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "from read_text('/etc/passwd')",
        "from read_csv('/etc/passwd')",
        "from '/etc/passwd'",
        "from glob('/*')",
        "from read_blob('http://127.0.0.1:1/')",
        "from sniff_csv('/etc/passwd')",
        "attach '/tmp/other.db' as other",
        "copy features to '/tmp/features.csv'",
        "copy (select 1) to '/tmp/one.parquet'",
        "export database '/tmp/out'",
        "install httpfs",
        "load httpfs",
        "set threads = 64",
        "reset memory_limit",
        "pragma memory_limit = '64GB'",
        "insert into meta values ('a', 'b')",
        "with gone as (delete from meta returning key) select * from gone",
        "create temp view features as select 1",
        "create temp macro pearson(a) as a",
        "drop table features",
        "checkpoint",
        "begin",
        "select 1; select 2",
        "select 1; drop table features",
        "from query('drop table features')",
        "-- nothing",
        "select",
        "select " + "(" * 30_000 + "1" + ")" * 30_000,
    ],
)
def test_what_is_no_query_of_the_atlas_is_refused(client, text):
    assert refused(client, text)


@pytest.mark.parametrize(
    "text",
    [
        "select list_sum(range(1000000000))",
        "select repeat('x', 4000000000)",
        "select list(repeat(i::varchar, 100000)) from range(1000000) as t(i)",
    ],
)
def test_a_query_that_needs_much_memory_is_ended(client, text):
    assert "memory" in refused(client, text)


@pytest.mark.parametrize(
    "text",
    [
        "with recursive t(n) as (select 1 union all select n + 1 from t) select count(*) from t",
        "select count(*) from range(10000000000000) as t(i) where i % 7 = 3",
    ],
)
def test_a_query_that_never_ends_is_ended(client, text, monkeypatch):
    monkeypatch.setattr(query, "SECONDS", 1.0)
    started = time.monotonic()
    assert "longer than 1 seconds" in refused(client, text)
    assert time.monotonic() - started < 15


def test_the_server_lives_on(client):
    assert ask(client, "select 1").json()["rows"] == [[1]]


def test_no_query_is_told(client):
    response = client.post("/api/sql", json={})
    assert response.status_code == 400
