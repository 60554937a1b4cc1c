"""Tiny random language models and texts: real transformers folders that are made in a second."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

SYLLABLES = ["ba", "do", "ki", "lu", "me", "no", "pa", "ri", "so", "tu", "va", "ze"]


def make_text(n_words: int, seed: int = 0) -> str:
    """Sentences of made-up words, the frequent ones short."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(SYLLABLES, k=1 + i // 12)) for i in range(60)]
    text = []
    while n_words > 0:
        n = rng.randint(3, 12)
        chosen = [words[min(int(rng.expovariate(0.08)), 59)] for _ in range(n)]
        text.append(" ".join(chosen).capitalize() + rng.choice([".", "!", ", he said.", "?"]))
        n_words -= n
    return " ".join(text)


def make_corpus(folder: Path, n_documents: int = 60, n_words: int = 120) -> Path:
    """A .txt file of documents; returns its path."""
    path = folder / "corpus.txt"
    path.write_text("\n<|endoftext|>\n".join(make_text(n_words, i) for i in range(n_documents)))
    return path


def make_tokenizer(folder: Path, n_vocab: int = 160) -> Any:
    """A byte-level BPE tokenizer trained on such text, saved to the folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab + 260,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([make_text(2000, seed) for seed in range(5)], trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_model(
    folder: Path,
    *,
    seed: int = 0,
    n_layers: int = 2,
    d_model: int = 16,
    context: int = 64,
    n_vocab: int = 160,
) -> Path:
    """A random Llama with its tokenizer, saved as a transformers folder; returns the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(folder, n_vocab)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=d_model,
        intermediate_size=2 * d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
