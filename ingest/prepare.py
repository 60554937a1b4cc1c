"""Checks everything about an ingest that can be checked without work, and loads its model."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import torch

from atlas.errors import BadInput
from atlas.ingest.importing.formats.found import Found
from atlas.ingest.importing.published import Chosen, find_published
from atlas.ingest.known import KnownModel, known_models
from atlas.ingest.models.joint import Ensemble, Reader
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.randomize import parse_randomization
from atlas.ingest.models.sites import HookPoint, Sites, all_points
from atlas.ingest.partners import LoadedPartner, load_partners
from atlas.ingest.plan import (
    Circumstances,
    IngestOptions,
    Plan,
    PlannedSae,
    Point,
    check_options,
    corpus_fingerprint,
    default_name,
    parse_count,
    parse_layers,
)
from atlas.ingest.text import reference as references
from atlas.ingest.text.corpus import Corpus, open_corpus
from atlas.ingest.text.reference import Reference
from atlas.ingest.text.tokens import tokenizer_hash
from atlas.ingest.training.sweep import parse_strategy, sweep
from atlas.ingest.workspace import work_root
from atlas.names import check_model_name
from atlas.store import Atlas, check_writable

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
    corpus: Corpus | None
    """None where nothing is trained and the atlas has a reference corpus."""
    found: Mapping[str, Found]
    """What will be imported, by `PlannedSae.key`."""
    reference: Reference | None
    """The atlas's, or None where this ingest will choose one."""
    done: bool
    """The atlas has these SAEs, made by this very plan."""
    partners: tuple[LanguageModel, ...] = ()
    """Models of the atlas that crosscoders read beside this one."""
    left_out: tuple[str, ...] = ()
    """Of another atlas, the SAEs of this model that read other models, too."""

    @cached_property
    def reader(self) -> Reader:
        """What the SAEs read: the model, or it and its partners."""
        return Ensemble(self.model, self.partners) if self.partners else self.model

    def summary(self) -> dict[str, object]:
        """What `--dry-run` shows."""
        plan, model, reader = self.plan, self.model, self.reader
        if self.reference is None:
            assert self.corpus is not None
            n_tokens = parse_count(self.options.reference_tokens, "--reference-tokens")
            measured = f"the first {n_tokens:,} tokens of {self.corpus.source}"
        else:
            n_tokens = self.reference.n_characters // 4
            measured = f"the atlas's own {self.reference.name}, {self.reference.n_words:,} words"
        weights = sum(
            sum(map(reader.width, sites.inputs + sites.outputs)) * sae.d_sae * 4
            for sae, sites in zip(plan.saes, map(sites_of, plan.saes), strict=True)
        )
        entries = sum(n_tokens * (sae.k or 0) for sae in plan.saes) * _BYTES_PER_ACTIVATION
        shown: dict[str, object] = {
            "atlas": str(self.path),
            "model": _described_model(model),
        }
        for i, partner in enumerate(self.partners):
            shown["with" + " " * i] = _described_model(partner)
        for i, sae in enumerate(plan.saes):
            shown["SAEs" if i == 0 else " " * i] = self._described(sae)
        if self.left_out:
            shown["left out"] = f"{', '.join(self.left_out)} (read other models, too)"
        if self.corpus is not None and not self.found:
            trained = f"{plan.train_tokens:,} tokens of {self.corpus.source}"
            shown["training"] = f"{trained}, context {plan.context}, seed {plan.seed}"
        return shown | {
            "reference": measured,
            "device": self.circumstances.device,
            "atlas grows by": f"about {(weights + entries) / 1e6:,.0f} MB",
            "state": "in the atlas already" if self.done else self._state(),
        }

    def _described(self, sae: PlannedSae) -> str:
        size = f"{sae.arch}, d_sae {sae.d_sae:,}" + (f", k {sae.k}" if sae.k else "")
        found = self.found.get(sae.key)
        origin = f"; {found.format}: {found.why}" if found else ""
        inputs = sites_of(sae).inputs
        reads = " + ".join(map(str, inputs))
        plain = inputs == (HookPoint(sae.name.layer, sae.name.hook),)
        sites = "" if plain else f" reads {reads}"
        return f"{sae.name} ({size}{sites}{origin})"

    def _state(self) -> str:
        begun = (work_root(self.path) / self.circumstances.key(self.plan)).exists()
        return "begun, would be gone on with" if begun else "not begun"


def sites_of(sae: PlannedSae) -> Sites:
    """The hook points of a planned SAE, those of other models last."""
    beside = tuple(HookPoint(*point, name) for name, point in sae.partners)
    return Sites(
        tuple(HookPoint(*point) for point in sae.inputs) + beside,
        tuple(HookPoint(*point) for point in sae.outputs) + beside,
    )


def _described_model(model: LanguageModel) -> str:
    randomized = f"; weights randomised: {model.randomized}" if model.randomized else ""
    return (
        f"{model.name} ({model.model_type}, {model.n_layers} layers, d_model {model.d_model}, "
        f"{model.n_parameters:,} parameters{randomized})"
    )


def prepare(
    path: Path, options: IngestOptions, *, corpus: Corpus | None = None, wait: float = 0.0
) -> Prepared:
    """Check everything that can be checked without work, and load the model.

    corpus: the text itself, in place of `options.corpus`.
    """
    check_options(options)
    if not path.parent.is_dir():
        raise BadInput(f"The folder {path.parent} does not exist; make it first.")
    _check_apart(path, options.sae)
    known = _read_known(path, wait)
    text, fingerprint = _choose_text(path, options, corpus, known.reference)
    randomized = parse_randomization(options.randomize)
    name = check_model_name(options.name or default_name(options.model, randomized))
    model = LanguageModel.load(
        options.model,
        name=name,
        revision=options.revision,
        randomized=randomized,
        device=options.device,
        block_path=options.block_path,
    )
    model.check_context(options.context)
    tokenizer_sha256 = tokenizer_hash(model.tokenizer)
    before = known.models.get(name)
    if before and (before.sha256, before.tokenizer_sha256) != (model.sha256, tokenizer_sha256):
        other = "model" if before.sha256 != model.sha256 else "tokenizer for the model"
        raise MadeOtherwise(
            f"{path} has another {other} named {name!r} already; give this one another name with "
            "--name."
        )
    partners = load_partners(options, name, known.models, path)
    chosen = _choose_saes(options, model, partners, wait)
    saes, found = chosen.saes, chosen.found
    strategy = None if options.sae else parse_strategy(options.strategy)
    plan = Plan(
        model=name,
        model_sha256=model.sha256,
        config_sha256=model.config_sha256(),
        tokenizer_sha256=tokenizer_sha256,
        block_path=model.block_path,
        saes=saes,
        strategy=str(strategy) if strategy else None,
        train_tokens=None if found else parse_count(options.train_tokens, "--train-tokens"),
        context=options.context,
        seed=options.seed,
        corpus=None if found else fingerprint,
        partners=tuple(partner.plan() for partner in partners),
    )
    circumstances = Circumstances(
        reference=known.reference.sha256
        if known.reference is not None
        else f"{parse_count(options.reference_tokens, '--reference-tokens')} of {fingerprint}",
        device=str(model.device),
        threads=torch.get_num_threads(),
        versions=versions(),
    )
    names = [str(sae.name) for sae in saes]
    here = [sae for sae in names if sae in known.plans]
    done = len(here) == len(names) and {known.plans[sae] for sae in here} == {plan.sha256}
    if here and not done:
        raise MadeOtherwise(
            f"{path} has {here[0]} already, made with other options; choose other --layers, or a "
            "name of its own for these SAEs with --variant."
        )
    if path.exists() and not done:
        check_writable(path)
    return Prepared(
        path,
        options,
        plan,
        circumstances,
        model,
        text,
        found,
        known.reference,
        done,
        tuple(partner.model for partner in partners),
        chosen.left_out,
    )


def _check_apart(path: Path, source: str | None) -> None:
    """Refuse an atlas as the source of its own SAEs."""
    if source is not None and path.exists():
        published = Path(source).expanduser()
        if published.exists() and published.samefile(path):
            raise BadInput(
                f"--sae {source} is the atlas that is to be written, and has these SAEs; name "
                "another source, or another atlas to write."
            )


def _choose_saes(
    options: IngestOptions, model: LanguageModel, partners: Sequence[LoadedPartner], wait: float
) -> Chosen:
    def width(point: Point) -> int:
        return model.width(HookPoint(*point))

    if options.sae is not None:
        return find_published(options, model.name, model.sha256, model.n_layers, width, wait)
    layers = parse_layers(options.layers, model.n_layers)
    beside = {partner.model.name: partner.layers for partner in partners}
    saes = sweep(options, model.name, layers, width, beside)
    reader = Ensemble(model, [partner.model for partner in partners])
    for point in all_points(map(sites_of, saes)):
        reader.width(point)  # told now if there is no such point
    return Chosen(saes)


@dataclass(frozen=True)
class _Known:
    """What the atlas holds already; nothing where there is none yet."""

    reference: Reference | None = None
    models: dict[str, KnownModel] = field(default_factory=dict)
    """By name."""
    plans: dict[str, str] = field(default_factory=dict)
    """SAE's name → hash of the plan that made it."""


def _read_known(path: Path, wait: float) -> _Known:
    if path.exists():
        with Atlas.open(path, wait=wait) as atlas:
            return _Known(
                references.of_atlas(atlas),
                known_models(atlas),
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
) -> tuple[Corpus | None, str]:
    """The text to train on, or to take the reference from, and its fingerprint."""
    if options.sae is not None and reference is not None:
        return None, reference.sha256
    if corpus is not None:
        return corpus, references.texts_sha256(document.text for document in corpus)
    if options.corpus is not None:
        opened = open_corpus(options.corpus, text_field=options.text_field)
        return opened, corpus_fingerprint(options.corpus, options.text_field)
    if reference is not None:
        return reference.as_corpus(), reference.sha256
    raise BadInput(f"{path} is a new atlas and needs a text: give one with --corpus.")


def versions() -> dict[str, str]:
    """Versions of what decides the numbers, for the table `runs`."""
    found = {package: version(package) for package in _PACKAGES}
    return found | {"python": platform.python_version(), "machine": platform.machine()}
