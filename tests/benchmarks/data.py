"""What the benchmarks run on: the models and the text that the package ships or finds."""

from __future__ import annotations

import os
from pathlib import Path

from atlas.demo import MODELS, models_folder
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest
from atlas.ingest.text.corpus import Corpus, open_corpus
from atlas.ingest.text.stdlib_corpus import stdlib_corpus


def bench_model() -> str:
    """Folder or hub id of the model to measure speed on: the demo's first, or ATLAS_BENCH_MODEL."""
    return os.environ.get("ATLAS_BENCH_MODEL", str(models_folder() / MODELS[0]))


def bench_corpus() -> Corpus:
    """Its text: the demo's, or what ATLAS_BENCH_CORPUS names."""
    source = os.environ.get("ATLAS_BENCH_CORPUS")
    return open_corpus(source) if source else stdlib_corpus()


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
