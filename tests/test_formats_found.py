"""Recognising published dictionaries: what is told of files that are none, or could be two."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from atlas.errors import BadInput
from atlas.ingest.importing import formats
from atlas.ingest.importing.formats import FORMATS, read_dictionaries
from atlas.ingest.importing.formats.found import (
    Tensors,
    place_of_module,
    place_of_transformer_lens,
    read_pickle,
    transformer_lens_name,
)
from atlas.names import HOOKS
from tests.golden import DATA


def test_every_format_has_a_name_of_its_own_and_is_described():
    assert len(FORMATS) == len(formats._FORMATS)
    for name, format in FORMATS.items():
        assert name == format.name
        assert format.summary
        assert format.looks_for


def test_nothing_recognised_tells_what_was_there_and_what_was_looked_for(tmp_path):
    with pytest.raises(BadInput, match=r"there is no file, .*none of saelens: cfg\.json beside"):
        read_dictionaries(str(tmp_path))
    (tmp_path / "weights.bin").touch()
    (tmp_path / ".hidden").touch()
    with pytest.raises(BadInput, match=r"there is weights\.bin, but none of"):
        read_dictionaries(str(tmp_path))
    with pytest.raises(BadInput, match=r"none of sparsify: cfg\.json beside sae\.safetensors\."):
        read_dictionaries(str(DATA / "saelens" / "topk"), "sparsify")


def test_an_unknown_format_is_told():
    with pytest.raises(BadInput, match=r"no format .onnx.*saelens"):
        read_dictionaries(".", "onnx")


def test_a_path_that_is_none_is_told(tmp_path):
    for name in (f"{tmp_path}/absent", "absent", "a b/c"):
        with pytest.raises(BadInput, match="no repository of the hub either"):
            read_dictionaries(name)


def test_what_could_be_two_formats_is_not_guessed(tmp_path, monkeypatch):
    shutil.copytree(DATA / "saelens" / "topk", tmp_path / "a")
    saelens = FORMATS["saelens"]

    def claim(source):
        return [
            dataclasses.replace(one, format="other", why="its looks")
            for one in saelens.detect(source)
        ]

    other = dataclasses.replace(saelens, name="other", detect=claim)
    monkeypatch.setitem(FORMATS, "other", other)
    with pytest.raises(BadInput, match=r"a in .* could be saelens \(cfg\.json.* or other \(its l"):
        read_dictionaries(str(tmp_path))
    assert read_dictionaries(str(tmp_path), "other")[0].format == "other"


def test_several_formats_may_lie_side_by_side(tmp_path):
    shutil.copytree(DATA / "saelens" / "topk", tmp_path / "a")
    shutil.copytree(DATA / "sparsify" / "topk", tmp_path / "b")
    assert [one.format for one in read_dictionaries(str(tmp_path))] == ["saelens", "sparsify"]


def test_a_repository_out_of_reach_is_told(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match="nobody/nothing is not on this machine"):
        read_dictionaries("nobody/nothing:layers.5")


def test_a_repository_is_fetched_in_part(tmp_path, monkeypatch):
    """The hub stands in as a folder; of the snapshot only the part that is named is looked at."""
    import huggingface_hub

    snapshot = tmp_path / "snapshots" / "0123abcd"
    for part in ("layers.5", "layers.6"):
        shutil.copytree(DATA / "sparsify" / "topk" / "layers.5", snapshot / part)
    asked = {}

    def download(repository, **options):
        asked[repository] = options
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(formats, "_check_size", lambda *_: None)
    (found,) = read_dictionaries("owner/name:layers.6", revision="abc")
    assert (found.place, found.inputs) == ("layers.6", ((6, "resid_post"),))
    assert found.conventions["commit"] == "0123abcd"
    assert asked["owner/name"]["revision"] == "abc"
    assert "layers.6/*.safetensors" in asked["owner/name"]["allow_patterns"]
    assert len(read_dictionaries("owner/name")) == 2


class _Listing:
    """A hub with files of given sizes."""

    def __init__(self, **sizes):
        self.siblings = [type("File", (), {"rfilename": n, "size": s}) for n, s in sizes.items()]

    def model_info(self, *_, **__):
        return self


def test_more_than_anyone_wants_to_fetch_is_told():
    hub = _Listing(**{"l5/a.safetensors": 15 << 30, "l6/a.safetensors": 15 << 30, "README.md": 9})
    with pytest.raises(BadInput, match=r"30 GiB in 2 files; name a part of it, such as o/n:l5"):
        formats._check_size(hub, "o/n", "", None)
    formats._check_size(hub, "o/n", "l5", None)
    with pytest.raises(BadInput, match=r"in l7; it has README\.md, l5, l6"):
        formats._check_size(hub, "o/n", "l7", None)


class _Code:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_nothing_in_a_pickle_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"W": torch.zeros(2), "code": _Code()}, "a.pt")
    with pytest.raises(BadInput, match="could run code"):
        read_pickle(Path("a.pt"))
    Path("b.pt").write_bytes(pickle.dumps(_Code(), protocol=2))
    with pytest.raises(BadInput, match="could run code"):
        read_pickle(Path("b.pt"))
    assert not Path("executed").exists()


def test_pickles_that_are_damaged_or_hold_no_tensors_are_told(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"W": torch.zeros(200)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"a\.pt"):
        read_pickle(path)
    with pytest.raises(BadInput, match=r"b\.pt cannot be read"):
        read_pickle(tmp_path / "b.pt")
    torch.save([torch.zeros(2)], path)
    with pytest.raises(BadInput, match="holds no named tensors"):
        Tensors.open(path)


@pytest.mark.parametrize("suffix", ["safetensors", "npz", "pt"])
def test_tensors_are_taken_by_name_and_shape(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    values = {
        "W": torch.arange(6.0).reshape(2, 3).half(),
        "k": torch.tensor(4),
        "more": torch.ones(1),
    }
    if suffix == "safetensors":
        save_file(values, path)
    elif suffix == "npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in values.items()})
    else:
        torch.save(values, path)
    tensors = Tensors.open(path)
    assert tensors.shapes == {"W": (2, 3), "k": (), "more": (1,)}
    taken = tensors.take("W", 2, 3)
    assert (taken.dtype, taken.flatten().tolist()) == (torch.float32, [0, 1, 2, 3, 4, 5])
    assert tensors.take_scalar("k") == 4
    with pytest.raises(BadInput, match=r"shape \(2, 3\) instead of \(3, 2\)"):
        tensors.take("W", 3, 2)
    with pytest.raises(BadInput, match="has 2 dimensions instead of 1"):
        tensors.take("W", 6)
    with pytest.raises(BadInput, match="has no 'b', only W, k, more"):
        tensors.take("b", 1)
    with pytest.raises(BadInput, match="also has more"):
        tensors.done()
    tensors.ignore("more")
    tensors.done()


def test_transformer_lens_names_there_and_back():
    for hook in HOOKS:
        assert place_of_transformer_lens(transformer_lens_name((3, hook))) == (3, hook)
    assert place_of_transformer_lens("blocks.3.hook_mlp_in") == (3, "resid_mid")
    assert place_of_transformer_lens("blocks.3.attn.hook_q") is None
    assert place_of_transformer_lens("hook_embed") is None


@pytest.mark.parametrize(
    "name, side, place",
    [
        ("layers.5", "output", (5, "resid_post")),
        ("model.layers.5", "input", (5, "resid_pre")),
        ("gpt_neox.layers.12.attention", "output", (12, "attn_out")),
        ("transformer.h.0.mlp", "output", (0, "mlp_out")),
        ("h.0.mlp", "input", (0, "mlp_in")),
        ("model.layers.5.self_attn.o_proj", "input", (5, "attn_z")),
        ("model.layers.5.self_attn.o_proj", "output", None),
        ("model.layers.5.mlp.act_fn", "output", None),
        ("embed_tokens", "output", None),
        ("layers.x", "output", None),
    ],
)
def test_modules_of_hugging_face(name, side, place):
    assert place_of_module(name, side) == place


def test_files_come_in_natural_order(tmp_path):
    for name in ("layer_10/a", "layer_9/a", "layer_9/a1", "b"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert formats._listing(tmp_path) == tuple(
        map(PurePosixPath, ("b", "layer_9/a", "layer_9/a1", "layer_10/a"))
    )


_SPARSIFY = {
    "activation": "topk", "expansion_factor": 2, "normalize_decoder": True, "num_latents": 0,
    "k": 4, "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": 6,
}  # fmt: skip
_SAELENS = {
    "architecture": "topk", "k": 4, "d_in": 6, "d_sae": 12, "dtype": "float32",
    "apply_b_dec_to_input": True, "normalize_activations": "none",
    "metadata": {"hook_name": "blocks.0.hook_resid_post"},
}  # fmt: skip
_SAELENS_5 = {
    "hook_point": "blocks.0.hook_resid_post", "activation_fn_str": "topk",
    "activation_fn_kwargs": {"k": 4}, "d_in": 6, "d_sae": 12, "normalize_activations": False,
}  # fmt: skip
_WRONG = [
    None, "x", [], {}, {"a": 1}, float("nan"), float("inf"), -1, 0, 1e30, True, [1], 3.5, 2**70,
]  # fmt: skip


@pytest.mark.parametrize("config", [_SPARSIFY, _SAELENS, _SAELENS_5])
def test_one_wrong_setting_is_told_or_does_no_harm(config, tmp_path):
    """Whatever stands in its place: read, or a told error, and nothing that JSON cannot hold."""
    rows_first = config is _SPARSIFY
    names = ("encoder.weight", "encoder.bias") if rows_first else ("W_enc", "b_enc")
    file = "sae.safetensors" if rows_first else "sae_weights.safetensors"
    tensors = {
        names[0]: torch.randn((12, 6) if rows_first else (6, 12)), names[1]: torch.randn(12),
        "W_dec": torch.randn(12, 6), "b_dec": torch.randn(6),
    }  # fmt: skip
    save_file(tensors, tmp_path / file)
    told = 0
    for name, wrong in itertools.product(config, _WRONG):
        (tmp_path / "cfg.json").write_text(json.dumps(config | {name: wrong}))
        try:
            for found in read_dictionaries(str(tmp_path)):
                json.dumps([found.conventions, found.declared], allow_nan=False)
                found.load()
        except BadInput:
            told += 1
    assert told > len(config)
