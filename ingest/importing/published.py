"""Which published SAEs an import adds, and where in the model each belongs."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable

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


def find_published(
    options: IngestOptions, model: str, n_layers: int, width: Callable[[Point], int]
) -> tuple[tuple[PlannedSae, ...], dict[str, Found]]:
    """The SAEs at `options.sae` as a plan, and what was found of each, by `PlannedSae.key`.

    width: of the activations at a layer and hook. BadInput where nothing is found there, where the
    files do not say what an SAE reads and the options neither, or where the model does not fit.
    """
    assert options.sae is not None
    every = read_dictionaries(options.sae, options.format)
    placed = [(found, _points(found, options, n_layers, len(every))) for found in every]
    if options.layers != "all":
        chosen = set(parse_layers(options.layers, n_layers))
        placed = [(found, points) for found, points in placed if points[1][0][0] in chosen]
        if not placed:
            raise BadInput(
                f"{options.sae} has no SAE of --layers {options.layers}; it has {_listed(every)}."
            )
    for found, (inputs, outputs) in placed:
        _check_fit(found, inputs, outputs, width)
    return _named(placed, options, model)


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


def _named(
    placed: list[tuple[Found, tuple[tuple[Point, ...], tuple[Point, ...]]]],
    options: IngestOptions,
    model: str,
) -> tuple[tuple[PlannedSae, ...], dict[str, Found]]:
    """Each with a name of its own: by its format, and by its place where that is not enough."""
    assert options.sae is not None
    files = corpus_fingerprint(options.sae.partition(":")[0], None)
    points = Counter(outputs for _, (_, outputs) in placed)
    saes: dict[str, PlannedSae] = {}
    by_key: dict[str, Found] = {}
    for found, (inputs, outputs) in placed:
        variant = options.variant or found.format
        if points[outputs] > 1:
            variant += "-" + re.sub(r"[^\w.+=-]+", "_", found.place).strip("_")
        layer, hook = outputs[0]
        sae = PlannedSae(
            SaeName(model, layer, hook, variant),
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
    ordered = sorted(saes.values(), key=lambda sae: sae.name)
    return tuple(ordered), {sae.key: by_key[sae.key] for sae in ordered}


def _fingerprint(found: Found, files: str) -> str:
    """A hash of what was read and how; files: one of the whole source."""
    read = [files, found.place, found.format, found.conventions]
    return hashlib.sha256(json.dumps(read, sort_keys=True, default=str).encode()).hexdigest()


def _listed(every: list[Found]) -> str:
    layers = sorted({found.outputs[0][0] for found in every if found.outputs})
    return f"layers {', '.join(map(str, layers))}" if layers else "SAEs that do not name theirs"
