"""SAELens: `cfg.json` beside `sae_weights.safetensors`, of version 6 and before, final or not.

    h    = normalize(x) - b_dec               without b_dec for transcoders, or where cfg says so
    acts = f(h @ W_enc + b_enc)               W_enc (d_in, d_sae)
    ŷ    = denormalize(acts @ W_dec + b_dec)  W_dec (d_sae, d_out); + x @ W_skip.T, (d_out, d_in)

What a checkpoint of a training has not yet folded into its weights (the scale or the whitening of
its input, lengths of the decoder's directions, the threshold of BatchTopK) is folded here as
SAELens 6.54 does when the training ends. `atlas.ingest.importing.formats.saelens_config` reads the
configurations.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.importing.formats.found import (
    Format,
    Found,
    Source,
    Tensors,
    doubled,
    gated_threshold,
    read_json,
    setting,
)
from atlas.ingest.importing.formats.saelens_config import Config
from atlas.sae import SaeWeights

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
SPARSITY = "sparsity.safetensors"
SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"


def _detect(source: Source) -> list[Found]:
    return [
        _found(source, path) for path in source.matching(WEIGHTS) if path.with_name(CONFIG).exists()
    ]


def _found(source: Source, path: Path) -> Found:
    config = Config.read(path.with_name(CONFIG), source.full_path(path))
    shapes = Tensors.open(path)
    d_sae, d_out = shapes.shape("W_dec", 2)
    d_in = d_out if config.tied else shapes.shape("W_enc", 2)[0]
    config.check_sizes(d_in, d_sae, d_out)
    when = "before version 6" if config.before_6 else "of version 6"
    return Found(
        format="saelens",
        why=f"{CONFIG} {when} with the architecture {config.name!r} beside {WEIGHTS}",
        place=source.place(path.parent),
        model=config.model,
        inputs=config.inputs,
        outputs=config.outputs,
        d_in=d_in,
        d_sae=2 * d_sae if config.kind == "abstopk" else d_sae,
        d_out=d_out,
        architecture=config.architecture,
        declared=_declared(path, config, d_sae),
        conventions={"published": config.published, "notes": config.notes},
        load=partial(_load, path, config, d_in, d_sae, d_out),
    )


def _declared(path: Path, config: Config, d_sae: int) -> dict[str, float]:
    """What the configuration states, or the sum of how often each latent was active."""
    declared = config.declared(d_sae)
    sparsity = path.with_name(SPARSITY)
    if "l0" not in declared and sparsity.exists():
        frequency = 10 ** Tensors.open(sparsity).take("sparsity", d_sae).double()
        declared["l0"] = float(frequency.sum())
    return declared


def _load(path: Path, config: Config, d_in: int, d_sae: int, d_out: int) -> SaeWeights:
    tensors = Tensors.open(path)
    scale = _scale(path) if config.normalize == "expected_average_only_in" else 1.0
    W_dec, b_dec = tensors.take("W_dec", d_sae, d_out), tensors.take("b_dec", d_out) / scale
    W_enc, b_enc, threshold = _encoder(tensors, config, W_dec, scale)
    if not config.tied:
        W_dec = _finetuned(tensors, config, W_dec) / scale
    if config.rescaled:
        length = W_dec.norm(dim=1)
        W_enc, b_enc = W_enc * length, b_enc * length
        W_dec = W_dec / length.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    if config.kind == "abstopk":
        W_enc, b_enc, W_dec = doubled(W_enc, b_enc, W_dec)
    W_skip = tensors.take("W_skip", d_out, d_in).T.contiguous() if config.skip else None
    tensors.done()
    weights = SaeWeights(
        architecture=config.architecture,
        activation=_ACTIVATIONS[config.kind],
        k=config.k(d_in, d_sae),
        W_enc=W_enc.contiguous(),
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=torch.zeros_like(b_dec) if config.tied and not config.apply_b_dec else b_dec,
        pre_bias=b_dec.clone() if config.apply_b_dec else torch.zeros(d_in),
        input_scale=1.0,
        output_scale=1.0,
        threshold=threshold,
        W_skip=W_skip,
        normalize=_NORMALIZE.get(config.normalize, "none"),
    )
    if config.normalize == "covariance_whitening":
        weights = _whitened(weights, path)
    return _centred(weights) if config.centred else weights


_ACTIVATIONS = {
    "relu": "relu",
    "gated": "jumprelu",
    "jumprelu": "jumprelu",
    "batchtopk": "jumprelu",
    "topk": "topk",
    "abstopk": "topk",
    "matching_pursuit": "matching_pursuit",
}

_NORMALIZE = {"layer_norm": "layer_norm", "constant_norm_rescale": "constant_norm"}


def _encoder(
    tensors: Tensors, config: Config, W_dec: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """W_enc for inputs that are not scaled, b_enc, and threshold as pre-activations come out."""
    d_sae, d_in = len(W_dec), tensors.shapes.get("W_enc", W_dec.shape[::-1])[0]
    if config.tied:
        left = config.residual_threshold / scale
        return W_dec.T.contiguous(), torch.zeros(d_sae), torch.full((d_sae,), left)
    W_enc = tensors.take("W_enc", d_in, d_sae) * scale
    if config.kind == "gated":
        b_gate, b_mag, r_mag = (tensors.take(name, d_sae) for name in ("b_gate", "b_mag", "r_mag"))
        return W_enc * r_mag.exp(), b_mag, gated_threshold(b_gate, b_mag, r_mag)
    b_enc = tensors.take("b_enc", d_sae)
    if config.kind == "batchtopk":
        least = tensors.take_scalar("topk_threshold") / (scale if config.rescaled else 1.0)
        return W_enc, b_enc, torch.full((d_sae,), least)
    if config.kind == "jumprelu":
        if "log_threshold" in tensors:
            return W_enc, b_enc, tensors.take("log_threshold", d_sae).exp()
        return W_enc, b_enc, tensors.take("threshold", d_sae)
    return W_enc, b_enc, None


def _finetuned(tensors: Tensors, config: Config, W_dec: Tensor) -> Tensor:
    """W_dec times the factor that versions before 6 could train for each latent."""
    if "scaling_factor" not in tensors:
        return W_dec
    factor = tensors.take("scaling_factor", len(W_dec))
    if not config.finetuned and not torch.allclose(factor, torch.ones_like(factor)):
        raise BadInput(
            f"{tensors.path} has a scaling_factor that is not 1, but its {CONFIG} says that it has "
            "none (finetuning_scaling_factor); ask its publisher which is right."
        )
    return W_dec * factor[:, None] if config.finetuned else W_dec


def _scale(path: Path) -> float:
    scaler = path.with_name(SCALER)
    if not scaler.exists():
        raise BadInput(
            f"{path.parent} was saved before the scale of its input was folded into the weights "
            f"(normalize_activations is expected_average_only_in) and has no {SCALER}; write "
            f'{{"scaling_factor": NUMBER}} there, with the number its publisher names.'
        )
    return float(setting(read_json(scaler), "scaling_factor", float, scaler))


def _whitened(sae: SaeWeights, path: Path) -> SaeWeights:
    """The same for raw inputs, where `sae` reads z = (x - mean) @ M and ŷ = ẑ @ M⁻¹ + mean."""
    whitening = path.with_name(WHITENING)
    if not whitening.exists():
        raise BadInput(
            f"{path.parent} was saved before the whitening of its input was folded into the "
            f"weights, and has no {WHITENING}; get that file of the same checkpoint."
        )
    tensors, d = Tensors.open(whitening), sae.d_in
    mean = tensors.take("mean", d)
    M, inverse = tensors.take("matrix", d, d), tensors.take("inverse_matrix", d, d)
    return replace(
        sae,
        W_enc=M @ sae.W_enc,
        pre_bias=mean + sae.pre_bias @ inverse,
        W_dec=sae.W_dec @ inverse,
        b_dec=sae.b_dec @ inverse + mean,
    )


def _centred(sae: SaeWeights) -> SaeWeights:
    """The same for raw inputs, where `sae` reads them less their mean over d_in.

    The mean of the input is that of the output: the skip connection hands it on.
    """
    d = sae.d_in
    shift = sae.pre_bias @ sae.W_enc
    W_enc = sae.W_enc - sae.W_enc.mean(0)
    return replace(
        sae,
        W_enc=W_enc,
        b_enc=sae.b_enc - shift + sae.pre_bias @ W_enc,
        W_skip=torch.full((d, d), 1 / d),
    )


FORMAT = Format(
    name="saelens",
    summary="SAELens 6 and before: every architecture but temporal, training checkpoints too",
    looks_for=f"{CONFIG} beside {WEIGHTS}",
    detect=_detect,
)
