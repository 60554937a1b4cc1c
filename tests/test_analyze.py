"""Statistics of an SAE's activations against the same in dense NumPy."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atlas
from atlas.errors import BadInput
from atlas.ingest.describing.analyze import SCHEMAS, analyze_sae
from atlas.ingest.describing.examples import strength_order
from atlas.ingest.describing.lens import Lens
from atlas.ingest.describing.statistics import (
    QUANTILES,
    TOP_FORMS,
    TOP_TOKENS,
    feature_sums,
    token_stats,
    word_entries,
    word_stats,
)
from atlas.ingest.measuring.geometry import max_cosines
from atlas.ingest.measuring.parts import Block
from atlas.ingest.measuring.segments import group_entries, stable_order, top_per_group
from atlas.sae import SaeWeights
from tests.measured import block_of, make_corpus, random_q, write_parts

WORDS = [
    "the",
    "a",
    "dog",
    "Dog",
    "cat",
    "sat",
    "on",
    "mat",
    ".",
    ",",
    "running",
    "Lily",
    ",",
    "said",
    "once",
    "upon",
    "time",
    "time",
    "time",
]


def make_texts(rng: np.random.Generator, n_documents: int = 6) -> list[str]:
    return [" ".join(rng.choice(WORDS, rng.integers(3, 40))) for _ in range(n_documents)]


def make_sae(d: int, d_sae: int, threshold: bool = False) -> SaeWeights:
    generator = torch.Generator().manual_seed(0)
    return SaeWeights(
        architecture="topk",
        activation="topk",
        k=4,
        W_enc=torch.randn(d, d_sae, generator=generator),
        b_enc=torch.randn(d_sae, generator=generator),
        W_dec=torch.randn(d_sae, d, generator=generator),
        b_dec=torch.zeros(d),
        pre_bias=torch.zeros(d),
        input_scale=1.0,
        output_scale=1.0,
        threshold=torch.rand(d_sae, generator=generator) if threshold else None,
    )


def word_maxima(q: np.ndarray, word: np.ndarray, n_words: int) -> np.ndarray:
    dense = np.zeros((n_words, q.shape[1]), np.int64)
    np.maximum.at(dense, word, q)
    return dense


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.9))
@settings(max_examples=30, deadline=None)
def test_sums_equal_dense_numpy(seed, density):
    rng = np.random.default_rng(seed)
    corpus, stream = make_corpus(make_texts(rng), context=8)
    q = random_q(rng, len(stream), 5, density)
    block = block_of(q)
    words = word_entries(block, corpus.word)
    found = feature_sums(block, words, strength_order(block), len(stream))
    on_words = word_maxima(q, stream.word, len(corpus.words))

    assert (found["n_active"] == (q > 0).sum(axis=0)).all()
    assert (found["alive"] == (q > 0).any(axis=0)).all()
    assert (found["density"] == (q > 0).mean(axis=0)).all()
    assert (found["sum_q"] == q.sum(axis=0)).all()
    assert (found["sum_q2"] == (q**2).sum(axis=0)).all()
    assert (found["max_q"] == q.max(axis=0)).all()
    assert (found["word_n_active"] == (on_words > 0).sum(axis=0)).all()
    assert (found["word_sum_q"] == on_words.sum(axis=0)).all()
    assert (found["word_sum_q2"] == (on_words**2).sum(axis=0)).all()
    for feature, quantiles in enumerate(found["quantiles_q"].to_pylist()):
        active = q[q[:, feature] > 0, feature]
        wanted = [np.quantile(active, p, method="lower") for p in QUANTILES] if len(active) else []
        assert quantiles == wanted


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3]))
@settings(max_examples=20, deadline=None)
def test_stats_of_tokens_and_forms_equal_plain_loops(seed, length):
    rng = np.random.default_rng(seed)
    corpus, stream = make_corpus(make_texts(rng), 8, length)
    q = random_q(rng, len(stream), 3)
    block = block_of(q)
    forms = corpus.words.lower_forms
    on_words = word_maxima(q, stream.word, len(corpus.words))
    for found, values, keys, top, name in (
        (token_stats(block, corpus.token_id), q, stream.token_id, TOP_TOKENS, "token_id"),
        (
            word_stats(block, word_entries(block, corpus.word), corpus.words),
            on_words,
            corpus.words.lower,
            TOP_FORMS,
            "form",
        ),
    ):
        occurrences = Counter(keys.tolist())
        rows = pa.table(found).to_pylist()
        for feature in range(3):
            entries = defaultdict(list)
            for unit in np.flatnonzero(values[:, feature]):
                entries[int(keys[unit])].append(int(values[unit, feature]))
            best = sorted(entries, key=lambda key: (-sum(entries[key]), key))[:top]
            mine = [row for row in rows if row["index"] == feature]
            for row, key in zip(mine, best, strict=True):
                assert row[name] == (forms[key] if name == "form" else key)
                assert row["n_active"] == len(entries[key])
                assert row["sum_q"] == sum(entries[key])
                assert row["max_q"] == max(entries[key])
                if name == "form":
                    assert row["n_words"] == occurrences[key]


def test_words_of_a_tokenizer_that_goes_backwards():
    block = Block(
        0, np.array([0, 4]), np.arange(4, dtype=np.int32), np.array([5, 1, 9, 2], np.int32)
    )
    words = word_entries(block, np.array([0, 1, 0, 1]))
    assert (words.word.tolist(), words.q.tolist()) == ([0, 1], [9, 2])


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([3, 2000, 10**9]))
@settings(max_examples=60, deadline=None)
def test_groups_equal_plain_loops(seed, n, n_keys):
    # The three sizes are counted in one go, in several, and sorted.
    rng = np.random.default_rng(seed)
    feature = np.sort(rng.integers(0, 200, n))
    key = rng.integers(0, min(n_keys, 50), n) * (n_keys // 50 or 1) % n_keys
    values = rng.integers(1, 1000, n)
    groups = group_entries(feature, key, values, n_keys)
    plain = defaultdict(list)
    for f, k, v in zip(feature.tolist(), key.tolist(), values.tolist(), strict=True):
        plain[f, k].append(v)
    wanted = [(f, k, len(v), sum(v), max(v)) for (f, k), v in sorted(plain.items())]
    found = zip(groups.feature, groups.key, groups.count, groups.sum_q, groups.max_q, strict=True)
    assert [tuple(map(int, row)) for row in found] == wanted


@pytest.mark.parametrize("largest", [10, 2**40])
def test_orders_are_stable(largest):
    # Small keys are sorted packed with their position; large ones do not fit.
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 500) * (largest // 4), rng.integers(0, 4, 500) * (largest // 4)
    assert (stable_order(a, b) == np.lexsort((np.arange(500), b, a))).all()
    best = top_per_group(a, b, 3)
    wanted = [
        i
        for g in np.unique(a)
        for i in sorted(np.flatnonzero(a == g), key=lambda i: (-b[i], i))[:3]
    ]
    assert best.tolist() == wanted


def read(folder: Path) -> dict[str, pa.Table]:
    return {table: pq.read_table(folder / f"{table}.parquet") for table in SCHEMAS}


@given(seed=st.integers(0, 2**32 - 1))
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_blocks_and_chunks_change_nothing(seed, tmp_path_factory):
    place = tmp_path_factory.mktemp("analyze")
    rng = np.random.default_rng(seed)
    corpus, stream = make_corpus(make_texts(rng, 12), context=8)
    q = random_q(rng, len(stream), 9)
    sae = make_sae(4, 9)
    lens = Lens(torch.randn(4, corpus.n_vocab + 3), torch.ones(4))
    cuts = [[], sorted(rng.integers(0, len(stream), 3).tolist())]
    results = []
    for number, (bounds, entries) in enumerate([(cuts[0], 10**6), (cuts[1], 1), (cuts[1], 40)]):
        parts = write_parts(place / f"parts{number}", q, bounds)
        analyze_sae(parts, sae, corpus, lens, place / f"tables{number}", entries)
        results.append(
            (read(place / f"tables{number}"), pa.Table.from_batches(parts.batches(entries)))
        )
    for tables, activations in results[1:]:
        assert activations == results[0][1]
        for name, table in tables.items():
            # The logit lens is a float product, whose last bit depends on how many rows there are.
            if name == "token_effects":
                assert table.drop(["effect"]) == results[0][0][name].drop(["effect"])
            else:
                assert table == results[0][0][name], name
    index, token = np.nonzero(q.T)
    activations = results[0][1]
    assert activations["index"].to_pylist() == index.tolist()
    assert activations["token"].to_pylist() == token.tolist()
    assert activations["q"].to_pylist() == q[token, index].tolist()


def test_tables_have_the_columns_of_the_schema(tmp_path):
    with atlas.create(tmp_path / "empty.atlas") as empty:
        schema = dict(
            empty.rows(
                "select table_name, list(column_name order by column_index) from duckdb_columns()"
                " group by table_name"
            )
        )
    rng = np.random.default_rng(0)
    corpus, stream = make_corpus(make_texts(rng), context=8)
    parts = write_parts(tmp_path / "parts", random_q(rng, len(stream), 5), [])
    sae = make_sae(4, 5, threshold=True)
    analyze_sae(parts, sae, corpus, None, tmp_path / "tables")
    for table, rows in read(tmp_path / "tables").items():
        absent = {"sae_id", "run_id", "feature_id", "index"}
        wanted = ["index", *(column for column in schema[table] if column not in absent)]
        assert rows.column_names == wanted, table
    vectors = read(tmp_path / "tables")["vectors"]
    assert vectors["encoder"].to_pylist() == sae.W_enc.T.tolist()
    assert vectors["decoder"].to_pylist() == sae.W_dec.tolist()
    assert vectors["encoder_bias"].to_pylist() == sae.b_enc.tolist()
    assert vectors["threshold"].to_pylist() == sae.threshold.tolist()
    cosines = max_cosines(sae.W_dec)
    assert vectors["max_cosine"].to_pylist() == cosines.tolist()
    norms = np.linalg.norm(np.array(vectors["signature"].to_pylist()), axis=1)
    np.testing.assert_allclose(norms, [1, 1, 1, 1, 0], atol=1e-6)


def test_an_unfinished_analysis_is_begun_again(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    corpus, stream = make_corpus(make_texts(rng), context=8)
    parts = write_parts(tmp_path / "parts", random_q(rng, len(stream), 5), [])
    arguments = (parts, make_sae(4, 5), corpus, None, tmp_path / "tables")
    monkeypatch.setattr("atlas.ingest.describing.analyze.token_stats", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        analyze_sae(*arguments, block_entries=1)
    assert not (tmp_path / "tables").exists()
    monkeypatch.undo()
    analyze_sae(*arguments, block_entries=1)
    assert len(read(tmp_path / "tables")["features"]) == 5


def test_squares_beyond_64_bits_are_refused():
    q = np.full((3, 1), 2**31 - 1, np.int64)
    block = block_of(q)
    words = word_entries(block, np.arange(3))
    with pytest.raises(BadInput, match="64 bits"):
        feature_sums(block, words, strength_order(block), 3)
