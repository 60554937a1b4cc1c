"""The demo: an atlas of the language models that the package ships, and findings to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atlas.cards import FeatureCard, card
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
    wanted = [(name, f"{name}: TopK", LAYERS, "topk") for name in MODELS]
    wanted.append((MODELS[0], f"{MODELS[0]} again: {COMPARED}", LAYERS[-1], COMPARED))
    for number, (name, what, layers, arch) in enumerate(wanted, 1):
        progress.notice(f"Step {number} of {len(wanted)}: {what}")
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


def findings(atlas: Atlas, n: int = 4) -> list[Finding]:
    """Features of the first demo model that the one with the other tokenizer has, too."""
    asked = {"model": MODELS[0], "other": MODELS[-1], "n": n}
    return [
        Finding(card(atlas, feature, contexts=3), card(atlas, other, contexts=2), r)
        for feature, other, r in atlas.rows(_FINDINGS, asked)
    ]
