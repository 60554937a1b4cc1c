"""/api/heatmap, /api/pairs: how alike the SAEs of two models are, and by which features."""

from __future__ import annotations

from typing import Any

from atlas.errors import NotFound
from atlas.web.given import Given
from atlas.web.viewed import Connection, Viewed, records

_MOST_PAIRS = 1000


def heatmap(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """The stored comparisons of two models' SAEs by one metric: rows of the view universality."""
    asked = {
        "a": given.text("a"),
        "b": given.text("b"),
        "metric": given.optional("metric") or "svcca",
        "subspace": given.optional("subspace") or "all",
    }
    if not viewed.has("universality"):
        raise NotFound(_nothing(viewed, asked))
    rows = records(
        atlas,
        """
        from universality
        where model_a = $a and model_b = $b and metric = $metric and subspace = $subspace
        order by layer_a, layer_b, sae_a, sae_b, run_id desc
        """,
        asked,
    )
    if not rows:
        raise NotFound(_nothing(viewed, asked))
    return {"rows": rows}


def pairs(viewed: Viewed, atlas: Connection, given: Given) -> dict[str, Any]:
    """The paired features of one cell of a heatmap, by falling r."""
    pairing_id = given.integer("pairing_id", -1, -1, 1 << 31)
    found = viewed.has("pairing_cards") and records(
        atlas,
        "select sae_a, sae_b, method, n_pairs from pairing_cards where pairing_id = ?",
        [pairing_id],
    )
    if not found:
        raise NotFound(f"{viewed.path} has no pairing {pairing_id}; see the table pairings.")
    listed = records(
        atlas,
        """
        select
            a.feature as feature_a, label_a.label as label_a,
            b.feature as feature_b, label_b.label as label_b,
            pairs.r, pairs.q
        from (
            from feature_pairs where pairing_id = $pairing
            order by r desc, feature_a, feature_b limit $n
        ) as pairs
        join feature_names as a on a.feature_id = pairs.feature_a
        join feature_names as b on b.feature_id = pairs.feature_b
        left join best_labels as label_a on label_a.feature_id = pairs.feature_a
        left join best_labels as label_b on label_b.feature_id = pairs.feature_b
        order by pairs.r desc, pairs.feature_a, pairs.feature_b
        """,
        {"pairing": pairing_id, "n": given.integer("limit", 200, 1, _MOST_PAIRS)},
    )
    return {**found[0], "pairs": listed}


def _nothing(viewed: Viewed, asked: dict[str, str]) -> str:
    return (
        f"{viewed.path} holds no comparison of {asked['a']} with {asked['b']} by "
        f"{asked['metric']}; make one with `atlas compare {viewed.path} {asked['a']} {asked['b']}`."
    )
