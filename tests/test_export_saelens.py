"""`atlas export --saelens`: weights out of the tables, folders that give the same activations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import atlas
from atlas.errors import BadInput, NotFound
from atlas.ingest.importing.formats.write_saelens import Origin, write_saelens
from atlas.sae import SaeWeights
from atlas.stored import load_weights
from tests.commandline import invoke, succeed, told
from tests.golden import assert_same_codes, found_in

POST = ((3, "resid_post"),)
ORIGIN = Origin("tiny/3-resid_post", "tiny", POST, POST, 128, True)
TRANSCODER = dataclasses.replace(ORIGIN, inputs=((3, "mlp_in"),), outputs=((3, "mlp_out"),))


def random_sae(activation="topk", seed=0, *, d_in=6, d_out=6, d_sae=14, skip=False, **changes):
    """Weights in which no part is trivial."""
    g = torch.Generator().manual_seed(seed)

    def tensor(*shape):
        return torch.randn(shape, generator=g)

    sae = SaeWeights(
        architecture=activation,
        activation=activation,
        k=4,
        W_enc=tensor(d_in, d_sae),
        b_enc=tensor(d_sae) / 3,
        W_dec=tensor(d_sae, d_out) / d_sae**0.5,
        b_dec=tensor(d_out),
        pre_bias=tensor(d_in),
        input_scale=0.7,
        output_scale=0.4,
        threshold=tensor(d_sae).abs() if activation == "jumprelu" else None,
        W_skip=tensor(d_in, d_out) if skip else None,
    )
    return dataclasses.replace(sae, **changes)


def pursuit():
    W_dec, bias = torch.randn(14, 6), torch.randn(6)
    return random_sae(
        "matching_pursuit", W_enc=W_dec.T.contiguous(), W_dec=W_dec, b_enc=torch.zeros(14),
        b_dec=bias, pre_bias=bias, input_scale=1.0, output_scale=1.0,
        threshold=torch.full((14,), 0.5),
    )  # fmt: skip


def assert_again(sae: SaeWeights, folder: Path, origin: Origin) -> None:
    """Written and read again it computes the same."""
    write_saelens(sae, folder, origin)
    found = found_in(folder)
    assert (found.inputs, found.outputs) == (origin.inputs, origin.outputs)
    x = torch.randn(40, sae.d_in) * 3 + 1
    code = sae.encode(x)
    again = found.load()
    assert again.architecture == sae.architecture or origin is TRANSCODER or sae.W_skip is not None
    assert_same_codes(again, x, code.dense(sae.d_sae), sae.decode(code, x), atol=5e-5)


@given(
    activation=st.sampled_from(["relu", "jumprelu", "topk"]),
    normalize=st.sampled_from(["none", "layer_norm", "constant_norm"]),
    d=st.integers(2, 9),
    square=st.booleans(),
    subtracted=st.booleans(),
    scales=st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_an_sae_comes_back(
    tmp_path_factory, activation, normalize, d, square, subtracted, scales, seed
):
    sae = random_sae(
        activation, seed, d_in=d, d_out=d, d_sae=d if square else 3 * d, k=2, normalize=normalize,
        input_scale=scales[0], output_scale=scales[1],
    )  # fmt: skip
    if subtracted:
        sae = dataclasses.replace(sae, pre_bias=sae.b_dec, output_scale=scales[0])
    folder = tmp_path_factory.mktemp("sae")
    write_saelens(sae, folder, ORIGIN)
    config = json.loads((folder / "cfg.json").read_text())
    assert config["apply_b_dec_to_input"] is subtracted
    x = torch.randn(40, d) * 3 + 1
    code = sae.encode(x)
    again = found_in(folder).load()
    ours, theirs = code.dense(sae.d_sae), again.encode(x).dense(sae.d_sae)
    # A pre-activation at the threshold, or the k-th beside the next, falls to either side.
    rows = ((ours > 0) == (theirs > 0)).all(1)
    assert rows.float().mean() > 0.9
    scale = ours.abs().max().clamp_min(1)
    torch.testing.assert_close(ours[rows] / scale, theirs[rows] / scale, atol=1e-5, rtol=1e-5)
    y, again_y = sae.decode(code, x)[rows], again.decode(again.encode(x), x)[rows]
    largest = y.abs().max().clamp_min(1)
    torch.testing.assert_close(y / largest, again_y / largest, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
@pytest.mark.parametrize("skip", [False, True])
def test_transcoders_come_back(tmp_path, activation, skip):
    assert_again(random_sae(activation, d_out=5, skip=skip), tmp_path, TRANSCODER)


def test_an_sae_with_a_skip_connection_comes_back_as_a_transcoder(tmp_path):
    assert_again(random_sae("jumprelu", skip=True), tmp_path, ORIGIN)
    assert json.loads((tmp_path / "cfg.json").read_text())["architecture"].endswith("transcoder")


def test_matching_pursuit_comes_back(tmp_path):
    assert_again(dataclasses.replace(pursuit(), architecture="matching-pursuit"), tmp_path, ORIGIN)


def test_what_it_was_trained_as_is_kept(tmp_path):
    for name in ("batchtopk", "matryoshka", "gated", "p-anneal"):
        sae = random_sae("jumprelu", architecture=name)
        write_saelens(sae, tmp_path / name, ORIGIN)
        found = found_in(tmp_path / name)
        assert (found.architecture, found.load().k) == (name, 4)


@pytest.mark.parametrize(
    "sae, origin, sentence",
    [
        (random_sae("groupmax"), ORIGIN, "activation 'groupmax'"),
        (random_sae("switch"), ORIGIN, "activation 'switch'"),
        (random_sae("topk"), TRANSCODER, "'topk' whose output is another hook point"),
        (random_sae("topk", skip=True), ORIGIN, "'topk' with a skip connection"),
        (random_sae("relu", normalize="layer_norm"), TRANSCODER, "normalization 'layer_norm'"),
        (
            random_sae("relu"),
            dataclasses.replace(ORIGIN, inputs=(*POST, (4, "resid_post"))),
            "several hook points",
        ),
        (dataclasses.replace(pursuit(), b_dec=torch.zeros(6)), ORIGIN, "one matrix and one bias"),
    ],
)
def test_what_saelens_has_not_is_told(tmp_path, sae, origin, sentence):
    with pytest.raises(BadInput, match=sentence):
        write_saelens(sae, tmp_path / "a", origin)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot be written"):
        write_saelens(random_sae(), tmp_path / "file", ORIGIN)


@pytest.fixture
def stored(tmp_path) -> tuple[Path, dict[str, SaeWeights]]:
    """An atlas of three SAEs that holds nothing but their weights."""
    path = tmp_path / "a.atlas"
    saes = {
        "tiny/3-resid_post": random_sae("jumprelu", 1),
        "tiny/3-resid_post-k4": random_sae("topk", 2),
        "tiny/3-resid_post-skip": random_sae("relu", 3, skip=True),
    }
    with atlas.create(path) as store, store.transaction():
        store.execute(
            "insert into models by name select 0 as model_id, 'tiny' as name, 'owner/tiny' as"
            " source, 6 as d_model, true as prepends_bos"
        )
        first = 0
        for sae_id, (name, sae) in enumerate(saes.items()):
            insert(store, sae_id, name, sae, first)
            first += sae.d_sae
    return path, saes


def insert(store, sae_id: int, name: str, sae: SaeWeights, first: int) -> None:
    columns = {
        "sae_id": sae_id, "model_id": 0, "name": name, "layer": 3, "hook": "resid_post",
        "architecture": sae.architecture, "activation": sae.activation, "d_in": sae.d_in,
        "d_sae": sae.d_sae, "d_out": sae.d_out, "k": sae.k, "first_feature_id": first,
        "input_scale": sae.input_scale, "output_scale": sae.output_scale,
        "normalize": sae.normalize, "pre_bias": sae.pre_bias.tolist(),
        "b_dec": sae.b_dec.tolist(), "context": 128,
    }  # fmt: skip
    store.execute(
        f"insert into saes ({', '.join(columns)}) values ({', '.join('?' * len(columns))})",
        list(columns.values()),
    )
    ids = list(range(first, first + sae.d_sae))
    threshold = [None] * sae.d_sae if sae.threshold is None else sae.threshold.tolist()
    tables = {
        "vectors": {
            "feature_id": ids, "encoder": sae.W_enc.T.tolist(), "encoder_bias": sae.b_enc.tolist(),
            "threshold": threshold, "decoder": sae.W_dec.tolist(),
        },
        "features": {
            "feature_id": ids, "sae_id": [sae_id] * len(ids), "index": range(sae.d_sae),
            "density": [i / 100 for i in range(sae.d_sae)],
        },
        "sae_sites": {
            "sae_id": [sae_id] * 2, "role": ["input", "output"], "place": [0, 0],
            "model_id": [0, 0], "layer": [3, 3], "hook": ["resid_post"] * 2,
        },
    }  # fmt: skip
    if sae.W_skip is not None:
        tables["sae_tensors"] = {
            "sae_id": [sae_id] * 6, "tensor": ["W_skip"] * 6, "row": range(6),
            "entries": sae.W_skip.tolist(),
        }  # fmt: skip
    con = store.cursor()
    for table, values in tables.items():
        con.register("incoming", pa.table(values))
        con.execute(f"insert into {table} by name from incoming")
        con.unregister("incoming")


def test_weights_come_out_of_the_tables_as_they_went_in(stored):
    path, saes = stored
    with atlas.open(path) as store:
        for name, sae in saes.items():
            assert load_weights(store, name).sha256() == sae.sha256()
        with pytest.raises(NotFound, match="tiny/4"):
            load_weights(store, "tiny/4-resid_post")


def test_the_command_writes_a_folder_for_each(stored, tmp_path):
    path, saes = stored
    result = invoke("export", path, "--saelens", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (0, "")
    assert len(result.stderr.splitlines()) == 3
    x = torch.randn(40, 6) * 2
    for name, sae in saes.items():
        folder = tmp_path / "out" / name.replace("/", "__")
        found, code = found_in(folder), sae.encode(x)
        assert found.model == "owner/tiny"
        assert found.declared == {"l0": pytest.approx(sum(range(14)) / 100)}
        assert_same_codes(found.load(), x, code.dense(14), sae.decode(code, x), atol=5e-5)
        sparsity = load_file(folder / "sparsity.safetensors")["sparsity"]
        torch.testing.assert_close(10**sparsity, torch.arange(14) / 100, atol=1e-6, rtol=1e-3)


def test_the_command_takes_names_and_patterns(stored, tmp_path):
    path, _ = stored
    succeed("export", path, "--saelens", tmp_path / "out", "--sae", "tiny/*-k4")
    assert [folder.name for folder in (tmp_path / "out").iterdir()] == ["tiny__3-resid_post-k4"]
    assert "'b/*'" in told(invoke("export", path, "--saelens", tmp_path / "b", "--sae", "b/*"))
    assert not (tmp_path / "b").exists()


def test_one_that_cannot_be_written_stops_all(stored, tmp_path):
    path, _ = stored
    with atlas.open(path, write=True) as store, store.transaction():
        store.execute("update saes set activation = 'groupmax' where sae_id = 2")
    assert "'groupmax'" in told(invoke("export", path, "--saelens", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--saelens", "a", "--sql", "select 1"],
        ["--saelens", "a", "--to", "b"],
        ["--saelens", "a", "-f", "csv"],
        ["--sql", "select 1", "--sae", "a"],
    ],
)
def test_usage_errors(toy, words):
    assert invoke("export", toy, *words).exit_code == 2


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("normalize", ["none", "layer_norm", "constant_norm"])
def test_saelens_itself_computes_the_same(tmp_path, activation, normalize):
    """Live."""
    sae_lens = pytest.importorskip("sae_lens")
    sae = random_sae(activation, d_in=24, d_out=24, d_sae=96, normalize=normalize)
    write_saelens(sae, tmp_path, ORIGIN)
    x = torch.randn(50, 24) * 2 + 1
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    with torch.no_grad():
        assert_same_codes(sae, x, theirs.encode(x), theirs(x), atol=1e-4)


def test_saelens_itself_computes_the_same_of_others(tmp_path):
    """Live."""
    sae_lens = pytest.importorskip("sae_lens")
    for n, (sae, origin) in enumerate(
        (
            (random_sae("relu", skip=True), ORIGIN),
            (random_sae("jumprelu", d_out=5, skip=True), TRANSCODER),
            (pursuit(), ORIGIN),
        )
    ):
        write_saelens(sae, tmp_path / str(n), origin, torch.rand(14))
        x = torch.randn(50, 6)
        theirs = sae_lens.SAE.load_from_disk(tmp_path / str(n))
        with torch.no_grad():
            assert_same_codes(sae, x, theirs.encode(x), theirs(x))
