"""Gets the dictionaries of a plan: trained on the model's activations, or read from files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from atlas.ingest.models.joint import Ensemble, JointStream
from atlas.ingest.models.sites import Placed
from atlas.ingest.plan import Plan
from atlas.ingest.prepare import Prepared, sites_of
from atlas.ingest.specs import specs_of
from atlas.ingest.text import reference as references
from atlas.ingest.text.contexts import ContextStream
from atlas.ingest.text.corpus import Corpus
from atlas.ingest.text.reference import Reference
from atlas.ingest.text.tokens import TokenStream
from atlas.ingest.training.end_to_end import train_end_to_end
from atlas.ingest.training.record import Record
from atlas.ingest.training.sweep import parse_strategy
from atlas.ingest.training.train import train_saes
from atlas.ingest.workspace import Workspace
from atlas.progress import Progress
from atlas.sae import SaeWeights


@dataclass(frozen=True)
class Made:
    """All dictionaries of a plan."""

    saes: dict[str, Placed]
    """By `PlannedSae.key`, on the model's device."""
    held_out: dict[str, bool | None]
    """Whether training never saw the reference documents; None if that is not known."""
    records: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """The course of each one's training."""


def make_saes(
    prepared: Prepared,
    reference: Reference,
    stream: TokenStream,
    work: Workspace,
    progress: Progress,
) -> Made:
    """Train or read every SAE of the plan; one that is there already is not made again."""
    if prepared.found:
        return _read(prepared, reference, work, progress)
    return _train(prepared, reference, stream, work, progress)


def _files(plan: Plan, work: Workspace) -> dict[str, Path]:
    return {sae.key: work.path("saes", f"{sae.key}.safetensors") for sae in plan.saes}


def _load(prepared: Prepared, work: Workspace) -> dict[str, Placed]:
    """Read back even when just made: a resumed run must go on from the very same numbers."""
    device, files = prepared.model.device, _files(prepared.plan, work)
    return {
        sae.key: (sites_of(sae), SaeWeights.load(files[sae.key]).to(device))
        for sae in prepared.plan.saes
    }


def _read(prepared: Prepared, reference: Reference, work: Workspace, progress: Progress) -> Made:
    files = _files(prepared.plan, work)
    if prepared.left_out:
        progress.notice(
            "Left out, for --sae places SAEs of one model and these read others, too: "
            f"{', '.join(prepared.left_out)}."
        )
    with progress.task("reading SAEs", len(files), "SAEs") as task:
        for key, found in prepared.found.items():
            if not files[key].exists():
                found.load().save(files[key])
            task.advance()
    origins = {key: found.origin for key, found in prepared.found.items()}
    return Made(
        _load(prepared, work),
        {
            key: one.held_out if one and one.corpus_sha256 == reference.sha256 else None
            for key, one in origins.items()
        },
        {key: one.record for key, one in origins.items() if one},
    )


def _train(
    prepared: Prepared,
    reference: Reference,
    stream: TokenStream,
    work: Workspace,
    progress: Progress,
) -> Made:
    plan, corpus = prepared.plan, prepared.corpus
    assert corpus is not None
    done = work.read("trained")
    if done is None:
        begins = references.begins_with(corpus, reference)
        contexts = _contexts(prepared, corpus, len(reference.documents) if begins else 0)
        specs, names = specs_of(prepared, stream)
        folder = prepared.options.log
        record = Record(Path(folder), plan.model) if folder else None
        place = work.path("training")
        strategy = parse_strategy(plan.strategy)
        if strategy is not None and strategy.name == "end-to-end":
            trained = train_end_to_end(
                prepared.model,
                specs,
                contexts,
                place,
                progress,
                record=record,
                share=strategy.value,
            )
        else:
            trained = train_saes(prepared.reader, specs, contexts, place, progress, record=record)
        files = _files(plan, work)
        for key, name in names.items():
            trained[name].weights.save(files[key])
        done = {
            "held_out": not (begins and contexts.saw_reference),
            "records": {key: trained[name].record for key, name in names.items()},
        }
        work.finish("trained", **done)
        shutil.rmtree(work.path("training"), ignore_errors=True)
        if not done["held_out"]:
            progress.notice(
                "The text is short, so training saw the reference documents too; quality figures "
                "are not of held-out text."
            )
    saes = _load(prepared, work)
    return Made(saes, dict.fromkeys(saes, done["held_out"]), done["records"])


def _contexts(prepared: Prepared, corpus: Corpus, skip_documents: int) -> ContextStream:
    """What is trained on, the corpus's first documents left out."""
    reader, context = prepared.reader, prepared.plan.context
    if isinstance(reader, Ensemble):
        return JointStream(corpus, reader, context, skip_documents=skip_documents)
    return ContextStream(
        corpus, reader.tokenizer, context, bos_id=reader.bos_id, skip_documents=skip_documents
    )
