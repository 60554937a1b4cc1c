"""The k largest of each row: the SIMD path against torch.topk."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.selection import k_largest


def check(x: torch.Tensor, k: int) -> None:
    value, index = k_largest(x, k)
    assert (value.dtype, index.dtype) == (torch.float32, torch.int32)
    expected = x.topk(k, dim=1).values.relu()
    assert torch.equal(value.sort(1, descending=True).values, expected)
    # Each value is the one at its index, and no index comes twice in a row.
    found = x.gather(1, index.long())
    assert torch.equal(found.relu(), value)
    assert (index.sort(1).values.diff(dim=1) > 0).all()


@st.composite
def shapes(draw):
    width = draw(st.integers(1, 700))
    return draw(st.integers(1, 20)), width, draw(st.integers(1, min(width, 80)))


@given(shapes(), st.integers(0, 2**31), st.sampled_from([0, 1, 3]))
@settings(max_examples=150, deadline=None)
def test_equals_topk(shape, seed, levels):
    n, width, k = shape
    x = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    # Few levels make ties, among them at 0 and below.
    check((x * levels).round() if levels else x, k)


@pytest.mark.parametrize(("width", "k"), [(16384, 32), (5000, 64), (4096, 1), (1024, 16)])
def test_wide_rows(width, k):
    check(torch.randn(40, width, generator=torch.Generator().manual_seed(width)), k)


def test_rows_without_positive_numbers():
    value, index = k_largest(-torch.rand(5, 300), 8)
    assert not value.any()
    assert ((index >= 0) & (index < 300)).all()


def test_transposed_input():
    check(torch.randn(600, 30, generator=torch.Generator().manual_seed(1)).T, 5)
