"""The causal check of links: do features that fire together also act on one another?

Of the stored edges within a model a stratified sample is drawn, the same for the same seed; each
upstream feature is ablated in the running model on reference contexts where both features fire, and
what the downstream one loses is kept in `ablations`, where correlation and effect stand side by
side (view ablation_cards). A larger sample contains the smaller one, and what is kept is not
measured again. The atlas is open only while it is read, and while rows are added link by link.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atlas.errors import BadInput
from atlas.ingest.edge_sample import (
    MEASURES,
    AblationOptions,
    Edge,
    Link,
    Text,
    links_of,
    read_text,
    sample_edges,
)
from atlas.ingest.known import KnownModel, known_models, load_known, load_placed
from atlas.ingest.measuring.ablation import (
    Ablation,
    Effect,
    check_ablatable,
    measure_ablations,
)
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import Placed
from atlas.ingest.text.contexts import Context
from atlas.progress import Progress, Silent, Task
from atlas.runs import add_run, made_with, now
from atlas.store import Atlas, bring_up_to_date, check_writable

__all__ = ["AblationOptions", "Outcome", "ablate_edges"]

ALGORITHM = 1
"""Raised whenever the same options would yield other numbers."""


@dataclass(frozen=True)
class Outcome:
    """What was asked for is in the atlas now."""

    pairs: tuple[tuple[int, int], ...]
    """Feature ids of the edges of the sample, upstream and downstream; fewer than n_edges where
    there are no more."""
    n_added: int
    """How many of them were not there before."""


def ablate_edges(
    path: Path,
    name: str | None = None,
    options: AblationOptions | None = None,
    *,
    progress: Progress | None = None,
    wait: float = 0.0,
) -> Outcome:
    """Measure a sample of edges causally: rows of `ablations`.

    name: a model, an SAE or a pattern of SAEs' names, which both SAEs of a link must fit; None: the
        whole atlas. Links count that lead from a layer to a later one of the same model.
    wait: seconds to wait while another process holds the file.

    The n-th edge of every stratum (link and tenth of the measure) is drawn before the (n + 1)-th of
    any. Models are loaded from where the atlas has them from. NotFound for names that the atlas
    does not hold; BadInput where nothing is linked, an upstream dictionary is no SAE, or a model is
    not to be had.
    """
    options = _checked(options or AblationOptions())
    bring_up_to_date(path, wait)
    with Atlas.open(path, wait=wait) as atlas:
        links = links_of(atlas, name, path)
        sample = sample_edges(atlas, links, options)
        kept = _kept(atlas)
        known = known_models(atlas)
    missing: dict[Link, list[Edge]] = {}
    for link, edge in sample:
        if (_plan(link, options), *edge) not in kept:
            missing.setdefault(link, []).append(edge)
    n_missing = sum(map(len, missing.values()))
    if missing:
        check_writable(path)
        with (progress or Silent()).task("ablating", None, "contexts") as task:
            by_model = itertools.groupby(sorted(missing, key=_order), lambda link: link.model)
            for model_name, some in by_model:
                todo = [(link, missing[link]) for link in some]
                _measure_model(path, model_name, known[model_name], todo, options, task, wait)
    return Outcome(tuple((edge.a, edge.b) for _, edge in sample), n_missing)


def _order(link: Link) -> tuple[str, int]:
    return link.model, link.link_id


def _checked(options: AblationOptions) -> AblationOptions:
    if options.measure not in MEASURES:
        raise BadInput(
            f"Edges have no measure {options.measure!r}; use one of {', '.join(MEASURES)}."
        )
    if options.n_edges < 1 or options.contexts < 1:
        raise BadInput("A causal check needs at least one edge and one context; ask for more.")
    return options


def _plan(link: Link, options: AblationOptions) -> str:
    """Identity of all that an edge's numbers depend on, beside the edge itself."""
    decides = [ALGORITHM, link.sha256s, link.context, options.contexts, options.seed]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _kept(atlas: Atlas) -> set[tuple[str, int, int]]:
    """(plan, feature, feature) of all that the atlas holds."""
    rows = atlas.rows("select plan, feature_a, feature_b from ablations join runs using (run_id)")
    return {(plan, a, b) for plan, a, b in rows}


def _measure_model(
    path: Path,
    name: str,
    known: KnownModel,
    todo: Sequence[tuple[Link, list[Edge]]],
    options: AblationOptions,
    task: Task,
    wait: float,
) -> None:
    with Atlas.open(path, wait=wait) as atlas:
        for link, _ in todo:
            check_ablatable(load_placed(atlas, link.sae_a), link.sae_a)
    model = load_known(name, known, options.device, path)
    for link, edges in todo:
        started_at = now()
        task.note(f"{link.sae_a} → {link.sae_b}")
        with Atlas.open(path, wait=wait) as atlas:
            upstream, downstream = (
                (sites, weights.to(model.device))
                for sites, weights in (
                    load_placed(atlas, link.sae_a),
                    load_placed(atlas, link.sae_b),
                )
            )
            text = read_text(atlas, link, edges, options)
        effects = _measure(model, upstream, downstream, link, edges, text, task)
        with Atlas.open(path, write=True, wait=wait) as atlas, atlas.transaction():
            _add(atlas, link, edges, effects, options, model, started_at)


def _measure(
    model: LanguageModel,
    upstream: Placed,
    downstream: Placed,
    link: Link,
    edges: Sequence[Edge],
    text: Text,
    task: Task,
) -> list[Effect]:
    contexts = [Context(ids, model.bos_id, -1, link.context) for ids in text.windows]
    ablations = [
        Ablation(edge.a - link.first_a, edge.b - link.first_b, least, of)
        for edge, least, of in zip(edges, text.least, text.of_edge, strict=True)
    ]
    return measure_ablations(model, upstream, downstream, ablations, contexts, task.advance)


def _add(
    atlas: Atlas,
    link: Link,
    edges: Sequence[Edge],
    effects: Sequence[Effect],
    options: AblationOptions,
    model: LanguageModel,
    started_at: datetime.datetime,
) -> None:
    import pyarrow as pa

    run_id = add_run(
        atlas,
        "ablate",
        _plan(link, options),
        asdict(options) | {"sae_a": link.sae_a, "sae_b": link.sae_b},
        {"device": str(model.device)} | made_with("numpy", "torch", "transformers"),
        started_at,
        seed=options.seed,
    )
    means = [
        (one.before / one.n_tokens, one.after / one.n_tokens) if one.n_tokens else None
        for one in effects
    ]
    columns = {
        "run_id": pa.array([run_id] * len(edges), pa.int32()),
        "feature_a": pa.array([edge.a for edge in edges], pa.int64()),
        "feature_b": pa.array([edge.b for edge in edges], pa.int64()),
        "n_tokens": pa.array([one.n_tokens for one in effects], pa.int64()),
        "mean_before": pa.array([one and one[0] for one in means], pa.float64()),
        "mean_after": pa.array([one and one[1] for one in means], pa.float64()),
        "effect": pa.array([one and one[0] - one[1] for one in means], pa.float64()),
    }
    atlas.insert("ablations", pa.table(columns))
