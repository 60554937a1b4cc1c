"""EleutherAI's sparsify: a folder a hook point, with `cfg.json` beside `sae.safetensors`.

    h    = x - b_dec, or x where cfg says transcode
    acts = the k largest of relu(h @ encoder.weight.T + encoder.bias)    encoder.weight (N, d)
    ŷ    = acts @ W_dec + b_dec + x @ W_skip.T                           W_dec (N, d)

as eai-sparsify 1.3.3 computes it, and as versions before did, whose `signed` keeps the k largest
magnitudes. The folder is named after the Hugging Face module whose output is read ('layers.5.mlp'),
with another for each seed in it if there were several; a transcoder reads that module's input.
Nothing says which model, nor, from November 2024 to February 2025, what is a transcoder: then
b_dec was taken from the input of those, too.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch

from atlas.errors import BadInput
from atlas.ingest.importing.formats.canonical import checked_k
from atlas.ingest.importing.formats.found import (
    Format,
    Found,
    Place,
    Source,
    Tensors,
    doubled,
    known,
    place_of_module,
    read_json,
    setting,
)
from atlas.sae import SaeWeights

WEIGHTS, CONFIG = "sae.safetensors", "cfg.json"

_KNOWN = {
    "activation",
    "d_in",
    "expansion_factor",
    "k",
    "multi_topk",
    "naive_decoder",
    "normalize_decoder",
    "num_latents",
    "signed",
    "skip_connection",
    "transcode",
}
"""Every entry that a version has had; naive_decoder chose an implementation."""


def _detect(source: Source) -> list[Found]:
    return [
        _found(source, path) for path in source.matching(WEIGHTS) if path.with_name(CONFIG).exists()
    ]


def _found(source: Source, path: Path) -> Found:
    config_path = path.with_name(CONFIG)
    config = read_json(config_path)
    unknown = sorted(set(config) - _KNOWN)
    if unknown:
        raise BadInput(
            f"{config_path} also states {', '.join(unknown)}, which no version of sparsify up to "
            "1.3.3 has; what they change is unknown, so it is not imported."
        )
    activation = known(
        str(config.get("activation", "topk")), ("topk", "groupmax"), "the activation", config_path
    )
    d_in = setting(config, "d_in", int, config_path)
    d_sae = _latents(config, d_in, config_path)
    stored = Tensors.open(path).shape("encoder.weight", 2)
    if stored != (d_sae, d_in):
        raise BadInput(
            f"{config_path} says {d_sae:,} latents of {d_in:,} dimensions, but encoder.weight in "
            f"{path.name} is {stored}; they do not belong together."
        )
    folder = path.parent.resolve()
    hookpoint = folder.parent.name if re.fullmatch(r"seed\d+", folder.name) else folder.name
    inputs, outputs, notes = _sites(hookpoint, _is_transcoder(config))
    signed = bool(config.get("signed", False))
    return Found(
        format="sparsify",
        why=f"{CONFIG} with k and expansion_factor beside {WEIGHTS} with encoder.weight",
        place=source.place(path.parent),
        model=None,
        inputs=inputs,
        outputs=outputs,
        d_in=d_in,
        d_sae=2 * d_sae if signed else d_sae,
        d_out=d_in,
        architecture=_architecture(config),
        declared={},
        conventions={"published": config, "notes": notes + _notes(config)},
        load=partial(_load, path, config, activation, d_in, d_sae),
    )


def _latents(config: dict[str, Any], d_in: int, path: Path) -> int:
    """`num_latents`, of which 0 (or none, before it existed) means a multiple of d_in."""
    stated = setting(config, "num_latents", int, path) if config.get("num_latents") else 0
    return stated or d_in * int(setting(config, "expansion_factor", int, path))


def _is_transcoder(config: dict[str, Any]) -> bool:
    """As stated, or where that was not yet stated, by a connection that only transcoders had."""
    return bool(config.get("transcode", config.get("skip_connection", False)))


def _architecture(config: dict[str, Any]) -> str:
    if _is_transcoder(config):
        return "skip-transcoder" if config.get("skip_connection") else "transcoder"
    return str(config.get("activation", "topk"))


def _sites(
    hookpoint: str, transcode: bool
) -> tuple[tuple[Place, ...] | None, tuple[Place, ...] | None, list[str]]:
    output = place_of_module(hookpoint)
    enters = place_of_module(hookpoint, "input") if transcode else output
    notes = []
    if output is None:
        notes.append(f"Its folder {hookpoint!r} names no module whose output is a hook point.")
    elif transcode and enters is None:
        notes.append(f"What enters {hookpoint} is no hook point of the atlas.")
    elif output[1] in ("mlp_out", "attn_out"):
        notes.append(
            f"{hookpoint} is taken for {output[1]}, which it is unless the model has a norm after "
            "that module, as Gemma 2 and 3 have."
        )
    if enters is None or output is None:
        return None, None, notes
    return (enters,), (output,), notes


def _notes(config: dict[str, Any]) -> list[str]:
    notes = ["On CUDA, sparsify computes under autocast in bfloat16; here it is float32."]
    if not config.get("num_latents"):
        notes.append("num_latents is 0: d_in times expansion_factor latents.")
    if config.get("transcode"):
        notes.append("A transcoder: b_dec is not taken from the input.")
    elif "transcode" not in config:
        kind = "a transcoder, for its skip connection" if _is_transcoder(config) else "an SAE"
        notes.append(
            "Of a version before February 2025, which did not record transcoders: taken for "
            f"{kind}, with b_dec taken from the input."
        )
    if config.get("signed"):
        notes.append("Each signed latent i is two: i where positive, d_sae / 2 + i where negative.")
    if config.get("multi_topk"):
        notes.append("Trained with a Multi-TopK loss, which changes nothing here.")
    return notes


def _load(path: Path, config: dict[str, Any], activation: str, d_in: int, d_sae: int) -> SaeWeights:
    tensors = Tensors.open(path)
    W_enc = tensors.take("encoder.weight", d_sae, d_in).T.contiguous()
    b_enc = tensors.take("encoder.bias", d_sae)
    W_dec, b_dec = tensors.take("W_dec", d_sae, d_in), tensors.take("b_dec", d_in)
    skip = bool(config.get("skip_connection", False))
    W_skip = tensors.take("W_skip", d_in, d_in).T.contiguous() if skip else None
    tensors.done()
    k = checked_k(config.get("k"), d_sae, path.with_name(CONFIG))
    if activation == "groupmax" and d_sae % k:
        raise BadInput(
            f"{path.with_name(CONFIG)} divides {d_sae:,} latents into {k} groups, which does not "
            "come out even; correct it, or get the file again."
        )
    if config.get("signed"):
        W_enc, b_enc, W_dec = doubled(W_enc, b_enc, W_dec)
    return SaeWeights(
        architecture=_architecture(config),
        activation=activation,
        k=k,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        pre_bias=torch.zeros(d_in) if config.get("transcode") else b_dec.clone(),
        input_scale=1.0,
        output_scale=1.0,
        W_skip=W_skip,
    )


FORMAT = Format(
    name="sparsify",
    summary="EleutherAI's sparsify 1.3 and before: TopK, groupmax, signed, (skip) transcoders",
    looks_for=f"{CONFIG} beside {WEIGHTS}",
    detect=_detect,
)
