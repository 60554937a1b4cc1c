"""The models that a crosscoder reads beside the one that is ingested: `--with NAME@LAYERS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atlas.errors import BadInput
from atlas.ingest.known import KnownModel, load_known
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.plan import IngestOptions, Partner, parse_layers
from atlas.ingest.text.tokens import tokenizer_hash


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
