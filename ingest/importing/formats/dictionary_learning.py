"""dictionary_learning (saprmarks/dictionary_learning 0.1.0): trainer_i/{ae.pt, config.json}.

`trainSAE` saves the state_dict of one dictionary as ae.pt, checkpoints of it as
checkpoints/ae_{step}.pt and the settings of its trainer, whose `dict_class` says how it computes,
as config.json. An input scale of training (`normalize_activations`) is in the biases and the
threshold already when they are saved.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.importing.formats.canonical import (
    checked_k,
    constant_threshold,
    linear_pair,
    plain,
    unit_decoder,
)
from atlas.ingest.importing.formats.found import (
    Format,
    Found,
    Place,
    Source,
    Tensors,
    gated_threshold,
    known,
    place_of_module,
    read_json,
    setting,
)
from atlas.sae import SaeWeights

_NAME = "dictionary-learning"

Config = Mapping[str, Any]
"""The `trainer` part of a config.json."""


def _auto_encoder(tensors: Tensors, config: Config) -> SaeWeights:
    """Code f = relu(encoder(x - bias)), x̂ = decoder(f) + bias; decoder normalised as in loading."""
    W_enc, b_enc, W_dec = linear_pair(tensors)
    norms = W_dec.norm(dim=1)
    if not torch.allclose(norms, torch.ones_like(norms)):  # as from_pretrained does
        W_enc, b_enc, W_dec = unit_decoder(W_enc, b_enc, W_dec)
    bias = tensors.take("bias", W_enc.shape[0])
    return _weights(config, "relu", W_enc, b_enc, W_dec, bias, pre_bias=bias)


def _auto_encoder_new(tensors: Tensors, config: Config) -> SaeWeights:
    """Code f = relu(encoder(x)), x̂ = decoder(f): biases in both and none before the encoder."""
    W_enc, b_enc, W_dec = linear_pair(tensors)
    b_dec = tensors.take("decoder.bias", W_dec.shape[1])
    return _weights(config, "relu", W_enc, b_enc, W_dec, b_dec)


def _gated(tensors: Tensors, config: Config) -> SaeWeights:
    """Code f = [π + gate_bias > 0] relu(exp(r_mag) π + mag_bias), π = encoder(x - decoder_bias)."""
    d_sae, d_in = tensors.shape("encoder.weight", 2)
    W_enc = tensors.take("encoder.weight", d_sae, d_in).T.contiguous()
    W_dec = tensors.take("decoder.weight", d_in, d_sae).T.contiguous()
    gate, magnitude, r_mag = (
        tensors.take(name, d_sae) for name in ("gate_bias", "mag_bias", "r_mag")
    )
    bias = tensors.take("decoder_bias", d_in)
    threshold = gated_threshold(gate, magnitude, r_mag)
    scaled = W_enc * r_mag.exp()
    return _weights(
        config, "jumprelu", scaled, magnitude, W_dec, bias, pre_bias=bias, threshold=threshold
    )


def _jump_relu(tensors: Tensors, config: Config) -> SaeWeights:
    """Code f = relu(pre [pre > threshold]) with pre = x @ W_enc + b_enc; b_dec stays out."""
    W_enc, b_enc, W_dec, b_dec = _plain(tensors)
    target = config.get("target_l0")
    return _weights(
        config,
        "jumprelu",
        W_enc,
        b_enc,
        W_dec,
        b_dec,
        threshold=tensors.take("threshold", len(b_enc)),
        k=round(target) if isinstance(target, int | float) and math.isfinite(target) else None,
    )


def _top_k(tensors: Tensors, config: Config) -> SaeWeights:
    """Code f = top k of relu(encoder(x - b_dec)); its threshold is for another use and not read."""
    W_enc, b_enc, W_dec = linear_pair(tensors)
    b_dec = tensors.take("b_dec", W_dec.shape[1])
    k = _k(tensors, config, len(b_enc))
    tensors.ignore("threshold")
    return _weights(config, "topk", W_enc, b_enc, W_dec, b_dec, pre_bias=b_dec, k=k)


def _batch_top_k(tensors: Tensors, config: Config) -> SaeWeights:
    """Code f = relu(pre) [relu(pre) > threshold] with pre = encoder(x - b_dec)."""
    W_enc, b_enc, W_dec = linear_pair(tensors)
    b_dec = tensors.take("b_dec", W_dec.shape[1])
    return _with_threshold(tensors, config, W_enc, b_enc, W_dec, b_dec)


def _matryoshka(tensors: Tensors, config: Config) -> SaeWeights:
    """The same of (x - b_dec) @ W_enc + b_enc; all groups are active after training."""
    W_enc, b_enc, W_dec, b_dec = _plain(tensors)
    tensors.ignore("group_sizes")
    return _with_threshold(tensors, config, W_enc, b_enc, W_dec, b_dec)


_AT_INFERENCE = "Computed with its threshold of inference."
_NEVER_SET = (
    "Its threshold of inference was never set (training ended before threshold_start_step), so the "
    "k largest activations of each input are kept."
)


@dataclass(frozen=True)
class _Class:
    """A `dict_class`: what it is called here, how its file is read, what is to be told of it."""

    architecture: str
    read: Callable[[Tensors, Config], SaeWeights]
    note: str | None = None


_CLASSES = {
    "AutoEncoder": _Class(
        "standard",
        _auto_encoder,
        "Decoder rows are scaled to length 1 and activations by what the rows lose, as the library "
        "does by default when it loads this class.",
    ),
    "AutoEncoderNew": _Class("standard", _auto_encoder_new),
    "GatedAutoEncoder": _Class(
        "gated", _gated, "The gate is folded into a threshold: b_mag - b_gate exp(r_mag)."
    ),
    "JumpReluAutoEncoder": _Class(
        "jumprelu",
        _jump_relu,
        "b_dec is not subtracted from the input: the file cannot say so, and the class does not by "
        "default.",
    ),
    "AutoEncoderTopK": _Class(
        "topk",
        _top_k,
        "The running threshold in the file is not used, as in the class's encode.",
    ),
    "BatchTopKSAE": _Class("batchtopk", _batch_top_k, _AT_INFERENCE),
    "MatryoshkaBatchTopKSAE": _Class("matryoshka", _matryoshka, _AT_INFERENCE),
}


def _architecture(config: Config) -> str:
    """By the class, and by the trainer where two of them train one class."""
    if config.get("trainer_class") == "PAnnealTrainer":
        return "p-anneal"
    return _CLASSES[config["dict_class"]].architecture


def _plain(tensors: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_enc (d, N), b_enc, W_dec (N, d), b_dec as the classes without nn.Linear have them."""
    d_in, d_sae = tensors.shape("W_enc", 2)
    return (
        tensors.take("W_enc", d_in, d_sae),
        tensors.take("b_enc", d_sae),
        tensors.take("W_dec", d_sae, d_in),
        tensors.take("b_dec", d_in),
    )


def _k(tensors: Tensors, config: Config, d_sae: int) -> int:
    """The k of the file, which must be the configuration's where both have one."""
    declared = config.get("k")
    k = tensors.take_scalar("k") if "k" in tensors else declared
    if declared is not None and declared != k:
        raise BadInput(
            f"{tensors.path} has k = {k} but its config.json {declared!r}; they do not belong "
            "together: get them again."
        )
    return checked_k(k, d_sae, tensors.path)


def _with_threshold(
    tensors: Tensors,
    config: Config,
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
) -> SaeWeights:
    d_sae = len(b_enc)
    k, threshold = _k(tensors, config, d_sae), tensors.take_scalar("threshold")
    if threshold < 0:  # never set: the library would give a plain ReLU here
        return _weights(config, "topk", W_enc, b_enc, W_dec, b_dec, pre_bias=b_dec, k=k)
    return _weights(
        config,
        "jumprelu",
        W_enc,
        b_enc,
        W_dec,
        b_dec,
        pre_bias=b_dec,
        threshold=constant_threshold(threshold, d_sae),
        k=k,
    )


def _weights(
    config: Config,
    activation: str,
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    *,
    pre_bias: Tensor | None = None,
    threshold: Tensor | None = None,
    k: int | None = None,
) -> SaeWeights:
    return SaeWeights(
        architecture=_architecture(config),
        activation=activation,
        k=k,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        pre_bias=torch.zeros(W_enc.shape[0]) if pre_bias is None else pre_bias,
        input_scale=1.0,
        output_scale=1.0,
        threshold=threshold,
    )


def _detect(source: Source) -> list[Found]:
    """One for each ae.pt and each checkpoint of a folder with a config.json of a trainer."""
    found = []
    for path in source.matching("ae.pt", "ae_*.pt"):
        folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
        if (folder / "config.json").is_file():
            found.append(_found(source, path, folder / "config.json"))
        elif path.name == "ae.pt":
            raise BadInput(
                f"{path} has no config.json beside it, and its tensors do not say how they "
                "compute; get the config.json of the same trainer."
            )
    return found


def _found(source: Source, path: Path, config_path: Path) -> Found:
    whole = read_json(config_path)
    config, buffer = whole.get("trainer"), whole.get("buffer") or {}
    if not isinstance(config, dict) or not isinstance(buffer, dict):
        raise BadInput(
            f"{config_path} has no settings of a trainer, which dictionary_learning writes beside "
            "ae.pt; get it from the same trainer's folder."
        )
    name = known(setting(config, "dict_class", str, config_path), _CLASSES, "class", config_path)
    note = _CLASSES[name].note
    if note == _AT_INFERENCE and _is_unset(path):
        note = _NEVER_SET
    d_in = setting(config, "activation_dim", int, config_path)
    d_sae = setting(config, "dict_size", int, config_path)
    place, unplaced = _place(config, buffer, source.full_path(path))
    model = config.get("lm_name")
    return Found(
        format=_NAME,
        why=f"{path.name} and a config.json whose trainer has the dict_class {name}",
        place=source.place(path if path.parent.name == "checkpoints" else path.parent),
        model=model if isinstance(model, str) else None,
        inputs=(place,) if place else None,
        outputs=(place,) if place else None,
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_in,
        architecture=_architecture(config),
        declared=_declared(path.parent / "eval_results.json"),
        conventions={"published": plain(whole), "notes": [note, *unplaced] if note else unplaced},
        load=partial(_load, path, config, (d_in, d_sae)),
    )


def _load(path: Path, config: Config, size: tuple[int, int]) -> SaeWeights:
    tensors = Tensors.open(path)
    sae = _CLASSES[config["dict_class"]].read(tensors, config)
    tensors.done()
    if (sae.d_in, sae.d_sae) != size:
        raise BadInput(
            f"{path} has {sae.d_sae:,} latents of width {sae.d_in:,}, its config.json says "
            f"{size[1]:,} and {size[0]:,}; they do not belong together: get them again."
        )
    return sae


_PLACE = re.compile(r"(resid_pre|resid_post|resid_out|mlp_out|attn_out)_?layer_?(\d+)")
"""Names of releases: 'resid_post_layer_3', and before 2024 folders such as 'mlp_out_layer3'."""


def _place(config: Config, buffer: Config, path: str) -> tuple[Place | None, list[str]]:
    """Where it reads, by `submodule_name` (free text) and the folders' names; or a note why not."""
    said = config.get("submodule_name")
    side = {"in": "input", "out": "output"}.get(str(buffer.get("io", "out")))
    place: Place | None = None
    names = [said] if isinstance(said, str) else reversed(path.split("/"))
    named = next(filter(None, map(_PLACE.fullmatch, names)), None)
    if named and side == "output":
        place = int(named[2]), named[1].replace("resid_out", "resid_post")
    elif isinstance(said, str) and side:
        place = place_of_module(said, side)
    if place and place[0] == config.get("layer", place[0]):
        return place, []
    return None, [
        f"Where it reads is not said in a way that is known: submodule_name {said!r}, layer "
        f"{config.get('layer')!r}, io {buffer.get('io')!r}."
    ]


def _is_unset(path: Path) -> bool:
    """Whether a BatchTopK has no threshold of inference yet, which one number in its file says."""
    try:
        tensors = Tensors.open(path)
        return "threshold" in tensors and tensors.take_scalar("threshold") < 0
    except BadInput:  # told when it is loaded
        return False


_METRICS = {
    "l0": "l0",
    "frac_variance_explained": "explained_variance",
    "cossim": "cosine",
    "l2_ratio": "l2_ratio",
    "frac_recovered": "ce_recovered",
}
"""Of `dictionary_learning.evaluation.evaluate`, which releases keep as eval_results.json."""


def _declared(path: Path) -> dict[str, float]:
    try:
        results = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    if not isinstance(results, dict):
        return {}
    numbers = {
        name: float(value)
        for name, value in results.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    declared = {ours: numbers[theirs] for theirs, ours in _METRICS.items() if theirs in numbers}
    if "frac_alive" in numbers:
        declared["dead_share"] = 1 - numbers["frac_alive"]
    return declared


FORMAT = Format(
    name=_NAME,
    summary="dictionary_learning's trainers: standard, p-anneal, gated, jumprelu, topk, batchtopk, "
    "matryoshka",
    looks_for="ae.pt with config.json",
    detect=_detect,
)
