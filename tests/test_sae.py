"""A stored SAE: its formula, its file, its hash."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.errors import BadInput
from atlas.sae import SaeWeights, write_tensors


def make_sae(d_in=8, d_sae=40, k=4, seed=0, scale=0.7) -> SaeWeights:
    g = torch.Generator().manual_seed(seed)
    return SaeWeights(
        architecture="topk",
        activation="topk",
        k=k,
        W_enc=torch.randn(d_in, d_sae, generator=g),
        b_enc=torch.randn(d_sae, generator=g) / 4,
        W_dec=torch.randn(d_sae, d_in, generator=g),
        b_dec=torch.randn(d_in, generator=g),
        pre_bias=torch.randn(d_in, generator=g),
        input_scale=scale,
        output_scale=scale,
    )


def dense(sae: SaeWeights, x: torch.Tensor) -> torch.Tensor:
    """Activations (n, d_sae) by the formula."""
    pre = (x * sae.input_scale - sae.pre_bias) @ sae.W_enc + sae.b_enc
    value, index = pre.topk(sae.k, dim=1)
    return torch.zeros_like(pre).scatter(1, index, value.relu())


@given(st.integers(1, 700), st.integers(1, 20), st.integers(1, 90), st.floats(0.01, 50), st.data())
@settings(max_examples=40, deadline=None)
def test_encode_and_decode_follow_the_formula(n, d_in, d_sae, scale, data):
    sae = make_sae(d_in, d_sae, data.draw(st.integers(1, d_sae)), scale=scale)
    x = torch.randn(n, d_in, generator=torch.Generator().manual_seed(n)) / scale
    acts = dense(sae, x)
    code = sae.encode(x)
    assert (code.index.dtype, code.value.dtype) == (torch.int32, torch.float32)
    assert len(code) == n
    torch.testing.assert_close(code.dense(d_sae), acts, atol=1e-4, rtol=1e-4)
    expected = (acts @ sae.W_dec + sae.b_dec) / scale
    torch.testing.assert_close(sae.decode(code, x), expected, atol=1e-3 / scale, rtol=1e-3)


def test_no_input_has_an_empty_code():
    sae = make_sae()
    code = sae.encode(torch.empty(0, 8))
    assert len(code) == len(code.index) == 0
    assert sae.decode(code, torch.empty(0, 8)).shape == (0, 8)


def test_codes_do_not_depend_on_the_number_of_threads():
    sae, x, before = make_sae(16, 256, 8), torch.randn(3000, 16), torch.get_num_threads()
    codes = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            codes.append(sae.encode(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(codes[0].index, codes[1].index)
    assert torch.equal(codes[0].value, codes[1].value)


@pytest.mark.parametrize("threshold", [None, torch.rand(40)])
def test_a_file_gives_back_the_same_sae(tmp_path, threshold):
    sae = dataclasses.replace(make_sae(scale=0.1 + 0.2), threshold=threshold)
    sae.save(tmp_path / "new" / "a.safetensors")
    again = SaeWeights.load(tmp_path / "new" / "a.safetensors")
    for field in dataclasses.fields(sae):
        a, b = getattr(sae, field.name), getattr(again, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name
    assert again.sha256() == sae.sha256()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.safetensors"]


def test_the_hash_sees_every_part():
    sae = make_sae()
    changed = [
        dataclasses.replace(sae, k=5),
        dataclasses.replace(sae, input_scale=0.71),
        dataclasses.replace(sae, output_scale=0.71),
        dataclasses.replace(sae, activation="relu"),
        dataclasses.replace(sae, normalize="layer_norm"),
        dataclasses.replace(sae, b_dec=sae.b_dec + 1e-3),
        dataclasses.replace(sae, threshold=torch.zeros(40)),
        dataclasses.replace(sae, W_enc=sae.W_enc.T.reshape(8, 40)),
    ]
    assert len({one.sha256() for one in [sae, *changed]}) == 1 + len(changed)


def test_groupmax_takes_the_largest_of_each_group():
    sae = dataclasses.replace(make_sae(), activation="groupmax")
    x = torch.randn(30, 8)
    pre = (x * sae.input_scale - sae.pre_bias) @ sae.W_enc + sae.b_enc
    acts = torch.zeros_like(pre)
    for group in torch.arange(40).view(4, 10):
        value, place = pre[:, group].max(1)
        acts[torch.arange(30), group[place]] = value.relu()
    torch.testing.assert_close(sae.encode(x).dense(40), acts, atol=1e-5, rtol=1e-5)


@given(st.integers(1, 9), st.floats(0, 3), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_matching_pursuit_takes_away_what_fits_best(steps, least, seed):
    sae = make_sae(k=steps, seed=seed, scale=1.0)
    W_dec = sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True)
    sae = dataclasses.replace(
        sae,
        activation="matching_pursuit",
        W_enc=W_dec.T.contiguous(),
        W_dec=W_dec,
        threshold=torch.full((40,), least),
    )
    x = 3 * torch.randn(20, 8, generator=torch.Generator().manual_seed(seed))
    acts = torch.zeros(20, 40)
    for row, left in enumerate(x - sae.pre_bias):
        for _ in range(steps):
            fit = W_dec @ left
            best = int(fit.argmax())
            known = bool(acts[row, best] > 0)
            acts[row, best] += fit[best].clamp_min(0)
            left = left - fit[best].clamp_min(0) * W_dec[best]
            if known or fit[best] <= 0 or left.norm() < least:
                break
    torch.testing.assert_close(sae.encode(x).dense(40), acts, atol=1e-4, rtol=1e-4)


def test_what_is_no_sae_is_told(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(BadInput, match=r"a\.safetensors cannot be read"):
        SaeWeights.load(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(BadInput, match="cannot be read"):
        SaeWeights.load(path)
    write_tensors(path, {"x": torch.zeros(1)}, {})
    with pytest.raises(BadInput, match="is not an SAE"):
        SaeWeights.load(path)
    dataclasses.replace(make_sae(), activation="later").save(path)
    with pytest.raises(BadInput, match=r"'later'.*it knows relu, jumprelu, topk"):
        SaeWeights.load(path)


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot be written"):
        make_sae().save(tmp_path / "file" / "a.safetensors")
