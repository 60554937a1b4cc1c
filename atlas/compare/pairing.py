"""Pairs of features of two SAEs that stand for one another, from what the atlas stores of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from atlas.activations import Over
from atlas.compare.activity import Activity, read_activity, read_documents
from atlas.compare.assignment import best_assignment
from atlas.compare.chance import groups_by_rate, null_best, p_values, q_values
from atlas.compare.lan2024 import published_pairs
from atlas.compare.products import best_partners, correlations, joint_statistics
from atlas.compare.sae_match import match
from atlas.compare.settings import PairingSettings
from atlas.compare.top_texts import non_concept_texts, top_texts
from atlas.errors import BadInput
from atlas.progress import Progress, Silent

if TYPE_CHECKING:
    import duckdb

    Connect = Callable[[], duckdb.DuckDBPyConnection]
    Read = TypeVar("Read")

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of features, by index in their SAEs, in order of r, the largest first.

    Pairs of 'sae_match' are in order of distance, the least first. NaN: there is no such number.
    """

    a: Rows
    """(n,)"""
    b: Rows
    r: Reals
    """Pearson's r over all units."""
    r_chosen: Reals
    """Pearson's r over the documents that the pair was chosen by."""
    r_held_out: Reals
    """Pearson's r over the other documents, which is free of the choice's optimism."""
    n_both: Rows
    """Units on which both are active, of all."""
    p: Reals
    """Chance that the best of as many unrelated partners has such an r_chosen."""
    q: Reals
    """p after Benjamini and Hochberg, over all features of A that could have been paired."""
    distance: Reals
    """'sae_match' alone: mean squared error of the folded directions."""
    n_a: int
    """Features of A that could have been paired: not left out, and active on enough units."""
    n_b: int


class Side:
    """What pairing needs of one SAE, each part read when first asked for and then kept."""

    def __init__(self, connect: Connect, sae_id: int, over: Over) -> None:
        """connect: makes a connection to the atlas, which is closed after each reading."""
        self._connect = connect
        self.sae_id = sae_id
        self.over = over

    @cached_property
    def activity(self) -> Activity:
        """Activations on all units."""
        return self.read(lambda con: read_activity(con, self.sae_id, self.over))

    @cached_property
    def document(self) -> Rows:
        """(n_units,), ascending: each unit's document."""
        return self.read(lambda con: read_documents(con, self.sae_id, self.over))

    @cached_property
    def choosing(self) -> Mask:
        """(n_units,): whether a unit's document chooses pairs: 'explain' documents, of even ids.

        The others, as in every score of the atlas, are held out.
        """
        return cast("Mask", self.document % 2 == 0)

    @cached_property
    def chosen(self) -> Activity:
        """Activations on the documents that choose pairs."""
        return self.activity.only(self.choosing)

    @cached_property
    def held_out(self) -> Activity:
        """Activations on the other documents."""
        return self.activity.only(~self.choosing)

    @cached_property
    def top_texts(self) -> list[frozenset[str]]:
        """(d_sae,): the texts of each feature's five strongest units."""
        return self.read(lambda con: top_texts(con, self.sae_id, self.over))

    @cached_property
    def of_concepts(self) -> Mask:
        """(d_sae,): whether none of a feature's top texts is a non-concept."""
        excluded = self.read(non_concept_texts)
        return np.array([excluded.isdisjoint(texts) for texts in self.top_texts], bool)

    @cached_property
    def tokenizer(self) -> str:
        """Name of the tokenizer whose tokens its activations are stored on."""
        query = """
            select tokenizers.name
            from saes join models using (model_id) join tokenizers using (tokenizer_id)
            where saes.sae_id = ?
        """
        return cast(str, self.read(lambda con: con.execute(query, [self.sae_id]).fetchall()[0][0]))

    def read(self, reading: Callable[[duckdb.DuckDBPyConnection], Read]) -> Read:
        """What `reading` makes of a connection to the atlas."""
        with closing(self._connect()) as con:
            return reading(con)


def read_side(connect: Connect, sae_id: int, over: Over) -> Side:
    """The side of an SAE that exists; nothing is read yet.

    connect: makes a connection to the atlas, which is closed after each reading.
    over: 'words', or 'tokens' of the SAE's tokenizer.
    """
    return Side(connect, sae_id, over)


def pair(
    a: Side,
    b: Side,
    settings: PairingSettings,
    *,
    only_a: Rows | None = None,
    only_b: Rows | None = None,
    progress: Progress | None = None,
) -> Pairs:
    """The pairs of features of two SAEs that `settings.method` makes.

    only_a, only_b: indices of the features that may be paired; all unless given.

    BadInput where the method cannot compare the two: 'tokens' of different tokenizers, or
    directions of different spaces.
    """
    progress = progress or Silent()
    if settings.over == "tokens" and a.tokenizer != b.tokenizer:
        raise BadInput(
            f"The tokens of {a.tokenizer!r} are not those of {b.tokenizer!r}, so these SAEs cannot "
            "be paired over tokens; pair them over='words'."
        )
    if settings.method == "lan2024" and settings.over != "tokens":
        raise BadInput(
            "method='lan2024' pairs over tokens, as published, so give over='tokens' with SAEs of "
            "one tokenizer, or method='mutual' over words."
        )
    only = (_only(a, only_a, settings), _only(b, only_b, settings))
    if settings.method == "sae_match":
        return _matched_by_weights(a, b, *only, progress)
    if settings.method == "lan2024":
        return _as_published(a, b, *only)
    return _by_choice(a, b, *only, settings, progress)


def _by_choice(
    a: Side, b: Side, only_a: Mask, only_b: Mask, settings: PairingSettings, progress: Progress
) -> Pairs:
    """Pairs chosen on half of the documents, judged by shifts there, and measured on the others."""
    min_joint = settings.min_joint
    take_a = only_a & _varies(a.chosen, min_joint)
    take_b = only_b & _varies(b.chosen, min_joint)
    if settings.method == "hungarian":
        ia, ib = best_assignment(a.chosen, b.chosen, min_joint, take_a, take_b, progress)
    else:
        best = best_partners(a.chosen, b.chosen, min_joint, take_a=take_a, take_b=take_b)
        (ia,) = np.nonzero(best.partner_a >= 0)
        ib = best.partner_a[ia].astype(np.int64)
        if settings.method == "mutual":
            mutual = best.partner_b[ib] == ia
            ia, ib = ia[mutual], ib[mutual]
    r_chosen = _r(a.chosen, b.chosen, ia, ib)
    groups = groups_by_rate(a.chosen.n_active, take_a)
    nulls = null_best(
        a.chosen,
        b.chosen,
        a.document[a.choosing],
        min_joint,
        groups,
        take_b,
        settings.shifts,
        settings.seed,
        progress,
    )
    p = p_values(nulls, groups, ia, r_chosen)
    return _pairs(
        a, b, ia, ib, take_a, take_b,
        r_chosen=r_chosen,
        r_held_out=_r(a.held_out, b.held_out, ia, ib),
        p=p,
        q=q_values(p, int(take_a.sum())),
    )  # fmt: skip


def _as_published(a: Side, b: Side, only_a: Mask, only_b: Mask) -> Pairs:
    take_a, take_b = only_a & _varies(a.activity, 1), only_b & _varies(b.activity, 1)
    ia, ib = published_pairs(a, b, take_a, take_b)
    r = _r(a.activity, b.activity, ia, ib)
    return _pairs(a, b, ia, ib, take_a, take_b, r_chosen=r)


def _matched_by_weights(a: Side, b: Side, only_a: Mask, only_b: Mask, progress: Progress) -> Pairs:
    ia, ib, distance = match(a, b, np.flatnonzero(only_a), np.flatnonzero(only_b), progress)
    return _pairs(a, b, ia, ib, only_a, only_b, distance=distance)


def _pairs(
    a: Side, b: Side, ia: Rows, ib: Rows, take_a: Mask, take_b: Mask, **known: Reals
) -> Pairs:
    """Pairs in their order, with what is the same for every method; NaN for what is not known."""
    r = _r(a.activity, b.activity, ia, ib)
    order = np.lexsort((ib, ia, known.get("distance", -r)))
    columns = {
        name: known.get(name, np.full(len(ia), np.nan))[order]
        for name in ("r_chosen", "r_held_out", "p", "q", "distance")
    }
    n_both, _ = joint_statistics(a.activity, b.activity, ia, ib)
    return Pairs(
        a=ia[order],
        b=ib[order],
        r=r[order],
        n_both=n_both[order],
        n_a=int(take_a.sum()),
        n_b=int(take_b.sum()),
        **columns,
    )


def _only(side: Side, only: Rows | None, settings: PairingSettings) -> Mask:
    """(d_sae,): the features that the question leaves in."""
    taken = np.ones(side.activity.d_sae, bool)
    if only is not None:
        taken = np.isin(np.arange(len(taken)), only)
    if settings.concepts_only:
        taken &= side.of_concepts
    return taken


def _varies(activity: Activity, least: int) -> Mask:
    """(d_sae,): features that are active on enough units, and not on all alike."""
    return (activity.n_active >= least) & (activity.inverse_norm > 0)


def _r(a: Activity, b: Activity, ia: Rows, ib: Rows) -> Reals:
    """Pearson's r of each pair; NaN where one of it never varies."""
    varies = (a.inverse_norm[ia] > 0) & (b.inverse_norm[ib] > 0)
    return np.where(varies, correlations(a, b, ia, ib), np.nan)
