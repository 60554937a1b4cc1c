"""The logit lens against the whole matrix of effects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atlas.ingest.describing.lens import logit_lens


def parts(n: int, d: int, n_vocab: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    W_dec = torch.randn(n, d, generator=generator)
    W_U = torch.randn(d, n_vocab, generator=generator) + 3
    return W_dec, W_U, torch.rand(d, generator=generator) + 0.5


@pytest.mark.parametrize("batch_values", [1, 300, 1 << 24])
def test_equals_the_whole_matrix(batch_values):
    W_dec, W_U, gain = parts(20, 8, 100)
    effects = (W_dec.double() * gain.double()) @ W_U.double()
    effects = (effects - effects.mean(dim=1, keepdim=True)).numpy()
    ids, values = logit_lens(W_dec, W_U, gain, top=5, batch_values=batch_values)
    assert (ids.shape, ids.dtype, values.dtype) == ((20, 2, 5), np.int32, np.float32)
    assert (ids[:, 0] == np.argsort(-effects, axis=1)[:, :5]).all()
    assert (ids[:, 1] == np.argsort(effects, axis=1)[:, :5]).all()
    np.testing.assert_allclose(values, np.take_along_axis(effects[:, None], ids, 2), atol=1e-4)


def test_equal_effects_by_ascending_id():
    # Rows that training never touched repeat in real unembeddings.
    W_U = torch.zeros(4, 50)
    W_U[0, 30] = 1.0
    W_U[1] = 1.0
    W_dec = torch.eye(4)[:2]
    ids, effects = logit_lens(W_dec, W_U, torch.ones(4), top=4)
    assert ids[0, 0].tolist() == [30, 0, 1, 2]
    assert ids[0, 1].tolist() == [0, 1, 2, 3]
    assert ids[1].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert not effects[1].any()


def test_padding_rows_take_no_part():
    W_dec, W_U, gain = parts(3, 8, 40)
    padded = torch.cat([W_U, torch.full((8, 24), 1e6)], dim=1)
    plain, padded_too = logit_lens(W_dec, W_U, gain), logit_lens(W_dec, padded, gain, n_vocab=40)
    assert (plain[0] == padded_too[0]).all()
    np.testing.assert_array_equal(plain[1], padded_too[1])


def test_vocabulary_smaller_than_asked_for():
    W_dec, W_U, gain = parts(3, 8, 6)
    ids, _ = logit_lens(W_dec, W_U, gain, top=10)
    assert ids.shape == (3, 2, 6)
    assert (np.sort(ids, axis=2) == np.arange(6)).all()
