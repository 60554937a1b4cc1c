"""Adds a finished run to the atlas: one short transaction, all or nothing."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from atlas.ingest.writing.finished import FinishedRun
from atlas.ingest.writing.model_rows import add_model, add_reference, add_tokenizer
from atlas.ingest.writing.sae_rows import add_sae
from atlas.progress import Task
from atlas.runs import add_run, end_run
from atlas.store import Atlas, remove


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
        run_id = add_run(
            atlas,
            "ingest",
            run.plan.sha256,
            asdict(run.options),
            run.circumstances,
            run.started_at,
            seed=run.plan.seed,
        )
        add_reference(atlas, run, run_id)
        tokenizer_id, first_token = add_tokenizer(atlas, run, run_id)
        model_id = add_model(atlas, run, tokenizer_id, run_id)
        for sae in run.saes:
            add_sae(atlas, run, sae, model_id, first_token, run_id)
            task.advance()
        end_run(atlas, run_id)
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
