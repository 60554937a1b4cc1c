"""Gemma Scope 1 and 2: places from folder names, activations as SAELens's loaders have them."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from atlas.errors import BadInput
from tests.golden import DATA, assert_conforms, assert_same_codes, cases, found_in

GEMMA = DATA / "gemma_scope"
FOLDER = "gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_68"
FOLDER_2 = "gemma-scope-2-1b-pt/resid_post/layer_7_width_16k_l0_small"


@pytest.mark.parametrize("name", [name for name in cases("gemma_scope") if name != "embedding"])
def test_it_computes_what_saelens_does(name):
    assert_conforms(GEMMA / name, "gemma-scope-2" if name.startswith("2") else "gemma-scope")


def test_embeddings_are_scaled_as_they_enter_the_first_block():
    """SAELens scales the directions by √d but not b_dec, which belongs to the same sum."""
    found = found_in(GEMMA / "embedding")
    assert found.inputs == ((0, "resid_pre"),)
    sae, expected = found.load(), load_file(GEMMA / "embedding" / "expected.safetensors")
    y = expected["y"] + (math.sqrt(6) - 1) * sae.b_dec
    assert_same_codes(sae, expected["x"], expected["acts"], y)


def test_transcoders_read_before_the_gain_of_the_norm():
    found = found_in(GEMMA / "transcoders")
    assert (found.inputs, found.outputs) == (((4, "mlp_norm"),), ((4, "mlp_out"),))
    assert (found.architecture, found.model) == ("transcoder", "google/gemma-2-2b")


@pytest.mark.parametrize(
    "name, model, place, declared",
    [
        ("res", "google/gemma-2-2b", (5, "resid_post"), {"l0": 68}),
        ("att", "google/gemma-2-9b-it", (20, "attn_z"), {"l0": 81}),
        ("2_resid_post", "google/gemma-3-1b-pt", (7, "resid_post"), {"l0": 12}),
    ],
)
def test_where_it_belongs(name, model, place, declared):
    found = found_in(GEMMA / name)
    assert (found.model, found.inputs, found.outputs) == (model, (place,), (place,))
    assert found.declared == declared


def test_an_affine_transcoder():
    found = found_in(GEMMA / "2_transcoder_affine")
    assert (found.inputs, found.outputs) == (((7, "mlp_in"),), ((7, "mlp_out"),))
    assert found.architecture == "skip-transcoder"


def test_folders_above_the_one_that_is_given_count():
    found = found_in(GEMMA / "res" / FOLDER)
    assert (found.place, found.inputs) == ("params.npz", ((5, "resid_post"),))


def test_without_its_folders_the_place_is_open(tmp_path):
    shutil.copy(GEMMA / "res" / FOLDER / "params.npz", tmp_path)
    found = found_in(tmp_path)
    assert (found.model, found.inputs, found.declared) == (None, None, {})
    assert "are missing" in " ".join(found.conventions["notes"])


def test_the_second_without_a_configuration(tmp_path):
    place = tmp_path / FOLDER_2
    place.mkdir(parents=True)
    shutil.copy(GEMMA / "2_resid_post" / FOLDER_2 / "params.safetensors", place)
    found = found_in(tmp_path)
    assert (found.model, found.inputs) == ("google/gemma-3-1b-pt", ((7, "resid_post"),))
    shutil.move(place, tmp_path / "elsewhere")
    with pytest.raises(BadInput, match=r"has no config\.json beside it"):
        found_in(tmp_path)


def _arrays():
    with np.load(GEMMA / "res" / FOLDER / "params.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda a: a.pop("threshold"), "has no 'threshold'"),
        (lambda a: a.pop("W_dec"), "has no 'W_dec'"),
        (lambda a: a.update(W_enc=a["W_enc"].T), r"'W_dec'|'b_enc'.*instead of"),
        (lambda a: a.update(b_enc=a["b_enc"] + np.nan), "not finite"),
        (lambda a: a.update(b_gate=a["b_enc"]), "also has b_gate"),
        (lambda a: a.update(b_enc=np.array([{}] * 16, dtype=object)), "cannot be read"),
    ],
)
def test_arrays_that_cannot_be_are_told(tmp_path, change, sentence):
    arrays = _arrays()
    change(arrays)
    np.savez(tmp_path / "params.npz", **arrays)
    with pytest.raises(BadInput, match=sentence):
        found_in(tmp_path).load()


def test_a_truncated_archive_is_told(tmp_path):
    path = tmp_path / "params.npz"
    path.write_bytes((GEMMA / "res" / FOLDER / "params.npz").read_bytes()[:900])
    with pytest.raises(BadInput, match=r"params\.npz cannot be read"):
        found_in(tmp_path)


@pytest.mark.parametrize(
    "config, tensors, sentence",
    [
        ({"architecture": "topk"}, {}, "architecture 'topk'"),
        ({"affine_connection": True}, {}, "affine_connection True"),
        ({}, {"w_dec": torch.zeros(16, 3, 6)}, "cross-layer transcoder"),
        ({}, {"w_dec": torch.zeros(15, 6)}, "instead of"),
        ({}, {"other": torch.zeros(1)}, "also has other"),
    ],
)
def test_what_is_no_dictionary_of_the_second_is_told(tmp_path, config, tensors, sentence):
    source = GEMMA / "2_resid_post" / FOLDER_2
    published = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(published | config))
    save_file(load_file(source / "params.safetensors") | tensors, tmp_path / "params.safetensors")
    with pytest.raises(BadInput, match=sentence):
        found_in(tmp_path).load()
