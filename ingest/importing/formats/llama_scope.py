"""Llama Scope (fnlp, October 2024, arXiv 2410.20526): a folder with hyperparams.json.

OpenMOSS' library of that time (Language-Model-SAEs, 1e710367) computes, once it has loaded one,

    acts = f(x @ W_enc + b_enc)                 θ: one threshold for all, `jump_relu_threshold`
    ŷ    = acts @ W_dec + b_dec                 W_dec of rows of length 1

where norms of the activations and of the decoder are folded into what is stored (E, b, D, c), with
s = √d_model / `dataset_average_activation_norm`, n = ‖D‖ s_in / s_out:

    W_enc = E n    b_enc = b n / s_in    W_dec = D s_in / (s_out n)    b_dec = c / s_out

θ is in these last units. SAELens (6.54) compares it with s (x @ E) + b, without n, and keeps other
latents wherever decoders have other lengths (its issues 482 and 483, Llamascopium's 128).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.importing.formats.canonical import (
    checked_k,
    checked_threshold,
    constant_threshold,
    linear_pair,
    plain,
    unit_decoder,
)
from atlas.ingest.importing.formats.found import (
    Format,
    Found,
    Source,
    Tensors,
    known,
    place_of_transformer_lens,
    read_json,
    read_pickle,
    setting,
)
from atlas.sae import SaeWeights

_NAME, _CONFIG = "llama-scope", "hyperparams.json"

WEIGHTS = (
    "sae_weights.safetensors",
    "sae_weights.pt",
    "checkpoints/pruned.safetensors",
    "checkpoints/pruned.pt",
    "checkpoints/final.safetensors",
    "checkpoints/final.pt",
)
"""Where the library looks, in its order."""

HOOKS_OF_TRANSFORMER_LENS = (
    "Hook points are those of TransformerLens with the model's weights as they are "
    "(from_pretrained_no_processing)."
)
"""A note on where it reads."""

Config = Mapping[str, Any]
"""A hyperparams.json or config.json."""


def _detect(source: Source) -> list[Found]:
    found = []
    for path in source.matching(_CONFIG):
        config = read_json(path)
        if "hook_point_in" in config:
            found.append(_found(source, path, config))
    return found


def _found(source: Source, path: Path, config: Config) -> Found:
    d_in, d_sae = setting(config, "d_model", int, path), setting(config, "d_sae", int, path)
    reads, writes = map(place_of_transformer_lens, hook_points(config, path))
    activation = _activation(config, path)
    notes = [HOOKS_OF_TRANSFORMER_LENS]
    if config.get("norm_activation") == "dataset-wise":
        notes.append("The average norms of inputs and outputs are folded into weights and biases.")
    if config.get("sparsity_include_decoder_norm"):
        notes.append("Decoder rows are scaled to length 1, as the library does when it loads.")
    if activation == "jumprelu":
        notes.append("jump_relu_threshold is compared with activations in these last units.")
    return Found(
        format=_NAME,
        why=f"{_CONFIG} with hook_point_in and the activation {config['act_fn']}",
        place=source.place(path.parent),
        model=model_name(path.parent),
        inputs=(reads,) if reads else None,
        outputs=(writes,) if writes else None,
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_in,
        architecture=_architecture(config, path),
        declared={},
        conventions={"published": plain(config), "notes": notes},
        load=partial(_load, path, config),
    )


def hook_points(config: Config, path: Path) -> tuple[str, str]:
    """Names of the hooks that it reads and writes; the same unless another is said."""
    read = setting(config, "hook_point_in", str, path)
    said = config.get("hook_point_out") is not None
    return read, setting(config, "hook_point_out", str, path) if said else read


def flag(config: Config, name: str, default: bool, path: Path) -> bool:
    """A setting that is true or false, and as in the library where it is not said."""
    return bool(setting(config, name, bool, path)) if name in config else default


def model_name(folder: Path) -> str | None:
    """The language model that the library saves beside an SAE."""
    path = folder / "lm_config.json"
    name = read_json(path).get("model_name") if path.is_file() else None
    return name if isinstance(name, str) else None


def _activation(config: Config, path: Path) -> str:
    """Of ours. A TopK with a threshold is used as a JumpReLU, as the library does."""
    name: str = known(str(config.get("act_fn")), ("relu", "topk", "jumprelu"), "act_fn", path)
    if name == "topk" and "jump_relu_threshold" in config:
        return "jumprelu" if setting(config, "jump_relu_threshold", float, path) > 0 else "topk"
    return name


def _architecture(config: Config, path: Path) -> str:
    read, written = hook_points(config, path)
    if read != written:
        return "transcoder"
    return "standard" if config["act_fn"] == "relu" else str(config["act_fn"])


def stored_tensors(folder: Path) -> Tensors:
    """The weights in a folder of the library, where it would look itself."""
    for name in WEIGHTS:
        path = folder / name
        if path.suffix == ".safetensors" and path.is_file():
            return Tensors.open(path)
        if path.is_file():
            values = read_pickle(path)
            if not isinstance(values, dict) or not isinstance(values.get("sae"), dict):
                raise BadInput(f"{path} has no weights under 'sae'; get it again.")
            return Tensors.of(path, values["sae"])
    if any((folder / name).with_suffix(".dcp").exists() for name in WEIGHTS):
        raise BadInput(
            f"{folder} has a distributed checkpoint (.dcp), which only the library that wrote it "
            "reads; load it there and save it with save_pretrained on one device."
        )
    raise BadInput(
        f"{folder} has no weights, neither {WEIGHTS[0]} nor {WEIGHTS[4]}; get them from its "
        "publisher."
    )


def refuse_glu(config: Config, path: Path) -> None:
    """BadInput for encoders with a gated linear unit: no linear encoder does what they do."""
    if flag(config, "use_glu_encoder", False, path):
        raise BadInput(
            f"{path} has a GLU encoder (use_glu_encoder), whose activations the atlas cannot "
            "compute; it cannot be imported."
        )


def scale_of(norm: object, d_model: int, where: str) -> float:
    """√d_model / norm; BadInput if it is no average norm of activations."""
    if isinstance(norm, bool) or not isinstance(norm, int | float) or not 0 < norm < math.inf:
        raise BadInput(
            f"the average norm of activations in {where} is {norm!r}, where a number above 0 is "
            "needed; get the file again from its publisher."
        )
    return math.sqrt(d_model) / norm


def normalization(config: Config, path: Path) -> str:
    """Of ours: what is done to each input by itself; BadInput if other inputs play a part."""
    name = known(
        setting(config, "norm_activation", str, path),
        ("dataset-wise", "inference", "none", "token-wise"),
        "norm_activation",
        path,
    )
    if name != "token-wise":
        return "none"
    read, written = hook_points(config, path)
    if read != written:
        raise BadInput(
            f"{path} normalises outputs at {written} by their own norms "
            "(norm_activation token-wise), which are unknown when they are reconstructed; it "
            "cannot be imported."
        )
    return "constant_norm"


def decoder_bias(tensors: Tensors, name: str, config: Config, path: Path, d: int) -> Tensor:
    """A decoder's bias, zeros if it has none (use_decoder_bias)."""
    has_one = flag(config, "use_decoder_bias", True, path)
    return tensors.take(name, d) if has_one else torch.zeros(d)


def _load(path: Path, config: Config) -> SaeWeights:
    refuse_glu(config, path)
    normalize = normalization(config, path)
    tensors = stored_tensors(path.parent)
    d, d_sae = setting(config, "d_model", int, path), setting(config, "d_sae", int, path)
    tensors.take("encoder.weight", d_sae, d)  # in the sizes of the configuration
    W_enc, b_enc, W_dec = linear_pair(tensors)
    b_dec = decoder_bias(tensors, "decoder.bias", config, path, d)
    tensors.done()
    s_in, s_out = _scales(config, d, path)
    b_enc, W_dec, b_dec = b_enc / s_in, W_dec * (s_in / s_out), b_dec / s_out
    if setting(config, "sparsity_include_decoder_norm", bool, path):
        W_enc, b_enc, W_dec = unit_decoder(W_enc, b_enc, W_dec)
    subtracts = flag(config, "apply_decoder_bias_to_pre_encoder", True, path)
    if subtracts and s_in != s_out and b_dec.any():
        raise BadInput(
            f"{path} subtracts the decoder's bias from inputs of another scale "
            "(apply_decoder_bias_to_pre_encoder), in which its library contradicts itself; it "
            "cannot be imported."
        )
    activation, threshold = _activation(config, path), None
    if activation == "jumprelu":
        value = setting(config, "jump_relu_threshold", float, path)
        threshold = checked_threshold(constant_threshold(value, d_sae), path)
    return SaeWeights(
        architecture=_architecture(config, path),
        activation=activation,
        k=checked_k(config.get("top_k"), d_sae, path) if config["act_fn"] == "topk" else None,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        pre_bias=b_dec if subtracts else torch.zeros(d),
        input_scale=1.0,
        output_scale=1.0,
        threshold=threshold,
        normalize=normalize,
    )


def _scales(config: Config, d_model: int, path: Path) -> tuple[float, float]:
    """s_in and s_out: 1 where activations are not normalised by their average in the data."""
    if config["norm_activation"] != "dataset-wise":
        return 1.0, 1.0
    norms = config.get("dataset_average_activation_norm")
    norms = norms if isinstance(norms, dict) else {}
    return (
        scale_of(norms.get("in"), d_model, str(path)),
        scale_of(norms.get("out"), d_model, str(path)),
    )


FORMAT = Format(
    name=_NAME,
    summary="Llama Scope of 2024 (OpenMOSS): SAEs and transcoders, topk, jumprelu, standard",
    looks_for="hyperparams.json with checkpoints/final.safetensors",
    detect=_detect,
)
