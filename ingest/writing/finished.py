"""What an ingest has made and the atlas does not have yet."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from atlas.ingest.importing.formats.found import Found
from atlas.ingest.measuring.parts import Parts
from atlas.ingest.models.joint import Reader
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import Sites
from atlas.ingest.plan import IngestOptions, Plan, PlannedSae
from atlas.ingest.text.forms import WordForms
from atlas.ingest.text.reference import Reference
from atlas.ingest.text.tokens import TokenStream
from atlas.sae import SaeWeights


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
