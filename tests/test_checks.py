"""Every truth of sql/checks holds for a sound atlas and is seen to fail on a broken one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import atlas
from atlas import scripts
from atlas.checks import run_checks
from tests.synthetic import build_synthetic

# Check → damage that it must see.
DAMAGE = {
    "ablations_sound": [
        "update ablations set feature_a = feature_b",
        "update ablations set feature_b = feature_b + 24",
        "update ablations set feature_b = 5000",
        "update ablations set run_id = 9",
        "update ablations set n_tokens = -1",
        "update ablations set n_tokens = 0",
        "update ablations set effect = -effect",
        "update ablations set mean_before = null",
        "update ablations set mean_after = 'nan'::double",
        "insert into ablations from ablations",
    ],
    "absorptions_sound": [
        "update absorptions set absorbers = main where letter = 'a'",
        "update absorptions set main = [100]",
        "update absorptions set full_share = 0 where letter = 'a'",
        "update absorptions set fraction = 2",
        "update absorptions set n_words = 0",
        "insert into absorptions from absorptions where letter = 'a'",
    ],
    "activations_ordered": [
        "insert into activations values (3, 0, 1)",
        "create temp table kept as select * from activations order by token;"
        " delete from activations; insert into activations from kept order by token",
    ],
    "activations_placed": [
        "update activations set feature_id = 4000 where feature_id = 3",
        "update activations set token = 10000000 where feature_id = 3 and q = (select max(q) from"
        " activations where feature_id = 3)",
    ],
    "activations_positive": [
        "update activations set q = 0 where feature_id = 3",
        "update activations set q = -q where feature_id = 3",
        "update activations set q = null where feature_id = 3",
    ],
    "categories_sound": [
        "insert into categories from categories where word = 'monday'",
        "update categories set word = 'Monday' where word = 'monday'",
        "update categories set category = ' ' where word = 'monday'",
        "update categories set source = null where word = 'monday'",
        "insert into non_concepts values ('-')",
    ],
    "clusterings_sound": [
        "update clusterings set method = 'kmeans'",
        "update clusterings set measure = 'cosine'",
        "update clusterings set at_least = -0.5",
        "update clusterings set resolution = 0 where method != 'components'",
        "update clusterings set resolution = 1 where method = 'components'",
        "update clusterings set quality = 1.5 where method != 'components'",
        "update clusterings set stability = 2 where method != 'components'",
        "update clusterings set n_communities = n_communities + 1",
        "update clusterings set hook = 'mlp_out'",
        "update clusterings set run_id = 9",
        "insert into clusterings from clusterings",
        "update clusterings set method = 'louvain', resolution = 1, quality = 0.5, seed = 0",
        "delete from community_labels",
    ],
    "communities_sound": [
        "update communities set feature_id = feature_id + 48",
        "update communities set clustering_id = 9 where clustering_id = 0",
        "update communities set community = 1 where community = 0",
        "delete from communities where community = 0",
        "insert into communities from communities",
        "insert into communities select clustering_id, community + 1, feature_id from communities"
        " where community = 0",
        "update community_labels set community = community + 1",
        "update community_labels set n_features = n_features + community",
    ],
    "comparisons_sound": [
        "update comparisons set role = 'best'",
        "update comparisons set n = 1000",
        "update comparisons set n = 2",
        "update comparisons set value = 'nan'::double",
        "update comparisons set value = -0.5 where metric = 'cka'",
        "update comparisons set value = null",
        "update comparisons set p = 0",
        "update comparisons set p = 0.015",
        "update comparisons set n_permutations = 0",
        "update comparisons set subset_p = 0.001",
        "update comparisons set q = 0.001",
        "update comparisons set subset_q = subset_p / 2",
        "update comparisons set null_mean = 'nan'::double",
        "update comparisons set null_sd = -1",
        "update comparisons set dims_a = 100",
        "insert into comparisons from comparisons where metric = 'cka'",
    ],
    "coactivations_sound": [
        "update coactivations set n_both = 1",
        "update coactivations set n_both = n_both + 100000",
        "update coactivations set n_both_strong = -1",
        "update coactivations set n_both_strong = n_both + 1",
        "update coactivations set sum_ab = n_both - 1",
        "update coactivations set sum_ab = 1000000 * sum_ab",
        "update coactivations set feature_b = feature_b + 24 where link_id = 0",
        "update coactivations set link_id = 9",
        "insert into coactivations from coactivations",
        "create temp table kept as from coactivations; delete from coactivations;"
        " insert into coactivations from kept order by feature_b",
    ],
    "coactivations_correlate": [
        "update coactivations set pearson = pearson - 1e-9",
        "update coactivations set pearson = null",
        "update coactivations set sum_ab = sum_ab - 1",
    ],
    "coactivations_true": [
        "update coactivations set n_both = n_both + 1",
        "update coactivations set n_both_strong = n_both_strong + 1",
        "update coactivations set sum_ab = sum_ab - 1",
        "delete from coactivations where link_id = 1",
        "update links set min_joint = 2",
    ],
    "corpus_counts": [
        "update corpora set n_words = n_words + 1",
        "update corpora set n_characters = n_characters - 1",
        "update corpora set n_documents = 7",
        "update tokenizers set n_tokens = n_tokens - 1 where tokenizer_id = 1",
        "delete from vocabulary where token_id = 1 and tokenizer_id = 0",
    ],
    "documents_split": [
        "update examples set split = if(split = 'score', 'explain', 'score') where rank = 1"
    ],
    "examples_ranked": [
        "update examples set rank = rank + 1 where feature_id = 3",
        "update examples set stratum = 'best' where rank = 1",
        "update examples set rank = 3 - rank where rank <= 2",
    ],
    "examples_real": [
        "update examples set q = q + 1 where rank = 1",
        "update examples set first_token = token + 1 where rank = 1",
        "update examples set first_token = 0 where rank = 1",
    ],
    "feature_ids_contiguous": [
        "delete from features where feature_id = 3",
        "delete from vectors where feature_id = 3",
        "update features set index = 5 where feature_id = 3",
        "insert into features from features where feature_id = 3",
        "insert into saes by name select 9 as sae_id, 0 as model_id, 'toy-a/3-resid_post' as name,"
        " 4 as d_sae, 96 as first_feature_id",
    ],
    "feature_ranges_disjoint": ["update saes set first_feature_id = 20 where sae_id = 1"],
    "ids_unique": [
        "insert into models from models where model_id = 1",
        "update saes set name = 'toy-a/0-resid_post'",
        "insert into documents from documents where document_id = 4",
        "insert into pairings from pairings where pairing_id = 1",
    ],
    "feature_pairs_sound": [
        "update feature_pairs set feature_a = feature_b",
        "update feature_pairs set feature_b = feature_b + 24 where pairing_id = 0",
        "update feature_pairs set feature_a = (select min(feature_a) from feature_pairs)"
        " where pairing_id = 0",
        "update feature_pairs set feature_b = (select min(feature_b) from feature_pairs)"
        " where pairing_id = 0",
        "update pairings set method = 'best' where pairing_id = 0; update feature_pairs"
        " set feature_a = (select min(feature_a) from feature_pairs) where pairing_id = 0",
        "update feature_pairs set r = 1.5",
        "update feature_pairs set r = 'nan'::double",
        "update feature_pairs set r = null",
        "update feature_pairs set r_held_out = -2",
        "update feature_pairs set n_both = 0",
        "update feature_pairs set n_both = 100000",
        "update feature_pairs set p = 0",
        "update feature_pairs set q = p / 2",
        "update feature_pairs set q = 1 where p < 0.01",
        "update feature_pairs set q = null",
        "update feature_pairs set distance = 0.1",
        "update pairings set shifts = 0",
        "update pairings set method = 'lan2024'",
        "update pairings set method = 'sae_match'",
    ],
    "keys_found": [
        "delete from models where model_id = 1",
        "delete from features where feature_id = 3",
        "update words set document_id = 4000 where word = 7",
        "update labels set feature_id = 4000 where feature_id = 3",
        "update sae_sites set model_id = 9 where sae_id = 1",
        "insert into declared_metrics values (9, 'l0', 1)",
        "update pairings set sae_b = 9",
        "update comparisons set pairing_id = 9",
        "update feature_pairs set pairing_id = 9",
    ],
    "labels_sound": [
        "update labels set text = ' ' where feature_id = 3",
        "update labels set scored_by = null",
        "update labels set score = 'nan'::double where feature_id = 3",
    ],
    "links_sound": [
        "update links set sae_b = sae_a",
        "update links set sae_a = sae_b, sae_b = sae_a where over = 'tokens'",
        "update links set sae_a = 9",
        "update links set over = 'words'",
        "update links set n = n + 1",
        "update links set n_pairs = n_pairs + 1",
        "update links set min_joint = 0",
        "update links set run_id = 9",
        "insert into links by name select * replace (7 as link_id) from links where link_id = 0",
        "insert into links by name select * replace (2 as sae_b) from links where link_id = 0",
    ],
    "max_cosines": [
        "update vectors set max_cosine = max_cosine - 0.01",
        "update vectors set decoder = list_transform(decoder, lambda x: -x) where feature_id = 0",
    ],
    "metrics_sound": [
        "update sae_metrics set value = value + 0.5 where metric = 'l0'",
        "update sae_metrics set value = 0.25 where metric = 'dense_share'",
        "update sae_metrics set value = 0.3 where metric = 'fvu'",
        "update sae_metrics set value = 0.5 where metric = 'decoder_max_cosine'",
        "update probes set balanced_accuracy = 0.5",
        "update absorptions set fraction = 0 where letter = 'a'",
        "update sae_metrics set value = 4 where metric = 'ce_spliced'",
        "update sae_metrics set value = -1 where metric = 'kl'",
        "update sae_metrics set value = 'inf'::double where metric = 'ce'",
        "update sae_metrics set version = 1000 where metric = 'ce'",
        "update sae_metrics set metric = 'loss' where metric = 'ce'",
        "insert into sae_metrics from sae_metrics where metric = 'ce'",
    ],
    "names_match": [
        "update saes set layer = 2 where sae_id = 1",
        "update models set name = 'toy-z' where model_id = 1",
        "update models set n_layers = 1 where model_id = 0",
    ],
    "pair_correlations": [
        "update feature_pairs set r = r - 0.001",
        "update feature_pairs set n_both = n_both - 1",
        "update feature_pairs set feature_b = feature_b + 1",
        "update features set word_sum_q = 0 where sae_id = 1",
    ],
    "pairings_sound": [
        "update pairings set method = 'nearest'",
        "update pairings set over = 'tokens'",
        "update pairings set over = null",
        "update pairings set subspace = 'time'",
        "update pairings set min_joint = 0",
        "update pairings set shifts = -1",
        "update pairings set concepts_only = null",
        "update pairings set n_pairs = n_pairs + 1",
        "update pairings set n_a = 1000",
        "update pairings set n_b = n_pairs - 1",
        "delete from feature_pairs where feature_a = 3",
    ],
    "probes_sound": [
        "update probes set features = [100] where k = 1",
        "update probes set features = [1, 2] where k = 1",
        "update probes set n_positive = n_tokens",
        "update probes set auc = 1.5",
        "insert into probes from probes where property = 'capital'",
    ],
    "quantiles": [
        "update features set quantiles_q = list_reverse(quantiles_q)",
        "update features set quantiles_q = [] where feature_id = 3",
    ],
    "runs_done": [
        "update runs set status = 'running'",
        "update runs set status = 'begun'",
        "delete from runs",
        "update pairings set run_id = 9",
        "update comparisons set run_id = 9",
    ],
    "saes_sound": [
        "update saes set scale = 0.001",
        "update saes set input_scale = 0",
        "update saes set pre_bias = pre_bias[2:]",
        "update saes set b_dec = list_transform(b_dec, lambda x: 'nan'::float)",
        "update saes set output_scale = null",
        "update saes set activation = 'softmax'",
        "update saes set k = null",
    ],
    "sites_sound": [
        "delete from sae_sites where sae_id = 1 and role = 'output'",
        "update sae_sites set width = 3 where sae_id = 0 and role = 'input'",
        "update sae_sites set first_column = 1 where sae_id = 0",
        "update sae_sites set spread = -1 where sae_id = 0 and role = 'output'",
        "update sae_sites set explained_variance = 1.5 where sae_id = 0 and role = 'output'",
    ],
    "spaces_sound": [
        "update sae_sites set width = 3 where sae_id = 0 and role = 'input'",
        "update models set d_model = 12 where model_id = 0",
        "update sae_sites set hook = 'mlp_act', layer = 0 where model_id = 0; update sae_sites set"
        " width = 8 where sae_id = 0",
    ],
    "strong_activity_true": [
        "update strong_activity set n_strong = n_strong - 1",
        "update strong_activity set n_strong = 0",
        "update strong_activity set n_strong = 100000",
        "delete from strong_activity where feature_id = 3",
        "insert into strong_activity from strong_activity where feature_id = 3",
        "insert into strong_activity values (60, 'tokens', 3)",
    ],
    "token_effects_ranked": [
        "update token_effects set rank = rank + 1 where rank > 2",
        "update token_effects set effect = -effect",
        "update token_effects set token_id = 100000 where rank = 1",
        "update token_effects set effect = 'nan'::float where rank = -1",
    ],
    "token_ids": [
        "update tokens set token_id = 100000 where token = 3",
        "update vocabulary set n_tokens = n_tokens + 1 where token_id = 3",
        "update vocabulary set text = null where token_id = 3",
    ],
    "token_spans": [
        "update tokens set word = word + 1 where token = 30",
        "update tokens set end_char = 100000 where token = 30",
        "update tokens set start_char = end_char + 1 where token = 30",
        "update tokens set document_id = 1 where token = 3",
    ],
    "token_stats_sums": [
        "update token_stats set sum_q = sum_q + 1 where feature_id = 3",
        "update token_stats set n_active = n_active + 1 where feature_id = 3",
        "update token_stats set max_q = max_q + 1 where feature_id = 3",
    ],
    "token_sums": [
        "update features set sum_q = sum_q + 1 where feature_id = 3",
        "update features set sum_q2 = sum_q2 + 1 where feature_id = 3",
        "update features set density = density * 1.1 where feature_id = 3",
        "update features set alive = false where feature_id = 3",
        "delete from activations where feature_id = 3",
    ],
    "tokens_numbered": [
        "update tokens set position = position + 1 where token = 3",
        "delete from tokens where token = 30",
        "update tokens set document_id = 0 where document_id = 1",
    ],
    "vectors_sound": [
        "update vectors set decoder = decoder[2:] where feature_id = 3",
        "update vectors set encoder = list_transform(encoder, lambda x: 'inf'::float)",
        "update vectors set signature = (select signature from vectors where feature_id = 23)",
        "update vectors set encoder_bias = null where feature_id = 3",
    ],
    "word_forms": [
        "update words set form = form || ' ' where word = 3",
        "update words set form = 'nobody' where word = 3",
        "update words set form = form[:-2] where len(form) > 2",
    ],
    "word_stats_sums": [
        "update word_stats set sum_q = sum_q + 1 where feature_id = 3",
        "update word_stats set n_words = n_words + 1 where feature_id = 3",
        "update word_stats set form = 'nobody' where feature_id = 3",
    ],
    "word_sums": [
        "update features set word_sum_q = word_sum_q + 1 where feature_id = 3",
        "update features set word_sum_q2 = word_sum_q2 + 1 where feature_id = 3",
        "update features set word_n_active = 0 where feature_id = 3",
    ],
    "words_tile": [
        "delete from words where word = 30",
        "update words set end_char = end_char + 1 where word = 30",
        "update words set end_char = end_char - 1, form = form where word = (select max(word) from"
        " words)",
        "update documents set text = text || 'more' where document_id = 1",
        "insert into documents values (4000, 0, 'new', 'no words')",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_synthetic(tmp_path_factory.mktemp("checks") / "a.atlas", documents=10)


def failing(path: Path) -> dict[str, str | None]:
    with atlas.open(path) as opened:
        return {check.name: check.error for check in run_checks(opened) if not check.passed}


def test_a_sound_atlas_passes_all(toy: Path, small: Path) -> None:
    assert failing(toy) == {}
    assert failing(small) == {}


def test_an_empty_atlas_passes_all(tmp_path: Path) -> None:
    atlas.create(tmp_path / "empty.atlas").close()
    assert failing(tmp_path / "empty.atlas") == {}


def test_every_check_has_its_damage() -> None:
    assert sorted(DAMAGE) == [path.stem for path in scripts.check_files()]


@pytest.mark.parametrize(
    "check, damage", [(check, damage) for check, found in DAMAGE.items() for damage in found]
)
def test_a_check_sees_its_damage(tmp_path: Path, small: Path, check: str, damage: str) -> None:
    path = tmp_path / "broken.atlas"
    shutil.copyfile(small, path)
    with atlas.open(path, write=True) as broken:
        for statement in damage.split(";"):
            broken.execute(statement)
        text = (scripts.SQL / "checks" / f"{check}.sql").read_text()
        assert broken.rows(text), f"{check} does not see: {damage}"


def test_what_is_violated_is_told_with_examples(tmp_path: Path, small: Path) -> None:
    path = tmp_path / "broken.atlas"
    shutil.copyfile(small, path)
    with atlas.open(path, write=True) as broken:
        broken.execute("update features set sum_q = sum_q + 1 where feature_id in (3, 5)")
        failed = {check.name: check for check in run_checks(broken) if not check.passed}
    assert failed.keys() == {"token_sums", "coactivations_correlate"}
    found = failed["token_sums"]
    assert found.violations == 2
    assert "feature_id=3" in " ".join(found.examples)
