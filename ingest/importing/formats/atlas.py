"""Another atlas: its SAEs exactly as they are, each with its model, hook points and measurements.

Recognised by content, whatever its name: a DuckDB file that is named by itself. A folder is not
searched for atlases, since the one to be written may lie there. It is opened for reading only.

Weights, hook points and the hash of the model's weights are the tables', so nothing is folded and
nothing assumed. Metrics that publishers state are `declared` as they were measured there, on the
reference corpus of that atlas.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from atlas.errors import BadInput
from atlas.ingest.importing.formats.found import Format, Found, Origin, Place, Source
from atlas.names import SaeName
from atlas.sae import SaeWeights
from atlas.store import Atlas
from atlas.stored import load_weights

_Row = dict[str, Any]

_NAME = "atlas"

_DECLARED = (
    "l0",
    "dead_share",
    "explained_variance",
    "mse",
    "cosine",
    "l2_ratio",
    "ce_recovered",
)
"""Metrics that publishers state."""

_SOUND = ("conforms", "undeclared")

_SAES = """
    select
        saes.sae_id, saes.name, saes.layer, saes.hook, saes.variant, saes.architecture, saes.d_in,
        saes.d_sae, saes.d_out, saes.sha256, saes.source, saes.context, saes.train_tokens,
        saes.held_out, saes.quality, saes.conventions, models.name as model,
        models.sha256 as model_sha256, corpora.name as corpus, corpora.sha256 as corpus_sha256
    from saes
    join models using (model_id)
    join corpora on corpora.corpus_id = 0
    order by saes.sae_id
"""

_SITES = """
    select
        sae_sites.sae_id, sae_sites.role, sae_sites.layer, sae_sites.hook,
        if(sae_sites.model_id = saes.model_id, null, models.name) as other_model
    from sae_sites
    join saes using (sae_id)
    join models on models.model_id = sae_sites.model_id
    order by sae_sites.sae_id, sae_sites.role, sae_sites.place
"""

_METRICS = "select sae_id, metric, value from sae_metrics order by sae_id, metric"

_COURSE = "select sae_id, tokens, metric, value from training_records order by all"


def _detect(source: Source) -> list[Found]:
    if len(source.files) != 1:
        return []
    path = source.root / source.files[0]
    if not _is_database(path):
        return []
    with Atlas.open(path, wait=source.wait) as atlas:
        if atlas.meta("format") == "1":
            raise BadInput(
                f"{source.name} has format 1, which lacks a part of what an SAE is; bring it or a "
                "copy of it up to date with `atlas link`, which writes to it."
            )
        saes = _rows(atlas, _SAES)
        sites, metrics, courses = (
            _by_sae(_rows(atlas, query)) for query in (_SITES, _METRICS, _COURSE)
        )
    if not saes:
        raise BadInput(f"{source.name} is an atlas without SAEs; name one that has some.")
    return [
        _found(source, path, sae, *(rows[sae["sae_id"]] for rows in (sites, metrics, courses)))
        for sae in saes
    ]


def _is_database(path: Path) -> bool:
    """Whether it is a DuckDB file: a checksum of 8 bytes, then 'DUCK'."""
    try:
        with path.open("rb") as stream:
            return stream.read(12)[8:] == b"DUCK"
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error}); check its permissions.") from error


def _rows(atlas: Atlas, query: str) -> list[_Row]:
    rows: list[_Row] = atlas.sql(query).to_arrow_table().to_pylist()
    return rows


def _by_sae(rows: list[_Row]) -> defaultdict[int, list[_Row]]:
    found = defaultdict(list)
    for row in rows:
        found[row["sae_id"]].append(row)
    return found


def _found(
    source: Source,
    path: Path,
    sae: _Row,
    sites: list[_Row],
    metrics: list[_Row],
    course: list[_Row],
) -> Found:
    before = json.loads(sae["conventions"]) if sae["conventions"] else None
    flagged = _flagged(sae["quality"], before)
    published = {name: sae[name] for name in ("name", "sha256", "source", "context")}
    published |= {"reference": {name: sae[name] for name in ("corpus", "corpus_sha256")}}
    if before is not None:
        published["conventions"] = before
    return Found(
        format=_NAME,
        why="the file has the tables of an atlas",
        place=sae["name"],
        model=sae["model"],
        inputs=_places(sites, "input"),
        outputs=_places(sites, "output"),
        d_in=sae["d_in"],
        d_sae=sae["d_sae"],
        d_out=sae["d_out"],
        architecture=sae["architecture"],
        declared={
            row["metric"]: row["value"]
            for row in metrics
            if row["metric"] in _DECLARED and math.isfinite(row["value"])
        },
        conventions={"published": published, "notes": []}
        | ({"flagged": flagged} if flagged else {}),
        load=partial(_load, path, sae["name"], source.wait),
        origin=Origin(
            atlas=source.name,
            name=SaeName(sae["model"], sae["layer"], sae["hook"], sae["variant"]),
            sha256=sae["sha256"],
            model_sha256=sae["model_sha256"],
            other_models=tuple(
                dict.fromkeys(site["other_model"] for site in sites if site["other_model"])
            ),
            corpus_sha256=sae["corpus_sha256"],
            held_out=sae["held_out"],
            train_tokens=sae["train_tokens"],
            record=_record(course),
            flagged=flagged,
        ),
    )


def _places(sites: list[_Row], role: str) -> tuple[Place, ...]:
    """Those in the SAE's own model, in their order."""
    return tuple(
        (site["layer"], site["hook"])
        for site in sites
        if site["role"] == role and site["other_model"] is None
    )


def _record(course: list[_Row]) -> list[dict[str, float]]:
    """Rows of `training_records` as one entry for each number of tokens."""
    entries: dict[int, dict[str, float]] = {}
    for row in course:
        entry = entries.setdefault(row["tokens"], {"tokens": row["tokens"]})
        entry[row["metric"]] = row["value"]
    return list(entries.values())


def _flagged(quality: str | None, conventions: dict[str, Any] | None) -> str | None:
    """What deviates in the files that it was first imported from, which no copy makes good.

    What deviates in a copy for the text's sake stays with that text.
    """
    if conventions is not None and conventions.get("format") == _NAME:
        before: str | None = conventions.get("flagged")
        return before
    return None if quality in (None, *_SOUND) else quality


def _load(path: Path, name: str, wait: float) -> SaeWeights:
    with Atlas.open(path, wait=wait) as atlas:
        return load_weights(atlas, name)


FORMAT = Format(
    name=_NAME,
    summary="another atlas: the SAEs that it has of this model",
    looks_for="the file of an atlas, named by itself",
    detect=_detect,
)
