"""One library's training of one SAE, from text to weights, in a process of its own.

python -m tests.benchmarks.peer_runs TASK.json     prints one line of JSON

Each library reads text by its own tokenising, batching, buffering and training code, configured
for the same model, text, width, k, context and batch. What is timed begins with text and a loaded
model and ends with weights on disk. dictionary_learning stops a forward pass at the hook point, as
we do; SAELens does for models that TransformerLens knows by name, so that here it is given a model
without the later blocks and the head; sparsify runs the whole model in any case.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

Reconstruct = Callable[[Tensor], tuple[Tensor, float]]
"""From activations (n, d) to reconstructions and the mean number of active latents."""


@dataclass(frozen=True)
class Task:
    """What shall be trained."""

    library: str
    architecture: str
    model: str
    block_path: str
    layer: int
    d_model: int
    texts: str
    """A .jsonl file: one text a line."""
    pieces: str
    """The same texts, cut so that each is one context: a .jsonl file."""
    held_out: str
    """Activations (n, d_model) of other texts: a .pt file."""
    folder: str
    d_sae: int
    k: int
    tokens: int
    batch: int
    context: int
    threads: int
    device: str
    lr: float

    @property
    def steps(self) -> int:
        return self.tokens // self.batch


Prepared = Callable[[], Reconstruct]
"""Trains when called: what is timed."""


def atlas(task: Task) -> Prepared:
    """Ours; `lr` is not used: the default is."""
    from atlas.ingest.models.language_model import LanguageModel
    from atlas.ingest.models.sites import HookPoint, Sites
    from atlas.ingest.text.contexts import ContextStream
    from atlas.ingest.text.corpus import open_corpus
    from atlas.ingest.training.state import Spec
    from atlas.ingest.training.train import train_saes
    from atlas.ingest.training.trainee import TrainConfig
    from atlas.progress import Silent

    model = LanguageModel.load(task.model, device=task.device)
    stream = ContextStream(
        open_corpus(task.texts), model.tokenizer, task.context, bos_id=model.bos_id
    )
    sites = Sites.at(HookPoint(task.layer, "resid_post"))
    config = TrainConfig(
        d_sae=task.d_sae,
        k=task.k,
        train_tokens=task.tokens,
        batch_tokens=task.batch,
        architecture=task.architecture,
        **({"lr": task.lr} if task.lr else {}),
    )

    def train() -> Reconstruct:
        spec = Spec("sae", (sites,), config)
        weights = train_saes(model, [spec], stream, Path(task.folder), Silent())["sae"].weights

        def reconstruct(x: Tensor) -> tuple[Tensor, float]:
            code = weights.encode(x)
            return weights.decode(code, x), float((code.value > 0).sum()) / len(x)

        return reconstruct

    return train


def saelens(task: Task) -> Prepared:
    """SAELens: its runner on a transformers model, its mixing buffer, Adam with decay."""
    from datasets import Dataset
    from sae_lens import (
        SAE,
        BatchTopKTrainingSAEConfig,
        LanguageModelSAERunnerConfig,
        LanguageModelSAETrainingRunner,
        LoggingConfig,
        MatryoshkaBatchTopKTrainingSAEConfig,
        TopKTrainingSAEConfig,
    )
    from sae_lens.load_model import HookedProxyLM

    kinds = {
        "topk": TopKTrainingSAEConfig,
        "batchtopk": BatchTopKTrainingSAEConfig,
        "matryoshka": MatryoshkaBatchTopKTrainingSAEConfig,
    }
    own = {}
    if task.architecture != "topk":
        # Of the default .01 the threshold would still be far below what it follows.
        own["topk_threshold_lr"] = max(0.01, 20 / task.steps)
    if task.architecture == "matryoshka":
        own["matryoshka_widths"] = prefixes(task)
    sae = kinds[task.architecture](
        d_in=task.d_model,
        d_sae=task.d_sae,
        k=task.k,
        normalize_activations="expected_average_only_in",
        device=task.device,
        **own,
    )
    hook = f"{task.block_path}.{task.layer}"
    config = LanguageModelSAERunnerConfig(
        sae=sae,
        model_class_name="AutoModelForCausalLM",
        model_name=task.model,
        hook_name=hook,
        is_dataset_tokenized=False,
        streaming=False,
        context_size=task.context,
        exclude_special_tokens=True,
        training_tokens=task.tokens,
        train_batch_size_tokens=task.batch,
        store_batch_size_prompts=max(1, task.batch // task.context),
        n_batches_in_buffer=64,
        n_batches_for_norm_estimate=10,
        lr=task.lr,
        lr_warm_up_steps=task.steps // 20,
        lr_decay_steps=task.steps * 3 // 10,
        device=task.device,
        seed=0,
        dead_feature_window=max(1, task.steps // 10),
        feature_sampling_window=task.steps,
        n_checkpoints=0,
        checkpoint_path=None,
        output_path=task.folder,
        verbose=False,
        logger=LoggingConfig(log_to_wandb=False),
    )
    model, tokenizer = load(task, cut=True)
    texts = Dataset.from_dict({"text": read_lines(task.texts)})
    hooked = HookedProxyLM(model, tokenizer, hook_names=[hook])
    runner = LanguageModelSAETrainingRunner(config, override_dataset=texts, override_model=hooked)

    def train() -> Reconstruct:
        runner.run()
        trained = SAE.load_from_disk(task.folder, device=task.device)

        def reconstruct(x: Tensor) -> tuple[Tensor, float]:
            acts = trained.encode(x)
            return trained.decode(acts), float((acts > 0).sum()) / len(x)

        return reconstruct

    return train


def sparsify(task: Task) -> Prepared:
    """eai-sparsify: its trainer on a dataset of its own chunking."""
    from datasets import Dataset
    from sparsify import SaeConfig, TrainConfig, Trainer
    from sparsify.data import chunk_and_tokenize

    model, tokenizer = load(task)
    texts = Dataset.from_dict({"text": read_lines(task.texts)})
    tokenizer.model_max_length = task.context
    path = f"{task.block_path}.{task.layer}"
    name = path.removeprefix(f"{model.base_model_prefix}.")

    def train() -> Reconstruct:
        chunks = chunk_and_tokenize(
            texts, tokenizer, max_seq_len=task.context, num_proc=task.threads
        ).shuffle(seed=0)
        config = TrainConfig(
            SaeConfig(num_latents=task.d_sae, k=task.k),
            batch_size=max(1, task.batch // task.context),
            optimizer="adam",
            lr=task.lr,
            lr_warmup_steps=task.steps // 20,
            auxk_alpha=1 / 32,
            dead_feature_threshold=task.tokens // 10,
            exclude_tokens=tokenizer.all_special_ids,
            hookpoints=[name],
            log_to_wandb=False,
            save_dir=task.folder,
            run_name="run",
        )
        n = min(len(chunks), task.steps * config.batch_size)
        trainer = Trainer(config, chunks.select(range(n)), model)
        trainer.fit()
        (trained,) = trainer.saes.values()

        def reconstruct(x: Tensor) -> tuple[Tensor, float]:
            found = trained(x)
            return found.sae_out, float((found.latent_acts > 0).sum()) / len(x)

        return reconstruct

    return train


def dictionary_learning(task: Task) -> Prepared:
    """dictionary_learning: its buffer on nnsight and its trainers."""
    from dictionary_learning import ActivationBuffer
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE, BatchTopKTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import (
        MatryoshkaBatchTopKSAE,
        MatryoshkaBatchTopKTrainer,
    )
    from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer
    from dictionary_learning.training import trainSAE
    from nnsight import LanguageModel

    trainer, kind = {
        "topk": (TopKTrainer, AutoEncoderTopK),
        "batchtopk": (BatchTopKTrainer, BatchTopKSAE),
        "matryoshka": (MatryoshkaBatchTopKTrainer, MatryoshkaBatchTopKSAE),
    }[task.architecture]
    # Given ready-made, as nnsight 0.3 does not load a Llama's configuration of transformers 5.
    hf_model, tokenizer = load(task)
    model = LanguageModel(hf_model, tokenizer=tokenizer)
    model.tokenizer.pad_token = model.tokenizer.pad_token or model.tokenizer.eos_token
    submodule = model
    for part in f"{task.block_path}.{task.layer}".split("."):
        submodule = submodule[int(part)] if part.isdigit() else getattr(submodule, part)
    buffer = ActivationBuffer(
        iter(read_lines(task.pieces)),
        model,
        submodule,
        d_submodule=task.d_model,
        n_ctxs=max(2, min(1000, task.tokens // task.context // 4)),
        ctx_len=task.context,
        refresh_batch_size=max(1, task.batch // task.context),
        out_batch_size=task.batch,
        device=task.device,
        remove_bos=model.tokenizer.bos_token_id is not None,
    )
    settings = {
        "trainer": trainer,
        "dict_class": kind,
        "activation_dim": task.d_model,
        "dict_size": task.d_sae,
        "k": task.k,
        "lr": task.lr,
        "steps": task.steps,
        "warmup_steps": task.steps // 20,
        "decay_start": task.steps * 7 // 10,
        "threshold_start_step": task.steps // 2,
        "layer": task.layer,
        "lm_name": task.model,
        "device": task.device,
        "seed": 0,
    }
    if task.architecture != "topk":
        settings["threshold_beta"] = 1 - max(0.001, 20 / task.steps)
    if task.architecture == "matryoshka":
        ends = prefixes(task)
        sizes = [b - a for a, b in zip([0, *ends], ends, strict=False)]
        settings["group_fractions"] = [size / task.d_sae for size in sizes]

    def train() -> Reconstruct:
        trainSAE(
            buffer,
            [settings],
            steps=task.steps,
            save_dir=task.folder,
            device=task.device,
        )
        trained = kind.from_pretrained(
            f"{task.folder}/trainer_0/ae.pt", k=task.k, device=task.device
        )

        def reconstruct(x: Tensor) -> tuple[Tensor, float]:
            acts = trained.encode(x)
            return trained.decode(acts), float((acts > 0).sum()) / len(x)

        return reconstruct

    return train


LIBRARIES: dict[str, Callable[[Task], Prepared]] = {
    "atlas": atlas,
    "SAELens": saelens,
    "sparsify": sparsify,
    "dictionary_learning": dictionary_learning,
}


def prefixes(task: Task) -> list[int]:
    """The nested dictionaries that ours has by default."""
    return [task.d_sae * (2**i - 1) // 32 for i in range(1, 5)] + [task.d_sae]


def load(task: Task, *, cut: bool = False) -> tuple[nn.Module, object]:
    """A transformers model and its tokenizer; cut: its last block is the hook point's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(task.model, dtype=torch.float32).eval()
    if cut:
        path, _, name = task.block_path.rpartition(".")
        parent = model.get_submodule(path)
        setattr(parent, name, getattr(parent, name)[: task.layer + 1])
        model.set_output_embeddings(nn.Identity())
    return model.to(task.device), AutoTokenizer.from_pretrained(task.model)


def read_lines(path: str) -> list[str]:
    """The texts of a .jsonl file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Train as the task says, and measure."""
    task = Task(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    train = LIBRARIES[task.library](task)
    started, computed = time.perf_counter(), time.process_time()
    reconstruct = train()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - computed
    x = torch.load(task.held_out).to(task.device)
    with torch.no_grad():
        found, l0 = reconstruct(x)
    explained = 1 - (x - found).square().sum() / (x - x.mean(0)).square().sum()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {
        "tokens_per_s": task.tokens / seconds,
        "tokens_per_cpu_s": task.tokens / cpu_seconds,
        "explained_variance": float(explained),
        "l0": l0,
        "peak_bytes": peak,
    }
    # Libraries print to the standard output too: the figures are its last line.
    print("\n" + json.dumps(figures), flush=True)
    os._exit(0)  # without waiting for threads that a library leaves behind


if __name__ == "__main__":
    main()
