"""OpenAI's .pt files, built as openai/sparse_autoencoder (4965b94, June 2024) writes them.

`theirs` states what its model.py computes: LN (eps 1e-5 on the standard deviation of d - 1), for
TopK alone; encoder without bias, latent_bias; decoder without bias, pre_bias; std and mean again.
"""

from __future__ import annotations

import pytest
import torch

from atlas.errors import BadInput
from atlas.ingest.importing.formats import read_dictionaries
from tests.published import Runs, check, one, write

D, N, K = 8, 20, 3


def state(n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    return {
        "pre_bias": 0.4 * normal(D),
        "encoder.weight": normal(n, D),
        "latent_bias": 0.3 * normal(n),
        "decoder.weight": normal(D, n),
        "stats_last_nonzero": torch.zeros(n, dtype=torch.long),
        "latents_activation_frequency": torch.ones(n),
        "latents_mean_square": torch.zeros(n),
    }


TOPK = {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}
RELU = {"activation": "ReLU", "activation_state_dict": {}}


def theirs(w, x, k):
    mean = x.mean(1, keepdim=True) if k else 0.0
    std = (x - mean).std(1, keepdim=True) if k else 1.0
    normal = (x - mean) / (std + 1e-5) if k else x
    pre = (normal - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
    acts = pre.relu()
    if k:
        top = pre.topk(k, dim=1)
        acts = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    return acts, (acts @ w["decoder.weight"].T + w["pre_bias"]) * std + mean


@pytest.mark.parametrize("n", [N, D])  # D: square, where a transposed matrix fits
@pytest.mark.parametrize(("kind", "k"), [(RELU, None), (TOPK, K)])
@pytest.mark.parametrize("scale", [1.0, 1e-4])  # small: where eps stands matters
def test_activations_and_reconstructions_follow_the_published_formula(tmp_path, kind, k, n, scale):
    w = state(n)
    sae = one(write(tmp_path / "6.pt", w, **kind)).load()
    x = scale * (torch.randn(30, D, generator=torch.Generator().manual_seed(1)) + 2)
    acts, reconstruction = theirs(w, x, k)
    check(sae, x, acts, reconstruction)
    assert sae.normalize == ("layer_norm" if k else "none")
    assert (sae.architecture, sae.k) == (("topk", K) if k else ("standard", None))


@pytest.mark.parametrize(
    ("place", "site"),
    [
        ("gpt2-small/resid_post_mlp_v5_32k/autoencoders/6.pt", (6, "resid_post")),
        ("gpt2-small/resid_delta_mlp_v5_128k/autoencoders/11.pt", (11, "mlp_out")),
        ("gpt2-small/resid_post_attn_v5_32k/autoencoders/0.pt", (0, "resid_mid")),
        ("gpt2-small/resid_delta_attn_v5_32k/autoencoders/1.pt", (1, "attn_out")),
        ("gpt2-small/mlp_post_act_v4/autoencoders/2.pt", (2, "mlp_act")),
        ("gpt2-small/resid_delta_mlp/autoencoders/3.pt", (3, "mlp_out")),
    ],
)
def test_the_path_of_a_release_says_where_it_reads(tmp_path, place, site):
    write(tmp_path / place, state(), **TOPK)
    for source in (tmp_path, tmp_path / place):
        found = one(source)
        assert found.inputs == found.outputs == (site,)
        assert (found.format, found.model) == ("openai", "gpt2-small")
        assert "does not say so" in found.conventions["notes"][0]


def test_elsewhere_where_it_reads_is_not_guessed(tmp_path):
    found = one(write(tmp_path / "6.pt", state(), **RELU))
    assert found.inputs is None
    assert "release alone" in found.conventions["notes"][0]


def test_what_optimisers_leave_beside_it_is_passed_over(tmp_path):
    write(tmp_path / "a" / "6.pt", state(), **RELU)
    write(tmp_path / "a" / "optimizer.pt", {"exp_avg": torch.zeros(3)})
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a" / "model.pt")
    assert one(tmp_path).place == "a/6.pt"


def test_without_a_named_activation_it_is_a_relu_as_theirs(tmp_path):
    w = state()
    x = torch.randn(9, D)
    check(one(write(tmp_path / "0.pt", w)).load(), x, *theirs(w, x, None))


def test_half_precision_is_read(tmp_path):
    w = {name: tensor.half() for name, tensor in state().items()}
    sae = one(write(tmp_path / "0.pt", w, **TOPK)).load()
    x = torch.randn(9, D)
    check(sae, x, *theirs({name: tensor.float() for name, tensor in w.items()}, x, K))


@pytest.mark.parametrize(
    ("beside", "says"),
    [
        ({"activation": "GELU"}, "'GELU' .* is unknown"),
        ({"activation": "TopK"}, "without its k"),
        ({**TOPK, "activation_state_dict": {"k": N + 1, "postact_fn": "ReLU"}}, "cannot be"),
        ({**TOPK, "activation_state_dict": {"k": 2.5, "postact_fn": "ReLU"}}, "cannot be"),
        ({**TOPK, "activation_state_dict": {"k": 3, "postact_fn": "Tanh"}}, "'Tanh'"),
        ({**RELU, "W_skip": torch.zeros(2)}, "also has W_skip"),
        ({**RELU, "decoder.weight": torch.zeros(N, D)}, "has the shape"),
        ({**RELU, "pre_bias": torch.full((D,), torch.inf)}, "not finite"),
    ],
)
def test_files_that_do_not_fit_are_told(tmp_path, beside, says):
    path = write(tmp_path / "0.pt", state(), **beside)
    with pytest.raises(BadInput, match=says):
        one(path).load()


def test_a_tied_decoder_is_told(tmp_path):
    w = state()
    w["decoder.linear.weight"] = w.pop("decoder.weight")
    with pytest.raises(BadInput, match=r"no 'decoder\.weight'"):
        one(write(tmp_path / "0.pt", w, **RELU)).load()


def test_damaged_and_malicious_files_are_told(tmp_path):
    path = write(tmp_path / "0.pt", state(), **RELU)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match="cannot be read"):
        read_dictionaries(str(path))
    witness = tmp_path / "witness"
    write(path, state(), activation=Runs(witness))
    with pytest.raises(BadInput, match="could run code"):
        read_dictionaries(str(path))
    assert not witness.exists()
