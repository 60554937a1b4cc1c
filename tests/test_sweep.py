"""Which SAEs a sweep makes, what they are called, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import BadInput
from atlas.ingest.plan import IngestOptions
from atlas.ingest.training.architectures import ARCHITECTURES
from atlas.ingest.training.sweep import parse_strategy, sweep
from atlas.names import check_variant

ITSELF = [name for name, one in ARCHITECTURES.items() if one.reads == "itself"]


def planned(layers=(0, 1), **options):
    given = IngestOptions(model="m", **options)
    return sweep(given, "m", layers, lambda point: 64 if point[1] == "attn_z" else 16)


def names(**options) -> list[str]:
    return [str(one.name) for one in planned(**options)]


def test_one_plain_sae_a_layer_has_the_plain_name():
    assert names() == ["m/0-resid_post", "m/1-resid_post"]
    assert [(one.d_sae, one.k, one.inputs) for one in planned()] == [
        (128, 16, ((0, "resid_post"),)),
        (128, 16, ((1, "resid_post"),)),
    ]


def test_a_name_tells_an_sae_from_its_siblings():
    found = names(layers=(3,), arch="topk,standard", width="4x,100", k="8,16")
    assert found == [
        f"m/3-resid_post-{arch}-w{width}-k{k}"
        for arch, width, k in itertools.product(("topk", "standard"), (64, 100), (8, 16))
    ]
    assert names(layers=(3,), arch="standard", variant="mine") == ["m/3-resid_post-mine-standard"]
    assert names(layers=(3,), k="8,16") == ["m/3-resid_post-k8", "m/3-resid_post-k16"]


def test_a_width_is_a_multiple_of_what_is_read():
    assert [one.d_sae for one in planned(hook="attn_z", width="2x")] == [128, 128]


def test_a_transcoder_reads_and_writes_another_point():
    (one,) = planned(layers=(1,), arch="transcoder")
    assert (one.inputs, one.outputs) == (((1, "mlp_in"),), ((1, "mlp_out"),))
    assert str(one.name) == "m/1-mlp_out-transcoder"
    (one,) = planned(layers=(1,), arch="transcoder", hook="resid_pre:resid_post")
    assert (one.inputs, one.outputs) == (((1, "resid_pre"),), ((1, "resid_post"),))


def test_a_crosscoder_reads_all_layers():
    (one,) = planned(layers=(0, 1, 2), arch="crosscoder", width="4x")
    assert one.inputs == one.outputs == tuple((layer, "resid_post") for layer in range(3))
    assert (str(one.name), one.d_sae) == ("m/0-resid_post-crosscoder-0to2", 64)
    assert names(layers=(0, 2), arch="crosscoder") == ["m/0-resid_post-crosscoder-0+2"]


def test_settings_go_to_the_architectures_that_have_them():
    name, owner = next(
        (setting, arch) for arch in ITSELF for setting in ARCHITECTURES[arch].settings
    )
    other = next(arch for arch in ITSELF if name not in ARCHITECTURES[arch].settings)
    found = planned(layers=(0,), arch=f"{owner},{other}", settings=(f"{name}=0.5",))
    assert [one.settings for one in found] == [((name, 0.5),), ()]


def test_settings_of_every_training_go_to_all():
    found = planned(layers=(0,), arch="topk,standard", settings=("lr=0.04", "batch_tokens=512"))
    assert [one.settings for one in found] == [(("batch_tokens", 512.0), ("lr", 0.04))] * 2


def test_aligned_saes_come_in_pairs():
    found = names(layers=(0,), strategy="feature-aligned=0.2")
    assert found == ["m/0-resid_post-aligned1", "m/0-resid_post-aligned2"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"arch": "dense"}, "no SAE architecture 'dense'"),
        ({"arch": "topk,"}, "empty"),
        ({"arch": "topk,topk"}, "repeated"),
        ({"k": "200"}, "more than the 128 features"),
        ({"width": "4x,64"}, "one name"),
        ({"hook": "mlp_in:mlp_out"}, "reconstructs what it reads"),
        ({"arch": "crosscoder", "layers": (1,)}, "two --layers"),
        ({"settings": ("no_such_setting=1",)}, "no_such_setting"),
        ({"strategy": "layer-group=3"}, "make 1 to 1 groups"),
        ({"strategy": "layer-group=1.5"}, "no number"),
        ({"strategy": "layer-group=-1"}, "no number"),
        ({"strategy": "end-to-end=3"}, "no number"),
        ({"strategy": "magic"}, "none of"),
        ({"strategy": "end-to-end", "arch": "transcoder"}, "not for transcoder"),
    ],
)
def test_what_makes_no_sense_is_told(options, sentence):
    with pytest.raises(BadInput, match=sentence):
        planned(**options)


def test_strategies_have_defaults():
    assert str(parse_strategy("layer-group")) == "layer-group=2"
    assert str(parse_strategy("end-to-end")) == "end-to-end=0.5"
    assert parse_strategy(None) is None


@given(
    st.lists(st.sampled_from(sorted(ARCHITECTURES)), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(20, 400), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(1, 20), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 9), min_size=2, max_size=4, unique=True).map(sorted),
)
def test_every_name_of_a_sweep_is_valid_and_its_own(archs, widths, ks, layers):
    found = planned(
        layers=layers,
        arch=",".join(archs),
        width=",".join(map(str, widths)),
        k=",".join(map(str, ks)),
    )
    assert len({str(one.name) for one in found}) == len(found)
    assert len({one.key for one in found}) == len(found)
    n_each = sum(1 if ARCHITECTURES[arch].reads == "several" else len(layers) for arch in archs)
    assert len(found) == n_each * len(widths) * len(ks)
    for one in found:
        check_variant(one.name.variant)
