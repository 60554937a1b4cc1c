"""Adds a finished run to the atlas: one short transaction, all or nothing."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import BadInput
from atlas.ingest.formats.found import Found
from atlas.ingest.forms import WordForms
from atlas.ingest.joint import Reader
from atlas.ingest.models import LanguageModel
from atlas.ingest.parts import ENTRY_SCHEMA, Parts
from atlas.ingest.plan import IngestOptions, Plan, PlannedSae
from atlas.ingest.quality import AtSite, site_metrics
from atlas.ingest.reference import Reference
from atlas.ingest.sites import Sites
from atlas.ingest.tokens import TokenStream, vocabulary_texts
from atlas.progress import Task
from atlas.sae import SaeWeights
from atlas.store import Atlas, remove

_TOKEN_COLUMNS = ("token", "first_token", "last_token")


@dataclass(frozen=True)
class FinishedSae:
    """One SAE, trained or read, run over the reference corpus and analysed."""

    planned: PlannedSae
    sites: Sites
    weights: SaeWeights
    parts: Parts
    tables: Path
    """Folder of the Parquet files that `analyze` wrote, one a table."""
    metrics: dict[str, float]
    functions: dict[str, pa.Table]
    """Rows of `probes` and `absorptions`, without sae_id."""
    held_out: bool | None
    record: list[dict[str, float]]
    """The course of its training."""
    found: Found | None
    """Where an imported one comes from."""
    quality: str | None
    """Whether an imported one does what its publisher declares."""


@dataclass(frozen=True)
class FinishedRun:
    """All that one ingest adds to an atlas."""

    plan: Plan
    options: IngestOptions
    circumstances: Mapping[str, object]
    """Versions, device and threads."""
    started_at: datetime.datetime
    reference: Reference
    forms: WordForms
    model: LanguageModel
    reader: Reader
    """The model, or it and the others that its crosscoders read."""
    stream: TokenStream
    saes: Sequence[FinishedSae]


def commit(path: Path, run: FinishedRun, scratch: Path, task: Task, *, wait: float) -> None:
    """Add the run to the atlas at `path`, which is made if it is not there.

    A new atlas is built at `scratch` (same file system) and linked into place when complete, so
    that nobody ever sees half of one; an existing one is written in one transaction.
    """
    if not path.exists():
        remove(scratch)
        with Atlas.create(scratch) as atlas:
            _add(atlas, run, task)
            atlas.execute("checkpoint")
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass  # Another ingest made the atlas meanwhile: add to that one, below.
        except OSError:
            scratch.rename(path)  # A file system without links.
            return
        else:
            return
        finally:
            remove(scratch)
    with Atlas.open(path, write=True, wait=wait) as atlas:
        _add(atlas, run, task)


def _add(atlas: Atlas, run: FinishedRun, task: Task) -> None:
    with atlas.transaction():
        run_id = _next(atlas, "runs", "run_id")
        _add_reference(atlas, run, run_id)
        tokenizer_id, first_token = _add_tokenizer(atlas, run, run_id)
        model_id = _add_model(atlas, run, tokenizer_id, run_id)
        for sae in run.saes:
            _add_sae(atlas, run, sae, model_id, first_token, run_id)
            task.advance()
        _add_run(atlas, run, run_id)
        atlas.advance_stamp(_fingerprint(atlas, run, run_id))


def _fingerprint(atlas: Atlas, run: FinishedRun, run_id: int) -> str:
    """A hash of what the run added, not of what was asked for.

    Given again for another reference corpus, or on another machine, a plan gives other numbers, and
    a cache that was made of an earlier atlas of the same name must not fit them.
    """
    sums = atlas.row(
        """
        select sha256(string_agg(
            concat_ws(
                ' ', feature_id, n_active, sum_q, sum_q2, word_n_active, word_sum_q, word_sum_q2
            ), ',' order by feature_id
        ))
        from features join saes using (sae_id) where run_id = ?
        """,
        [run_id],
    )
    weights = [sae.weights.sha256() for sae in run.saes]
    added = [run.plan.sha256, run.reference.sha256, weights, sums]
    return hashlib.sha256(json.dumps(added).encode()).hexdigest()


def _next(atlas: Atlas, table: str, column: str) -> int:
    found = atlas.rows(f"select coalesce(max({column}) + 1, 0) from {table}")
    return int(found[0][0])


def _add_run(atlas: Atlas, run: FinishedRun, run_id: int) -> None:
    atlas.execute(
        "insert into runs by name select ? as run_id, 'ingest' as command, ? as plan, ? as config,"
        " ? as circumstances, ? as seed, ? as started_at, ? as ended_at, 'done' as status",
        [
            run_id,
            run.plan.sha256,
            json.dumps(asdict(run.options)),
            json.dumps(run.circumstances),
            run.plan.seed,
            run.started_at,
            datetime.datetime.now(datetime.UTC).replace(tzinfo=None),
        ],
    )


def _add_reference(atlas: Atlas, run: FinishedRun, run_id: int) -> None:
    reference = run.reference
    known = atlas.row("select sha256 from corpora where corpus_id = 0")
    if known is not None:
        if known[0] != reference.sha256:
            raise BadInput(
                f"{atlas.path} was given another reference corpus while this ingest ran; give the "
                "command again to measure the model on that one."
            )
        return
    documents = reference.documents
    atlas.execute(
        "insert into corpora values (0, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            reference.name,
            reference.source,
            run.options.licence,
            reference.sha256,
            len(documents),
            reference.n_characters,
            reference.n_words,
            run_id,
        ],
    )
    _insert(
        atlas,
        "documents",
        {
            "document_id": np.arange(len(documents)),
            "corpus_id": np.zeros(len(documents), np.int32),
            "source": [document.source for document in documents],
            "text": [document.text for document in documents],
        },
    )
    document = np.repeat(np.arange(len(documents)), np.diff(reference.first_word))
    _insert(
        atlas,
        "words",
        {
            "word": np.arange(reference.n_words),
            "document_id": document,
            "start_char": reference.word_start,
            "end_char": reference.word_end,
            "form": pa.array(run.forms.written_forms).take(pa.array(run.forms.written)),
        },
    )


def _add_tokenizer(atlas: Atlas, run: FinishedRun, run_id: int) -> tuple[int, int]:
    """(tokenizer_id, first_token) of the run's tokenizer, added if the atlas has not met it."""
    known = atlas.row(
        "select tokenizer_id, first_token from tokenizers where sha256 = ?",
        [run.plan.tokenizer_sha256],
    )
    if known is not None:
        return int(known[0]), int(known[1])
    tokenizer_id = _next(atlas, "tokenizers", "tokenizer_id")
    first_token = _next(atlas, "tokens", "token")
    stream = run.stream
    texts = vocabulary_texts(run.model.tokenizer)
    n_tokens = len(stream.token_id)
    atlas.execute(
        "insert into tokenizers values (?, ?, ?, ?, ?, ?, ?)",
        [
            tokenizer_id,
            run.plan.model,
            run.plan.tokenizer_sha256,
            len(texts),
            first_token,
            n_tokens,
            run_id,
        ],
    )
    _insert(
        atlas,
        "vocabulary",
        {
            "tokenizer_id": np.full(len(texts), tokenizer_id, np.int32),
            "token_id": np.arange(len(texts), dtype=np.int32),
            "text": texts,
            "n_tokens": np.bincount(stream.token_id, minlength=len(texts))[: len(texts)],
        },
    )
    _insert(
        atlas,
        "tokens",
        {
            "token": np.arange(first_token, first_token + n_tokens),
            "document_id": stream.document,
            "position": stream.position,
            "token_id": stream.token_id,
            "start_char": stream.start,
            "end_char": stream.end,
            "word": stream.word,
        },
    )
    return tokenizer_id, first_token


def _add_model(atlas: Atlas, run: FinishedRun, tokenizer_id: int, run_id: int) -> int:
    """model_id of the run's model, added if the atlas has not met it."""
    known = atlas.row(
        "select model_id, sha256, tokenizer_id from models where name = ?", [run.plan.model]
    )
    model = run.model
    if known is not None:
        if known[1:] != (model.sha256, tokenizer_id):
            raise BadInput(
                f"{atlas.path} was given another model named {run.plan.model!r} while this ingest "
                "ran; give the command again with --name."
            )
        return int(known[0])
    model_id = _next(atlas, "models", "model_id")
    _insert_one(
        atlas,
        "models",
        {
            "model_id": model_id,
            "name": run.plan.model,
            "source": model.source,
            "revision": model.revision,
            "sha256": model.sha256,
            "model_type": model.model_type,
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "n_parameters": model.n_parameters,
            "is_causal": model.is_causal,
            "prepends_bos": model.bos_id is not None,
            "block_path": model.block_path,
            "tokenizer_id": tokenizer_id,
            "run_id": run_id,
            "randomized": str(model.randomized) if model.randomized else None,
        },
    )
    return model_id


def _add_sae(
    atlas: Atlas, run: FinishedRun, sae: FinishedSae, model_id: int, first_token: int, run_id: int
) -> None:
    planned, weights, found = sae.planned, sae.weights, sae.found
    name = str(planned.name)
    if atlas.row("select 1 from saes where name = ?", [name]) is not None:
        raise BadInput(
            f"{atlas.path} was given another SAE named {name} while this ingest ran; give the "
            "command again with --variant."
        )
    sae_id = _next(atlas, "saes", "sae_id")
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
        "train_tokens": run.plan.train_tokens,
        "held_out": sae.held_out,
        "quality": sae.quality,
        "conventions": json.dumps(found.conventions | {"format": found.format, "why": found.why})
        if found
        else None,
        "run_id": run_id,
    }
    _insert_one(atlas, "saes", columns)
    _add_sites(atlas, run, sae, sae_id, model_id)
    _add_tensors(atlas, weights, sae_id)
    for metric, value in sae.metrics.items():
        atlas.execute(
            "insert into sae_metrics by name select ? as sae_id, ? as metric, ? as value,"
            " ? as run_id, (select version from metrics where metrics.metric = ?) as version",
            [sae_id, metric, value, run_id, metric],
        )
    for table, rows in sae.functions.items():
        _insert_rows(atlas, f"insert into {table} by name select {sae_id} as sae_id, *", rows)
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
        _insert(
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
        _insert_file(atlas, file, first_feature, first_token, constants.get(file.stem, {}))
    entries = pa.RecordBatchReader.from_batches(ENTRY_SCHEMA, sae.parts.batches())
    _insert_rows(
        atlas,
        f"insert into activations select {first_feature} + index, {first_token} + token, q",
        entries,
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
            _insert(
                atlas,
                "sae_tensors",
                {
                    "sae_id": [sae_id] * len(rows),
                    "tensor": [name] * len(rows),
                    "row": range(len(rows)),
                    "entries": rows,
                },
            )


def _insert_one(atlas: Atlas, table: str, row: Mapping[str, object]) -> None:
    """Add a row; columns that it does not name are null."""
    atlas.execute(
        f"insert into {table} ({', '.join(row)}) values ({', '.join('?' * len(row))})",
        list(row.values()),
    )


def _insert(atlas: Atlas, table: str, columns: Mapping[str, object]) -> None:
    """Add rows given as columns; a column that the table lacks is an error."""
    _insert_rows(atlas, f"insert into {table} by name select *", pa.table(dict(columns)))


def _insert_file(
    atlas: Atlas, file: Path, first_feature: int, first_token: int, constants: Mapping[str, int]
) -> None:
    """Add a Parquet file named as its table, local numbers made the atlas's."""
    source = pq.ParquetFile(file)
    columns = source.schema_arrow.names
    table = file.stem
    changed = [f"{first_token} + {name} as {name}" for name in _TOKEN_COLUMNS if name in columns]
    added = [f"{value}::integer as {name}" for name, value in constants.items()]
    dropped = "" if table == "features" else "exclude (index)"
    replaced = f"replace ({', '.join(changed)})" if changed else ""
    selected = ", ".join([f"{first_feature} + index as feature_id", *added])
    _insert_rows(
        atlas,
        f"insert into {table} by name select {selected}, * {dropped} {replaced}",
        pa.RecordBatchReader.from_batches(source.schema_arrow, source.iter_batches()),
    )


def _insert_rows(atlas: Atlas, insert: str, rows: pa.Table | pa.RecordBatchReader) -> None:
    connection = atlas.execute("select 1")
    connection.fetchall()
    connection.register("_incoming", rows)
    try:
        atlas.execute(f"{insert} from _incoming")
    finally:
        connection.unregister("_incoming")
