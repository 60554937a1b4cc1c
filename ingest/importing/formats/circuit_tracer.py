"""circuit-tracer 0.5 (decoderesearch/circuit-tracer): transcoders of a whole model, two layouts.

Per layer (PLT), layer_{l}.safetensors with the hooks and the activation in config.yaml:

    acts = f(x @ W_enc.T + b_enc)              W_enc (d_sae, d_model), W_dec (d_sae, d_model)
    ŷ    = acts @ W_dec + b_dec + x @ W_skip.T

Cross-layer (CLT), W_enc_{l}.safetensors and W_dec_{l}.safetensors. Latents of layer l write to the
MLPs of layers l … n - 1:

    acts_l = f(x_l @ W_enc_l.T + b_enc_l)      W_dec_l (d_sae, n - l, d_model)
    ŷ_j    = b_dec_j + Σ_{l ≤ j} acts_l @ W_dec_l[:, j - l]

Here each layer's latents are a dictionary of their own, whose outputs lie side by side. That of
layer l has the bias b_dec_l and none further on, so that what all of them reconstruct adds up to
what the transcoder does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.importing.formats.canonical import (
    SIGNED_TOPK,
    checked_k,
    checked_threshold,
    plain,
)
from atlas.ingest.importing.formats.found import (
    Format,
    Found,
    Place,
    Source,
    Tensors,
    first_line,
    known,
    place_of_transformer_lens,
)
from atlas.sae import SaeWeights

_NAME = "circuit-tracer"
_THRESHOLD = "activation_function.threshold"
_KINDS = ("transcoder_set", "cross_layer_transcoder")


@dataclass(frozen=True)
class _Config:
    """A config.yaml; empty where a folder has none."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> _Config:
        path = folder / "config.yaml"
        if not path.is_file():
            return cls(path, {})
        try:
            values = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadInput(
                f"{path} cannot be read as YAML ({first_line(error)}); get it again."
            ) from error
        return cls(path, values if isinstance(values, dict) else {})

    @cached_property
    def model(self) -> str | None:
        """As the publisher names it."""
        name = self.values.get("model_name")
        return name if isinstance(name, str) else None

    def place(self, side: str, layer: int) -> Place | None:
        """Where transcoders of a layer read ('input') or write ('output')."""
        hook = self.values.get(f"feature_{side}_hook")
        return place_of_transformer_lens(f"blocks.{layer}.{hook}")

    def unplaced(self, layer: int) -> list[str]:
        """A note if a hook is missing, or none of ours."""
        hooks = {side: self.values.get(f"feature_{side}_hook") for side in ("input", "output")}
        if all(self.place(side, layer) for side in hooks):
            return []
        return [f"Its hooks in config.yaml are no hook points that are known: {hooks}."]

    @property
    def published(self) -> Any:
        """All of it, as JSON."""
        return plain(self.values)


def _detect(source: Source) -> list[Found]:
    layers = [_layer(source, path) for path in source.matching("layer_*.safetensors")]
    cross = [_cross_layer(source, path) for path in source.matching("W_enc_*.safetensors")]
    found = [one for one in layers + cross if one]
    if not found:
        for path in source.matching("config.yaml"):
            _refuse_references(_Config.read(path.parent))
    return found


def _refuse_references(config: _Config) -> None:
    """BadInput for a repository that only names files of others."""
    others = config.values.get("transcoders")
    if config.values.get("model_kind") in _KINDS and isinstance(others, list) and others:
        first = str(others[0]).removeprefix("hf://").partition("?")[0]
        owner, name, *rest = (*first.split("/", 2), "", "")[:3]
        raise BadInput(
            f"{config.path} only names {len(others)} files of other repositories; import those "
            f"themselves, such as {owner}/{name}:{''.join(rest)}."
        )


def _layer(source: Source, path: Path) -> Found | None:
    match = re.fullmatch(r"layer_(\d+)\.safetensors", path.name)
    tensors = Tensors.open(path)
    if not match or not all(name in tensors for name in ("W_enc", "W_dec", "b_enc", "b_dec")):
        return None
    config, layer = _Config.read(path.parent), int(match[1])
    d_sae, d_in = tensors.shape("W_enc", 2)
    activation, k = _activation(tensors, config, d_sae)
    reads, writes = config.place("input", layer), config.place("output", layer)
    skips = "W_skip" in tensors
    notes = ["W_skip is transposed: the published one maps a row of outputs to a row of inputs."]
    return Found(
        format=_NAME,
        why=f"{path.name} with W_enc, W_dec and b_enc of a transcoder",
        place=source.place(path),
        model=config.model,
        inputs=(reads,) if reads else None,
        outputs=(writes,) if writes else None,
        d_in=d_in,
        d_sae=d_sae,
        d_out=tensors.shape("W_dec", 2)[1],
        architecture="skip-transcoder" if skips else "transcoder",
        declared={},
        conventions={
            "published": config.published,
            "notes": (notes if skips else [])
            + ([SIGNED_TOPK] if activation == "topk" else [])
            + config.unplaced(layer),
        },
        load=partial(_load_layer, path, activation, k),
    )


def _activation(tensors: Tensors, config: _Config, d_sae: int) -> tuple[str, int | None]:
    """What a transcoder's file and its config.yaml say together; BadInput if they say nothing."""
    said, k = config.values.get("activation"), config.values.get("k")
    if "k" in tensors:
        k = tensors.take_scalar("k")
    if said is not None:
        said = known(
            str(said), ("relu", "topk", "jump_relu", "jumprelu"), "activation", config.path
        )
    if said == "topk" or (said is None and "k" in tensors):
        return "topk", checked_k(k, d_sae, tensors.path)
    if _THRESHOLD in tensors and said != "relu":
        return "jumprelu", None
    if said in ("jump_relu", "jumprelu"):
        tensors.shape(_THRESHOLD, 1)  # is missing: tell it
    if said is None and not config.values:
        raise BadInput(
            f"{tensors.path} does not say by itself whether it is a ReLU or a TopK transcoder; "
            "get the config.yaml of its repository beside it."
        )
    return "relu", None


def _load_layer(path: Path, activation: str, k: int | None) -> SaeWeights:
    tensors = Tensors.open(path)
    d_sae, d_in = tensors.shape("W_enc", 2)
    _, d_out = tensors.shape("W_dec", 2)
    skip = tensors.take("W_skip", d_out, d_in).T.contiguous() if "W_skip" in tensors else None
    threshold = tensors.take(_THRESHOLD, d_sae) if activation == "jumprelu" else None
    sae = _weights(
        "transcoder" if skip is None else "skip-transcoder",
        activation,
        tensors.take("W_enc", d_sae, d_in),
        tensors.take("b_enc", d_sae),
        tensors.take("W_dec", d_sae, d_out),
        tensors.take("b_dec", d_out),
        None if threshold is None else checked_threshold(threshold, path),
        k=k,
        skip=skip,
    )
    tensors.ignore("k", _THRESHOLD)
    tensors.done()
    return sae


def _cross_layer(source: Source, path: Path) -> Found | None:
    match = re.fullmatch(r"W_enc_(\d+)\.safetensors", path.name)
    if not match:
        return None
    layer, config = int(match[1]), _Config.read(path.parent)
    tensors = Tensors.open(path)
    if f"W_enc_{layer}" not in tensors:
        return None
    d_sae, d_in = tensors.shape(f"W_enc_{layer}", 2)
    decoder = path.with_name(f"W_dec_{layer}.safetensors")
    _, n_outputs, d_out = Tensors.open(decoder).shape(f"W_dec_{layer}", 3)
    reads = config.place("input", layer)
    writes = [config.place("output", layer + i) for i in range(n_outputs)]
    known_writes = tuple(place for place in writes if place)
    notes = [
        f"One layer of a cross-layer transcoder: its {n_outputs} outputs lie side by side, and it "
        "has the bias of the first alone, so that the reconstructions of all layers add up."
    ]
    return Found(
        format=_NAME,
        why=f"{path.name} and {decoder.name} of a cross-layer transcoder",
        place=source.place(path),
        model=config.model,
        inputs=(reads,) if reads else None,
        outputs=known_writes if len(known_writes) == n_outputs else None,
        d_in=d_in,
        d_sae=d_sae,
        d_out=n_outputs * d_out,
        architecture="transcoder",
        declared={},
        conventions={"published": config.published, "notes": notes + config.unplaced(layer)},
        load=partial(_load_cross_layer, path, decoder, layer),
    )


def _load_cross_layer(encoder: Path, decoder: Path, layer: int) -> SaeWeights:
    tensors, decoders = Tensors.open(encoder), Tensors.open(decoder)
    d_sae, d_in = tensors.shape(f"W_enc_{layer}", 2)
    _, n_outputs, d_out = decoders.shape(f"W_dec_{layer}", 3)
    b_dec = torch.zeros(n_outputs * d_out)
    b_dec[:d_out] = tensors.take(f"b_dec_{layer}", d_out)
    name = f"threshold_{layer}"
    threshold = checked_threshold(tensors.take(name, d_sae), encoder) if name in tensors else None
    sae = _weights(
        "transcoder",
        "relu" if threshold is None else "jumprelu",
        tensors.take(f"W_enc_{layer}", d_sae, d_in),
        tensors.take(f"b_enc_{layer}", d_sae),
        decoders.take(f"W_dec_{layer}", d_sae, n_outputs, d_out).flatten(1),
        b_dec,
        threshold,
    )
    tensors.done()
    decoders.done()
    return sae


def _weights(
    architecture: str,
    activation: str,
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    threshold: Tensor | None,
    *,
    k: int | None = None,
    skip: Tensor | None = None,
) -> SaeWeights:
    """W_enc is theirs, (d_sae, d_in)."""
    return SaeWeights(
        architecture=architecture,
        activation=activation,
        k=k,
        W_enc=W_enc.T.contiguous(),
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        pre_bias=torch.zeros(W_enc.shape[1]),
        input_scale=1.0,
        output_scale=1.0,
        threshold=threshold,
        W_skip=skip,
    )


FORMAT = Format(
    name=_NAME,
    summary="circuit-tracer's transcoders: per layer (relu, jumprelu, topk, skip) and cross-layer",
    looks_for="layer_{n}.safetensors, or W_enc_{n}.safetensors with W_dec_{n}.safetensors",
    detect=_detect,
)
