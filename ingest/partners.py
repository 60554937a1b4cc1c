"""The models that a crosscoder reads beside the one that is ingested: `--with NAME@LAYERS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atlas.errors import BadInput
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.randomize import Randomization, parse_randomization
from atlas.ingest.plan import IngestOptions, Partner, parse_layers
from atlas.ingest.text.tokens import tokenizer_hash
from atlas.store import Atlas


@dataclass(frozen=True)
class KnownModel:
    """What an atlas knows of a model."""

    sha256: str
    """Of its weights."""
    tokenizer_sha256: str
    source: str
    revision: str | None
    block_path: str
    randomized: Randomization | None = None


@dataclass(frozen=True)
class LoadedPartner:
    """A partner, ready to be read."""

    model: LanguageModel
    layers: tuple[int, ...]

    def plan(self) -> Partner:
        """What results depend on."""
        return Partner(
            self.model.name,
            self.model.sha256,
            self.model.config_sha256(),
            tokenizer_hash(self.model.tokenizer),
            self.model.block_path,
        )


def known_models(atlas: Atlas) -> dict[str, KnownModel]:
    """Every model of the atlas, by name."""
    rows = atlas.sql(
        "select models.*, tokenizers.sha256 as tokenizer_sha256"
        " from models join tokenizers using (tokenizer_id)"
    )
    return {
        row["name"]: KnownModel(
            row["sha256"],
            row["tokenizer_sha256"],
            row["source"],
            row["revision"],
            row["block_path"],
            parse_randomization(row.get("randomized")),  # older atlases have no such column
        )
        for row in rows.to_arrow_table().to_pylist()
    }


def load_partners(
    options: IngestOptions, name: str, known: Mapping[str, KnownModel], path: Path
) -> tuple[LoadedPartner, ...]:
    """The models of `options.partners`, loaded from where the atlas at `path` has them from.

    name: of the model that is ingested. BadInput where one is not in the atlas, is named twice, is
    not at its place any more or has become another, or has no such layer.
    """
    partners: dict[str, LoadedPartner] = {}
    for given in options.partners:
        partner, at, layers = given.rpartition("@")
        if not at or not partner:
            raise BadInput(f"--with {given!r} is no NAME@LAYERS; write it as pythia-70m@2,4.")
        if partner == name:
            raise BadInput(f"--with {given}: {name} is the model itself; use --layers for it.")
        if partner in partners:
            raise BadInput(f"--with {given}: {partner} comes twice; give all its layers at once.")
        if partner not in known:
            raise BadInput(
                f"--with {given}: {path} has no model {partner!r}, but "
                f"{', '.join(sorted(known)) or 'none at all'}; ingest it first."
            )
        try:
            model = load_known(partner, known[partner], options.device, path)
        except BadInput as error:
            raise BadInput(f"--with {error}") from error
        model.check_context(options.context)
        chosen = parse_layers(layers, model.n_layers, f"--with {given}:")
        partners[partner] = LoadedPartner(model, chosen)
    return tuple(partners.values())


def load_known(name: str, known: KnownModel, device: str, path: Path) -> LanguageModel:
    """The model of that name from where the atlas at `path` has it from.

    BadInput where it cannot be read there, or has become another.
    """
    try:
        model = LanguageModel.load(
            known.source,
            name=name,
            revision=known.revision,
            randomized=known.randomized,
            device=device,
            block_path=known.block_path,
        )
    except BadInput as error:
        raise BadInput(
            f"{name}: {path} has this model from {known.source}, where it cannot be read: {error}"
        ) from error
    changed = [
        what
        for what, found, expected in (
            ("other weights", model.sha256, known.sha256),
            ("another tokenizer", tokenizer_hash(model.tokenizer), known.tokenizer_sha256),
        )
        if found != expected
    ]
    if changed:
        raise BadInput(
            f"{name}: {known.source} has {changed[0]} by now than {path} knows; put "
            "the model back, or ingest it by another --name."
        )
    return model
