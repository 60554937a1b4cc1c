"""Gemma Scope 1 and 2: JumpReLU dictionaries, of which folder names say where they belong.

    acts = jumprelu(x @ W_enc + b_enc)              W_enc (d_in, d_sae); b_dec is not subtracted
    ŷ    = acts @ W_dec + b_dec + x @ A             W_dec (d_sae, d_out), A (d_in, d_out)

1 (Lieberum et al. 2024): `REPOSITORY/layer_L/width_W/average_l0_N/params.npz`, where the end of the
repository's name is the site. SAEs of embeddings (`REPOSITORY/embedding/…`) were trained before the
embeddings' factor √d_model, with which they enter block 0; transcoders read the MLP's input before
the gain of its norm. 2: `config.json` beside `params.safetensors`, in lower case, with the affine
connection A of some transcoders. Its cross-layer transcoders are circuit-tracer's to read.
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch

from atlas.errors import BadInput
from atlas.ingest.importing.formats.found import (
    Format,
    Found,
    Place,
    Source,
    Tensors,
    known,
    place_of_module,
    read_json,
)
from atlas.sae import SaeWeights

WEIGHTS_1, WEIGHTS_2, CONFIG_2 = "params.npz", "params.safetensors", "config.json"

_REPOSITORY = re.compile(r"gemma-scope-(\d+b)-(pt|it)-(res|mlp|att|transcoders)")
_FOLDER = re.compile(r"(?:layer_(\d+)|(embedding))/width_(\w+)/average_l0_(\d+)/params\.npz$")

_SITES = {
    "res": ("resid_post", "resid_post"),
    "mlp": ("mlp_out", "mlp_out"),
    "att": ("attn_z", "attn_z"),
    "transcoders": ("mlp_norm", "mlp_out"),
}
"""End of a repository's name → what its dictionaries read and write."""

_KEYS = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")

_REPOSITORY_2 = re.compile(r"gemma-scope-2-(\d+[bm]-(?:pt|it))")
_FOLDER_2 = re.compile(r"(resid_post|attn_out|mlp_out|transcoder)[^/]*/layer_(\d+)_width_[^/]+/")

_MODULES_2 = {
    "resid_post": ("output", None),
    "attn_out": ("self_attn.o_proj.input", None),
    "mlp_out": ("post_feedforward_layernorm.output", None),
    "transcoder": ("pre_feedforward_layernorm.output", "post_feedforward_layernorm.output"),
}
"""Begin of a folder's name → what is read and written, within a block of the model."""


def _detect_1(source: Source) -> list[Found]:
    found = []
    for path in source.matching(WEIGHTS_1):
        tensors = Tensors.open(path)
        if "W_enc" in tensors or "W_dec" in tensors:
            found.append(_found_1(source, path, tensors))
    return found


def _found_1(source: Source, path: Path, tensors: Tensors) -> Found:
    full_path = source.full_path(path)
    repository, folder = _REPOSITORY.search(full_path), _FOLDER.search(full_path)
    layer = int(folder[1] or 0) if folder else None
    embedding = bool(folder and folder[2])
    notes = ["b_dec is not taken from the input."]
    inputs: tuple[Place, ...] | None = None
    outputs: tuple[Place, ...] | None = None
    transcoder = bool(repository and repository[3] == "transcoders")
    if layer is None or not repository:
        notes.append(
            "Where it belongs is said by the names of its folders and repository "
            "(gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_50), which are missing."
        )
    elif embedding:
        inputs = outputs = ((0, "resid_pre"),)
        notes.append("Trained on embeddings before their factor √d_model: the scale of the input.")
    else:
        read, written = _SITES[repository[3]]
        inputs, outputs = ((layer, read),), ((layer, written),)
    if transcoder:
        notes.append("It reads the MLP's input before the gain of the norm.")
    d_in, d_sae = tensors.shape("W_enc", 2)
    d_out = tensors.shape("W_dec", 2)[1]
    architecture = "transcoder" if transcoder or d_in != d_out else "jumprelu"
    scale = 1 / math.sqrt(d_in) if embedding else 1.0
    names = {name: name for name in _KEYS}
    return Found(
        format="gemma-scope",
        why=f"{path.name} with {', '.join(_KEYS)}",
        place=source.place(path),
        model=f"google/gemma-2-{repository[1]}{'-it' if repository[2] == 'it' else ''}"
        if repository
        else None,
        inputs=inputs,
        outputs=outputs,
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_out,
        architecture=architecture,
        declared={"l0": float(folder[4])} if folder else {},
        conventions={"published": {"path": folder[0] if folder else path.name}, "notes": notes},
        load=partial(_load, path, names, (d_in, d_sae, d_out), architecture, scale),
    )


def _detect_2(source: Source) -> list[Found]:
    found = []
    for path in source.matching(WEIGHTS_2):
        tensors = Tensors.open(path)
        if "w_enc" in tensors and "w_dec" in tensors:
            found.append(_found_2(source, path, tensors))
    return found


def _found_2(source: Source, path: Path, tensors: Tensors) -> Found:
    config_path = path.with_name(CONFIG_2)
    config = read_json(config_path) if config_path.exists() else _inferred_2(source, path)
    known(str(config.get("architecture")), ("jump_relu",), "the architecture", config_path)
    if len(tensors.shapes["w_dec"]) == 3:
        raise BadInput(
            f"{path} is one layer of a cross-layer transcoder, which only makes sense with the "
            "others; convert it to circuit-tracer's layout, which the atlas reads."
        )
    d_in, d_sae = tensors.shape("w_enc", 2)
    d_out = tensors.shape("w_dec", 2)[1]
    read = config.get("hf_hook_point_in")
    written = config.get("hf_hook_point_out") or read
    inputs, outputs = _module_place(read), _module_place(written)
    notes = ["b_dec is not taken from the input."]
    notes += [
        f"{name} {hook} is no hook point of the atlas."
        for name, hook, place in (
            ("hf_hook_point_in", read, inputs),
            ("hf_hook_point_out", written, outputs),
        )
        if place is None
    ]
    if inputs is None or outputs is None:
        inputs = outputs = None
    affine = "affine_skip_connection" in tensors
    if affine != bool(config.get("affine_connection", affine)):
        raise BadInput(
            f"{config_path} says affine_connection {config['affine_connection']}, but {path.name} "
            f"has {'one' if affine else 'none'}; they do not belong together."
        )
    transcoder = read != written
    architecture = ("skip-" if affine else "") + ("transcoder" if transcoder else "jumprelu")
    names = {name: name.lower() for name in _KEYS}
    if affine:
        names["W_skip"] = "affine_skip_connection"
    l0 = config.get("l0")
    return Found(
        format="gemma-scope-2",
        why=f"{WEIGHTS_2} with w_enc, and {CONFIG_2} or folders that say where it belongs",
        place=source.place(path.parent),
        model=_model_2(config.get("model_name")),
        inputs=inputs,
        outputs=outputs,
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_out,
        architecture=architecture,
        declared={"l0": float(l0)} if isinstance(l0, int | float) else {},
        conventions={"published": config, "notes": notes},
        load=partial(_load, path, names, (d_in, d_sae, d_out), architecture, 1.0),
    )


def _inferred_2(source: Source, path: Path) -> dict[str, Any]:
    """The configuration of one that was published without, by the names of its folders."""
    repository = _REPOSITORY_2.search(source.full_path(path))
    folder = _FOLDER_2.search(source.full_path(path))
    if not repository or not folder:
        raise BadInput(
            f"{path} has no {CONFIG_2} beside it, and no folders such as "
            "gemma-scope-2-1b-pt/resid_post/layer_7_width_16k_l0_small that say where it belongs; "
            "get it with them."
        )
    read, written = _MODULES_2[folder[1]]
    block = f"model.layers.{folder[2]}"
    return {
        "architecture": "jump_relu",
        "model_name": f"gemma-3-{repository[1]}",
        "hf_hook_point_in": f"{block}.{read}",
    } | ({"hf_hook_point_out": f"{block}.{written}"} if written else {})


def _module_place(hook: object) -> tuple[Place, ...] | None:
    """Of 'model.layers.5.self_attn.o_proj.input', for example."""
    module, _, side = str(hook).rpartition(".")
    place = place_of_module(module, side) if side in ("input", "output") else None
    return (place,) if place else None


def _model_2(name: Any) -> str | None:
    """The hub's name: configurations write 'gemma-v3-1b-pt', or leave the owner out."""
    if name is None:
        return None
    name = str(name).removeprefix("google/").replace("-v3", "-3")
    return f"google/{name.removesuffix('-pt') if '270m' in name else name}"


def _load(
    path: Path,
    names: dict[str, str],
    sizes: tuple[int, int, int],
    architecture: str,
    scale: float,
) -> SaeWeights:
    d_in, d_sae, d_out = sizes
    tensors = Tensors.open(path)
    weights = SaeWeights(
        architecture=architecture,
        activation="jumprelu",
        k=None,
        W_enc=tensors.take(names["W_enc"], d_in, d_sae),
        b_enc=tensors.take(names["b_enc"], d_sae),
        W_dec=tensors.take(names["W_dec"], d_sae, d_out),
        b_dec=tensors.take(names["b_dec"], d_out),
        pre_bias=torch.zeros(d_in),
        input_scale=scale,
        output_scale=scale,
        threshold=tensors.take(names["threshold"], d_sae),
        W_skip=tensors.take(names["W_skip"], d_in, d_out) if "W_skip" in names else None,
    )
    tensors.done()
    return weights


FORMAT_1 = Format(
    name="gemma-scope",
    summary="Gemma Scope: JumpReLU SAEs and transcoders of Gemma 2",
    looks_for=f"{WEIGHTS_1} with {', '.join(_KEYS)}",
    detect=_detect_1,
)

FORMAT_2 = Format(
    name="gemma-scope-2",
    summary="Gemma Scope 2: JumpReLU SAEs and (affine) transcoders of Gemma 3",
    looks_for=f"{CONFIG_2} beside {WEIGHTS_2} with w_enc, w_dec",
    detect=_detect_2,
)
