"""Features of one meaning: those whose strongest words are keywords of a category."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atlas.compare.top_texts import rows_of
from atlas.errors import BadInput, NotFound

if TYPE_CHECKING:
    import duckdb


def members(
    con: duckdb.DuckDBPyConnection,
    sae_id: int,
    n_top: int = 5,
    categories: Collection[str] | None = None,
    least: int = 1,
) -> dict[str, NDArray[np.int64]]:
    """Indices of the features of each category, ascending; categories by name, also empty ones.

    n_top, least: at least `least` of a feature's `n_top` strongest words are keywords of the
    category. 5 and 1 is the rule of Lan et al. (arXiv 2410.06981), there over tokens.
    categories: those asked for, NotFound if one is not in the atlas; None for all.

    The same features as those of the SQL macro `category_features`.
    """
    if not 1 <= least <= n_top:
        raise BadInput(
            f"Of {n_top} strongest words at least 1 and at most {n_top} can be asked for, not "
            f"{least}."
        )
    names = known_categories(con, categories)
    found: dict[str, list[int]] = {name: [] for name in names}
    rows = rows_of(
        con,
        "select category, index from _category_hits([$sae], $n, $least) join features using"
        " (feature_id) order by all",
        {"sae": sae_id, "n": n_top, "least": least},
    )
    for category, index in rows:
        if category in found:
            found[category].append(index)
    return {category: np.array(indices, np.int64) for category, indices in found.items()}


def known_categories(
    con: duckdb.DuckDBPyConnection, asked: Collection[str] | None = None
) -> list[str]:
    """The atlas's categories by name, or those `asked` for; NotFound where one is not there."""
    known = [
        name for (name,) in rows_of(con, "select distinct category from categories order by 1")
    ]
    if asked is None:
        return known
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"the nearest are {', '.join(near)}" if near else "`atlas categories` lists them"
            raise NotFound(f"There is no category {name!r} in this atlas; {hint}.")
    return [name for name in known if name in asked]
