"""The ingest of one model, from text and weights to rows in an atlas.

Stages, each resumed where an interrupted one stopped: the reference corpus and its tokens; training
of all SAEs at once; one pass over the reference corpus; the analysis of each SAE; one transaction.
"""

from __future__ import annotations

import datetime
import itertools
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from atlas.errors import AtlasError, BadInput
from atlas.ingest import reference as references
from atlas.ingest.analyze import MeasuredCorpus, analyze_sae
from atlas.ingest.commit import FinishedRun, FinishedSae, commit
from atlas.ingest.contexts import ContextStream
from atlas.ingest.corpus import Corpus, open_corpus
from atlas.ingest.encode import encode_reference
from atlas.ingest.forms import WordForms
from atlas.ingest.models import HookPoint, LanguageModel
from atlas.ingest.plan import (
    Circumstances,
    IngestOptions,
    Plan,
    check_options,
    corpus_fingerprint,
    default_name,
    parse_count,
    parse_layers,
    parse_width,
    sae_names,
)
from atlas.ingest.quality import cross_entropies, reconstruction_metrics
from atlas.ingest.reference import Reference
from atlas.ingest.tokens import TokenStream, tokenizer_hash, vocabulary_texts
from atlas.ingest.train import TrainConfig, train_saes
from atlas.ingest.workspace import Workspace, remove_all, work_root, workspace
from atlas.names import check_model_name
from atlas.progress import Progress, Silent
from atlas.sae import SaeWeights
from atlas.store import Atlas, check_writable
from atlas.workers import Stage, run_lanes

_PACKAGES = ("feature-atlas", "torch", "transformers", "tokenizers", "numpy", "duckdb", "regex")
_BYTES_PER_ACTIVATION = 6.5


class MadeOtherwise(BadInput):
    """The atlas has a model or an SAE of that name already, but not the one that was asked for."""


@dataclass(frozen=True)
class Prepared:
    """An ingest that was checked and can begin."""

    path: Path
    options: IngestOptions
    plan: Plan
    circumstances: Circumstances
    model: LanguageModel
    points: tuple[HookPoint, ...]
    corpus: Corpus
    reference: Reference | None
    """The atlas's, or None where this ingest will choose one."""
    done: bool
    """The atlas has these SAEs, made by this very plan."""

    def summary(self) -> dict[str, object]:
        """What `--dry-run` shows."""
        plan, model = self.plan, self.model
        if self.reference is None:
            n_tokens = parse_count(self.options.reference_tokens, "--reference-tokens")
            measured = f"the first {n_tokens:,} tokens of {self.corpus.source}"
        else:
            n_tokens = self.reference.n_characters // 4
            measured = f"the atlas's own {self.reference.name}, {self.reference.n_words:,} words"
        weights = sum(2 * model.width(point) * plan.d_sae * 4 for point in self.points)
        entries = n_tokens * plan.k * len(self.points) * _BYTES_PER_ACTIVATION
        return {
            "atlas": str(self.path),
            "model": f"{plan.model} ({model.model_type}, {model.n_layers} layers, d_model "
            f"{model.d_model}, {model.n_parameters:,} parameters)",
            "saes": ", ".join(str(name) for name in plan.saes),
            "architecture": f"{plan.arch}, d_sae {plan.d_sae:,}, k {plan.k}",
            "training": f"{plan.train_tokens:,} tokens of {self.corpus.source}, context "
            f"{plan.context}, seed {plan.seed}",
            "reference": measured,
            "device": self.circumstances.device,
            "atlas grows by": f"about {(weights + entries) / 1e6:,.0f} MB",
            "state": "in the atlas already" if self.done else self._state(),
        }

    def _state(self) -> str:
        begun = (work_root(self.path) / self.circumstances.key(self.plan)).exists()
        return "begun, would be gone on with" if begun else "not begun"


@dataclass(frozen=True)
class Outcome:
    """What an ingest did."""

    saes: tuple[str, ...]
    added: bool
    """False where the atlas had them already."""


def prepare(
    path: Path, options: IngestOptions, *, corpus: Corpus | None = None, wait: float = 0.0
) -> Prepared:
    """Check everything that can be checked without work, and load the model.

    corpus: the text itself, in place of `options.corpus`.
    """
    check_options(options)
    if not path.parent.is_dir():
        raise BadInput(f"The folder {path.parent} does not exist; make it first.")
    known = _read_known(path, wait)
    corpus, fingerprint = _choose_text(path, options, corpus, known.reference)
    name = check_model_name(options.name or default_name(options.model))
    model = LanguageModel.load(
        options.model,
        name=name,
        revision=options.revision,
        device=options.device,
        block_path=options.block_path,
    )
    model.check_context(options.context)
    tokenizer_sha256 = tokenizer_hash(model.tokenizer)
    known_weights, known_tokenizer = known.models.get(name, (model.sha256, tokenizer_sha256))
    if known_weights != model.sha256 or known_tokenizer != tokenizer_sha256:
        other = "model" if known_weights != model.sha256 else "tokenizer for the model"
        raise MadeOtherwise(
            f"{path} has another {other} named {name!r} already; give this one another name with "
            "--name."
        )
    points = tuple(
        HookPoint(layer, options.hook) for layer in parse_layers(options.layers, model.n_layers)
    )
    d_sae = parse_width(options.width, model.width(points[0]))
    if options.k > d_sae:
        raise BadInput(
            f"--k {options.k} is more than the {d_sae} features of --width "
            f"{options.width}; lower it."
        )
    plan = Plan(
        model=name,
        model_sha256=model.sha256,
        config_sha256=model.config_sha256(),
        tokenizer_sha256=tokenizer_sha256,
        block_path=model.block_path,
        saes=sae_names(name, [point.layer for point in points], options.hook, options.variant),
        arch=options.arch,
        d_sae=d_sae,
        k=options.k,
        train_tokens=parse_count(options.train_tokens, "--train-tokens"),
        context=options.context,
        seed=options.seed,
        corpus=fingerprint,
    )
    circumstances = Circumstances(
        reference=known.reference.sha256
        if known.reference is not None
        else str(parse_count(options.reference_tokens, "--reference-tokens")),
        device=str(model.device),
        threads=torch.get_num_threads(),
        versions=versions(),
    )
    here = [sae for sae in map(str, plan.saes) if sae in known.plans]
    done = len(here) == len(plan.saes) and {known.plans[sae] for sae in here} == {plan.sha256}
    if here and not done:
        raise MadeOtherwise(
            f"{path} has {here[0]} already, made with other options; choose other --layers, or a "
            "name of its own for these SAEs with --variant."
        )
    if path.exists() and not done:
        check_writable(path)
    return Prepared(
        path, options, plan, circumstances, model, points, corpus, known.reference, done
    )


@dataclass(frozen=True)
class _Known:
    """What the atlas holds already; nothing where there is none yet."""

    reference: Reference | None = None
    models: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Model's name → hashes of its weights and of its tokenizer."""
    plans: dict[str, str] = field(default_factory=dict)
    """SAE's name → hash of the plan that made it."""


def _read_known(path: Path, wait: float) -> _Known:
    if path.exists():
        with Atlas.open(path, wait=wait) as atlas:
            models = atlas.rows(
                "select models.name, models.sha256, tokenizers.sha256"
                " from models join tokenizers using (tokenizer_id)"
            )
            return _Known(
                references.of_atlas(atlas),
                {name: (weights, tokenizer) for name, weights, tokenizer in models},
                dict(atlas.rows("select name, plan from saes join runs using (run_id)")),
            )
    if path.with_name(f"{path.name}.wal").exists():
        raise BadInput(
            f"{path}.wal is the unfinished write of an atlas that is gone; delete it, or put the "
            "atlas back."
        )
    return _Known()


def _choose_text(
    path: Path, options: IngestOptions, corpus: Corpus | None, reference: Reference | None
) -> tuple[Corpus, str]:
    """The text to train on, and its fingerprint."""
    if corpus is not None:
        return corpus, references.texts_sha256(document.text for document in corpus)
    if options.corpus is not None:
        opened = open_corpus(options.corpus, text_field=options.text_field)
        return opened, corpus_fingerprint(options.corpus, options.text_field)
    if reference is not None:
        return reference.as_corpus(), reference.sha256
    raise BadInput(f"{path} is a new atlas and needs a text: give one with --corpus.")


def ingest(
    path: Path,
    options: IngestOptions,
    *,
    corpus: Corpus | None = None,
    progress: Progress | None = None,
    wait: float = 0.0,
) -> Outcome:
    """Train SAEs on a model, measure them on the reference corpus, add them to the atlas at `path`.

    Killed at any point and called again with the same options it goes on, and ends with the same
    content.

    corpus: the text itself, in place of `options.corpus`.
    wait: seconds to wait for another process's lock on the atlas.
    """
    progress = progress or Silent()
    prepared = prepare(path, options, corpus=corpus, wait=wait)
    plan = prepared.plan
    names = tuple(map(str, plan.saes))
    key = prepared.circumstances.key(plan)
    if prepared.done:
        remove_all(path, plan.sha256)  # what one left that was killed while it tidied up
        return Outcome(names, added=False)
    with workspace(path, key) as work:
        begun = work.read("begun")
        if begun is None:
            begun = {"at": _now().isoformat(), "plan": plan.sha256}
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
    return Outcome(names, added=True)


def _run(
    prepared: Prepared, work: Workspace, started_at: datetime.datetime, progress: Progress
) -> FinishedRun:
    model, plan = prepared.model, prepared.plan
    reference = prepared.reference or _choose_reference(prepared, work, progress)
    stream = _token_stream(reference, model, work)
    weights, held_out = _train(prepared, reference, work, progress)
    parts = encode_reference(
        model, weights, stream, plan.context, work.path("activations"), progress
    )
    losses = cross_entropies(
        model, weights, stream, plan.context, work.path("activations"), progress
    )
    forms = WordForms.build(reference)
    measured = MeasuredCorpus.build(forms, stream, vocabulary_texts(model.tokenizer), plan.context)
    unembedding = model.unembedding()
    tables = {point: work.path("tables", str(point)) for point in prepared.points}
    with progress.task("describing features", plan.d_sae * len(plan.saes), "features") as task:

        def lane(point: HookPoint) -> Iterator[Stage]:
            of_sae = parts[point], weights[point]
            yield [partial(analyze_sae, *of_sae, measured, unembedding, tables[point])]
            task.advance(plan.d_sae)

        run_lanes(map(lane, prepared.points))
    finished = [
        FinishedSae(
            name,
            weights[point],
            parts[point],
            tables[point],
            reconstruction_metrics(parts[point]) | losses[point],
            held_out,
        )
        for point, name in zip(prepared.points, plan.saes, strict=True)
    ]
    return FinishedRun(
        plan,
        prepared.options,
        asdict(prepared.circumstances),
        started_at,
        reference,
        forms,
        model,
        stream,
        finished,
    )


def _choose_reference(prepared: Prepared, work: Workspace, progress: Progress) -> Reference:
    """The new atlas's reference corpus: the beginning of the training text."""
    corpus, done = prepared.corpus, work.read("reference")
    if done is not None:
        first = itertools.islice(iter(corpus), done["n_documents"])
        return references.build(corpus.name, corpus.source, list(first))
    wanted = parse_count(prepared.options.reference_tokens, "--reference-tokens")
    with progress.task("reference corpus", None, "documents") as task:
        reference = references.choose(corpus, prepared.model.tokenizer, wanted)
        task.advance(len(reference.documents))
    work.finish("reference", n_documents=len(reference.documents))
    return reference


def _token_stream(reference: Reference, model: LanguageModel, work: Workspace) -> TokenStream:
    folder = work.path("tokens")
    if not folder.exists():
        references.stream(reference, model.tokenizer).save(folder)
    return TokenStream.load(folder)


def _train(
    prepared: Prepared, reference: Reference, work: Workspace, progress: Progress
) -> tuple[dict[HookPoint, SaeWeights], bool]:
    """The SAEs on the model's device, and whether they never saw the reference documents."""
    model, plan = prepared.model, prepared.plan
    files = {point: work.path("saes", f"{point}.safetensors") for point in prepared.points}
    done = work.read("trained")
    if done is None:
        begins = references.begins_with(prepared.corpus, reference)
        contexts = ContextStream(
            prepared.corpus,
            model.tokenizer,
            plan.context,
            bos_id=model.bos_id,
            skip_documents=len(reference.documents) if begins else 0,
        )
        config = TrainConfig(
            architecture=plan.arch,
            d_sae=plan.d_sae,
            k=plan.k,
            train_tokens=plan.train_tokens,
            seed=plan.seed,
        )
        trained = train_saes(
            model, prepared.points, contexts, config, work.path("training"), progress
        )
        for point, sae in trained.items():
            sae.save(files[point])
        done = {"held_out": not (begins and contexts.saw_reference)}
        work.finish("trained", **done)
        shutil.rmtree(work.path("training"), ignore_errors=True)
        if not done["held_out"]:
            progress.notice(
                "The text is short, so training saw the reference documents too; quality figures "
                "are not of held-out text."
            )
    # Read back even when just trained: a resumed run must go on from the very same numbers.
    return {point: SaeWeights.load(file).to(model.device) for point, file in files.items()}, done[
        "held_out"
    ]


def versions() -> dict[str, str]:
    """Versions of what decides the numbers, for the table `runs`."""
    found = {package: version(package) for package in _PACKAGES}
    return found | {"python": platform.python_version(), "machine": platform.machine()}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
