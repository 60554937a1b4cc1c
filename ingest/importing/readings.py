"""Other ways to read a published dictionary: each a mistake that its files leave room for.

A file of tensors does not say everything about itself, and configurations are wrong or missing. A
`Reading` undoes one such mistake; whoever measures it on the model's activations sees whether the
dictionary then explains them better (`atlas.ingest.importing.conformance`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atlas.errors import BadInput
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Sites
from atlas.names import HOOKS
from atlas.sae import NORMALIZATIONS, SaeWeights

_LAYERS = 3
"""How many layers to either side a dictionary may have been shifted."""

_LEAST_FACTOR = 1.5
"""A scale nearer to 1 is not looked for: text unlike that of training changes norms as much."""

_USUAL_K = (8, 16, 32, 64, 128, 256)
"""Tried where nothing says what k is."""


@dataclass(frozen=True)
class Reading:
    """A dictionary as it may have been meant."""

    cause: str
    """What was wrong before: 'W_enc is stored transposed'."""
    step: str
    """What to do about it."""
    sites: Sites
    weights: SaeWeights


def at_other_places(
    sites: Sites, weights: SaeWeights, model: LanguageModel, *, told: bool
) -> list[Reading]:
    """The same weights at other layers and hooks where they fit.

    told: whether its files say where it belongs; otherwise its user did.
    """
    found: dict[Sites, str] = {}

    def add(inputs: Iterable[HookPoint], outputs: Iterable[HookPoint], cause: str) -> None:
        moved = Sites(tuple(inputs), tuple(outputs))
        if (
            moved != sites
            and _alias(moved) not in map(_alias, found)
            and _fits(moved, sites, model)
        ):
            found[moved] = cause.format(_listed(moved.points))

    for hook in HOOKS:
        inputs = [replace(point, hook=hook) for point in sites.inputs]
        if hook in ("resid_pre", "resid_post") and {p.hook for p in sites.points} <= {
            "resid_pre",
            "resid_post",
        }:
            cause = "it is for the other side of the block, {} (hidden states off by one)"
        else:
            cause = "it is for another hook, {}"
        add(inputs, inputs if sites.same else sites.outputs, cause)
    for shift in sorted(range(-_LAYERS, _LAYERS + 1), key=abs):
        add(
            [replace(point, layer=point.layer + shift) for point in sites.inputs],
            [replace(point, layer=point.layer + shift) for point in sites.outputs],
            "it is for another layer, {}",
        )
    reverse = "its hook points are in the other order, {}"
    add(sites.inputs[::-1], sites.outputs[::-1], reverse)
    step = "correct its configuration" if told else "give --layers and --hook so"
    return [
        Reading(cause, f"{step} and import it again", moved, weights)
        for moved, cause in found.items()
    ]


def _listed(points: Iterable[HookPoint]) -> str:
    return " and ".join(map(str, points))


def _alias(sites: Sites) -> Sites:
    """The same places, each by one name: what leaves a block enters the next."""

    def one(point: HookPoint) -> HookPoint:
        return HookPoint(point.layer - 1, "resid_post") if point.hook == "resid_pre" else point

    return Sites(tuple(map(one, sites.inputs)), tuple(map(one, sites.outputs)))


def _fits(moved: Sites, sites: Sites, model: LanguageModel) -> bool:
    try:
        return [model.width(point) for point in moved.inputs + moved.outputs] == [
            model.width(point) for point in sites.inputs + sites.outputs
        ]
    except BadInput:  # there is no such layer or hook
        return False


def of_other_files(
    sites: Sites, sae: SaeWeights, x: Tensor, y: Tensor, l0: float, k: float | None
) -> Iterator[Reading]:
    """The weights at the same places, but with something about them understood otherwise.

    x (n, d_in), y (n, d_out): activations it reads and reconstructs. l0: as it is read now; k: the
    L0 that is declared, None where there is none.
    """
    changes = [_transposed(sae), _sparser(sae, l0, k), _decoder_norms(sae)]
    if sites.same:
        changes.append(_biases(sae))
    if sae.normalize == "none":
        changes.append(_scaled(sae, x, y))
    if sites.same:
        changes.append(_normalized(sae))
    for cause, step, weights in itertools.chain(*changes):
        yield Reading(cause, step, sites, weights)


_Change = tuple[str, str, SaeWeights]
"""Cause, step, and what the weights would be."""


def _transposed(sae: SaeWeights) -> Iterator[_Change]:
    step = "store it the other way round and import it again"
    encoder = sae.d_in == sae.d_sae and replace(sae, W_enc=sae.W_enc.T.contiguous())
    decoder = sae.d_out == sae.d_sae and replace(sae, W_dec=sae.W_dec.T.contiguous())
    if encoder:
        yield "W_enc is stored transposed", step, encoder
    if decoder:
        yield "W_dec is stored transposed", step, decoder
    if encoder and decoder:
        yield "W_enc and W_dec are stored transposed", step, replace(encoder, W_dec=decoder.W_dec)


def _biases(sae: SaeWeights) -> Iterator[_Change]:
    step = "correct apply_b_dec_to_input in its configuration and import it again"
    if not torch.allclose(sae.pre_bias, sae.b_dec):
        subtract = "b_dec is to be subtracted from the input (a pre-bias), and is not"
        yield subtract, step, replace(sae, pre_bias=sae.b_dec)
    if sae.pre_bias.any():
        zero = torch.zeros_like(sae.pre_bias)
        keep = "a pre-bias is subtracted from the input, and should not be"
        yield keep, step, replace(sae, pre_bias=zero)
        if not sae.b_dec.any():
            yield (
                "the pre-bias is not added back to the reconstruction",
                "store it as b_dec too and import it again",
                replace(sae, b_dec=sae.pre_bias),
            )


def _normalized(sae: SaeWeights) -> Iterator[_Change]:
    step = "correct normalize_activations in its configuration and import it again"
    for name in NORMALIZATIONS:
        if name == sae.normalize:
            continue
        cause = f"each input is to be normalised first ({name}), and is not"
        if name == "none":
            cause = f"each input is normalised first ({sae.normalize}), and should not be"
        elif sae.normalize != "none":
            cause = f"the normalisation of each input is {name}, not {sae.normalize}"
        yield cause, step, replace(sae, normalize=name)


def _sparser(sae: SaeWeights, l0: float, k: float | None) -> Iterator[_Change]:
    """A TopK that is computed as a ReLU, or a JumpReLU whose threshold is lost or too low."""
    if sae.activation not in ("relu", "jumprelu"):
        return
    lost = "it is a TopK read as a ReLU" if sae.activation == "relu" else "its threshold is lost"
    told = {round(one) for one in (k, sae.k) if one}
    for one in sorted(told or _USUAL_K):
        if 1 <= one <= min(l0 / 3, sae.d_sae):  # text of another kind may double it
            yield (
                f"{lost}, and only the {one} largest activations of a token count",
                "correct its configuration (activation, k, threshold) and import it again",
                replace(sae, activation="topk", k=one, threshold=None),
            )


def _decoder_norms(sae: SaeWeights) -> Iterator[_Change]:
    norm = sae.W_dec.norm(dim=1)
    norm = torch.where(norm > 0, norm, 1.0)
    if (norm - 1).abs().max() < 0.02:
        return
    step = "fold them in (SAELens: fold_W_dec_norm) and import it again"
    unit = sae.W_dec / norm[:, None]
    if sae.activation in ("topk", "jumprelu"):
        yield (
            "activations are to be compared times the lengths of their decoder rows",
            step,
            replace(sae, W_enc=sae.W_enc * norm, b_enc=sae.b_enc * norm, W_dec=unit),
        )
    yield "the lengths of the decoder's rows are not to count", step, replace(sae, W_dec=unit)


def _scaled(sae: SaeWeights, x: Tensor, y: Tensor) -> Iterator[_Change]:
    """Weights in units of a scaled input, of mean norm √d (SAELens, Anthropic) or about 1."""
    step = "give the factor with its weights, or fold it into them, and import it again"
    roots = math.sqrt(sae.d_in), math.sqrt(sae.d_out)
    for length, (of_x, of_y) in {"√d": roots, "1": (1.0, 1.0)}.items():
        into = of_x / float(x.norm(dim=1).mean())
        out = of_y / float(y.norm(dim=1).mean())
        if max(abs(math.log(into)), abs(math.log(out))) < math.log(_LEAST_FACTOR):
            continue
        for sign, cause in (
            (1, f"its weights are for inputs scaled to norm {length}, which is not folded in"),
            (-1, f"a scale of the input to norm {length} is folded in, and should not be"),
        ):
            encoder = replace(sae, input_scale=sae.input_scale * into**sign)
            both = replace(encoder, output_scale=sae.output_scale * out**sign)
            yield cause, step, both
            if length == "√d":
                yield f"{cause} (in the encoder)", step, encoder
                decoder = replace(both, input_scale=sae.input_scale)
                yield f"{cause} (in the decoder)", step, decoder
            if sae.threshold is not None:
                yield (
                    f"its threshold is in other units, those of inputs scaled to norm {length}",
                    "correct its threshold and import it again",
                    replace(sae, threshold=sae.threshold * into**sign),
                )
