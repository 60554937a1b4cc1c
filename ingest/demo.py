"""The demo's atlas: features of the language models that the package ships."""

from __future__ import annotations

from pathlib import Path

from atlas.demo import MODELS, models_folder
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest
from atlas.ingest.stdlib_corpus import stdlib_corpus
from atlas.progress import Progress

LAYERS = "1,3"
TRAIN_TOKENS = "600k"
REFERENCE_TOKENS = "120k"


def build_demo(path: Path, *, progress: Progress, wait: float = 0.0) -> None:
    """Ingest every demo model into the atlas at `path`; what it has already is not done twice."""
    for number, name in enumerate(MODELS, 1):
        progress.notice(f"Model {number} of {len(MODELS)}: {name}")
        ingest(
            path,
            IngestOptions(
                model=str(models_folder() / name),
                layers=LAYERS,
                train_tokens=TRAIN_TOKENS,
                reference_tokens=REFERENCE_TOKENS,
            ),
            corpus=stdlib_corpus(),
            progress=progress,
            wait=wait,
        )
