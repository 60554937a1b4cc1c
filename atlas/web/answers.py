"""Which address of the API is answered by which function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atlas.web.communities import communities, community
from atlas.web.comparisons import heatmap, pairs
from atlas.web.features import feature, neighbours, search
from atlas.web.given import Given
from atlas.web.graph import graph
from atlas.web.lineage import edge, flow, lineage
from atlas.web.overview import overview
from atlas.web.query import query
from atlas.web.sentence import sentence
from atlas.web.viewed import Connection, Viewed

Answer = Callable[[Viewed, Connection, Given], dict[str, Any]]

GETS: dict[str, Answer] = {
    "/api/atlas": overview,
    "/api/search": search,
    "/api/feature": feature,
    "/api/neighbours": neighbours,
    "/api/heatmap": heatmap,
    "/api/pairs": pairs,
    "/api/graph": graph,
    "/api/lineage": lineage,
    "/api/flow": flow,
    "/api/edge": edge,
    "/api/communities": communities,
    "/api/community": community,
}

POSTS: dict[str, Answer] = {
    "/api/sentence": sentence,
    "/api/sql": query,
}
