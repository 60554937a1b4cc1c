"""Writes dictionaries in SAELens's layout, so that SAELens 6.54 loads them from disk.

Scales go into weights and biases, and a pre-bias that is not b_dec into b_enc. SAELens computes
neither experts nor several hook points, nor TopK with a skip connection or for another output than
its input: that is told, not approximated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.importing.formats.found import Place, transformer_lens_name
from atlas.ingest.importing.formats.saelens import CONFIG, SPARSITY, WEIGHTS
from atlas.sae import SaeWeights, write_tensors
from atlas.store import Atlas
from atlas.stored import load_weights

VERSION = "6.54.12"
"""Of SAELens, whose layout is written."""

_TRAINED_AS = {"matryoshka": "matryoshka_batchtopk", "matching-pursuit": "matching_pursuit"}
"""What SAELens calls architectures that it calls otherwise."""

_NORMALIZE = {"none": "none", "layer_norm": "layer_norm", "constant_norm": "constant_norm_rescale"}

_LEAST_DENSITY = 1e-10
"""Added to densities before their logarithm, as SAELens does."""


@dataclass(frozen=True)
class Origin:
    """What a dictionary is called, and where it belongs."""

    name: str
    """As in the atlas: 'gpt2/5-resid_post'."""
    model: str
    """What SAELens loads it by: a name on the hub, or the atlas's (of a folder, or randomised)."""
    inputs: Sequence[Place]
    outputs: Sequence[Place]
    context: int
    """Tokens of text in each context it was measured on."""
    prepends_bos: bool


def export_saelens(atlas: Atlas, pattern: str, folder: Path) -> list[Path]:
    """Write every SAE whose name matches into a folder of its own; return these folders.

    pattern: a name, or one with `*`, `?` or `[…]`. BadInput for a pattern that matches nothing,
    and before anything is written for an SAE that SAELens cannot express.
    """
    rows = atlas.rows(
        """
        select
            sae_id, saes.name, models, context, prepends_bos, activation, normalize,
            sae_id in (select sae_id from sae_tensors where tensor = 'W_skip')
        from saes
        join models using (model_id)
        where saes.name glob ?
        order by sae_id
        """,
        [pattern],
    )
    if not rows:
        raise BadInput(
            f"No SAE is called {pattern!r} in {atlas.path}; `atlas info {atlas.path}` lists them."
        )
    origins: dict[int, Origin] = {}
    for sae_id, name, model, context, prepends_bos, activation, normalize, skip in rows:
        inputs, outputs = (_places(atlas, sae_id, role) for role in ("input", "output"))
        origin = Origin(name, _model(model), inputs, outputs, context, prepends_bos)
        _check(origin, activation, normalize, skip)
        origins[sae_id] = origin
    written = []
    for sae_id, origin in origins.items():
        densities = atlas.rows(
            "select density from features where sae_id = ? order by index", [sae_id]
        )
        place = folder / origin.name.replace("/", "__")
        write_saelens(
            load_weights(atlas, origin.name), place, origin, torch.tensor(densities)[:, 0]
        )
        written.append(place)
    return written


def _model(row: dict[str, Any]) -> str:
    """What SAELens loads the model of that row of `models` by."""
    source: str = row["source"]
    on_hub = source.count("/") == 1 and not Path(source).exists()
    # Older atlases have no such column; a randomised model is not the one that the hub has.
    as_it_came = row.get("randomized") is None
    return source if on_hub and as_it_came else row["name"]


def _places(atlas: Atlas, sae_id: int, role: str) -> tuple[Place, ...]:
    rows = atlas.rows(
        "select layer, hook from sae_sites where sae_id = ? and role = ? order by place",
        [sae_id, role],
    )
    return tuple((layer, hook) for layer, hook in rows)


def write_saelens(
    sae: SaeWeights, folder: Path, origin: Origin, densities: Tensor | None = None
) -> None:
    """Write `cfg.json`, `sae_weights.safetensors` and, of densities (d_sae,), their logarithms.

    SAELens's encode then gives the same activations, in the same units. BadInput where SAELens
    cannot express the dictionary, or the folder cannot be written; files there are replaced.
    """
    _check(origin, sae.activation, sae.normalize, sae.W_skip is not None)
    config, tensors = _translated(sae, origin)
    config["metadata"] |= {} if densities is None else {"l0": float(densities.sum())}
    write_tensors(folder / WEIGHTS, tensors, {})
    if densities is not None:
        sparsity = (densities + _LEAST_DENSITY).log10().float()
        write_tensors(folder / SPARSITY, {"sparsity": sparsity}, {})
    try:
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{folder / CONFIG} cannot be written: {error.strerror}.") from error


_BASES = {
    "relu": "standard",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "matching_pursuit": "matching_pursuit",
}
"""How activations are computed → SAELens's architecture for SAEs."""

_TRANSCODERS = {
    ("relu", False): "transcoder",
    ("relu", True): "skip_transcoder",
    ("jumprelu", False): "jumprelu_transcoder",
    ("jumprelu", True): "jumprelu_skip_transcoder",
}
"""Whether there is a skip connection, too → its architecture for transcoders."""


def _is_transcoder(origin: Origin, skip: bool) -> bool:
    """Also of an SAE with a skip connection, which SAELens only has in transcoders."""
    return skip or origin.inputs != origin.outputs


def _check(origin: Origin, activation: str, normalize: str, skip: bool) -> None:
    """BadInput for what SAELens has no architecture for."""
    transcoder, reason = _is_transcoder(origin, skip), None
    if len(origin.inputs) > 1 or len(origin.outputs) > 1:
        reason = "dictionaries of several hook points"
    elif activation not in _BASES:
        reason = f"the activation {activation!r}"
    elif transcoder and (activation, skip) not in _TRANSCODERS:
        what = "with a skip connection" if skip else "whose output is another hook point"
        reason = f"the activation {activation!r} {what}"
    elif transcoder and normalize != "none":
        reason = f"transcoders and skip connections with the normalization {normalize!r}"
    if reason:
        raise BadInput(
            f"{origin.name} cannot be written for SAELens {VERSION}, which has no {reason}; leave "
            "it out."
        )


def _translated(sae: SaeWeights, origin: Origin) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors, as SAELens names them."""
    skip = sae.W_skip is not None
    transcoder = _is_transcoder(origin, skip)
    b_dec, pre_bias = sae.b_dec / sae.output_scale, sae.pre_bias / sae.input_scale
    subtracted = not transcoder and torch.equal(b_dec, pre_bias)
    name = _TRANSCODERS[sae.activation, skip] if transcoder else _BASES[sae.activation]
    config = {
        "architecture": name,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": subtracted,
        "normalize_activations": _NORMALIZE[sae.normalize],
        "reshape_activations": "none",
        "metadata": _metadata(sae, origin),
    }
    tensors = {"W_dec": sae.W_dec / sae.output_scale, "b_dec": b_dec}
    if transcoder:
        config["d_out"] = sae.d_out
    elif origin.inputs[0][1] == "attn_z":
        config["reshape_activations"] = "hook_z"
    if sae.activation == "matching_pursuit":
        _check_tied(sae, origin, subtracted)
        assert sae.threshold is not None
        config |= {"max_iterations": sae.k, "residual_threshold": float(sae.threshold[0])}
        return config, tensors
    tensors["W_enc"] = sae.W_enc * sae.input_scale
    tensors["b_enc"] = sae.b_enc.clone() if subtracted else sae.b_enc - sae.pre_bias @ sae.W_enc
    if sae.threshold is not None and sae.activation == "jumprelu":
        tensors["threshold"] = sae.threshold
    if sae.W_skip is not None:
        tensors["W_skip"] = sae.W_skip.T * (sae.input_scale / sae.output_scale)
    if sae.activation == "topk":
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    return config, tensors


def _metadata(sae: SaeWeights, origin: Origin) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "sae_lens_version": VERSION,
        "sae_lens_training_version": None,
        "model_name": origin.model,
        "hook_name": transformer_lens_name(origin.inputs[0]),
        "hook_head_index": None,
        "context_size": origin.context,
        "prepend_bos": origin.prepends_bos,
        "training_architecture": _TRAINED_AS.get(sae.architecture, sae.architecture),
    }
    if sae.k is not None:
        metadata["training_architecture_details"] = {"k": sae.k}
    if _is_transcoder(origin, sae.W_skip is not None):
        metadata["hook_name_out"] = transformer_lens_name(origin.outputs[0])
    return metadata


def _check_tied(sae: SaeWeights, origin: Origin, subtracted: bool) -> None:
    """BadInput for a matching pursuit whose weights SAELens would tie otherwise."""
    tied = torch.equal(sae.W_enc, sae.W_dec.T) and subtracted
    if not tied or sae.input_scale != 1 or sae.output_scale != 1:
        raise BadInput(
            f"{origin.name} cannot be written for SAELens {VERSION}, whose matching pursuit has "
            "one matrix and one bias; leave it out."
        )
