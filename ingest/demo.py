"""The demo: an atlas of the language models that the package ships, and findings to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from atlas.cards import FeatureCard, card
from atlas.compare.study import StudyOptions, compare
from atlas.demo import MODELS, models_folder
from atlas.errors import BadInput
from atlas.ingest.plan import IngestOptions
from atlas.ingest.run import MadeOtherwise, ingest
from atlas.ingest.text.stdlib_corpus import stdlib_corpus
from atlas.progress import Progress
from atlas.store import Atlas

LAYERS = "1,3"
COMPARED = "jumprelu,matryoshka"
"""Architectures that the first model's last layer has beside TopK."""

TRAIN_TOKENS = "600k"
REFERENCE_TOKENS = "120k"

_FINDINGS = """
    with candidates as (
        -- Several words under one label, not pieces of words, make the better reading.
        select feature_id, label_score, label like '%·%·%' as is_group
        from feature_cards
        where model = $model and density < 0.02 and label_score > 0.6
            and not starts_with(label, 'token')
        order by label_score desc, feature_id
        limit 200
    )
    select candidates.feature_id, near.feature_id, near.score
    from candidates, similar(candidates.feature_id, k := 1, within := $other) as near
    -- Each counterpart once.
    qualify row_number() over (
        partition by near.feature_id order by is_group desc, near.score desc, candidates.feature_id
    ) = 1
    order by is_group desc, near.score * label_score desc, candidates.feature_id
    limit $n
"""


_AGREEMENT = """
    select
        model_a, layer_a, model_b, layer_b,
        max(value) filter (metric = 'mean_correlation') as r,
        max(calibrated) filter (metric = 'rsa') as rsa,
        max(q) filter (metric = 'rsa') as q
    from universality
    where subspace = 'all' and layer_a = layer_b
    group by all
    order by model_a, model_b, layer_a
"""


@dataclass(frozen=True)
class Agreement:
    """How alike one layer of two models is."""

    model_a: str
    layer_a: int
    model_b: str
    layer_b: int
    r: float
    """Mean correlation of their paired features, on documents that did not pair them."""
    rsa: float
    """Of the paired features' directions; calibrated, 0 by chance."""
    q: float


@dataclass(frozen=True)
class Finding:
    """A feature of one model and the feature of another model that fires most like it."""

    feature: FeatureCard
    counterpart: FeatureCard
    r: float
    """Pearson's correlation of their activations over words."""


def build_demo(path: Path, *, progress: Progress, wait: float = 0.0) -> None:
    """Ingest every demo model into the atlas at `path`; what it has already is not done twice.

    BadInput where the atlas is a demo of another Python, whose documentation is another text, or of
    another version of this package.
    """
    compared = [(f"{a}/*-resid_post", f"{b}/*-resid_post") for a, b in combinations(MODELS, 2)]
    wanted = [(name, f"{name}: TopK", LAYERS, "topk") for name in MODELS]
    wanted.append((MODELS[0], f"{MODELS[0]} again: {COMPARED}", LAYERS[-1], COMPARED))
    n_steps = len(wanted) + 1
    for number, (name, what, layers, arch) in enumerate(wanted, 1):
        progress.notice(f"Step {number} of {n_steps}: {what}")
        options = IngestOptions(
            model=str(models_folder() / name),
            layers=layers,
            arch=arch,
            train_tokens=TRAIN_TOKENS,
            reference_tokens=REFERENCE_TOKENS,
        )
        try:
            ingest(path, options, corpus=stdlib_corpus(), progress=progress, wait=wait)
        except MadeOtherwise as error:
            raise BadInput(
                f"{path} is a demo that another Python or another version of atlas made; delete "
                "it, or name another file."
            ) from error
    progress.notice(f"Step {n_steps} of {n_steps}: the models compared with each other")
    for a, b in compared:
        compare(path, StudyOptions(a, b), progress=progress, wait=wait)


def findings(atlas: Atlas, n: int = 4) -> list[Finding]:
    """Features of the first demo model that the one with the other tokenizer has, too."""
    asked = {"model": MODELS[0], "other": MODELS[-1], "n": n}
    return [
        Finding(card(atlas, feature, contexts=3), card(atlas, other, contexts=2), r)
        for feature, other, r in atlas.rows(_FINDINGS, asked)
    ]


def agreements(atlas: Atlas) -> list[Agreement]:
    """How alike the same layers of the demo's models are."""
    return [Agreement(*row) for row in atlas.rows(_AGREEMENT)]


def n_universal(atlas: Atlas) -> int:
    """Features of the first model with counterparts in all others, which agree with each other."""
    ((count,),) = atlas.rows(
        "select count(*) from universal_features where model = ? and n_models = ? and consistent",
        [MODELS[0], len(MODELS)],
    )
    return int(count)
