"""The gate for imported dictionaries: mistakes are named, and sound dictionaries pass.

Dictionaries are trained on a demo model's activations, then spoiled as importers and publishers do.
"""

from __future__ import annotations

import argparse
import collections
import inspect
import itertools
import math
import pathlib
import statistics
import subprocess
from dataclasses import replace

import pytest
import torch

from atlas.demo import models_folder
from atlas.ingest.importing.conformance import conformance
from atlas.ingest.importing.formats.found import Found
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Sites
from atlas.ingest.text.contexts import batches, contexts, tokenize_ids
from atlas.ingest.training.architectures import ARCHITECTURES
from atlas.ingest.training.trainee import Shape, TrainConfig
from atlas.workers import run_here

RESID = Sites.at(HookPoint(2, "resid_post"))
MLP = Sites((HookPoint(2, "mlp_norm"),), (HookPoint(2, "mlp_out"),))
STEPS, STEP = 120, 512


def documentation(*places, most: int) -> list[str]:
    """Text that is on every machine and that the demo models were trained for."""
    found = [
        text
        for place in places
        for _, member in inspect.getmembers(place)
        if len(text := inspect.getdoc(member) or "") > 200
    ]
    return found[:most]


def batches_of(model: LanguageModel, texts: list[str], most: int):
    ids = tokenize_ids(model.tokenizer, texts)
    cut = itertools.islice(contexts(ids, 128, model.bos_id), most)
    return list(batches(cut, 2048, model.pad_id))


@pytest.fixture(scope="module")
def models() -> dict[str, LanguageModel]:
    names = ("stdlib-a", "stdlib-b")
    return {name: LanguageModel.load(models_folder() / name, device="cpu") for name in names}


@pytest.fixture(scope="module")
def sample(models):
    """Batches of held-out text."""
    places = (subprocess, statistics, inspect, dict, itertools, math)
    texts = documentation(*places, most=60)
    return batches_of(models["stdlib-a"], texts, 30)


def train(make, x, y=None, *, d_sae: int = 256):
    """A dictionary with an L0 of about 16."""
    config = TrainConfig(d_sae, k=16, train_tokens=STEPS * STEP, batch_tokens=STEP)
    same = y is None
    y = x if same else y
    shape = Shape((x.shape[1],), (y.shape[1],), same)
    sae = make(shape, config, torch.Generator().manual_seed(0), torch.device("cpu"))
    sae.begin(x, y)
    g = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        rows = torch.randint(len(x), (STEP,), generator=g)
        some = x[rows]
        run_here(sae.step(some, some if same else y[rows], config.moment(step * STEP)))
    return sae.weights()


@pytest.fixture(scope="module")
def saes(models):
    model = models["stdlib-a"]
    texts = documentation(torch.Tensor, argparse, collections, pathlib, str, torch, most=700)
    read = batches_of(model, texts, 400)
    points = [*RESID.points, *MLP.points]
    found = [model.run(batch, points) for batch in read]
    x, read_by_mlp, written_by_mlp = (torch.cat(one) for one in zip(*found, strict=True))
    topk, batchtopk = ARCHITECTURES["topk"].make, ARCHITECTURES["batchtopk"].make
    mean, std = x.mean(1, keepdim=True), x.std(1, keepdim=True)
    scale = math.sqrt(x.shape[1]) / x.norm(dim=1).mean().item()
    return {
        "topk": train(topk, x),
        "relu": train(ARCHITECTURES["standard"].make, x),
        "jumprelu": train(batchtopk, x),
        "layer_norm": replace(train(topk, (x - mean) / (std + 1e-5)), normalize="layer_norm"),
        "scaled": folded(train(batchtopk, x * scale), scale),
        "square": train(topk, x, d_sae=x.shape[1]),
        "transcoder": train(ARCHITECTURES["transcoder"].make, read_by_mlp, written_by_mlp),
    }


def folded(sae, scale: float):
    """Trained on inputs times `scale`, for inputs as they are; no scale of its own is left."""
    whole = sae.input_scale * scale
    return replace(
        sae,
        W_enc=sae.W_enc * whole,
        b_enc=sae.b_enc - sae.pre_bias @ sae.W_enc,
        pre_bias=torch.zeros_like(sae.pre_bias),
        W_dec=sae.W_dec / whole,
        b_dec=sae.b_dec / whole,
        input_scale=1.0,
        output_scale=1.0,
    )


@pytest.fixture
def judge(models, sample):
    def judge(sae, sites=RESID, model="stdlib-a", measured=None, **declared):
        found = Found(
            "a format", "a file", ".", "a/model", ((2, "resid_post"),), None, sae.d_in, sae.d_sae,
            sae.d_out, sae.architecture, declared, {}, lambda: sae,
        )  # fmt: skip
        return conformance(found, sae, sites, models[model], sample, measured)

    return judge


KINDS = ("topk", "relu", "jumprelu", "layer_norm", "scaled", "square", "transcoder")


@pytest.mark.parametrize("kind", KINDS)
def test_sound_dictionaries_pass(saes, judge, kind):
    sites = MLP if kind == "transcoder" else RESID
    verdict = judge(saes[kind], sites)
    assert verdict.quality == "undeclared"
    assert verdict.sound
    l0, explained = verdict.findings
    assert 10 < float(l0.removeprefix("L0 is ")) < 25
    assert 0.3 < float(explained.removeprefix("explained variance is ")) < 0.9


@pytest.mark.parametrize("kind", ["topk", "relu", "jumprelu"])
def test_a_pre_bias_that_is_folded_or_not_is_the_same(saes, judge, kind):
    assert judge(folded(saes[kind], 1.0)).quality == "undeclared"


def test_what_is_declared_is_compared(saes, judge):
    sae = saes["topk"]
    near = judge(sae, measured={"ce_recovered": 0.9}, l0=16, explained_variance=0.8, ce_recovered=1)
    assert near.quality == "conforms"
    assert "L0 is 16 (16 declared)" in near.findings
    assert "ce_recovered is 0.9 (1 declared)" in near.findings
    worse = judge(sae, measured={"ce_recovered": 0.5}, l0=16, ce_recovered=0.9)
    assert worse.quality.startswith("as read, ce_recovered is 0.5 (0.9 declared), and no other")
    assert not worse.sound
    assert judge(sae, dead_share=0.9, mse=100).quality == "undeclared"  # not comparable
    assert "L0 is 16 (50 declared)" in judge(sae, l0=50).quality


def test_a_transposed_matrix(saes, judge):
    sae = saes["square"]
    encoder, decoder = ({name: getattr(sae, name).T.contiguous()} for name in ("W_enc", "W_dec"))
    assert "W_enc is stored transposed" in judge(replace(sae, **encoder)).quality
    assert "W_dec is stored transposed" in judge(replace(sae, **decoder)).quality
    both = judge(replace(sae, **encoder, **decoder))
    assert "W_enc and W_dec are stored transposed" in both.quality


@pytest.mark.parametrize("kind", ["topk", "relu", "jumprelu", "layer_norm"])
def test_a_pre_bias(saes, judge, kind):
    sae = saes[kind]
    missing = replace(sae, pre_bias=torch.zeros_like(sae.pre_bias))
    assert "b_dec is to be subtracted" in judge(missing).quality
    without = replace(missing, b_enc=sae.b_enc - sae.pre_bias @ sae.W_enc)
    assert "should not be, for then" in judge(replace(without, pre_bias=sae.b_dec)).quality


def test_an_activation_function(saes, judge):
    as_relu = replace(saes["topk"], activation="relu", k=None)
    assert "a TopK read as a ReLU, and only the 16 largest" in judge(as_relu, l0=16.0).quality
    sae = saes["jumprelu"]
    none = replace(sae, threshold=torch.zeros_like(sae.threshold))
    assert "its threshold is lost" in judge(none, l0=20).quality
    small = replace(sae, threshold=sae.threshold / sae.input_scale)
    assert "its threshold is in other units" in judge(small, l0=20).quality


@pytest.mark.parametrize("kind", ["topk", "relu", "jumprelu", "layer_norm"])
def test_a_wrong_layer_or_hook(saes, judge, kind):
    before, after, entering, added = (
        judge(saes[kind], Sites.at(HookPoint(*place))).quality
        for place in ((1, "resid_post"), (3, "resid_post"), (2, "resid_pre"), (2, "mlp_out"))
    )
    assert "other side of the block, 3-resid_pre (hidden states off by one), for then" in after
    if kind != "layer_norm":  # which explains as much of the layer before, and as evenly
        assert "it is for another layer, 2-resid_post, for then" in before
        assert "other side of the block, 2-resid_post (hidden states off by one)" in entering
    assert "it is for another hook, 2-resid_post, for then" in added
    assert judge(saes[kind], Sites.at(HookPoint(3, "resid_pre"))).sound  # the same place


def test_a_transcoder_at_a_wrong_place(saes, judge):
    sae = saes["transcoder"]
    gain = judge(sae, Sites((HookPoint(2, "mlp_in"),), MLP.outputs)).quality
    assert "it is for another hook, 2-mlp_norm and 2-mlp_out, for then" in gain
    above = Sites((HookPoint(3, "mlp_norm"),), (HookPoint(3, "mlp_out"),))
    assert "it is for another layer, 2-mlp_norm and 2-mlp_out" in judge(sae, above).quality


def test_a_crosscoder_whose_layers_are_swapped(models, sample, judge):
    near, far = (HookPoint(layer, "resid_post") for layer in (0, 2))
    given, swapped = Sites((near, far), (near, far)), Sites((far, near), (far, near))
    found = [models["stdlib-a"].run(batch, [near, far]) for batch in sample]
    x = torch.cat([torch.cat(pair, dim=1) for pair in found])
    sae = train(ARCHITECTURES["topk"].make, x)
    assert judge(sae, given).sound
    assert "other order, 0-resid_post and 2-resid_post, for then" in judge(sae, swapped).quality


def test_a_scale_that_is_not_folded(saes, judge):
    sae = saes["scaled"]
    inputs = replace(saes["topk"], input_scale=1.0, output_scale=1.0)
    assert "scaled to norm √d, which is not folded in, for then" in judge(inputs).quality
    twice = folded(sae, 0.2)
    assert "a scale of the input to norm √d is folded in, and should" in judge(twice).quality


def test_decoder_norms_that_are_not_folded(saes, judge):
    g = torch.Generator().manual_seed(0)
    for kind in ("topk", "jumprelu"):
        sae = saes[kind]
        norm = 0.2 + 3 * torch.rand(sae.d_sae, generator=g)
        longer = replace(sae, W_dec=sae.W_dec * norm[:, None])
        assert "the lengths of the decoder's rows are not to count" in judge(longer).quality
        apart = replace(longer, W_enc=sae.W_enc / norm, b_enc=sae.b_enc / norm)
        assert "compared times the lengths of their decoder rows" in judge(apart).quality


def test_a_normalisation_of_each_input(saes, judge):
    missing = judge(replace(saes["layer_norm"], normalize="none")).quality
    assert "each input is to be normalised first (layer_norm), and is not" in missing
    needless = judge(replace(saes["topk"], normalize="layer_norm")).quality
    assert "each input is normalised first (layer_norm), and should not be" in needless


@pytest.mark.parametrize("kind", ["topk", "relu", "jumprelu", "layer_norm"])
def test_another_model_of_the_same_width(saes, judge, kind):
    quality = judge(saes[kind], model="stdlib-b", l0=16.0).quality
    assert "it was trained on another model (its files name a/model) or hook" in quality


def test_absolute_sanity(saes, judge):
    sae = saes["relu"]
    silent = judge(replace(sae, b_enc=sae.b_enc - 1e6)).quality
    assert silent.startswith("as read, no latent is active")
    dense = judge(replace(sae, b_enc=sae.b_enc + 1e3)).quality
    assert dense.startswith("as read, L0 is 256.0 of 256 latents and explained variance is -")
    broken = judge(replace(sae, W_dec=sae.W_dec * torch.nan)).quality
    assert broken.startswith("as read, explained variance is nan")


def test_too_few_tokens_say_nothing(saes, judge, sample, models):
    few = batches_of(models["stdlib-a"], ["A few words."], 1)
    found = Found(
        "a",
        "b",
        ".",
        None,
        None,
        None,
        128,
        256,
        128,
        "topk",
        {"l0": 3.0},
        {},
        lambda: saes["topk"],
    )
    verdict = conformance(found, saes["topk"], RESID, models["stdlib-a"], few)
    assert verdict.quality == "undeclared"
    assert "too few to measure it by" in verdict.findings[0]


def test_a_verdict_is_one_sentence_with_a_next_step(saes, judge):
    quality = judge(saes["topk"], Sites.at(HookPoint(3, "resid_post"))).quality
    assert quality.endswith("correct its configuration and import it again.")
    assert "\n" not in quality
