"""Whether an imported dictionary does on this model what its publisher says, and if not, why.

It is measured on a sample of the reference corpus as it was read, and then as it may have been
meant (`atlas.ingest.importing.readings`): at neighbouring layers and other hooks, with matrices
transposed, with and without a pre-bias, TopK, a folded scale. The reading that fits much better
names the mistake. Two things tell how well a reading fits:

    unexplained     Σ‖y − ŷ‖² / Σ‖y − ȳ‖²
    systematic      ‖mean of y − ŷ‖² / mean of ‖y − ŷ‖²: the share of the error that is the same for
                    every token

Training makes the second zero, whatever the architecture, since the decoder's bias is free to take
it: where squared errors are least, their mean is zero. So it tells a layer from its neighbour, on
which a dictionary explains nearly as much, and a TopK from the ReLU that adds small activations.

What is declared was measured elsewhere: on another text, in contexts of another length, with BOS
among the tokens or not, and by one of three definitions of explained variance. So only what no such
difference makes is held against a dictionary:

    l0                  more than twice or less than half as many
    explained_variance  more than .15 lower, by the definition that suits it best: between text like
                        that of training and text unlike it, .05 to .1 were measured
    cosine              more than .1 lower
    ce_recovered        more than .1 lower
    l2_ratio            more than .2 away

and dead_share and mse are not compared: the one needs millions of tokens, the other depends on the
publisher's units. Whatever is declared, it is unsound to explain nothing, or to have no latent
active or more than half of them.

Of a dictionary in another atlas (`Found.origin`), weights, model and hook points are known, so no
other reading is tried and nothing is held against it but what deviates from the figures there, for
the text's sake. What was flagged there, it stays.

What cannot be told from activations alone: a layer from one on which the dictionary does as well in
both respects (of layer-normalised inputs, neighbours in a small model); a TopK from a ReLU where
neither says its L0 and few small activations are added; the lost pre-bias of a transcoder, whose
files hold it nowhere else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.ingest.importing.formats.found import Found
from atlas.ingest.importing.readings import at_other_places, of_other_files
from atlas.ingest.measuring.quality import fidelity, reconstruction_sums
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Sites, all_points
from atlas.ingest.text.contexts import Batch
from atlas.sae import SaeWeights

SAMPLE_TOKENS = 1 << 12
"""Tokens to judge by: enough for two decimals of explained variance."""

_TRIED_TOKENS = 1 << 10
"""Of these, so many are encoded again for each other reading."""

_LEAST_TOKENS = 256
"""Fewer say nothing."""

_FITS = 0.8
"""A reading is told if its misfit beside the dictionary as it was read is no more than this. Of 90
sound dictionaries (five models, three architectures, on text like that of training and unlike it),
the best other reading was .88."""

_ALIKE = 1.05
"""Misfits that differ by less than this factor tell nothing."""

_EXPLAINS = 0.3
"""Less explained variance is not what anybody meant."""

_SYSTEMATIC = 0.2
"""Nor is a larger share of the error that is the same for every token: on text of other kinds than
they were trained on, sound dictionaries have up to .12, and those of another model .25 and more."""

_COSTS = 0.1
"""Nats. Where zeros in the place of the activations cost the model less, as in a random model, the
recovered share of that differs by any amount between two texts."""


@dataclass(frozen=True)
class Verdict:
    """What the gate found."""

    quality: str
    """'conforms', 'undeclared' (sound, with nothing to compare), or one sentence on what deviates,
    why most likely, and what to do."""
    findings: tuple[str, ...]
    """What was measured, one clause each."""

    @property
    def sound(self) -> bool:
        """Whether nothing deviates."""
        return self.quality in ("conforms", "undeclared")


def conformance(
    found: Found,
    weights: SaeWeights,
    sites: Sites,
    model: LanguageModel,
    batches: Sequence[Batch],
    measured: Mapping[str, float] | None = None,
) -> Verdict:
    """Judge a dictionary by some `SAMPLE_TOKENS` tokens of the reference corpus.

    weights: on the model's device. sites: where it is about to be put. measured: metrics by our
    names that were measured elsewhere on the reference corpus, such as ce_recovered.

    One forward pass is made per batch, over the layers around `sites`.
    """
    origin = found.origin
    if origin is not None and origin.flagged is not None:
        return Verdict(origin.flagged, (f"flagged in {origin.atlas}",))
    places = [] if origin else at_other_places(sites, weights, model, told=found.inputs is not None)
    sample = _Sample.of(model, sites, [reading.sites for reading in places], batches)
    if sample.n < _LEAST_TOKENS:
        return Verdict("undeclared", (f"{sample.n} tokens are too few to measure it by",))
    metrics = _metrics(weights, sites, sample) | dict(measured or {})
    if origin is not None:
        return _of_copy(origin.atlas, metrics, found.declared)
    x, y = sites.gather(sample.some)
    as_read, declared_l0 = _measure(weights, x, y), found.declared.get("l0")
    others = of_other_files(sites, weights, x, y, as_read.l0, declared_l0)
    fits = []
    for reading in itertools.chain(places, others):
        other = _measure(reading.weights, *reading.sites.gather(sample.some))
        if other.explained >= _EXPLAINS and other.systematic <= _SYSTEMATIC:
            moved = reading.sites != sites
            fits.append((_misfit(other, as_read, declared_l0, moved=moved), reading, other))
    least = min((misfit for misfit, _, _ in fits), default=1.0)
    findings = _findings(metrics, found.declared)
    unsound = _unsound(metrics, as_read, weights)
    deviating = _deviations(metrics, found.declared)
    told = f"as read, {' and '.join(unsound or deviating or findings[:2])}"
    if least <= _FITS:
        # Of readings that are hardly different, the first: they come in the order of likelihood.
        _, reading, other = next(fit for fit in fits if fit[0] <= _ALIKE * least)
        return Verdict(
            f"{told}: {reading.cause}, for then L0 is {other.l0:.1f} and explained variance "
            f"{other.explained:.3f}; {reading.step}.",
            findings,
        )
    trained_for = f" (its files name {found.model})" if found.model else ""
    if unsound:
        return Verdict(
            f"{told}, and no other reading of its files explains more: it was trained on another "
            f"model{trained_for} or hook, or for another kind of text; give the model that it is "
            "for.",
            findings,
        )
    if deviating:
        return Verdict(
            f"{told}, and no other reading of its files comes nearer: this text or model"
            f"{trained_for} is not what it was trained on; measure it on its publisher's.",
            findings,
        )
    return Verdict(_unless_undeclared(found.declared), findings)


def _of_copy(atlas: str, metrics: Mapping[str, float], declared: Mapping[str, float]) -> Verdict:
    """Of one whose weights, model and hook points are known: only the text may be another."""
    if metrics.get("ce_zero", math.inf) - metrics.get("ce", 0.0) < _COSTS:
        metrics = {name: value for name, value in metrics.items() if name != "ce_recovered"}
    findings, deviating = _findings(metrics, declared), _deviations(metrics, declared)
    if deviating:
        return Verdict(
            f"here, {' and '.join(deviating)}, with weights, model and hook points as in {atlas}: "
            "this is another kind of text, or read in other contexts; judge it on text of the kind "
            "that it was trained on.",
            findings,
        )
    return Verdict(_unless_undeclared(declared), findings)


def _unless_undeclared(declared: Mapping[str, float]) -> str:
    return "conforms" if set(declared) & set(_TOLERANCES) else "undeclared"


@dataclass(frozen=True)
class _Sample:
    """Activations of a sample of tokens."""

    n: int
    """How many tokens."""
    all: dict[HookPoint, Tensor]
    """(n, width) at the points where the dictionary belongs."""
    some: dict[HookPoint, Tensor]
    """(about `_TRIED_TOKENS`, width) at these and wherever else it may belong."""

    @classmethod
    def of(
        cls, model: LanguageModel, sites: Sites, others: Sequence[Sites], batches: Sequence[Batch]
    ) -> _Sample:
        points = all_points([sites, *others])
        n = sum(int(batch.keep.sum()) for batch in batches)
        step = max(1, n // _TRIED_TOKENS)
        whole: dict[HookPoint, list[Tensor]] = {point: [] for point in sites.points}
        some: dict[HookPoint, list[Tensor]] = {point: [] for point in points}
        for batch in batches:
            for point, rows in zip(points, model.run(batch, points), strict=True):
                if point in whole:
                    whole[point].append(rows)
                some[point].append(rows[::step])
        if not batches:
            return cls(0, {}, {})
        return cls(
            n,
            {point: torch.cat(parts) for point, parts in whole.items()},
            {point: torch.cat(parts) for point, parts in some.items()},
        )


def _metrics(sae: SaeWeights, sites: Sites, sample: _Sample) -> dict[str, float]:
    """Metrics of the dictionary as it was read, by our names, over the whole sample."""
    x, y = sites.gather(sample.all)
    code = sae.encode(x)
    metrics = fidelity(reconstruction_sums(y, sae.decode(code, x)))
    return metrics | {"l0": float((code.value > 0).sum()) / sample.n}


@dataclass(frozen=True)
class _Measured:
    """What the choice among readings rests on."""

    n: int
    """Tokens."""
    l0: float
    unexplained: float
    unexplained_each: float
    """The unexplained share of each coordinate by itself, on average: in large models a few
    coordinates have nearly all of the variance, and more of it the deeper the layer."""
    systematic: float

    @property
    def explained(self) -> float:
        """Explained variance."""
        return 1 - self.unexplained


def _measure(sae: SaeWeights, x: Tensor, y: Tensor) -> _Measured:
    code = sae.encode(x)
    error = (y - sae.decode(code, x)).double()
    errors, mean = error.square().sum(0), error.mean(0)
    variance = (y - y.mean(0)).double().square().sum(0)
    varies = variance > 0
    shares = (
        errors.sum() / variance.sum(),
        (errors[varies] / variance[varies]).mean(),
        len(x) * mean.square().sum() / errors.sum().clamp_min(1e-12),
    )
    l0 = float((code.value > 0).sum()) / len(x)
    return _Measured(len(x), l0, *(float(one.nan_to_num(torch.inf)) for one in shares))


def _misfit(
    other: _Measured, as_read: _Measured, declared_l0: float | None, *, moved: bool
) -> float:
    """How badly a reading fits, as a multiple of how badly the dictionary as it was read does."""
    misfit = other.unexplained / max(as_read.unexplained, 1e-9)
    if moved:
        misfit = max(misfit, other.unexplained_each / max(as_read.unexplained_each, 1e-9))
    # The mean of n errors is never quite zero, and of another text's less so.
    slack = max(0.005, 4 / other.n)
    misfit *= math.pow((other.systematic + slack) / (as_read.systematic + slack), 0.25)
    agrees = _TOLERANCES["l0"]
    if declared_l0 and agrees(other.l0, declared_l0) > agrees(as_read.l0, declared_l0):
        return misfit / 2
    if moved or as_read.explained < _EXPLAINS:
        return misfit
    # More active latents explain more of anything.
    return misfit * math.sqrt(max(1.0, other.l0 / max(as_read.l0, 1e-9)))


def _unsound(metrics: Mapping[str, float], as_read: _Measured, sae: SaeWeights) -> list[str]:
    """What no dictionary should be, whatever is declared of it."""
    found, l0 = [], metrics["l0"]
    if l0 == 0:
        found.append("no latent is active")
    elif l0 > sae.d_sae / 2:
        found.append(f"L0 is {l0:.1f} of {sae.d_sae:,} latents")
    explained = metrics.get("explained_variance", 0.0)
    # One trained end to end may leave the activations as they are not, and the losses as they are.
    harmless = metrics.get("ce_recovered", 0.0) > 0.5
    foreign = explained < _EXPLAINS and as_read.systematic > _SYSTEMATIC
    if not harmless and (foreign or not explained > 0):
        found.append(f"explained variance is {explained:.3f}")
    return found


_EXPLAINED = ("explained_variance", "explained_variance_centred", "explained_variance_per_token")
_Tolerance = Callable[[float, float], bool]


def _lower(by: float) -> _Tolerance:
    return lambda here, declared: here >= declared - by


_TOLERANCES: dict[str, _Tolerance] = {
    "l0": lambda here, declared: declared / 2 <= here <= declared * 2,
    "explained_variance": _lower(0.15),
    "cosine": _lower(0.1),
    "ce_recovered": _lower(0.1),
    "l2_ratio": lambda here, declared: abs(here - declared) <= 0.2,
}
"""Whether what was measured here agrees with what is declared; reasons above."""


def _compared(
    metrics: Mapping[str, float], declared: Mapping[str, float]
) -> Iterator[tuple[str, float, float]]:
    """(name, here, declared) of everything that can be compared."""
    for name in _TOLERANCES:
        names = _EXPLAINED if name == "explained_variance" else (name,)
        here = [metrics[one] for one in names if one in metrics]
        if name in declared and here:
            yield name, max(here), declared[name]


def _deviations(metrics: Mapping[str, float], declared: Mapping[str, float]) -> list[str]:
    return [
        f"{_NAMES.get(name, name)} is {here:.3g} ({said:.3g} declared)"
        for name, here, said in _compared(metrics, declared)
        if not _TOLERANCES[name](here, said)
    ]


_NAMES = {"l0": "L0", "explained_variance": "explained variance"}


def _findings(metrics: Mapping[str, float], declared: Mapping[str, float]) -> tuple[str, ...]:
    said = {name: value for name, _, value in _compared(metrics, declared)}
    here = {name: metrics[name] for name in ("l0", "explained_variance", *said) if name in metrics}
    return tuple(
        f"{_NAMES.get(name, name)} is {value:.3g}"
        + (f" ({said[name]:.3g} declared)" if name in said else "")
        for name, value in here.items()
    )
