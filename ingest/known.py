"""What an atlas knows, loaded to be run again: its models, and its SAEs with their hook points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atlas.errors import BadInput
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.randomize import Randomization, parse_randomization
from atlas.ingest.models.sites import HookPoint, Placed, Sites
from atlas.ingest.text.tokens import tokenizer_hash
from atlas.store import Atlas
from atlas.stored import load_weights


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


def load_placed(atlas: Atlas, sae: str) -> Placed:
    """The dictionary called `sae`, on the CPU, and its hook points.

    BadInput for one that reads several models. NotFound if there is none of that name.
    """
    rows = atlas.rows(
        """
        select role, sae_sites.layer, sae_sites.hook, sae_sites.model_id = saes.model_id
        from sae_sites join saes using (sae_id)
        where saes.name = ? order by sae_sites.place
        """,
        [sae],
    )
    if not all(own for *_, own in rows):
        raise BadInput(
            f"{sae} reads several models side by side, of which no one runs alone; name other SAEs."
        )
    inputs, outputs = (
        tuple(HookPoint(layer, hook) for role, layer, hook, _ in rows if role == wanted)
        for wanted in ("input", "output")
    )
    return Sites(inputs, outputs), load_weights(atlas, sae)
