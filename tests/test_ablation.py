"""What features lose when an earlier one is ablated: against plain hooks; samples; what is kept."""

from __future__ import annotations

import csv
import io
import itertools
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from scipy import stats
from torch import Tensor

import atlas
from atlas.checks import run_checks
from atlas.errors import BadInput, NotFound
from atlas.ingest import causal
from atlas.ingest.causal import AblationOptions, ablate_edges
from atlas.ingest.edge_sample import links_of, sample_edges
from atlas.ingest.measuring import ablation
from atlas.ingest.measuring.ablation import Ablation, measure_ablations
from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint, Placed, Sites
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import ingest
from atlas.ingest.text.contexts import Context
from atlas.sae import NORMALIZATIONS, SaeWeights
from atlas.stored import load_weights
from tests.commandline import invoke, succeed
from tests.planted_layers import PlantedLayers

CONTEXT = 16
EVERYWHERE = AblationOptions(n_edges=12, contexts=100_000, device="cpu")


@pytest.fixture(scope="module")
def tiny_atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three layers with an SAE at each, neighbours linked; for reading only."""
    folder = tmp_path_factory.mktemp("ablation")
    corpus = tiny.make_corpus(folder)
    tiny.make_model(folder / "one", n_layers=3)
    ingest(
        folder / "a.atlas",
        IngestOptions(
            model=str(folder / "one"), corpus=str(corpus), width="32", k="4", train_tokens="6k",
            reference_tokens="2k", context=CONTEXT, device="cpu",
        ),
    )  # fmt: skip
    return folder / "a.atlas"


@pytest.fixture
def place(tiny_atlas: Path, tmp_path: Path) -> Path:
    return shutil.copyfile(tiny_atlas, tmp_path / "a.atlas")


@pytest.fixture(scope="module")
def model(tiny_atlas: Path) -> LanguageModel:
    return LanguageModel.load(tiny_atlas.parent / "one", device="cpu")


def rows(path: Path, query: str) -> list[tuple]:
    with atlas.open(path) as store:
        return store.rows(query)


def sae_at(path: Path, layer: int) -> SaeWeights:
    with atlas.open(path) as store:
        return load_weights(store, f"one/{layer}-resid_post")


def placed(layer: int, sae: SaeWeights) -> Placed:
    return Sites.at(HookPoint(layer, "resid_post")), sae


def encode(sae: SaeWeights, x: Tensor) -> Tensor:
    """A TopK SAE's activations (…, d_sae), written out."""
    pre = (x * sae.input_scale - sae.pre_bias) @ sae.W_enc + sae.b_enc
    value, index = pre.topk(sae.k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, index, value.relu())


@torch.no_grad()
def plainly(
    model: LanguageModel, windows: list[list[int]], layers: tuple[int, int],
    saes: tuple[SaeWeights, SaeWeights], i: int, j: int, least: float,
) -> tuple[int, float, float]:  # fmt: skip
    """Tokens, mean before and mean after, one context and one hook at a time."""
    blocks = model.model.model.layers
    found: list[tuple[float, float]] = []
    seen: dict[str, Tensor] = {}

    def remember(name: str, ablate: bool):
        def hook(module, args, output):
            x = output[0] if isinstance(output, tuple) else output
            seen[name] = x[0, 1:].clone()
            if not ablate:
                return None
            new = x.clone()
            strength = encode(saes[0], x[0, 1:])[:, i : i + 1]
            new[0, 1:] -= strength * saes[0].W_dec[i] / saes[0].output_scale
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return hook

    for ids in windows:
        whole = torch.tensor([[model.bos_id, *ids]])
        kept = {}
        for ablate in (False, True):
            handles = [
                blocks[layers[0]].register_forward_hook(remember("a", ablate)),
                blocks[layers[1]].register_forward_hook(remember("b", False)),
            ]
            model.model(input_ids=whole)
            for handle in handles:
                handle.remove()
            kept[ablate] = encode(saes[1], seen["b"])[:, j]
        active = encode(saes[0], seen["a"])[:, i] > 0
        there = active & (kept[False] > least)
        found += zip(kept[False][there].tolist(), kept[True][there].tolist(), strict=True)
    if not found:
        return 0, 0.0, 0.0
    before, after = np.mean(found, axis=0)
    return len(found), before, after


def all_windows(path: Path) -> list[list[int]]:
    documents = rows(
        path, "select list(token_id order by position) from tokens group by document_id order by"
        " document_id",
    )  # fmt: skip
    return [ids[n : n + CONTEXT] for (ids,) in documents for n in range(0, len(ids), CONTEXT)]


# -- effects ------------------------------------------------------------------------------------


def test_effects_are_those_of_a_plain_hook(place: Path, model: LanguageModel) -> None:
    outcome = ablate_edges(place, "one", EVERYWHERE)
    assert outcome.n_added == len(outcome.pairs) == 12
    found = rows(
        place,
        """
        select a.layer, b.layer, fa.index, fb.index, 0.01 * fb.max_q * b.scale, n_tokens,
            mean_before, mean_after, effect
        from ablations
        join features as fa on fa.feature_id = feature_a
        join features as fb on fb.feature_id = feature_b
        join saes as a on a.sae_id = fa.sae_id
        join saes as b on b.sae_id = fb.sae_id
        order by feature_a, feature_b
        """,
    )
    assert {row[:2] for row in found} == {(0, 1), (1, 2)}
    windows = all_windows(place)
    for a, b, i, j, least, n, before, after, effect in found[::3]:
        saes = sae_at(place, a), sae_at(place, b)
        expected = plainly(model, windows, (a, b), saes, i, j, least)
        assert (n, before, after) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert effect == before - after
    assert max(abs(row[-1]) for row in found) > 0.01


def test_nothing_reaches_an_earlier_layer(
    tiny_atlas: Path, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "_BATCH_TOKENS", 100)
    windows = all_windows(tiny_atlas)
    contexts = [Context(np.array(ids, np.int32), model.bos_id, -1, CONTEXT) for ids in windows]
    every = np.arange(len(contexts))
    pairs = list(itertools.product(range(3, 7), range(32)))
    asked = [Ablation(i, j, 0.0, every) for i, j in pairs]
    late, early = (placed(layer, sae_at(tiny_atlas, layer)) for layer in (2, 0))
    found = measure_ablations(model, late, early, asked, contexts)
    assert sum(one.n_tokens for one in found) > 100
    assert all(one.before == one.after for one in found)
    # The other way round, it does.
    found = measure_ablations(model, early, late, asked, contexts)
    assert sum(one.before != one.after for one in found) > 20


def test_edges_measured_together_are_as_if_alone(
    tiny_atlas: Path, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = all_windows(tiny_atlas)[:40]
    contexts = [Context(np.array(ids, np.int32), model.bos_id, -1, CONTEXT) for ids in windows]
    rng = np.random.default_rng(0)
    asked = [
        Ablation(i, j, 0.1, np.sort(rng.choice(40, 20, replace=False)))
        for i, j in itertools.product((1, 2, 3), (4, 5, 6, 7))
    ]
    a, b = (placed(layer, sae_at(tiny_atlas, layer)) for layer in (0, 1))
    passes: list[int] = []
    run = LanguageModel.run

    def counted(self, batch, points, splice=None):
        passes.append(len(batch.input_ids))
        return run(self, batch, points, splice)

    monkeypatch.setattr(LanguageModel, "run", counted)
    together = measure_ablations(model, a, b, asked, contexts)
    # Each context is run once for a feature and once as it is, however many edges want it.
    wanted = {(one.upstream, int(context)) for one in asked for context in one.contexts}
    assert sum(passes) == 2 * len(wanted) < 2 * 12 * 20
    for one, found in zip(asked, together, strict=True):
        (alone,) = measure_ablations(model, a, b, [one], contexts)
        assert found == pytest.approx(alone, rel=1e-4, abs=1e-4)


def test_blocks_before_the_ablation_are_computed_once(
    tiny_atlas: Path, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = all_windows(tiny_atlas)[:20]
    contexts = [Context(np.array(ids, np.int32), model.bos_id, -1, CONTEXT) for ids in windows]
    asked = [Ablation(i, j, 0.0, np.arange(20)) for i, j in itertools.product(range(8), range(32))]
    a, b = (placed(layer, sae_at(tiny_atlas, layer)) for layer in (1, 2))
    one = LanguageModel.load(tiny_atlas.parent / "one", device="cpu")
    monkeypatch.setattr("atlas.ingest.models.forwards.n_workers", lambda: 1)
    calls: Counter[int] = Counter()
    for number, block in enumerate(one.model.model.layers):
        block.self_attn.register_forward_hook(lambda *_, number=number: calls.update([number]))
    once = measure_ablations(one, a, b, asked, contexts, lambda _: calls.update(["batches"]))
    n = calls["batches"]
    # Beside these, two passes found out whether that will do.
    assert [calls[layer] for layer in range(3)] == [n + 1, n + 1, 2 * n + 2]
    calls.clear()
    one._goes_by_blocks = False
    assert measure_ablations(one, a, b, asked, contexts) == once
    assert calls[0] == calls[1] == calls[2] == 2 * n


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_contribution_is_what_the_reconstruction_lacks_without_it(normalize: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    sae = SaeWeights(
        "topk", "topk", 5, draw(8, 20), draw(20), draw(20, 8), draw(8), draw(8), 0.7, 0.3,
        normalize=normalize,
    )  # fmt: skip
    x = 3 * draw(50, 8)
    code = sae.encode(x)
    feature = torch.randint(20, (50,), generator=generator)
    acts = code.dense(20)
    strength = acts[torch.arange(50), feature]
    assert (strength > 0).any()
    assert (strength == 0).any()
    lengths = code.offset.diff()
    owner = torch.repeat_interleave(torch.arange(50), lengths)
    without = replace(code, value=torch.where(code.index == feature[owner], 0, code.value))
    found = ablation._contribution(sae, x, feature, strength)
    torch.testing.assert_close(
        found, sae.decode(code, x) - sae.decode(without, x), rtol=1e-4, atol=1e-4
    )
    assert not found[strength == 0].any()


# -- samples ------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["pearson", "sufficiency", "mutual_information"])
def test_every_stratum_has_its_turn(layers: PlantedLayers, measure: str) -> None:
    options = AblationOptions(n_edges=150, measure=measure, seed=3)
    with atlas.open(layers.path) as store:
        links = links_of(store, "deep", layers.path)
        assert len(links) == 4  # three of neighbours, and one over a layer
        sample = sample_edges(store, links, options)
        top = np.log(2) if measure == "mutual_information" else 1
        edges = store.rows(
            f"select link_id, feature_id_a, feature_id_b, least(9, floor(10 * {measure} / {top}))"
            f" from edges where sae_a like 'deep/%' and {measure} > 0"
        )
        stratum = {(a, b, link): (link, bin) for link, a, b, bin in edges}
        # Of a larger sample, the smaller one is the beginning; of another seed, it is another.
        more = sample_edges(store, links, replace(options, n_edges=170))
        other = sample_edges(store, links, replace(options, seed=4))
    assert more[:150] == sample
    assert len(set(sample)) == 150
    assert len(set(other) & set(sample)) < 150
    there = Counter(stratum.values())
    drawn = Counter(stratum[edge.a, edge.b, link.link_id] for link, edge in sample)
    most = max(drawn.values())
    assert all(drawn[one] >= min(most - 1, there[one]) for one in there)


def test_contexts_are_drawn_where_both_fire(place: Path) -> None:
    some = ablate_edges(place, "one", replace(EVERYWHERE, contexts=2))
    few = dict(rows(place, "select (feature_a, feature_b)::varchar, n_tokens from ablations"))
    assert all(1 <= n <= 2 * CONTEXT for n in few.values())
    every = ablate_edges(place, "one", EVERYWHERE)
    assert every.pairs == some.pairs
    assert every.n_added == 12  # on other text
    for key, n in rows(place, "select (feature_id_a, feature_id_b)::varchar, n_tokens"
                       " from ablation_cards"):  # fmt: skip
        assert n >= few[key]


# -- what is kept -------------------------------------------------------------------------------


def test_what_is_kept_is_not_measured_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(EVERYWHERE, n_edges=6)
    first = ablate_edges(place, None, options)
    before = rows(place, "from ablations order by all")
    assert ablate_edges(place, None, options).n_added == 0

    def broken(*args: object) -> object:
        if measured:
            raise KeyboardInterrupt
        measured.append(1)
        return measure(*args)  # type: ignore[arg-type]

    measured: list[int] = []
    measure = causal._measure
    monkeypatch.setattr(causal, "_measure", broken)
    with pytest.raises(KeyboardInterrupt):
        ablate_edges(place, None, EVERYWHERE)
    monkeypatch.undo()
    between = rows(place, "from ablations order by all")
    assert 6 < len(between) < 12
    assert ablate_edges(place, None, EVERYWHERE).n_added == 12 - len(between)
    after = rows(place, "from ablations order by all")
    assert set(before) < set(between) < set(after)
    assert first.pairs == ablate_edges(place, None, EVERYWHERE).pairs[:6]
    with atlas.open(place) as store:
        assert [check.name for check in run_checks(store) if not check.passed] == []


def test_refusals_are_told(place: Path, tmp_path: Path) -> None:
    few = AblationOptions(n_edges=1)
    with pytest.raises(BadInput, match="no measure 'cosine'"):
        ablate_edges(place, None, AblationOptions(measure="cosine"))
    with pytest.raises(BadInput, match="at least one edge"):
        ablate_edges(place, None, AblationOptions(n_edges=0))
    with pytest.raises(NotFound, match="no 'two'"):
        ablate_edges(place, "two", few)
    with pytest.raises(BadInput, match=r"'one/1-resid_post' are linked; run `atlas link"):
        ablate_edges(place, "one/1-resid_post", few)
    with atlas.open(place, write=True) as store:
        store.execute("update sae_sites set hook = 'mlp_out' where role = 'output' and layer < 2")
    with pytest.raises(BadInput, match="does not reconstruct the one place that it reads"):
        ablate_edges(place, None, few)
    with atlas.open(place, write=True) as store:
        store.execute("update sae_sites set hook = 'resid_post'")
        store.execute(f"update models set source = '{tmp_path / 'gone'}'")
    with pytest.raises(BadInput, match=r"one: .* has this model from .*gone, where it cannot"):
        ablate_edges(place, None, few)
    tiny.make_model(tmp_path / "gone", seed=5, n_layers=3)
    with pytest.raises(BadInput, match="other weights by now"):
        ablate_edges(place, None, few)


# -- in SQL -------------------------------------------------------------------------------------


def test_effects_by_bin_and_rank_are_those_of_scipy(toy: Path) -> None:
    with atlas.open(toy) as store:
        cards = store.sql("from ablation_cards where pearson is not null").to_arrow_table()
        card = {name: np.array(cards[name], float) for name in ("pearson", "effect", "share")}
        assert len(cards) > 10
        ranks = store.rows("select n_edges, effect, share from ablation_agreement where measure ="
                           " 'pearson' and model = 'toy-a'")  # fmt: skip
        expected = [stats.spearmanr(card["pearson"], card[one])[0] for one in ("effect", "share")]
        assert ranks == [(len(cards), *map(pytest.approx, expected))]
        bins = store.rows("from ablation_effects(bin_width := 0.25)")
        place = np.minimum(np.floor(card["pearson"] / 0.25), 3)
        assert [row[0] for row in bins] == [0.25 * i for i in np.unique(place)]
        for (low, high, n, *means), i in zip(bins, np.unique(place), strict=True):
            of = [card[one][place == i] for one in ("effect", "share")]
            assert (high - low, n) == (0.25, len(of[0]))
            for (mean, error), one in zip((means[:2], means[2:]), of, strict=True):
                assert mean == pytest.approx(one.mean())
                assert error == (None if n == 1 else pytest.approx(stats.sem(one)))
        cosines = store.rows(
            "select decoder_cosine, (select decoder_cosine(feature_a, feature_b))"
            " from ablation_cards"
        )
        assert all(a == pytest.approx(b) for a, b in cosines)
        with pytest.raises(atlas.errors.QueryError, match="no measure 'cosine'"):
            store.rows("from ablation_effects('cosine')")


# -- the command line ----------------------------------------------------------------------------


def test_atlas_lineage_ablates_a_sample_and_shows_effects_by_the_measure(place: Path) -> None:
    found = list(csv.DictReader(io.StringIO(succeed("lineage", place, "--causal", "6"))))
    assert sum(int(row["n_edges"]) for row in found) == 6
    assert found[0].keys() >= {"at_least", "below", "effect", "share"}
    again = invoke("lineage", place, "--causal", "6")
    assert "0 edges were ablated" in again.stderr


@pytest.mark.parametrize("args", [(), ("one/0-resid_post/1", "--causal", "3")])
def test_a_feature_or_a_sample_is_needed(place: Path, args: tuple[str, ...]) -> None:
    result = invoke("lineage", place, *args)
    assert result.exit_code == 2
    assert "Give either FEATURE or --causal N." in result.stderr
