"""Rows of queries as plain values and as text."""

from __future__ import annotations

import csv
import io
import json
import math
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import QueryError
from atlas.rows import Column, Rows, run, to_json, write_parquet, write_text


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    yield connection
    connection.close()


def text(con, query, kind, parameters=None):
    stream = io.StringIO()
    write_text(run(con, query, parameters), stream, kind)
    return stream.getvalue()


def value(con, expression):
    (row,) = json.loads(text(con, f"select {expression} as x", "json"))
    return row["x"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'nan'::double", None),
        ("'-inf'::float", None),
        ("[1.5, 'nan'::double, null]", [1.5, None, None]),
        ("{'a': [{'b': 'inf'::double}]}", {"a": [{"b": None}]}),
        ("0.1::float", 0.1),
        ("[0.1::float, 'nan'::float]", [0.1, None]),
        ("[0.1, 0.2]::float[2]", [0.1, 0.2]),
        ("{'x': [0.1::float]}", {"x": [0.1]}),
        ("1.10::decimal(5, 2)", 1.1),
        ("12345678901234567890.123456789::decimal(38, 9)", "12345678901234567890.123456789"),
        ("sum(2::bigint ** 62)::hugeint", 2**62),
        ("170141183460469231731687303715884105727::hugeint", 2**127 - 1),
        ("timestamp '2026-01-02 03:04:05.6'", "2026-01-02T03:04:05.600000"),
        ("date '2026-01-02'", "2026-01-02"),
        ("map {1: 'a'}", {"1": "a"}),
        ("map {1: 'nan'::double}", {"1": None}),
        (r"'\xAA\x00'::blob", "aa00"),
        ("""'{"a": [1, null]}'::json""", {"a": [1, None]}),
        ("true", True),
        ("null", None),
        ("'é日🎈\n\"'", 'é日🎈\n"'),
    ],
)
def test_json_values(con, expression, expected):
    found = value(con, expression)
    assert found == expected
    assert type(found) is type(expected)


def test_time_with_zone_needs_no_package(con):
    assert value(con, "timestamptz '2026-01-02 03:04:05+00'").startswith("2026-01-0")


def test_statements_before_the_last_run_too(con):
    assert text(con, "create or replace temp table t as select 3 as x; from t; -- end", "csv") == (
        "x\n3\n"
    )


def test_statement_without_rows(con):
    assert run(con, "set threads = 2") is None


@pytest.mark.parametrize("empty", ["", " ; ", "-- only a comment"])
def test_empty_query(con, empty):
    with pytest.raises(QueryError, match="empty"):
        run(con, empty)


def test_refused_query_is_one_sentence(con):
    with pytest.raises(QueryError) as error:
        run(con, "select * from nowhere")
    assert "nowhere" in str(error.value)
    assert "\n" not in str(error.value)


def test_error_in_a_later_batch_is_told(con):
    rows = run(con, "select if(range = 99999, error('the last one'), range) from range(100000)")
    with pytest.raises(QueryError, match="the last one"):
        list(rows)


def test_repeated_names_keep_their_columns(con):
    assert json.loads(text(con, "select 1 as a, 2 as a, 3 as a_1, 4 as b", "ndjson")) == {
        "a": 1,
        "a_2": 2,
        "a_1": 3,
        "b": 4,
    }


def test_order_survives_the_casts(con):
    query = "select hash(range) as h, range::float as x from range(50000) order by h"
    hashes = [row["h"] for row in map(json.loads, text(con, query, "ndjson").splitlines())]
    assert hashes == sorted(hashes)
    assert len(hashes) == 50000


def test_closing_frees_the_connection(con):
    rows = run(con, "from range(100000)")
    next(iter(rows))
    rows.close()
    assert con.execute("select 1").fetchall() == [(1,)]


@pytest.mark.parametrize("n", [0, 1, 4096, 4097])
def test_json_array_whatever_the_batches(con, n):
    assert json.loads(text(con, f"select range as i from range({n})", "json")) == [
        {"i": i} for i in range(n)
    ]


def test_parquet_keeps_types(con, tmp_path):
    path = tmp_path / "rows.parquet"
    write_parquet(con, "select ?::integer as a, [0.5::float] as b", path, [3])
    relation = con.sql(f"from '{path}'")
    assert [str(kind) for kind in relation.types] == ["INTEGER", "FLOAT[]"]
    assert relation.fetchall() == [(3, [0.5])]


def test_parquet_needs_a_query(con, tmp_path):
    with pytest.raises(QueryError, match="SET"):
        write_parquet(con, "set threads = 2", tmp_path / "rows.parquet")


_CELLS = st.one_of(
    st.none(),
    st.integers(-(2**127), 2**127),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.decimals(allow_nan=False, allow_infinity=False),
)
_NESTED = st.recursive(
    _CELLS, lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner)
)


@given(_NESTED)
def test_every_value_is_strict_json(value):
    def refuse(constant):
        raise AssertionError(constant)

    line = to_json(value)
    assert "\n" not in line
    json.loads(line, parse_constant=refuse)


@given(st.lists(st.tuples(_CELLS, _CELLS), max_size=5))
def test_csv_reads_back(rows):
    stream = io.StringIO(newline="")
    columns = [Column("a", "VARCHAR"), Column("b", "VARCHAR")]
    assert write_text(Rows(columns, [rows]), stream, "csv") == len(rows)
    header, *found = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert header == ["a", "b"]
    assert found == [["" if c is None else str(c) for c in row] for row in rows]


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_decimals_are_exact(number):
    found = json.loads(to_json(number), parse_float=Decimal, parse_int=Decimal)
    assert math.isclose(Decimal(found), number, rel_tol=0, abs_tol=0)
