"""class Atlas as Python users hold it: the store, with features and neighbours as objects."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas import cards, kernels, store
from atlas.cards import FeatureCard

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class Hit:
    """One answer of a neighbour search."""

    rank: int
    feature: str
    """Name: `model/layer-hook[-variant]/index`."""
    score: float
    """Pearson's r over words, or the cosine of directions."""
    feature_id: int


@dataclass(frozen=True)
class Comparison:
    """SAEs compared with SAEs: a row for each two of them and each metric."""

    rows: tuple[dict[str, Any], ...]
    """With the columns of the macro `similarity_matrix`, `metric` and `subspace`."""

    def pl(self) -> polars.DataFrame:
        """The rows as a data frame."""
        import polars

        return polars.DataFrame(self.rows, infer_schema_length=None)

    def heatmap(self, path: str | os.PathLike[str]) -> list[Path]:
        """Draw the SAEs of one side against those of the other, a file for each metric.

        path: of a .svg, .png or .pdf file; of several metrics, each one's name comes before the
        ending. Returns the files written.
        """
        from atlas.plots import plot_comparisons

        return plot_comparisons(self.rows, Path(path))


class Atlas(store.Atlas):
    """An open atlas: rows by `sql`, one feature by `feature`, its neighbours by `similar`."""

    def feature(self, feature: str | int, *, contexts: int = 10) -> FeatureCard:
        """All that is known of a feature given by name or id; NotFound for one that is not there.

        contexts: how many stretches of text to bring along.
        """
        return cards.card(self, feature, contexts=contexts)

    def similar(
        self,
        feature: str | int | FeatureCard,
        k: int = 10,
        *,
        by: str = "activation",
        within: str | None = None,
    ) -> list[Hit]:
        """The k features most like one, best first: the macro `similar` as objects.

        by: 'activation' (any model), 'decoder' or 'encoder' (cosine, within the same space).
        within: name of a model or an SAE to search in, or a pattern.
        """
        asked = feature.feature_id if isinstance(feature, FeatureCard) else self.feature_id(feature)
        rows = self.rows(
            "select rank, feature, score, feature_id"
            " from similar(?, k := ?, by := ?, within := ?) order by rank",
            [asked, k, by, within],
        )
        return [Hit(*row) for row in rows]

    def compare(
        self, a: str, b: str, *metrics: str, subspace: str = "all", **settings: Any
    ) -> Comparison:
        """How alike the features of SAEs are: the macro `similarity_matrix` as an object.

        a, b: names of SAEs or models, or patterns of SAEs' names.
        metrics: 'svcca' unless given; 'rsa', 'cka', … (see the macro `compare`).
        settings: method, over, min_joint, concepts_only, permutations, subsets, seed, as there.

        What `atlas compare` kept with these settings is read, the rest computed, and not kept.
        """
        named = ", ".join(f"{name} := ${name}" for name in ("subspace", *settings))
        rows: list[dict[str, Any]] = []
        for metric in metrics or ("svcca",):
            given = {"a": a, "b": b, "metric": metric, "subspace": subspace, **settings}
            with store.told():
                found = self.execute(
                    "select $metric as metric, $subspace as subspace, *"
                    f" from similarity_matrix($a, $b, metric := $metric, {named})",
                    given,
                )
                names = [column[0] for column in found.description or ()]
                rows += [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        return Comparison(tuple(rows))


def open_atlas(path: str | os.PathLike[str], *, write: bool = False, wait: float = 0.0) -> Atlas:
    """Open an atlas, read-only unless `write`, with the macros that need Python connected.

    wait: seconds to wait while another process holds the file.
    """
    opened = Atlas.open(path, write=write, wait=wait)
    kernels.install(opened)
    return opened


def create_atlas(path: str | os.PathLike[str]) -> Atlas:
    """Make a new, empty atlas, open for writing, with the macros that need Python connected."""
    made = Atlas.create(path)
    kernels.install(made)
    return made
