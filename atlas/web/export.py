"""The page in one file: with the answers for some features, and no server behind it."""

from __future__ import annotations

import base64
import datetime
import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from atlas.errors import BadInput, NotFound
from atlas.progress import Progress, Silent
from atlas.rows import to_json
from atlas.store import Atlas
from atlas.web.answers import GETS
from atlas.web.features import neighbours_of
from atlas.web.given import Given
from atlas.web.graph import graph_of
from atlas.web.layered import Layered, layered
from atlas.web.lineage import stored_edges
from atlas.web.measures import AT_LEAST, DEFAULT
from atlas.web.places import Place, places
from atlas.web.viewed import Connection, Viewed, records

MOST_FEATURES = 2000
"""That may be chosen: some 20 kB each, and as many again for those linked with them."""

_LEAST_AROUND = 40
"""Linked features that come along even with a few; with more, as many as these."""
_CONTEXTS = 8
_NEIGHBOURS = 5


@dataclass(frozen=True)
class Exported:
    """What was written."""

    n_chosen: int
    n_around: int
    """Linked features that came along."""
    n_left: int
    """Features that were asked for beyond the limit."""
    n_bytes: int


def export_page(
    atlas: Atlas,
    path: Path,
    *,
    patterns: Sequence[str] = (),
    query: str | None = None,
    most: int = 200,
    similar: bool = True,
    progress: Progress | None = None,
) -> Exported:
    """Write the page for some features and those linked with them to the HTML file `path`.

    patterns: names of features or ids, or patterns of names with `*`; every feature unless given.
    query: SQL with a column `feature` or `feature_id` instead; its order is the features'.
    most: of more features, the first ones; of patterns, those with the best labels.
    similar: whether to look up the nearest features in every model, which needs FAISS's index.

    NotFound where nothing fits, BadInput for a query without such a column.
    """
    viewed = Viewed(atlas)
    with viewed.connect() as connection:
        asked = _asked(connection, patterns, query)
        chosen = asked[:most]
        linked = _linked(viewed, connection, chosen)
        around = linked[: max(_LEAST_AROUND, len(chosen))]
        data = {
            "exported_at": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
            "note": _note(connection, chosen, len(around)),
            "answers": [
                {"path": path, "params": params, "body": body}
                for path, params, body in _answers(
                    viewed, connection, chosen, around, similar, progress or Silent()
                )
            ],
        }
    text = page(to_json(data))
    path.write_text(text, encoding="utf-8", newline="\n")
    return Exported(len(chosen), len(around), len(asked) - len(chosen), path.stat().st_size)


def page(data: str) -> str:
    """The page as one document, with the JSON `data` embedded, that may run nothing else."""
    static = resources.files("atlas.web").joinpath("static")
    html, style, script = (
        static.joinpath(name).read_text("utf-8") for name in ("index.html", "atlas.css", "atlas.js")
    )
    if re.search(r"</script|<!--", script, re.I) or re.search(r"</style", style, re.I):
        raise AssertionError("the page's script or style would end its own element")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    embedded = f'<script type="application/json" id="atlas-data">{_inert(data)}</script>'
    for place, what in (
        (r'<link rel="icon"[^>]*>', ""),
        (r'<link rel="stylesheet"[^>]*>', f"<style>{style}</style>"),
        (r"<script src=[^>]*></script>", ""),
        # First in the head, as it holds for what follows it.
        (r"<head>", f"<head>{meta}"),
        (r"</body>", f"{embedded}\n<script>{script}</script>\n</body>"),
    ):
        parts = re.split(place, html)
        if len(parts) != 2:
            raise AssertionError(f"the page's index.html has no single {place}")
        html = what.join(parts)
    return html


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _inert(data: str) -> str:
    """JSON that no reader of HTML takes for a tag or comment, and none of scripts for a new line.

    All of these can only stand in strings, where the escape means the same.
    """
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return data


def _asked(atlas: Connection, patterns: Sequence[str], query: str | None) -> list[int]:
    """Ids of the features that were asked for, in order."""
    if query is not None:
        return _queried(atlas, query)
    names = [pattern for pattern in patterns if "*" not in pattern]
    globs = [pattern for pattern in patterns if "*" in pattern]
    ids = [atlas.feature_id(name) for name in names]
    if globs or not names:
        rows = atlas.rows(
            """
            select feature_id
            from feature_names
            join features using (feature_id)
            left join best_labels using (feature_id)
            where alive and len(list_filter($globs::varchar[], lambda x: feature glob x)) > 0
            order by score desc nulls last, density desc, feature_id
            """,
            {"globs": globs or ["*"]},
        )
        ids += [feature_id for (feature_id,) in rows]
    if not ids:
        raise NotFound(
            f"No feature in {atlas.path} fits {', '.join(globs)!r}; give names such as "
            "MODEL/3-resid_post/12 or MODEL/3-*."
        )
    return list(dict.fromkeys(ids))


def _queried(atlas: Connection, query: str) -> list[int]:
    rows = records(atlas, query)
    column = next((name for name in ("feature_id", "feature") if rows and name in rows[0]), None)
    if column is None:
        raise BadInput(
            "The query gives no features: it needs rows with a column feature or feature_id."
        )
    return list(dict.fromkeys(atlas.feature_id(row[column]) for row in rows))


def _note(atlas: Connection, chosen: list[int], n_around: int) -> str:
    first = atlas.feature_name(chosen[0])
    names = first if len(chosen) == 1 else f"{first} and {len(chosen) - 1:,} other features"
    return f"{names}, with {n_around:,} linked to them" if n_around else names


def _linked_places(viewed: Viewed, atlas: Connection) -> list[Place]:
    return [place for place in places(viewed, atlas) if place.links]


def _linked(viewed: Viewed, atlas: Connection, chosen: list[int]) -> list[int]:
    """Features on the strongest way from a chosen one to the first and last layer, nearest first.

    A way ends where no edge is strong enough to be drawn; a feature is as near as the weakest
    edge before it.
    """
    found: dict[int, float] = {}
    for place in _linked_places(viewed, atlas):
        if not any(place.index_of(feature_id) is not None for feature_id in chosen):
            continue
        whole = layered(viewed, atlas, place, DEFAULT)
        starts = [node for one in chosen if (node := whole.node_of(one)) is not None]
        for start, direction in itertools.product(starts, ("up", "down")):
            for node, nearness in _way(whole, start, direction):
                feature_id = int(whole.feature_id[node])
                found[feature_id] = max(found.get(feature_id, 0.0), nearness)
    inside = set(chosen)
    ranked = sorted(found, key=lambda feature_id: (-found[feature_id], feature_id))
    return [feature_id for feature_id in ranked if feature_id not in inside]


def _way(whole: Layered, node: int, direction: str) -> Iterator[tuple[int, float]]:
    """The nodes that the strongest edge leads to, again and again, and the weakest edge so far."""
    nearness = math.inf
    while edges := whole.edges_of(node, direction):
        a, b, value = max(edges, key=lambda edge: edge[2])
        nearness = min(nearness, value)
        if nearness < AT_LEAST[DEFAULT]:
            return
        node = b if direction == "down" else a
        yield node, nearness


def _answers(
    viewed: Viewed,
    atlas: Connection,
    chosen: list[int],
    around: list[int],
    similar: bool,
    progress: Progress,
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """(path, parameters, answer) of everything that the page may ask about these features."""

    def answer(path: str, **asked: Any) -> tuple[str, dict[str, Any], Any]:
        return path, asked, GETS[path](viewed, atlas, Given(asked))

    held = chosen + around
    overview = answer("/api/atlas")[2]
    # Where the file lay is nobody's business, and no server will run anything.
    yield "/api/atlas", {}, {**overview, "path": atlas.path.name, "sentence": []}
    for one in overview["comparisons"]:
        if one["subspace"] == "all":
            yield answer("/api/heatmap", a=one["model_a"], b=one["model_b"], metric=one["metric"])
    communities: set[tuple[int, int]] = set()
    with progress.task("features", len(held), "features") as task:
        near = neighbours_of(atlas, chosen, _NEIGHBOURS) if similar else {}
        for feature_id in held:
            asked = {"name": atlas.feature_name(feature_id)}
            body = GETS["/api/feature"](viewed, atlas, Given({**asked, "contexts": _CONTEXTS}))
            communities |= {(one["clustering_id"], one["community"]) for one in body["communities"]}
            yield "/api/feature", asked, body
            yield answer("/api/lineage", **asked)
            if feature_id in near:
                yield "/api/neighbours", asked, near[feature_id]
            task.advance(1)
    for place in _linked_places(viewed, atlas):
        mine = {one for one in held if place.index_of(one) is not None}
        if mine:
            where = {"model": place.model, "hook": place.hook, "variant": place.variant}
            drawn = graph_of(viewed, atlas, place, DEFAULT, mine)
            yield "/api/graph", {**where, "measure": DEFAULT}, drawn
            yield answer("/api/flow", **where)
            for edge in stored_edges(atlas, [(one["a"], one["b"]) for one in drawn["edges"]]):
                ends = {"a": edge["feature_a"], "b": edge["feature_b"]}
                yield "/api/edge", ends, edge
    for clustering in sorted({one for one, _ in communities}):
        yield answer("/api/communities", clustering=clustering)
    for clustering, community in sorted(communities):
        yield answer("/api/community", clustering=clustering, id=community)
