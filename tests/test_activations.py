"""Loading activations as sparse matrices, against the rows that SQL gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import atlas
from atlas import Atlas
from atlas.activations import load
from atlas.errors import AtlasError, NotFound
from tests.synthetic import DEAD, SAES, SCALE, build_synthetic


@pytest.fixture(scope="module")
def store(toy: Path) -> Iterator[Atlas]:
    with atlas.open(toy) as opened:
        yield opened


def dense(rows: list[tuple[int, int, int]], shape: tuple[int, int]) -> np.ndarray:
    out = np.zeros(shape, np.int64)
    for row, column, q in rows:
        out[row, column] = q
    return out


@pytest.mark.parametrize("sae", SAES)
def test_over_tokens_it_is_the_table(store: Atlas, sae: str) -> None:
    first_token, n_tokens, first_feature, d_sae = store.row(
        "select first_token, n_tokens, first_feature_id, d_sae from saes join models using"
        " (model_id) join tokenizers using (tokenizer_id) where saes.name = ?",
        [sae],
    )
    rows = store.rows(
        "select token - ?, feature_id - ?, q from activations join features using (feature_id)"
        " where sae_id = sae_id(?)",
        [first_token, first_feature, sae],
    )
    found = load(store, sae)
    assert found.shape == (n_tokens, d_sae)
    assert found.nnz == len(rows)
    np.testing.assert_array_equal(found.toarray(), dense(rows, found.shape))


@pytest.mark.parametrize("sae", SAES)
def test_over_words_it_is_the_view_word_activations(store: Atlas, sae: str) -> None:
    rows = store.rows(
        "select word, index, q from word_activations join features using (feature_id)"
        " where sae_id = sae_id(?)",
        [sae],
    )
    found = load(store, sae, "words")
    assert found.nnz == len(rows)
    np.testing.assert_array_equal(found.toarray(), dense(rows, found.shape))


def test_columns_are_sorted_and_hold_no_zero(store: Atlas) -> None:
    for over in ("tokens", "words"):
        found = load(store, SAES[0], over)
        assert found.has_sorted_indices
        assert found.data.min() > 0
        assert np.diff(found.indptr)[-DEAD:].tolist() == [0] * DEAD


def test_real_units_are_q_times_scale(store: Atlas) -> None:
    q, real = load(store, 1), load(store, SAES[1], units="activation")
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real.data, q.data * SCALE)


def test_an_unknown_sae_is_not_found(store: Atlas) -> None:
    with pytest.raises(NotFound, match="its SAEs are"):
        load(store, "toy-a/5-resid_post")


@pytest.mark.parametrize(
    "damage, sentence",
    [
        ("delete from activations where feature_id = 3 and token % 2 = 0", "do not add up"),
        ("update activations set token = token + 100000 where feature_id = 3", "not in order"),
        ("insert into activations select feature_id, token + 1, q from activations"
         " where feature_id = 3 limit 1", "do not add up"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_told_and_never_loaded(
    tmp_path: Path, damage: str, sentence: str
) -> None:
    with atlas.open(build_synthetic(tmp_path / "a.atlas", documents=5), write=True) as broken:
        broken.execute(damage)
        with pytest.raises(AtlasError, match=f"{sentence}.*`atlas check`"):
            load(broken, SAES[0])
