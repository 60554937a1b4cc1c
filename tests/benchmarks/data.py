"""What the benchmarks run on: the models and the text that the package ships or finds."""

from __future__ import annotations

from pathlib import Path

from atlas.demo import MODELS, models_folder
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest
from atlas.ingest.stdlib_corpus import stdlib_corpus


def demo_atlas(folder: Path) -> Path:
    """An atlas of two demo models with different tokenizers; made once a run."""
    path = folder / "bench.atlas"
    if not path.exists():
        for name in (MODELS[0], MODELS[2]):
            options = IngestOptions(
                model=str(models_folder() / name), train_tokens="60k", reference_tokens="60k"
            )
            ingest(path, options, corpus=stdlib_corpus())
    return path
