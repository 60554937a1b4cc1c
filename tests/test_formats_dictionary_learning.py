"""Dictionaries of dictionary-learning 0.1.0: what its own classes make of its own files."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from atlas.errors import BadInput
from atlas.ingest.importing.formats import read_dictionaries
from tests.published import FOLDER, Runs, check, expected, one

GOLDEN = FOLDER / "dictionary_learning"
ARCHITECTURES = {
    "trainer_0": "standard",
    "trainer_1": "standard",
    "trainer_2": "p-anneal",
    "trainer_3": "gated",
    "trainer_4": "gated",
    "trainer_5": "jumprelu",
    "trainer_6": "topk",
    "trainer_7": "batchtopk",
    "trainer_8": "matryoshka",
    "trainer_9": "standard",
}


@pytest.fixture
def copy(tmp_path):
    """A function that copies a trainer's folder, to be damaged."""

    def function(name="trainer_7"):
        return shutil.copytree(GOLDEN / name, tmp_path / name)

    return function


def edit(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    config["trainer"].update(settings)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def rewrite(folder, change, file="ae.pt"):
    tensors = torch.load(folder / file)
    change(tensors)
    torch.save(tensors, folder / file)
    return folder


def test_every_class_and_checkpoint_is_found_with_where_it_reads():
    found = {one.place: one for one in read_dictionaries(str(GOLDEN))}
    assert set(found) == {*ARCHITECTURES, "trainer_7/checkpoints/ae_2.pt"}
    for name, architecture in ARCHITECTURES.items():
        this = found[name]
        assert (this.format, this.architecture) == ("dictionary-learning", architecture)
        assert (this.d_in, this.d_sae, this.d_out) == (6, 18, 6)
        assert this.inputs == this.outputs
        assert this.model == "EleutherAI/pythia-70m-deduped"
        json.dumps(this.conventions)
    assert found["trainer_0"].inputs == ((3, "resid_post"),)
    assert found["trainer_9"].inputs == ((3, "mlp_out"),)
    assert found["trainer_4"].inputs is None  # GatedAnnealTrainer of 0.1.0 saves no place
    assert "not said" in found["trainer_4"].conventions["notes"][-1]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_activations_and_reconstructions_are_the_librarys_own(name):
    golden = expected("dictionary_learning")
    sae = one(GOLDEN / name / "ae.pt").load()
    assert sae.architecture == ARCHITECTURES[name]
    check(sae, golden["x"], golden[f"{name}/acts"], golden[f"{name}/reconstruction"])


def test_a_threshold_that_was_never_set_is_told_and_k_are_kept():
    golden = expected("dictionary_learning")
    name = "trainer_7/checkpoints/ae_2.pt"
    found = {one.place: one for one in read_dictionaries(str(GOLDEN / "trainer_7"))}
    checkpoint = found["checkpoints/ae_2.pt"]
    assert "never set" in checkpoint.conventions["notes"][0]
    assert "never set" not in found["."].conventions["notes"][0]
    sae = checkpoint.load()
    assert (sae.activation, sae.k) == ("topk", 4)
    check(sae, golden["x"], golden[f"{name}/acts"])


@pytest.mark.parametrize(
    ("submodule", "io", "place"),
    [
        ("resid_post_layer_3", "out", (3, "resid_post")),
        ("resid_pre_layer3", "out", (3, "resid_pre")),
        ("attn_out_layer_3", "out", (3, "attn_out")),
        ("model.layers.3", "out", (3, "resid_post")),
        ("model.layers.3", "in", (3, "resid_pre")),
        ("gpt_neox.layers.3.mlp", "in", (3, "mlp_in")),
        ("resid_post_layer_3", "in", None),  # contradict each other
        ("resid_post_layer_4", "out", None),  # contradicts the layer
        ("my favourite place", "out", None),
        ("model.layers.3", "in_and_out", None),
    ],
)
def test_where_it_reads(copy, submodule, io, place):
    folder = edit(copy(), submodule_name=submodule)
    config = json.loads((folder / "config.json").read_text())
    config["buffer"]["io"] = io
    (folder / "config.json").write_text(json.dumps(config))
    for found in read_dictionaries(str(folder)):
        assert found.inputs == (place and (place,))


def test_folders_say_where_it_reads_if_the_configuration_does_not(tmp_path):
    for name, place in (("resid_out_layer3", "resid_post"), ("mlp_out_layer3", "mlp_out")):
        folder = tmp_path / name / "10_32768"
        shutil.copytree(GOLDEN / "trainer_0", folder)
        edit(folder, submodule_name=None)
        assert one(folder).inputs == one(tmp_path / name).inputs == ((3, place),)


def test_evaluations_beside_a_dictionary_are_what_it_declares(copy):
    folder = copy("trainer_0")
    results = {"l0": 31.5, "frac_variance_explained": 0.9, "frac_alive": 0.75, "loss_zero": 12.0}
    (folder / "eval_results.json").write_text(json.dumps(results | {"hyperparameters": {}}))
    assert one(folder).declared == {"l0": 31.5, "explained_variance": 0.9, "dead_share": 0.25}


def test_half_precision_is_read(copy):
    folder = rewrite(copy("trainer_6"), lambda t: t.update({n: v.half() for n, v in t.items()}))
    full, half = one(GOLDEN / "trainer_6").load(), one(folder).load()
    assert half.W_enc.dtype == torch.float32
    torch.testing.assert_close(half.W_enc, full.W_enc, atol=1e-3, rtol=1e-3)


def test_k_in_the_configuration_alone_is_enough(copy):
    sae = one(rewrite(copy("trainer_6"), lambda t: t.pop("k"))).load()
    assert sae.k == 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("b_dec"), "has no 'b_dec'"),
        (lambda t: t.update(b_dec=torch.zeros(5)), "has the shape"),
        (lambda t: t["encoder.weight"].fill_(torch.nan), "not finite"),
        (lambda t: t.update(W_skip=torch.zeros(6, 6)), "also has W_skip"),
        (lambda t: t.update(k=torch.tensor(5)), "do not belong together"),
        (lambda t: t.update({"encoder.weight": t["encoder.weight"].T.contiguous()}), "shape"),
    ],
)
def test_tensors_that_do_not_fit_are_told(copy, change, says):
    folder = rewrite(copy("trainer_6"), change)
    with pytest.raises(BadInput, match=says):
        one(folder).load()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dict_class": "CrossCoder"}, "'CrossCoder'"),
        ({"dict_class": None}, "dict_class"),
        ({"activation_dim": "6"}, "activation_dim"),
        ({"dict_size": 17}, "do not belong together"),
        ({"k": 19}, "do not belong together"),
    ],
)
def test_configurations_that_do_not_fit_are_told(copy, settings, says):
    folder = edit(copy("trainer_6"), **settings)
    with pytest.raises(BadInput, match=says):
        one(folder).load()


def test_files_that_are_missing_or_damaged_are_told(copy, tmp_path):
    folder = copy("trainer_0")
    data = (folder / "ae.pt").read_bytes()
    (folder / "ae.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match="cannot be read"):
        one(folder).load()
    (folder / "config.json").write_text('{"trainer": []}')
    with pytest.raises(BadInput, match="no settings of a trainer"):
        one(folder)
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"no config\.json beside it"):
        one(folder)


def test_nothing_in_a_file_is_executed(copy, tmp_path):
    folder, witness = copy("trainer_0"), tmp_path / "witness"
    torch.save({"bias": Runs(witness)}, folder / "ae.pt")
    with pytest.raises(BadInput, match="could run code"):
        one(folder).load()
    torch.save(torch.nn.Linear(2, 3), folder / "ae.pt")  # a whole module, as early versions saved
    with pytest.raises(BadInput, match="could run code"):
        one(folder).load()
    assert not witness.exists()


def test_the_installed_library_agrees_about_random_dictionaries(tmp_path):
    library = pytest.importorskip("dictionary_learning.dictionary")
    top_k = pytest.importorskip("dictionary_learning.trainers.top_k")
    batch = pytest.importorskip("dictionary_learning.trainers.batch_top_k")
    torch.manual_seed(0)
    d = 8  # square: a transposed matrix would fit
    x = torch.randn(32, d) + 0.5
    for dictionary, settings in (
        (library.AutoEncoder(d, d), {}),
        (library.AutoEncoderNew(d, d), {}),
        (library.GatedAutoEncoder(d, d), {}),
        (library.JumpReluAutoEncoder(d, d), {"target_l0": 3.0}),
        (top_k.AutoEncoderTopK(d, d, 3), {"k": 3}),
        (batch.BatchTopKSAE(d, d, 3), {"k": 3}),
    ):
        for parameter in dictionary.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        if "threshold" in dict(dictionary.named_buffers()):
            dictionary.threshold.fill_(0.4)
        name = type(dictionary).__name__
        folder = tmp_path / name
        folder.mkdir()
        torch.save(dictionary.state_dict(), folder / "ae.pt")
        trainer = {"dict_class": name, "activation_dim": d, "dict_size": d, **settings}
        (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
        if name == "AutoEncoder":
            dictionary.normalize_decoder()
        with torch.no_grad():
            acts = dictionary.encode(x)
            check(one(folder).load(), x, acts, dictionary.decode(acts))
