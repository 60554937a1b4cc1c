"""Ingest against a bare torch loop that does the same forward passes and the same SAE steps.

On the demo's first model and text; others by ATLAS_BENCH_MODEL and ATLAS_BENCH_CORPUS.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from atlas.ingest.demo import LAYERS, REFERENCE_TOKENS, TRAIN_TOKENS
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Sites
from atlas.ingest.plan import IngestOptions, parse_count, parse_layers, parse_width
from atlas.ingest.run import ingest
from atlas.ingest.text import reference as references
from atlas.ingest.text.contexts import Batch, Context, ContextStream, batches, stream_contexts
from atlas.ingest.training.state import Spec
from atlas.ingest.training.train import train_saes
from atlas.ingest.training.trainee import TrainConfig
from atlas.progress import Silent
from atlas.sae import SaeWeights
from tests.benchmarks import bare
from tests.benchmarks.data import bench_corpus, bench_model
from tests.benchmarks.timing import paired

_CONTEXT = 128
_TRAINING = "80k", "16k", 3
"""Tokens of training and of reference, and rounds."""
_WHOLE = TRAIN_TOKENS, REFERENCE_TOKENS, 1
"""As long as the demo's, since some costs do not grow with the text."""


def run(folder: Path) -> Iterator[str]:
    """Training, then everything: CPU time on one thread, and time passed on all of them."""
    n_threads = torch.get_num_threads()
    clocks = {1: time.process_time, n_threads: time.perf_counter}
    for what, (train_tokens, reference_tokens, rounds) in (
        ("training", _TRAINING),
        ("whole ingest", _WHOLE),
    ):
        bench = _Bench(folder, train_tokens, reference_tokens)
        n_tokens = bench.config.train_tokens
        ours, theirs = bench.training, bench.bare_training
        if what == "whole ingest":
            n_tokens += bench.n_reference
            ours, theirs = bench.whole, bench.bare_whole
        yield bench.described()
        for threads, clock in clocks.items():
            torch.set_num_threads(threads)
            mine, bare_loop, ratio = paired(ours, theirs, rounds, warm_up=False, clock=clock)
            unit = "tokens/s" if clock is time.perf_counter else "tokens per CPU second"
            yield (
                f"{what}, {threads} thread{'s' * (threads > 1)}: {n_tokens / mine:,.0f} {unit}, "
                f"bare loop {n_tokens / bare_loop:,.0f}, overhead {ratio - 1:+.0%}"
            )
        if what == "training":
            yield bench.quality()


class _Bench:
    """Both sides on one model and text; what the bare loop gets ready-made is made here."""

    def __init__(self, folder: Path, train_tokens: str, reference_tokens: str) -> None:
        self.folder = folder / "ingest"
        self.train_tokens, self.reference_tokens = train_tokens, reference_tokens
        self.corpus = bench_corpus()
        self.model = LanguageModel.load(bench_model(), device="cpu")
        layers = parse_layers(LAYERS, self.model.n_layers)
        self.points = [HookPoint(layer, "resid_post") for layer in layers]
        self.config = TrainConfig(
            d_sae=parse_width("8x", self.model.d_model),
            k=16,
            train_tokens=parse_count(train_tokens, "train_tokens"),
        )
        reference = references.choose(
            self.corpus, self.model.tokenizer, parse_count(reference_tokens, "reference_tokens")
        )
        tokens = references.stream(reference, self.model.tokenizer)
        self.n_reference, self.n_skipped = len(tokens), len(reference.documents)
        contexts = stream_contexts(tokens, _CONTEXT, self.model.bos_id)
        self.reference = list(self._batches(contexts))
        self.contexts = list(self._enough(self._batches(self._stream())))

    def described(self) -> str:
        """What the figures are of."""
        return (
            f"{self.model.name}, {self.model.n_parameters:,} parameters, layers {LAYERS}, "
            f"d_sae {self.config.d_sae}, k {self.config.k}, {self.config.train_tokens:,} tokens of "
            f"training, {self.n_reference:,} of reference"
        )

    def training(self) -> None:
        """Reading, tokenising and packing text, forward passes, shuffling, SAE steps, saving."""
        folder = self.folder / "training"
        specs = [Spec(str(point), (Sites.at(point),), self.config) for point in self.points]
        trained = train_saes(self.model, specs, self._stream(), folder, Silent())
        self.saes = [trained[spec.key].weights for spec in specs]
        shutil.rmtree(folder)

    def bare_training(self) -> None:
        """Forward passes and SAE steps."""
        torch.manual_seed(0)
        self.bare_saes = bare.train(self.model, self.points, self.contexts, self.config)

    def whole(self) -> None:
        """From a folder and text to rows in an atlas, with statistics, examples and labels."""
        options = IngestOptions(
            model=bench_model(),
            layers=LAYERS,
            width=str(self.config.d_sae),
            k=str(self.config.k),
            train_tokens=self.train_tokens,
            reference_tokens=self.reference_tokens,
            context=_CONTEXT,
            device="cpu",
        )
        path = self.folder / "bench.atlas"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        ingest(path, options, corpus=self.corpus)

    def bare_whole(self) -> None:
        """Training, then forward passes and encoding of the reference tokens."""
        self.bare_training()
        bare.encode(self.model, self.points, self.reference, self.bare_saes)

    def quality(self) -> str:
        """That both learned about as much: explained variance of the reference tokens."""
        x = [
            torch.cat(rows)
            for rows in zip(*bare.activations(self.model, self.points, self.reference), strict=True)
        ]
        ours = map(_explained, self.saes, x)
        theirs = map(_explained, (sae.weights() for sae in self.bare_saes), x)
        return (
            "explained variance of reference tokens: "
            + ", ".join(f"{a:.3f}" for a in ours)
            + "; bare loop "
            + ", ".join(f"{b:.3f}" for b in theirs)
        )

    def _stream(self) -> ContextStream:
        tokenizer, bos_id = self.model.tokenizer, self.model.bos_id
        return ContextStream(
            self.corpus, tokenizer, _CONTEXT, bos_id=bos_id, skip_documents=self.n_skipped
        )

    def _batches(self, contexts: Iterator[Context]) -> Iterator[Batch]:
        return batches(contexts, self.config.forward_tokens, self.model.pad_id)

    def _enough(self, read: Iterator[Batch]) -> Iterator[Batch]:
        """As many batches as the training takes."""
        n = 0
        while n < self.config.train_tokens:
            batch = next(read)
            n += len(batch.token)
            yield batch


def _explained(sae: SaeWeights, x: torch.Tensor) -> float:
    left = (x - sae.decode(sae.encode(x), x)).square().sum()
    return float(1 - left / (x - x.mean(0)).square().sum())
