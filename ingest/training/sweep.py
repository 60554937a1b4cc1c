"""Which SAEs one training makes: every architecture with every width, sparsity and layer asked for.

An SAE's name tells it from its siblings and no more: to `model/layer-hook` come the architecture
where it is not plain TopK or there are several, the width and the sparsity where there are several.
A crosscoder's tells the layers and the other models that it reads: 'crosscoder-with-gpt2=0to3'.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from atlas.errors import BadInput
from atlas.ingest.plan import (
    IngestOptions,
    PlannedSae,
    Point,
    parse_count,
    parse_hooks,
    parse_list,
    parse_settings,
    parse_width,
)
from atlas.ingest.training.architectures import ARCHITECTURES, Architecture
from atlas.ingest.training.architectures.settings import COMMON
from atlas.names import SaeName

MEMBERS = 2
"""SAEs that feature-aligned training trains together."""

STRATEGIES = {
    "layer-group": "=2: so many groups of similar, contiguous layers, each with one SAE that its "
    "layers share (Ghilardi et al. 2024, arXiv 2410.21508)",
    "feature-aligned": "=0.1: two SAEs at a time, with a reward of that weight for directions that "
    "both learn (Marks et al. 2024, arXiv 2411.01220)",
    "end-to-end": "=0.5: for that share of the training, at its end, the loss is also how far the "
    "model's predictions change (Braun et al. 2024, arXiv 2405.12241; Karvonen 2025, arXiv "
    "2503.17272)",
}
"""Ways of training that any architecture can be combined with, each with its number's default."""

_DEFAULTS = {"layer-group": 2.0, "feature-aligned": 0.1, "end-to-end": 0.5}


@dataclass(frozen=True)
class Strategy:
    """A way of training."""

    name: str
    value: float

    def __str__(self) -> str:
        return f"{self.name}={self.value:g}"


def parse_strategy(text: str | None) -> Strategy | None:
    """'layer-group=3' → its name and number; BadInput if there is no such strategy."""
    if text is None:
        return None
    name, equals, number = text.partition("=")
    if name not in STRATEGIES:
        raise BadInput(f"--strategy {text!r} is none of {', '.join(STRATEGIES)}.")
    value = _DEFAULTS[name]
    if equals:
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        whole = name != "layer-group" or value.is_integer()
        if not (0 < value < math.inf and whole) or (name == "end-to-end" and value > 1):
            raise BadInput(f"--strategy {text!r}: {number!r} is no number that {name} can take.")
    return Strategy(name, value)


def parse_architectures(text: str) -> tuple[Architecture, ...]:
    """The registry's entries of names separated by commas; BadInput where one is unknown."""
    names = parse_list(text, "--arch")
    for name in names:
        if name not in ARCHITECTURES:
            raise BadInput(
                f"There is no SAE architecture {name!r}; `atlas ingest --arch list` tells all, "
                f"which are {', '.join(ARCHITECTURES)}."
            )
    return tuple(ARCHITECTURES[name] for name in names)


def sweep(
    options: IngestOptions,
    model: str,
    layers: Sequence[int],
    width: Callable[[Point], int],
    partners: Mapping[str, Sequence[int]] | None = None,
) -> tuple[PlannedSae, ...]:
    """All SAEs of a training, layer by layer.

    width: of the activations at a layer and hook. partners: layers of other models, by their names.
    """
    partners = partners or {}
    architectures = parse_architectures(options.arch)
    widths = parse_list(options.width, "--width")
    ks = [parse_count(k, "--k") for k in parse_list(options.k, "--k")]
    strategy = parse_strategy(options.strategy)
    settings = parse_settings(options.settings)
    known = {name for architecture in architectures for name in architecture.settings} | set(COMMON)
    for name in settings:
        if name not in known:
            raise BadInput(
                f"--set {name}: no architecture of --arch {options.arch} has that setting; they "
                f"have {', '.join(sorted(known))}."
            )
    _check_strategy(strategy, architectures, layers)
    if partners and any(architecture.reads != "several" for architecture in architectures):
        raise BadInput(
            f"--with is for crosscoders, which --arch {options.arch} is not; leave it out, or give "
            "--arch crosscoder."
        )
    n_copies = MEMBERS if strategy is not None and strategy.name == "feature-aligned" else 1
    planned = []
    for architecture, copy in itertools.product(architectures, range(n_copies)):
        for inputs, outputs, place in _sites(architecture, options.hook, layers, bool(partners)):
            beside = tuple(
                (name, (layer, place[1])) for name, chosen in partners.items() for layer in chosen
            )
            for size, k in itertools.product(widths, ks):
                d_sae = parse_width(size, width(inputs[0]))
                if k > d_sae:
                    raise BadInput(
                        f"--k {k} is more than the {d_sae} features of --width {size}; lower it."
                    )
                ending = [
                    options.variant,
                    architecture.name
                    if len(architectures) > 1 or architecture.name != "topk"
                    else None,
                    _range([layer for layer, _ in inputs]) if len(inputs) > 1 else None,
                    *(f"with-{_plain(name)}={_range(of)}" for name, of in partners.items()),
                    f"w{d_sae}" if len(widths) > 1 else None,
                    f"k{k}" if len(ks) > 1 else None,
                    f"group{strategy.value:g}"
                    if strategy is not None and strategy.name == "layer-group"
                    else None,
                    "e2e" if strategy is not None and strategy.name == "end-to-end" else None,
                    f"aligned{copy + 1}" if n_copies > 1 else None,
                ]
                variant = "-".join(filter(None, ending)) or None
                has = (*COMMON, *architecture.settings)
                own = {name: settings[name] for name in has if name in settings}
                planned.append(
                    PlannedSae(
                        SaeName(model, place[0], place[1], variant),
                        inputs,
                        outputs,
                        architecture.name,
                        d_sae,
                        k,
                        tuple(sorted(own.items())),
                        partners=beside,
                    )
                )
    names = [str(one.name) for one in planned]
    if len(set(names)) < len(names):
        raise BadInput(
            "Two SAEs of this sweep would have one name; give each --width and --k once."
        )
    return tuple(sorted(planned, key=lambda one: one.name.layer))


def _sites(
    architecture: Architecture, hooks: str, layers: Sequence[int], has_partners: bool
) -> list[tuple[tuple[Point, ...], tuple[Point, ...], Point]]:
    """Per dictionary what it reads, what it writes, and the layer and hook in its name."""
    first, second = parse_hooks(hooks)
    if architecture.reads == "another":
        first, second = (first, second) if second else ("mlp_in", "mlp_out")
        return [(((at, first),), ((at, second),), (at, second)) for at in layers]
    if second is not None:
        raise BadInput(
            f"--hook {hooks}: {architecture.name} reconstructs what it reads; give one hook, or a "
            "transcoder."
        )
    if architecture.reads == "several":
        if len(layers) < 2 and not has_partners:
            raise BadInput(
                f"{architecture.name} needs at least two --layers, or another model --with it."
            )
        points = tuple((at, first) for at in layers)
        return [(points, points, points[0])]
    return [(((at, first),), ((at, first),), (at, first)) for at in layers]


def _range(layers: Sequence[int]) -> str:
    """'0to4', or '0+2+4' where layers are left out."""
    whole = len(layers) > 1 and list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}to{layers[-1]}" if whole else "+".join(map(str, layers))


def _plain(model: str) -> str:
    """A model's name in the characters that a variant may have."""
    return re.sub(r"[^\w.+=-]", "_", model)


def _check_strategy(
    strategy: Strategy | None, architectures: Sequence[Architecture], layers: Sequence[int]
) -> None:
    if strategy is None:
        return
    for architecture in architectures:
        if architecture.reads != "itself":
            raise BadInput(
                f"--strategy {strategy} is for SAEs that reconstruct what they read, not for "
                f"{architecture.name}."
            )
    if strategy.name == "layer-group" and not 1 <= strategy.value < len(layers):
        raise BadInput(
            f"--strategy {strategy}: {len(layers)} layers make 1 to {len(layers) - 1} groups."
        )
