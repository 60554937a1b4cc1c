"""Rows of one SAE: itself, its measurements, its features and their activations."""

from __future__ import annotations

import json

import pyarrow as pa

from atlas.errors import BadInput
from atlas.ingest.measuring.parts import ENTRY_SCHEMA
from atlas.ingest.measuring.quality import AtSite, site_metrics
from atlas.ingest.writing.finished import FinishedRun, FinishedSae
from atlas.ingest.writing.rows import insert_columns, insert_file, insert_row, next_id
from atlas.sae import SaeWeights
from atlas.store import Atlas


def add_sae(
    atlas: Atlas, run: FinishedRun, sae: FinishedSae, model_id: int, first_token: int, run_id: int
) -> None:
    """Add one SAE of the run with all that belongs to it; BadInput if the name is taken."""
    planned, weights, found = sae.planned, sae.weights, sae.found
    origin = found.origin if found else None
    name = str(planned.name)
    if atlas.row("select 1 from saes where name = ?", [name]) is not None:
        raise BadInput(
            f"{atlas.path} was given another SAE named {name} while this ingest ran; give the "
            "command again with --variant."
        )
    sae_id = next_id(atlas, "saes", "sae_id")
    first_feature = int(
        atlas.rows("select coalesce(max(first_feature_id + d_sae), 0) from saes")[0][0]
    )
    columns = {
        "sae_id": sae_id,
        "model_id": model_id,
        "name": name,
        "layer": planned.name.layer,
        "hook": planned.name.hook,
        "variant": planned.name.variant,
        "architecture": weights.architecture,
        "activation": weights.activation,
        "d_in": weights.d_in,
        "d_sae": weights.d_sae,
        "d_out": weights.d_out,
        "k": weights.k,
        "first_feature_id": first_feature,
        "normalize": weights.normalize,
        "input_scale": weights.input_scale,
        "output_scale": weights.output_scale,
        "pre_bias": weights.pre_bias.tolist(),
        "b_dec": weights.b_dec.tolist(),
        "scale": sae.parts.scale,
        "context": run.plan.context,
        "source": f"{run.options.sae}/{found.place}" if found else "trained",
        "sha256": weights.sha256(),
        "train_tokens": origin.train_tokens if origin else run.plan.train_tokens,
        "held_out": sae.held_out,
        "quality": sae.quality,
        "conventions": json.dumps(found.conventions | {"format": found.format, "why": found.why})
        if found
        else None,
        "run_id": run_id,
    }
    insert_row(atlas, "saes", columns)
    _add_sites(atlas, run, sae, sae_id, model_id)
    _add_tensors(atlas, weights, sae_id)
    for metric, value in sae.metrics.items():
        atlas.execute(
            "insert into sae_metrics by name select ? as sae_id, ? as metric, ? as value,"
            " ? as run_id, (select version from metrics where metrics.metric = ?) as version",
            [sae_id, metric, value, run_id, metric],
        )
    for table, rows in sae.functions.items():
        atlas.insert(table, rows, f"{sae_id} as sae_id, *")
    for metric, value in (found.declared if found else {}).items():
        atlas.execute("insert into declared_metrics values (?, ?, ?)", [sae_id, metric, value])
    course = [
        (int(entry["tokens"]), metric, value)
        for entry in sae.record
        for metric, value in entry.items()
        if metric != "tokens"
    ]
    if course:
        tokens, metrics, values = zip(*course, strict=True)
        insert_columns(
            atlas,
            "training_records",
            {
                "sae_id": [sae_id] * len(course),
                "tokens": tokens,
                "metric": metrics,
                "value": values,
            },
        )
    for file in sorted(sae.tables.glob("*.parquet")):
        constants = {"labels": {"run_id": run_id}, "features": {"sae_id": sae_id}}
        insert_file(atlas, file, first_feature, first_token, constants.get(file.stem, {}))
    entries = pa.RecordBatchReader.from_batches(ENTRY_SCHEMA, sae.parts.batches())
    atlas.insert(
        "activations",
        entries,
        f"{first_feature} + index as feature_id, {first_token} + token as token, q",
    )


def _add_sites(
    atlas: Atlas, run: FinishedRun, sae: FinishedSae, sae_id: int, model_id: int
) -> None:
    """Where it reads and writes, and which columns of its directions belong to which point."""
    model_ids = {"": model_id}
    for partner in run.plan.partners:
        known = atlas.row("select model_id, sha256 from models where name = ?", [partner.model])
        if known is None or known[1] != partner.model_sha256:
            raise BadInput(
                f"{atlas.path} was replaced by an atlas without the model {partner.model!r} while "
                "this ingest ran; ingest that model, and give the command again."
            )
        model_ids[partner.model] = int(known[0])
    sites = sae.sites
    unmeasured = [AtSite(None, None)] * len(sites.inputs)
    for role, at, measured in (
        ("input", sites.inputs, unmeasured),
        ("output", sites.outputs, site_metrics(sae.parts, len(sites.outputs))),
    ):
        first = 0
        for place, (point, here) in enumerate(zip(at, measured, strict=True)):
            width = run.reader.width(point)
            atlas.execute(
                "insert into sae_sites values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    sae_id,
                    role,
                    place,
                    model_ids[point.model],
                    point.layer,
                    point.hook,
                    first,
                    width,
                    here.spread,
                    here.explained_variance,
                ],
            )
            first += width


def _add_tensors(atlas: Atlas, weights: SaeWeights, sae_id: int) -> None:
    """What few architectures have beside encoder and decoder, a row at a time."""
    for name in ("W_skip", "W_router", "b_router"):
        tensor = getattr(weights, name)
        if tensor is not None:
            rows = tensor.reshape(-1, tensor.shape[-1]).cpu().tolist()
            insert_columns(
                atlas,
                "sae_tensors",
                {
                    "sae_id": [sae_id] * len(rows),
                    "tensor": [name] * len(rows),
                    "row": range(len(rows)),
                    "entries": rows,
                },
            )
