"""Which published SAEs an import adds, and where in the model each belongs."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from atlas.errors import BadInput
from atlas.ingest.importing.formats import read_dictionaries
from atlas.ingest.importing.formats.found import Found
from atlas.ingest.plan import (
    IngestOptions,
    PlannedSae,
    Point,
    corpus_fingerprint,
    parse_hooks,
    parse_layers,
)
from atlas.names import SaeName

_Placed = tuple[Found, tuple[tuple[Point, ...], tuple[Point, ...]]]
"""A dictionary, the points that it reads and those that it writes."""


@dataclass(frozen=True)
class Chosen:
    """The SAEs of a plan."""

    saes: tuple[PlannedSae, ...]
    found: dict[str, Found] = field(default_factory=dict)
    """What was found of each imported one, by `PlannedSae.key`."""
    left_out: tuple[str, ...] = ()
    """Those of another atlas that cannot be placed, for they read other models, too: their names
    there."""


def find_published(
    options: IngestOptions,
    model: str,
    model_sha256: str,
    n_layers: int,
    width: Callable[[Point], int],
    wait: float = 0.0,
) -> Chosen:
    """The SAEs at `options.sae`, of another atlas those of this model.

    width: of the activations at a layer and hook. wait: seconds, for a locked atlas. BadInput where
    nothing is found there, where the files do not say what an SAE reads and the options neither, or
    where the model does not fit.
    """
    assert options.sae is not None
    every = read_dictionaries(options.sae, options.format, wait=wait)
    if options.randomize is not None and any(found.origin is None for found in every):
        raise BadInput(
            f"--randomize makes a model that {options.sae} does not know, as another atlas might; "
            "leave it out, or --sae."
        )
    every = _of_model(every, options, model_sha256)
    placed: list[_Placed] = [
        (found, _points(found, options, n_layers, len(every))) for found in every
    ]
    if options.layers != "all":
        chosen = set(parse_layers(options.layers, n_layers))
        placed = [(found, points) for found, points in placed if points[1][0][0] in chosen]
        if not placed:
            raise BadInput(
                f"{options.sae} has no SAE of --layers {options.layers}; it has {_listed(every)}."
            )
    left_out = tuple(found.place for found, _ in placed if _reads_other_models(found))
    placed = [(found, points) for found, points in placed if not _reads_other_models(found)]
    if not placed:
        raise BadInput(
            f"{options.sae} has only {', '.join(left_out)} here, which read other models, too, and "
            "--sae places SAEs of one model; train them again, --with the others."
        )
    for found, (inputs, outputs) in placed:
        _check_fit(found, inputs, outputs, width)
    return replace(_named(placed, options, model), left_out=left_out)


def _of_model(every: Sequence[Found], options: IngestOptions, model_sha256: str) -> list[Found]:
    """Without those that an atlas has of other models, whatever these are called there."""
    fitting = [
        one for one in every if one.origin is None or one.origin.model_sha256 == model_sha256
    ]
    if not fitting:
        models = ", ".join(sorted({found.model or "" for found in every}))
        raise BadInput(
            f"{options.sae} holds no SAE of {options.model}, but of {models}, with other weights; "
            "give the model that it has SAEs of."
        )
    return fitting


def _reads_other_models(found: Found) -> bool:
    return found.origin is not None and bool(found.origin.other_models)


def _points(
    found: Found, options: IngestOptions, n_layers: int, n_found: int
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """What it reads and writes: as its files say, or else as the options do."""
    if found.inputs is not None:
        inputs = found.inputs
        outputs = found.outputs or inputs
    else:
        if n_found > 1 or options.layers == "all":
            raise BadInput(
                f"{found.place} does not say which layer it reads; import it by itself, with "
                "--layers and --hook."
            )
        layers = parse_layers(options.layers, n_layers)
        if len(layers) != 1:
            raise BadInput(f"{found.place} is one SAE; give one layer with --layers.")
        first, second = parse_hooks(options.hook)
        inputs, outputs = ((layers[0], first),), ((layers[0], second or first),)
    for layer, hook in (*inputs, *outputs):
        if not 0 <= layer < n_layers:
            raise BadInput(
                f"{found.place} belongs to layer {layer} ({hook}), but the model has layers 0 to "
                f"{n_layers - 1}; give the model it was trained on."
            )
    return inputs, outputs


def _check_fit(
    found: Found,
    inputs: tuple[Point, ...],
    outputs: tuple[Point, ...],
    width: Callable[[Point], int],
) -> None:
    for what, points, d in (("reads", inputs, found.d_in), ("writes", outputs, found.d_out)):
        there = sum(map(width, points))
        if there != d:
            at = " + ".join(f"{layer}-{hook}" for layer, hook in points)
            trained = f" (it is for {found.model})" if found.model else ""
            raise BadInput(
                f"{found.place} {what} vectors of {d:,}, but the model's {at} has {there:,}"
                f"{trained}; give the model and hook that it was trained on."
            )


def _named(placed: list[_Placed], options: IngestOptions, model: str) -> Chosen:
    """Each with a name of its own; BadInput where two would have the same."""
    assert options.sae is not None
    files = corpus_fingerprint(options.sae.partition(":")[0], None)
    points = Counter(_named_after(found, outputs) for found, (_, outputs) in placed)
    saes: dict[str, PlannedSae] = {}
    by_key: dict[str, Found] = {}
    for found, (inputs, outputs) in placed:
        after = _named_after(found, outputs)
        layer, hook = after[0]
        sae = PlannedSae(
            SaeName(model, layer, hook, _variant(found, options.variant, points[after] == 1)),
            inputs,
            outputs,
            found.architecture,
            found.d_sae,
            None,
            published=_fingerprint(found, files),
        )
        if sae.key in saes:
            raise BadInput(
                f"{options.sae} has two SAEs that would both be called {sae.name}; import them one "
                "by one, with --variant."
            )
        saes[sae.key], by_key[sae.key] = sae, found
    ordered = sorted(saes.values(), key=lambda sae: _order(sae.name))
    return Chosen(tuple(ordered), {sae.key: by_key[sae.key] for sae in ordered})


def _order(name: SaeName) -> tuple[int, str, str]:
    return name.layer, name.hook, name.variant or ""


def _named_after(found: Found, outputs: tuple[Point, ...]) -> tuple[Point, ...]:
    """The points of which the first is in its name, and which few others have."""
    if found.origin is None:
        return outputs
    return ((found.origin.name.layer, found.origin.name.hook),)


def _variant(found: Found, given: str | None, alone: bool) -> str | None:
    """By its format, and by its place where it is not alone; in another atlas it has one."""
    if found.origin is not None:
        own = found.origin.name.variant
        if given is None:
            return own
        return given if alone or own is None else f"{given}-{own}"
    variant = given or found.format
    place = re.sub(r"[^\w.+=-]+", "_", found.place).strip("_")
    return variant if alone else f"{variant}-{place}"


def _fingerprint(found: Found, files: str) -> str:
    """A hash of what was read and how; files: one of the whole source."""
    if found.origin is not None:
        return found.origin.sha256
    read = [files, found.place, found.format, found.conventions]
    return hashlib.sha256(json.dumps(read, sort_keys=True, default=str).encode()).hexdigest()


def _listed(every: list[Found]) -> str:
    layers = sorted({found.outputs[0][0] for found in every if found.outputs})
    return f"layers {', '.join(map(str, layers))}" if layers else "SAEs that do not name theirs"
