"""Communities of features over all layers: finds them in the graph of links and keeps them.

The graph has the features of all SAEs of one model, hook and variant, and an edge from a feature
to one of the next layer where a measure of the two is at least so much, weighted by it. A feature
without an edge is in no community. The atlas is open only while edges are read and while rows are
added; a clustering is there wholly or not at all.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atlas.errors import BadInput, NotFound
from atlas.lineage.agreement import adjusted_mutual_information
from atlas.lineage.clusterings import delete_clusterings
from atlas.lineage.community_labels import label_communities
from atlas.lineage.measures import MEASURES
from atlas.lineage.partition import METHODS, Graph, Labels, Method, partition, quality
from atlas.progress import Progress, Silent, Task
from atlas.runs import add_run, made_with, now
from atlas.store import Atlas, bring_up_to_date, check_writable, told

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

ALGORITHM = 1
"""Raised whenever the same options would yield other communities."""

_STRONG = "list_contains(?::integer[], link_id) and {measure} >= ? and {measure} > 0"
"""Which edges are the graph's, given the chain's links and the threshold."""

USUAL_RESOLUTION: dict[Method, float | None] = {
    "leiden_modularity": 1.0,
    "leiden_cpm": 0.1,
    "louvain": 1.0,
    "components": None,
}


@dataclass(frozen=True)
class ClusterOptions:
    """Which communities are wanted."""

    methods: tuple[Method, ...] = ("leiden_modularity",)
    resolution: float | None = None
    """Above 0, the higher the smaller communities are; None: `USUAL_RESOLUTION` of the method."""
    measure: str = "pearson"
    at_least: float = 0.1
    """The least value of the measure that makes an edge; the default is the paper's."""
    seed: int = 0
    reruns: int = 5
    """With how many other seeds the communities are compared, for `stability`."""


@dataclass(frozen=True)
class Outcome:
    """What was asked for is in the atlas now."""

    clustering_ids: tuple[int, ...]
    """Of every clustering asked for, by model, hook and variant, then in the order of methods."""
    n_added: int
    """How many of them were not there before."""


class _Chain(NamedTuple):
    """The SAEs of one model, hook and variant, and the links from each to the next one."""

    model_id: int
    hook: str
    variant: str | None
    name: str
    """For the reader: 'stories260k resid_post'."""
    links: tuple[int, ...]
    """As far as there are any."""
    apart: tuple[str, str] | None
    """The first two neighbours that are not linked."""
    content: str
    """What the SAEs and their links hold, as text."""


class _Job(NamedTuple):
    chain: _Chain
    method: Method
    resolution: float | None
    seed: int | None
    """None where nothing is random."""
    plan: str
    """Identity of the result: a hash of all that decides it."""


@dataclass(frozen=True)
class _Found:
    """A clustering that was computed and is not yet kept."""

    job: _Job
    feature_id: NDArray[np.int64]
    labels: Labels
    quality: float | None
    stability: float | None
    communities: list[tuple[int, str | None, int]]
    started_at: datetime.datetime


def cluster(
    path: Path,
    name: str | None = None,
    options: ClusterOptions | None = None,
    *,
    progress: Progress | None = None,
    wait: float = 0.0,
) -> Outcome:
    """Find the communities of linked layers: rows of `clusterings`, `communities` and their labels.

    name: a model, an SAE or a pattern of SAEs' names; of whatever model, hook and variant it
        touches, all layers take part. None: of the whole atlas. Those of which no two layers are
        linked are left out, if others are.
    wait: seconds to wait while another process holds the file.

    What is kept is not computed again, unless links or options that decide it have changed; then it
    is replaced and keeps its id. NotFound for names that the atlas does not hold, BadInput where
    neighbouring layers are not linked or no edge is strong enough.
    """
    options = _checked(options or ClusterOptions())
    bring_up_to_date(path, wait)
    with Atlas.open(path, wait=wait) as atlas:
        chains = _chains(atlas, name)
        _check_linked(chains, name, path)
        chains = [chain for chain in chains if chain.apart is None]
        for chain in chains:
            if not _has_edges(atlas.cursor(), chain, options):
                raise BadInput(
                    f"No two features of neighbouring layers of {chain.name} have a "
                    f"{options.measure} of {options.at_least:g}; give a lower threshold."
                )
    return _cluster(path, chains, options, progress or Silent(), wait)


def cluster_linked(
    path: Path, names: Iterable[str | None], *, progress: Progress | None = None, wait: float = 0.0
) -> Outcome:
    """Find communities as `cluster` does by default, wherever all layers are linked.

    names: as in `cluster`. Nothing happens where layers are not linked, or have no edge.
    """
    options = ClusterOptions()
    with Atlas.open(path, wait=wait) as atlas:
        touched = [chain for name in names for chain in _chains(atlas, name)]
        chains = [
            chain
            for chain in dict.fromkeys(touched)
            if chain.apart is None and _has_edges(atlas.cursor(), chain, options)
        ]
    return _cluster(path, chains, options, progress or Silent(), wait)


def _cluster(
    path: Path, chains: Sequence[_Chain], options: ClusterOptions, progress: Progress, wait: float
) -> Outcome:
    with Atlas.open(path, wait=wait) as atlas:
        jobs = [job for chain in chains for job in _jobs(chain, options)]
        kept = _kept(atlas)
    missing = [job for job in jobs if job.plan not in kept]
    if missing:
        check_writable(path)
        with progress.task("clustering", len(missing), "clusterings") as task:
            _make(path, missing, options, task, wait)
        with Atlas.open(path, wait=wait) as atlas:
            kept = _kept(atlas)
    return Outcome(tuple(kept[job.plan] for job in jobs), len(missing))


def _checked(options: ClusterOptions) -> ClusterOptions:
    unknown = [method for method in options.methods if method not in METHODS]
    if unknown:
        raise BadInput(
            f"There is no method {unknown[0]!r} for communities; use {', '.join(METHODS)}."
        )
    if options.measure not in MEASURES:
        raise BadInput(
            f"Edges have no measure {options.measure!r}; use one of {', '.join(MEASURES)}."
        )
    if options.resolution is not None and not options.resolution > 0:
        raise BadInput(f"A resolution of {options.resolution:g} is too low; give one above 0.")
    if options.at_least < 0:
        raise BadInput("Edges of communities need a weight; give a threshold of 0 or more.")
    return options


def _chains(atlas: Atlas, name: str | None) -> list[_Chain]:
    """Every chain of at least two SAEs that `name` touches."""
    with told(NotFound):
        rows = (
            atlas.cursor()
            .execute(
                """
                select
                    steps.model_id,
                    steps.hook,
                    steps.variant,
                    concat_ws(' ', models.name, steps.hook, steps.variant),
                    list(steps.link_id order by steps.place)
                        filter (steps.link_id is not null),
                    arg_min((steps.sae, steps.next_sae), steps.place)
                        filter (steps.next_sae is not null and steps.link_id is null),
                    list((saes.sha256, links.min_joint, links.n, links.n_pairs)
                        order by steps.place)::varchar
                from _layer_links as steps
                join saes on saes.sae_id = steps.sae_id
                join models on models.model_id = steps.model_id
                left join links on links.link_id = steps.link_id
                group by all
                having count(*) > 1
                and bool_or(list_contains((select saes_in(?)), steps.sae_id))
                order by steps.model_id, steps.hook, steps.variant nulls first
                """,
                [name],
            )
            .fetchall()
        )
    return [
        _Chain(model_id, hook, variant, of, tuple(links or ()), apart, content)
        for model_id, hook, variant, of, links, apart, content in rows
    ]


def _check_linked(chains: Sequence[_Chain], name: str | None, path: Path) -> None:
    if not chains:
        raise BadInput(
            f"No two layers of {path if name is None else repr(name)} have SAEs of one model, hook "
            "and variant; communities need at least two."
        )
    begun = [chain for chain in chains if chain.links] or chains
    for chain in begun:
        if chain.apart is not None:
            sae, following = chain.apart
            raise BadInput(
                f"{sae} and {following} are not linked yet; run `atlas link {path} "
                f"{sae.split('/')[0]}` first."
            )


def _has_edges(con: duckdb.DuckDBPyConnection, chain: _Chain, options: ClusterOptions) -> bool:
    row = con.execute(
        f"select 1 from edges where {_STRONG.format(measure=options.measure)} limit 1",
        [list(chain.links), options.at_least],
    ).fetchone()
    return row is not None


def _jobs(chain: _Chain, options: ClusterOptions) -> list[_Job]:
    jobs = []
    for method in dict.fromkeys(options.methods):
        random = method != "components"
        resolution = options.resolution or USUAL_RESOLUTION[method]
        resolution, seed = (resolution, options.seed) if random else (None, None)
        decides = [
            ALGORITHM,
            [chain.model_id, chain.hook, chain.variant, chain.content],
            [method, resolution, options.measure, options.at_least],
            [seed, options.reruns if random else 0],
        ]
        plan = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
        jobs.append(_Job(chain, method, resolution, seed, plan))
    return jobs


def _kept(atlas: Atlas) -> dict[str, int]:
    """Plan → clustering_id of all that the atlas holds."""
    return dict(atlas.rows("select plan, clustering_id from clusterings join runs using (run_id)"))


def _make(
    path: Path, jobs: Sequence[_Job], options: ClusterOptions, task: Task, wait: float
) -> None:
    graphs: dict[_Chain, tuple[NDArray[np.int64], Graph]] = {}
    for job in jobs:
        task.note(f"{job.chain.name}, {job.method}")
        started_at = now()
        if job.chain not in graphs:
            with Atlas.open(path, wait=wait) as atlas:
                graphs = {job.chain: _read_graph(atlas.cursor(), job.chain, options)}
        feature_id, graph = graphs[job.chain]
        labels, stability = _partitioned(graph, job, options.reruns)
        with Atlas.open(path, wait=wait) as atlas:
            communities = label_communities(atlas.cursor(), feature_id, labels)
        worth = quality(graph, labels, job.method, job.resolution or 0.0)
        found = _Found(job, feature_id, labels, worth, stability, communities, started_at)
        with Atlas.open(path, write=True, wait=wait) as atlas, atlas.transaction():
            _add(atlas, found, options)
        task.advance(1)


def _read_graph(
    con: duckdb.DuckDBPyConnection, chain: _Chain, options: ClusterOptions
) -> tuple[NDArray[np.int64], Graph]:
    """Ids of the features with an edge, ascending, and the graph of which they are the nodes."""
    measure = options.measure
    edges = con.execute(
        f"""
        select feature_id_a, feature_id_b, {measure}
        from edges
        where {_STRONG.format(measure=measure)}
        order by feature_id_a, feature_id_b
        """,
        [list(chain.links), options.at_least],
    ).fetchnumpy()
    a, b, weight = edges.values()
    feature_id, node = np.unique(np.concatenate([a, b]), return_inverse=True)
    source, target = np.split(node, 2)
    return feature_id, Graph(len(feature_id), source, target, np.asarray(weight, np.float64))


def _partitioned(graph: Graph, job: _Job, reruns: int) -> tuple[Labels, float | None]:
    """The communities, and how far those of other seeds agree with them on average."""
    resolution = job.resolution or 0.0
    if job.seed is None:
        return partition(graph, job.method, resolution, 0), None
    labels = partition(graph, job.method, resolution, job.seed)
    agreements = [
        adjusted_mutual_information(labels, partition(graph, job.method, resolution, seed))
        for seed in range(job.seed + 1, job.seed + 1 + reruns)
    ]
    return labels, float(np.mean(agreements)) if agreements else None


def _add(atlas: Atlas, found: _Found, options: ClusterOptions) -> None:
    """Rows of one clustering; in place of an earlier one of the same parameters, under its id."""
    import pyarrow as pa

    job, chain = found.job, found.job.chain
    same = {
        "model_id": chain.model_id,
        "hook": chain.hook,
        "variant": chain.variant,
        "method": job.method,
        "resolution": job.resolution,
        "measure": options.measure,
        "at_least": options.at_least,
        "seed": job.seed,
    }
    replaced = delete_clusterings(atlas, same)
    clustering_id = replaced[0] if replaced else _id_of(atlas, same)
    run_id = _add_run(atlas, found, options, {"clustering_id": clustering_id, "of": same})
    row: dict[str, Any] = {"clustering_id": clustering_id, "run_id": run_id, **same}
    row |= {
        "n_communities": len(found.communities),
        "quality": found.quality,
        "stability": found.stability,
    }
    values = ", ".join(f"${column} as {column}" for column in row)
    atlas.execute(f"insert into clusterings by name select {values}", row)
    order = np.lexsort((found.feature_id, found.labels))
    rows = {"community": found.labels[order], "feature_id": found.feature_id[order]}
    numbered = f"{clustering_id} as clustering_id, *"
    atlas.insert("communities", pa.table(rows), numbered)
    community, label, n_features = zip(*found.communities, strict=True)
    columns = [
        pa.array(community, pa.int32()),
        pa.array(label, pa.string()),
        pa.array(n_features, pa.int64()),
    ]
    labels = pa.table(columns, ["community", "label", "n_features"])
    atlas.insert("community_labels", labels, numbered)


def _id_of(atlas: Atlas, same: dict[str, Any]) -> int:
    """The id that a clustering of these parameters had before other links deleted it, or a new one.

    An id that a reader has noted never comes to mean another clustering.
    """
    configs = atlas.rows("select config from runs where command = 'communities' order by run_id")
    runs = [json.loads(config) for (config,) in configs]
    earlier = [run["clustering_id"] for run in runs if run.get("of") == same]
    if earlier:
        return int(earlier[-1])
    known = [one for (one,) in atlas.rows("select clustering_id from clusterings")]
    return 1 + max([*known, *(run.get("clustering_id", -1) for run in runs)], default=-1)


def _add_run(atlas: Atlas, found: _Found, options: ClusterOptions, result: dict[str, Any]) -> int:
    """result: what the clustering has got for its identity, for `_id_of`."""
    config = asdict(options) | {
        "methods": [found.job.method],
        "resolution": found.job.resolution,
        "seed": found.job.seed,
        **result,
    }
    return add_run(
        atlas,
        "communities",
        found.job.plan,
        config,
        made_with("numpy", "scipy", "graspologic-native", "networkx"),
        found.started_at,
        seed=found.job.seed,
    )
