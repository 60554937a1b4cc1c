"""The shipped models: they load anywhere, are what their cards say, and have learned something."""

from __future__ import annotations

import json
import math
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from atlas.demo import MODELS, models_folder
from atlas.demo.text import documents

FILES = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@dataclass
class Shipped:
    name: str
    folder: Path
    model: Any
    tokenizer: Any


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small gain nothing from two, and lose much where the cores are busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def held_out():
    """A few of the documents that no model was trained on."""
    return [body for _, body in documents(held_out=True)][:40]


@pytest.fixture(scope="module", params=MODELS)
def shipped(request):
    """Loaded by transformers alone, with the network out of reach."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    folder = models_folder() / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return Shipped(request.param, folder, model, tokenizer)


def weights(name):
    with safe_open(models_folder() / name / "model.safetensors", framework="np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no mapping


def read(name, file):
    return (models_folder() / name / file).read_bytes()


def test_together_they_are_small():
    files = [path for path in models_folder().rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(MODELS)
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    for name in MODELS:
        assert {path.name for path in (models_folder() / name).iterdir()} >= FILES


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_finite_float16(name):
    for key, tensor in weights(name).items():
        assert tensor.dtype == np.float16, key
        assert np.isfinite(tensor).all(), key


def test_two_seeds_differ_in_their_weights_alone():
    first, second, _ = MODELS
    for file in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert read(first, file) == read(second, file)
    a, b = weights(first), weights(second)
    assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
    matrices = [key for key in a if a[key].ndim == 2]
    for key in matrices:  # not one shares its initial values
        assert abs(np.corrcoef(a[key].ravel(), b[key].ravel())[0, 1]) < 0.2, key


def test_the_third_is_of_another_kind():
    first, _, third = MODELS
    configs = [json.loads(read(name, "config.json")) for name in (first, third)]
    assert configs[0]["model_type"] != configs[1]["model_type"]
    vocabularies = [
        set(json.loads(read(name, "tokenizer.json"))["model"]["vocab"]) for name in (first, third)
    ]
    assert len(vocabularies[0] ^ vocabularies[1]) > 500


def test_tokenizer_begins_contexts_and_knows_its_characters(shipped, held_out):
    tokenizer = shipped.tokenizer
    assert tokenizer.is_fast
    assert tokenizer("text").input_ids[0] == tokenizer.bos_token_id == 0
    assert shipped.model.config.bos_token_id == 0
    assert tokenizer.vocab_size == shipped.model.config.vocab_size
    for text in held_out[:20]:
        encoded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        assert tokenizer.decode(encoded.input_ids) == text
        covered = {i for start, end in encoded.offset_mapping for i in range(start, end)}
        assert covered == set(range(len(text)))


def test_it_predicts_unseen_text_far_better_than_token_frequencies(shipped, held_out):
    import torch

    tokenizer, context = shipped.tokenizer, shipped.model.config.max_position_embeddings

    def encode(texts):
        ids = tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
        return [torch.tensor(one) for one in ids]

    seen = torch.cat(encode([body for _, body in documents(held_out=False)]))
    frequency = torch.bincount(seen, minlength=tokenizer.vocab_size).double() + 1
    unigram = (frequency / frequency.sum()).log()

    nll = unigram_nll = 0.0
    count = 0
    with torch.inference_mode():
        for ids in encode(held_out):
            count += len(ids)
            unigram_nll -= float(unigram[ids].sum())
            for window in ids.split(context - 1):
                row = torch.cat([torch.tensor([tokenizer.bos_token_id]), window])
                logits = shipped.model(row[None, :-1]).logits[0].double()
                nll += float(torch.nn.functional.cross_entropy(logits, row[1:], reduction="sum"))
    assert count > 5000
    perplexity, baseline = math.exp(nll / count), math.exp(unigram_nll / count)
    assert perplexity < baseline / 8
    # The card gives the figures over all held-out documents.
    card = (shipped.folder / "README.md").read_text(encoding="utf-8")
    (row,) = (line for line in card.splitlines() if line.startswith(f"| {shipped.name} "))
    stated = [float(cell) for cell in row.split("|")[4:6]]
    assert [perplexity, baseline] == pytest.approx(stated, rel=0.3)


def test_it_writes_words_of_the_manual(shipped):
    given = shipped.tokenizer("Return a", return_tensors="pt")
    out = shipped.model.generate(
        input_ids=given.input_ids,
        attention_mask=given.attention_mask,
        max_new_tokens=12,
        do_sample=False,
    )
    words = shipped.tokenizer.decode(out[0], skip_special_tokens=True).split()
    known = {word for _, body in documents() for word in body.split()}
    assert len(words) >= 4
    assert sum(word in known for word in words) >= 0.8 * len(words)
