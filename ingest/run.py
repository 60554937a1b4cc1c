"""The ingest of one model, from text and weights to rows in an atlas.

Stages, each resumed where an interrupted one stopped: the reference corpus and its tokens; the
SAEs, trained or read; for published ones, whether they do what is said of them; one pass over the
reference corpus; the analysis of each SAE; one transaction.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from atlas.errors import AtlasError
from atlas.ingest.describing.analyze import MeasuredCorpus, analyze_sae
from atlas.ingest.describing.lens import Lens
from atlas.ingest.gate import admit
from atlas.ingest.making import make_saes
from atlas.ingest.measuring.encode import encode_reference
from atlas.ingest.measuring.functions import measure_functions
from atlas.ingest.measuring.geometry import decoder_metrics, read_max_cosines
from atlas.ingest.measuring.quality import cross_entropies, reconstruction_metrics
from atlas.ingest.models.joint import Ensemble, JointText, Reader
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import Placed, Sites
from atlas.ingest.plan import IngestOptions, parse_count
from atlas.ingest.prepare import MadeOtherwise, Prepared, prepare
from atlas.ingest.text import reference as references
from atlas.ingest.text.corpus import Corpus
from atlas.ingest.text.forms import WordForms
from atlas.ingest.text.reference import Reference
from atlas.ingest.text.tokens import TokenStream, vocabulary_texts
from atlas.ingest.workspace import Workspace, remove_all, workspace
from atlas.ingest.writing.commit import commit
from atlas.ingest.writing.finished import FinishedRun, FinishedSae
from atlas.lineage.communities import cluster_linked
from atlas.lineage.linking import link_neighbours
from atlas.progress import Progress, Silent
from atlas.runs import now
from atlas.workers import Stage, run_lanes

__all__ = ["MadeOtherwise", "Outcome", "ingest", "prepare"]


@dataclass(frozen=True)
class Outcome:
    """What an ingest did."""

    saes: tuple[str, ...]
    added: bool
    """False where the atlas had them already."""


def ingest(
    path: Path,
    options: IngestOptions,
    *,
    corpus: Corpus | None = None,
    progress: Progress | None = None,
    wait: float = 0.0,
) -> Outcome:
    """Make SAEs of a model, measure them on the reference corpus, add them to the atlas at `path`.

    When that is done, neighbouring layers of the model are linked (`atlas.lineage.linking`), and
    communities of their features found (`atlas.lineage.communities`).

    Killed at any point and called again with the same options it goes on, and ends with the same
    content.

    corpus: the text itself, in place of `options.corpus`.
    wait: seconds to wait for another process's lock on the atlas.
    """
    progress = progress or Silent()
    prepared = prepare(path, options, corpus=corpus, wait=wait)
    plan = prepared.plan
    names = tuple(str(sae.name) for sae in plan.saes)
    key = prepared.circumstances.key(plan)
    if prepared.done:
        remove_all(path, plan.sha256)  # what one left that was killed while it tidied up
        _link(path, prepared, progress, wait)  # nor may linking have been reached
        return Outcome(names, added=False)
    with workspace(path, key) as work:
        begun = work.read("begun")
        if begun is None:
            begun = {"at": now().isoformat(), "plan": plan.sha256}
            work.finish("begun", **begun)
        elif work.has_results():
            progress.notice("Going on with this ingest where it stopped.")
        try:
            run = _run(prepared, work, datetime.datetime.fromisoformat(begun["at"]), progress)
            with progress.task("writing the atlas", len(names), "SAEs") as task:
                commit(path, run, work.path("new.atlas"), task, wait=wait)
        except (AtlasError, OSError):
            if not work.has_results():
                work.remove()
            raise
        work.remove()
    # Begun in other circumstances, such as with another reference corpus, and of no more use.
    remove_all(path, plan.sha256)
    _link(path, prepared, progress, wait)
    return Outcome(names, added=True)


def _link(path: Path, prepared: Prepared, progress: Progress, wait: float) -> None:
    """Links of neighbouring layers of the model, and communities of its features."""
    models = [prepared.plan.model]
    link_neighbours(path, models, progress=progress, wait=wait)
    cluster_linked(path, models, progress=progress, wait=wait)


def _run(
    prepared: Prepared, work: Workspace, started_at: datetime.datetime, progress: Progress
) -> FinishedRun:
    model, plan, reader = prepared.model, prepared.plan, prepared.reader
    reference = prepared.reference or _choose_reference(prepared, work, progress)
    stream = _token_stream(reference, model, work.path("tokens"))
    text = _read_text(reference, reader, stream, work)
    made = make_saes(prepared, reference, stream, work, progress)
    folder = work.path("activations")
    losses = cross_entropies(reader, made.saes, text, plan.context, folder, progress)
    quality = admit(prepared, made.saes, losses, stream, work, progress)
    parts = encode_reference(reader, made.saes, text, plan.context, folder, progress)
    metrics = {key: reconstruction_metrics(one) for key, one in parts.items()}
    if isinstance(text, JointText):
        _tell_left_out(text, round(next(iter(metrics.values()))["tokens"]), progress)
    forms = WordForms.build(reference)
    measured = MeasuredCorpus.build(
        forms,
        stream,
        vocabulary_texts(model.tokenizer),
        plan.context,
        text.windows(plan.context) if isinstance(text, JointText) else None,
    )
    unembedding = model.unembedding()
    tables = {key: work.path("tables", key) for key in made.saes}
    n_features = sum(sae.d_sae for sae in plan.saes)
    with progress.task("describing features", n_features, "features") as task:

        def lane(key: str, placed: Placed) -> Iterator[Stage]:
            sites, weights = placed
            lens = _lens(unembedding, model, sites)
            yield [partial(analyze_sae, parts[key], weights, measured, lens, tables[key])]
            task.advance(weights.d_sae)

        run_lanes(itertools.starmap(lane, made.saes.items()))
    functions = measure_functions(
        reader,
        made.saes,
        parts,
        reference,
        forms,
        text,
        plan.context,
        folder,
        progress,
    )
    finished = [
        FinishedSae(
            sae,
            *made.saes[sae.key],
            parts[sae.key],
            tables[sae.key],
            metrics[sae.key]
            | losses[sae.key]
            | decoder_metrics(read_max_cosines(tables[sae.key]))
            | functions[sae.key].metrics(),
            functions[sae.key].tables(),
            made.held_out[sae.key],
            made.records.get(sae.key, []),
            prepared.found.get(sae.key),
            quality.get(sae.key),
        )
        for sae in plan.saes
    ]
    return FinishedRun(
        plan,
        prepared.options,
        asdict(prepared.circumstances),
        started_at,
        reference,
        forms,
        model,
        reader,
        stream,
        finished,
    )


def _choose_reference(prepared: Prepared, work: Workspace, progress: Progress) -> Reference:
    """The new atlas's reference corpus: the beginning of the training text."""
    corpus, done = prepared.corpus, work.read("reference")
    assert corpus is not None
    if done is not None:
        first = itertools.islice(iter(corpus), done["n_documents"])
        return references.build(corpus.name, corpus.source, list(first))
    wanted = parse_count(prepared.options.reference_tokens, "--reference-tokens")
    with progress.task("reference corpus", None, "documents") as task:
        reference = references.choose(corpus, prepared.model.tokenizer, wanted)
        task.advance(len(reference.documents))
    work.finish("reference", n_documents=len(reference.documents))
    return reference


def _token_stream(reference: Reference, model: LanguageModel, folder: Path) -> TokenStream:
    if not folder.exists():
        references.stream(reference, model.tokenizer).save(folder)
    return TokenStream.load(folder)


def _read_text(
    reference: Reference, reader: Reader, stream: TokenStream, work: Workspace
) -> TokenStream | JointText:
    """The reference corpus as what reads it: the model's `stream`, or the partners' with it."""
    if not isinstance(reader, Ensemble):
        return stream
    beside = [
        _token_stream(reference, partner, work.path(f"tokens-{number}"))
        for number, partner in enumerate(reader.partners)
    ]
    return JointText(reader, (stream, *beside), reference.n_words)


def _tell_left_out(text: JointText, n_read: int, progress: Progress) -> None:
    if n_read < len(text):
        progress.notice(
            f"{len(text) - n_read:,} of the reference corpus's {len(text):,} words are left out: "
            "they end within a token of one of the models, or are longer than a context."
        )


_ADDED = ("resid_pre", "resid_mid", "resid_post", "mlp_out", "attn_out")
"""Hooks whose activations are vectors of the residual stream."""


def _lens(
    unembedding: tuple[torch.Tensor, torch.Tensor] | None, model: LanguageModel, sites: Sites
) -> Lens | None:
    """The logit lens on the model's last hook point written, if that is in the residual stream."""
    own = [point for point in sites.outputs if not point.model]
    if unembedding is None or own[-1].hook not in _ADDED:
        return None
    end = sum(map(model.width, own))
    return Lens(*unembedding, slice(end - model.width(own[-1]), end))
