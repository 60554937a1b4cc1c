"""OpenMOSS' library since 2025 (Llamascopium, May 2026) and Llama Scope R1-Distill.

A folder with config.json and sae_weights.safetensors (or .pt). With s = √d_model / average norm of
the activations at a hook point, n = ‖W_D‖ where `sparsity_include_decoder_norm` and 1 elsewhere:

    h    = s_in x                               `norm_activation` dataset-wise
    pre  = h @ W_E + b_E                        W_E (d_model, d_sae)
    acts = f(n pre) / n                         f: relu, topk, or jumprelu above exp(log threshold)
    ŷ    = (acts @ W_D + b_D) / s_out           W_D (d_sae, d_model)

Files of before 2026 name the same tensors encoder.weight (d_sae, d_model) and so on. SAELens (6.54)
reads those with `sparsity_include_decoder_norm` as if n were 1.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.importing.formats.canonical import (
    checked_k,
    decoder_norms,
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
    setting,
)
from atlas.ingest.importing.formats.llama_scope import (
    HOOKS_OF_TRANSFORMER_LENS,
    WEIGHTS,
    Config,
    decoder_bias,
    flag,
    hook_points,
    model_name,
    normalization,
    refuse_glu,
    scale_of,
    stored_tensors,
)
from atlas.sae import SaeWeights

_NAME, _CONFIG = "llamascopium", "config.json"
_NORM = "dataset_average_activation_norm"
_ACTIVATIONS = {"relu": "relu", "jumprelu": "jumprelu", "topk": "topk", "batchtopk": "topk"}

_SCALED = (
    "Activations are those of the library times the length of their decoder row, by which its TopK "
    "chooses; decoder rows have length 1."
)
_BATCH = (
    "The library keeps the largest of a batch; here it is the k largest of each input, for a code "
    "must not depend on other inputs."
)


def _detect(source: Source) -> list[Found]:
    found = []
    for path in source.matching(_CONFIG):
        try:
            config = read_json(path)
        except BadInput:
            if any((path.parent / name).is_file() for name in WEIGHTS):
                raise
            continue  # of something else
        if "sae_type" in config or {"hook_point_in", "expansion_factor"} <= config.keys():
            found.append(_found(source, path, config))
    return found


def _found(source: Source, path: Path, config: Config) -> Found:
    kind = config.get("sae_type", "sae")
    if kind != "sae":
        raise BadInput(
            f"{path} is a {kind!r} of Llamascopium, of which the atlas reads SAEs and transcoders "
            "(sae_type 'sae') alone; it cannot be imported."
        )
    d_in, d_sae = _sizes(config, path)
    reads, writes = map(place_of_transformer_lens, hook_points(config, path))
    act_fn = _act_fn(config, path)
    notes = [HOOKS_OF_TRANSFORMER_LENS]
    if config.get("norm_activation") == "dataset-wise":
        notes.append("Inputs and outputs are scaled by their average norms, as in training.")
    if config.get("sparsity_include_decoder_norm") and act_fn == "jumprelu":
        notes.append("Thresholds are divided by the lengths of the decoder's rows.")
    if config.get("sparsity_include_decoder_norm") and _ACTIVATIONS[act_fn] == "topk":
        notes.append(_SCALED)
    if act_fn == "batchtopk":
        notes.append(_BATCH)
    return Found(
        format=_NAME,
        why=f"{_CONFIG} with hook_point_in and the activation {act_fn}",
        place=source.place(path.parent),
        model=model_name(path.parent),
        inputs=(reads,) if reads else None,
        outputs=(writes,) if writes else None,
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_in,
        architecture=_architecture(config, act_fn, path),
        declared={},
        conventions={"published": plain(config), "notes": notes},
        load=partial(_load, path, config),
    )


def _sizes(config: Config, path: Path) -> tuple[int, int]:
    """d_in, and d_sae as the library computes it."""
    d_model = setting(config, "d_model", int, path)
    return d_model, int(d_model * setting(config, "expansion_factor", float, path))


def _act_fn(config: Config, path: Path) -> str:
    return known(setting(config, "act_fn", str, path).lower(), _ACTIVATIONS, "act_fn", path)


def _architecture(config: Config, act_fn: str, path: Path) -> str:
    read, written = hook_points(config, path)
    if read != written:
        return "transcoder"
    return "standard" if act_fn == "relu" else act_fn


def _load(path: Path, config: Config) -> SaeWeights:
    refuse_glu(config, path)
    normalize = normalization(config, path)
    tensors = stored_tensors(path.parent)
    d, d_sae = _sizes(config, path)
    W_enc, b_enc, W_dec, b_dec = _linear(tensors, config, path, d, d_sae)
    act_fn = _act_fn(config, path)
    activation, threshold = _ACTIVATIONS[act_fn], None
    k = checked_k(config.get("top_k"), d_sae, path) if activation == "topk" else None
    subtracts = flag(config, "apply_decoder_bias_to_pre_encoder", False, path)
    by_norm = setting(config, "sparsity_include_decoder_norm", bool, path)
    if activation == "jumprelu":
        short = "log_jumprelu_threshold"
        name = short if short in tensors else f"activation_function.{short}"
        threshold = tensors.take(name, d_sae).exp()
        if by_norm:
            threshold = threshold / decoder_norms(W_dec)
    elif activation == "topk" and by_norm:
        W_enc, b_enc, W_dec = unit_decoder(W_enc, b_enc, W_dec)
    s_in, s_out = _scales(tensors, config, path)
    tensors.done()
    return SaeWeights(
        architecture=_architecture(config, act_fn, path),
        activation=activation,
        k=k,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        pre_bias=b_dec if subtracts else torch.zeros(d),
        input_scale=s_in,
        output_scale=s_out,
        threshold=threshold,
        normalize=normalize,
    )


def _linear(
    tensors: Tensors, config: Config, path: Path, d: int, d_sae: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_enc (d, d_sae), b_enc, W_dec (d_sae, d) and b_dec, by the names of now or of before."""
    if "W_E" in tensors:
        return (
            tensors.take("W_E", d, d_sae),
            tensors.take("b_E", d_sae),
            tensors.take("W_D", d_sae, d),
            decoder_bias(tensors, "b_D", config, path, d),
        )
    tensors.take("encoder.weight", d_sae, d)  # in the sizes of the configuration
    return (*linear_pair(tensors), decoder_bias(tensors, "decoder.bias", config, path, d))


def _scales(tensors: Tensors, config: Config, path: Path) -> tuple[float, float]:
    """s_in and s_out, by the norms stored beside the weights; 1 where they are not applied."""
    stored = [name for name in tensors.shapes if name.startswith(f"{_NORM}.")]
    if config["norm_activation"] != "dataset-wise":
        tensors.ignore(*stored)
        return 1.0, 1.0
    norms = {name.removeprefix(f"{_NORM}."): tensors.take_scalar(name) for name in stored}
    read, written = hook_points(config, path)
    d_model = setting(config, "d_model", int, path)
    where = f"{tensors.path} at "
    return (
        scale_of(norms.get(read), d_model, where + read),
        scale_of(norms.get(written), d_model, where + written),
    )


FORMAT = Format(
    name=_NAME,
    summary="Llamascopium and Llama Scope R1-Distill (OpenMOSS): SAEs and transcoders, jumprelu, "
    "topk, batchtopk, standard",
    looks_for="config.json with hook_point_in and sae_weights.safetensors",
    detect=_detect,
)
