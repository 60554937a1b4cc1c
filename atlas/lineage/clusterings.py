"""Deletes clusterings: all rows of the three tables that hold them."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.store import Atlas


def delete_clusterings(atlas: Atlas, of: Mapping[str, object]) -> list[int]:
    """Delete the clusterings whose columns have these values, None for null; their ids, ascending.

    of: names of columns of `clusterings`, which enter SQL, with their values.
    """
    where = " and ".join(f"{column} is not distinct from ${column}" for column in of)
    rows = atlas.rows(
        f"select clustering_id from clusterings where {where} order by clustering_id", dict(of)
    )
    ids = [clustering_id for (clustering_id,) in rows]
    if ids:
        for table in ("communities", "community_labels", "clusterings"):
            atlas.execute(f"delete from {table} where list_contains(?, clustering_id)", [ids])
    return ids
