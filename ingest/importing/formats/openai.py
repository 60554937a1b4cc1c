"""OpenAI's SAEs of GPT-2 small (openai/sparse_autoencoder, June 2024): one .pt for each layer.

    x, μ, σ = LN(x)                            TopK alone: (x - mean) / (std + 1e-5), d - 1 in std
    acts    = f((x - pre_bias) @ encoder.weight.T + latent_bias)
    x̂       = (acts @ decoder.weight.T + pre_bias) * σ + μ

Whether the input is normalised is not in the file: the library takes it for every TopK and for
nothing else (`Autoencoder.from_state_dict`). Where an SAE reads is not either, only in the path of
its release, …/gpt2-small/resid_post_mlp_v5_32k/autoencoders/6.pt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from atlas.errors import BadInput
from atlas.ingest.importing.formats.canonical import SIGNED_TOPK, checked_k, plain, probe
from atlas.ingest.importing.formats.found import (
    Format,
    Found,
    Place,
    Source,
    Tensors,
    known,
    read_pickle,
)
from atlas.sae import SaeWeights

_NAME = "openai"

_LOCATIONS = {
    "mlp_post_act": "mlp_act",
    "resid_delta_attn": "attn_out",
    "resid_post_attn": "resid_mid",
    "resid_delta_mlp": "mlp_out",
    "resid_post_mlp": "resid_post",
}
"""Hook points by the names of its `paths.py`, as its README reads them from TransformerLens."""

_KEYS = ("pre_bias", "encoder.weight", "latent_bias", "decoder.weight")
_STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")

_NORMALIZED = (
    "Inputs are normalised to mean 0 and variance 1, as the library does for every TopK; the file "
    "does not say so."
)


def _detect(source: Source) -> list[Found]:
    return [
        _found(source, path, values)
        for path, values in probe(source, "*.pt")
        if all(key in values for key in _KEYS[:3])
    ]


def _found(source: Source, path: Path, values: Mapping[str, Any]) -> Found:
    tensors = Tensors.of(path, values)
    d_sae, d_in = tensors.shape("encoder.weight", 2)
    name, k = _activation(values, d_sae, path)
    place, model = _place(source.full_path(path))
    notes = [_NORMALIZED] if k is not None else []
    if name == "TopK" and values["activation_state_dict"].get("postact_fn") == "Identity":
        notes.append(SIGNED_TOPK)
    if place is None:
        notes.append(
            "Where it reads is said by the folders of OpenAI's release alone "
            "(resid_post_mlp_v5_32k/autoencoders/6.pt), which are not there."
        )
    settings = {key: value for key, value in values.items() if key.startswith("activation")}
    return Found(
        format=_NAME,
        why=f"pre_bias and latent_bias in a PyTorch file, with the activation {name}",
        place=source.place(path),
        model=model,
        inputs=(place,) if place else None,
        outputs=(place,) if place else None,
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_in,
        architecture="standard" if k is None else "topk",
        declared={},
        conventions={"published": plain(settings), "notes": notes},
        load=partial(_load, path),
    )


def _activation(values: Mapping[str, Any], d_sae: int, path: Path) -> tuple[str, int | None]:
    """The activation's name and, for TopK, its k; one that is not named is a ReLU, as theirs."""
    name = values.get("activation", "ReLU")
    known(str(name), ("ReLU", "TopK"), "activation", path)
    if name == "ReLU":
        return "ReLU", None
    state = values.get("activation_state_dict")
    if not isinstance(state, dict):
        raise BadInput(f"{path} has a TopK without its k; get the file again from its publisher.")
    known(str(state.get("postact_fn")), ("ReLU", "Identity"), "postact_fn", path)
    return "TopK", checked_k(state.get("k"), d_sae, path)


def _place(path: str) -> tuple[Place | None, str | None]:
    match = re.search(
        rf"(?:(gpt2-small)/)?({'|'.join(_LOCATIONS)})(?:_v\w+)?(?:/autoencoders)?/(\d+)\.pt$", path
    )
    return ((int(match[3]), _LOCATIONS[match[2]]), match[1]) if match else (None, None)


def _load(path: Path) -> SaeWeights:
    values = read_pickle(path)
    tensors = Tensors.of(path, values)
    d_sae, d_in = tensors.shape("encoder.weight", 2)
    _, k = _activation(values, d_sae, path)
    bias = tensors.take("pre_bias", d_in)
    sae = SaeWeights(
        architecture="standard" if k is None else "topk",
        activation="relu" if k is None else "topk",
        k=k,
        W_enc=tensors.take("encoder.weight", d_sae, d_in).T.contiguous(),
        b_enc=tensors.take("latent_bias", d_sae),
        W_dec=tensors.take("decoder.weight", d_in, d_sae).T.contiguous(),
        b_dec=bias,
        pre_bias=bias,
        input_scale=1.0,
        output_scale=1.0,
        normalize="none" if k is None else "layer_norm",
    )
    tensors.ignore(*_STATISTICS)
    tensors.done()
    return sae


FORMAT = Format(
    name=_NAME,
    summary="OpenAI's SAEs of GPT-2 small: standard (v1, v4) and topk (v5)",
    looks_for="a .pt with pre_bias and latent_bias",
    detect=_detect,
)
