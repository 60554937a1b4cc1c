"""An atlas of layers in which it is known what becomes of every feature, built without any model.

Model `deep` has four layers; from one to the next, features pass on, end, are born, specialise,
generalise, split, merge, and combine in gates. Model `twin` has the first three of these layers
again, noisy and in another order. Each word is one token, of both models' one tokenizer. Links,
joint activity and pairings are computed from dense matrices by the plainest NumPy there is.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import atlas
from atlas import Atlas
from tests.synthetic_pairs import MIN_JOINT as PAIR_MIN_JOINT
from tests.synthetic_pairs import correlations, mutual

N_UNITS = 12_000
DOCUMENT = 100
WIDTH = 120
DEPTH = 4
TWINS = 3
DEAD = 6
D_MODEL = 24
MIN_JOINT = 20
SCALE = 2.0**-10
PASSING = 0.6
"""Share of the plain features that go on in the next layer."""
FEW = 3
"""Of every other kind of relation, from each layer to the next."""

Sketch = tuple[str, list[int], np.ndarray]
"""A gate to be: kind, inputs, and the column of its output."""


@dataclass(frozen=True)
class Gate:
    """A feature that fires on a Boolean combination of others, of the layer before."""

    kind: str
    """'and', 'or', 'and_not' (the first without the second), 'and3'; 'chance': an 'and' in the even
    documents alone."""
    inputs: tuple[int, ...]
    output: int


@dataclass
class Truth:
    """What was planted, in feature ids."""

    passes: set[tuple[int, int]] = field(default_factory=set)
    """(upstream, downstream), one-to-one, in `deep`, as all that follows but the dead."""
    born: set[int] = field(default_factory=set)
    """Live features of all but first layers into which none passes."""
    ended: set[int] = field(default_factory=set)
    """Live features of all but last layers that pass into none."""
    dead: set[int] = field(default_factory=set)
    specialised: set[tuple[int, int]] = field(default_factory=set)
    """(parent, child): the child fires on a part of the parent's units, and nowhere else."""
    generalised: set[tuple[int, int]] = field(default_factory=set)
    """(parent, child): the parent fires on a part of the child's units, and nowhere else."""
    splits: set[tuple[int, tuple[int, ...]]] = field(default_factory=set)
    """(parent, children): the parent's units are divided among the children."""
    gates: list[Gate] = field(default_factory=list)
    """Those of kind 'or' are merges: the inputs have no unit in common."""
    twins: set[tuple[int, int]] = field(default_factory=set)
    """(feature of `deep`, its copy in `twin`), in the same layer."""


@dataclass(frozen=True)
class PlantedLayers:
    """The atlas with its truth."""

    path: Path
    truth: Truth
    saes: tuple[str, ...]
    """deep/0-resid_post, …, twin/0-resid_post, …; feature ids count on through them."""
    q: tuple[np.ndarray, ...]
    """Of each SAE, int64 (N_UNITS, WIDTH)."""

    def ids(self, sae: str) -> range:
        """Feature ids of an SAE."""
        first = WIDTH * self.saes.index(sae)
        return range(first, first + WIDTH)

    def name(self, feature_id: int) -> str:
        """Name of a feature."""
        sae, index = divmod(feature_id, WIDTH)
        return f"{self.saes[sae]}/{index}"


def build_layers(path: str | Path, seed: int = 0) -> PlantedLayers:
    """Create the atlas `path`."""
    path = Path(path)
    layers, truth = _Planting(seed).all()
    saes = (
        *(f"deep/{layer}-resid_post" for layer in range(DEPTH)),
        *(f"twin/{layer}-resid_post" for layer in range(TWINS)),
    )
    with atlas.create(path) as store, store.transaction():
        _add_corpus(store, layers)
        for sae_id, (name, q) in enumerate(zip(saes, layers, strict=True)):
            _add_sae(store, sae_id, name, q, np.random.default_rng([seed, 5, sae_id]))
        deep = list(range(DEPTH))
        twin = list(range(DEPTH, DEPTH + TWINS))
        # Neighbours, and first with third: what a composition of two links is held against.
        links = [*itertools.pairwise(deep), *itertools.pairwise(twin), (0, 2)]
        for link_id, (a, b) in enumerate(links):
            _add_link(store, link_id, a, b, layers[a], layers[b])
        for pairing_id in range(TWINS):
            a, b = deep[pairing_id], twin[pairing_id]
            _add_pairing(store, pairing_id, a, b, layers[a], layers[b])
        store.advance_stamp(str(seed))
    return PlantedLayers(path, truth, saes, tuple(layers))


class _Planting:
    """Grows one layer from the one before."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 4])
        self._truth = Truth()

    def all(self) -> tuple[list[np.ndarray], Truth]:
        """q of every SAE in the order of ids, and the truth."""
        layers = []
        plain: dict[int, np.ndarray] = {}
        gates: list[Sketch] = []
        for layer in range(DEPTH):
            columns, plain, gates = self._layer(layer, plain, gates)
            layers.append(columns)
        for layer in range(TWINS):
            layers.append(self._twin(layer, layers[layer]))
        return layers, self._truth

    def _layer(
        self, layer: int, before: dict[int, np.ndarray],
        gates: list[Sketch],
    ) -> tuple[np.ndarray, dict[int, np.ndarray], list[Sketch]]:  # fmt: skip
        """(q (N_UNITS, WIDTH), its plain features, its gates to be); columns are keyed by id.

        before: plain features of the layer before; gates: those whose inputs are there.
        """
        rng, truth = self._rng, self._truth
        ids = iter((WIDTH * layer + rng.permutation(WIDTH)).tolist())
        grown: dict[int, np.ndarray] = {}
        truth.dead.update(next(ids) for _ in range(DEAD))

        def add(column: np.ndarray, *, new: bool = True) -> int:
            one = next(ids)
            grown[one] = column
            if new and layer > 0:
                truth.born.add(one)
            return one

        if before:
            order = rng.permutation(list(before)).tolist()
            passing = order[: round(PASSING * len(order))]
            truth.passes.update((one, add(self._noisy(before[one]), new=False)) for one in passing)
            truth.ended.update(order[len(passing) :])
            chosen = iter(order)  # of passing ones
            for _ in range(FEW):
                parent = next(chosen)
                part = before[parent] * (rng.random(N_UNITS) < 0.3)
                truth.specialised.add((parent, add(self._noisy(part))))
            for _ in range(FEW):
                parent = next(chosen)
                more = before[parent] + self._fresh() * (before[parent] == 0)
                truth.generalised.add((parent, add(self._noisy(more, dropout=0))))
            for _ in range(FEW):
                parent = next(chosen)
                first = rng.random(N_UNITS) < 0.5
                parts = [self._noisy(before[parent] * side) for side in (first, ~first)]
                truth.splits.add((parent, tuple(add(part) for part in parts)))
        for kind, inputs, column in gates:
            truth.gates.append(Gate(kind, tuple(inputs), add(self._noisy(column))))
        following = []
        if layer + 1 < DEPTH:
            for kind in ("and", "or", "and_not", "and3", "chance"):
                for _ in range(FEW if kind != "and3" else 1):
                    columns, output = self._gate(kind)
                    inputs = [add(column) for column in columns]
                    truth.ended.update(inputs)
                    following.append((kind, inputs, output))
        gated = {one for _, inputs, _ in following for one in inputs}
        n_left = WIDTH - DEAD - len(grown)
        for _ in range(n_left):
            add(self._fresh())
        q = np.zeros((N_UNITS, WIDTH), "i8")
        for one, column in grown.items():
            q[:, one - WIDTH * layer] = column
        return q, {one: column for one, column in grown.items() if one not in gated}, following

    def _gate(self, kind: str) -> tuple[list[np.ndarray], np.ndarray]:
        """Columns of a gate's inputs, and of its output."""
        rng = self._rng
        if kind == "and3":
            # Any two of them have units in common on which the third does not fire.
            all_three, *twos = (self._fresh(0.008) for _ in range(4))
            inputs = [all_three.copy() for _ in range(3)]
            for left_out, column in enumerate(twos):
                for i in range(3):
                    if i != left_out:
                        inputs[i] = np.maximum(inputs[i], column)
            return inputs, all_three
        joint, *alone = (self._fresh(0.012) for _ in range(3))
        if kind == "or":
            alone[1] *= alone[0] == 0
            return alone, alone[0] + alone[1]
        alone = [column * (joint == 0) for column in alone]
        inputs = [column + self._noisy(joint, dropout=0) for column in alone]
        if kind == "and_not":
            return inputs, inputs[0] * (inputs[1] == 0)
        both = inputs[0] * (inputs[1] > 0)
        if kind == "chance":
            elsewhere = alone[0] * (rng.random(N_UNITS) < 0.7)
            even = np.arange(N_UNITS) // DOCUMENT % 2 == 0
            both = np.where(even, both, elsewhere)
        return inputs, both

    def _twin(self, layer: int, q: np.ndarray) -> np.ndarray:
        """The layer again, two thirds of its live features copied, in another order."""
        rng, truth = self._rng, self._truth
        first = WIDTH * (DEPTH + layer)
        out = np.zeros_like(q)
        order = rng.permutation(WIDTH)
        for index, place in enumerate(order.tolist()):
            if not q[:, index].any():
                truth.dead.add(first + place)
            elif rng.random() < 2 / 3:
                out[:, place] = self._noisy(q[:, index], dropout=0.05, noise=0.15)
                truth.twins.add((WIDTH * layer + index, first + place))
            else:
                out[:, place] = self._fresh()
        return out

    def _fresh(self, rate: float | None = None) -> np.ndarray:
        """Fires on units of its own, as often as others or at the rate; int64 (N_UNITS,)."""
        rng = self._rng
        rate = np.exp(rng.uniform(*np.log((0.006, 0.03)))) if rate is None else rate
        strength = np.round(1024 * np.exp(0.4 * rng.standard_normal(N_UNITS))).astype("i8") + 1
        return strength * (rng.random(N_UNITS) < rate)

    def _noisy(self, q: np.ndarray, dropout: float = 0.01, noise: float = 0.05) -> np.ndarray:
        kept = q * (self._rng.random(N_UNITS) >= dropout)
        factor = np.exp(noise * self._rng.standard_normal(N_UNITS))
        return np.where(kept > 0, np.maximum(1, np.round(kept * factor)), 0).astype("i8")


def _add_corpus(store: Atlas, layers: list[np.ndarray]) -> None:
    """One run, documents of `DOCUMENT` words, one tokenizer, both models."""
    started = np.datetime64("2026-01-01T00:00:00", "us")
    insert(
        store, "runs", run_id=[0], command=["planted"], plan=[_sha("planted")], config=["{}"],
        circumstances=["{}"], seed=[0], started_at=[started], ended_at=[started], status=["done"],
    )  # fmt: skip
    rng = np.random.default_rng(6)
    forms = [c + v + d for c in "bdgklmnprst" for v in "aeiou" for d in "nrst"]
    ids = rng.integers(0, len(forms), N_UNITS).astype("i4")
    words = [forms[i] + " " for i in ids]
    n_documents = N_UNITS // DOCUMENT
    texts = ["".join(words[i * DOCUMENT : (i + 1) * DOCUMENT]) for i in range(n_documents)]
    document = np.arange(N_UNITS) // DOCUMENT
    start = (np.arange(N_UNITS) % DOCUMENT * 4).astype("i4")
    insert(
        store, "corpora", corpus_id=[0], name=["planted"], source=["planted"], licence=["CC0-1.0"],
        sha256=[_sha("".join(text + "\0" for text in texts))], n_documents=[n_documents],
        n_characters=[sum(map(len, texts))], n_words=[N_UNITS], run_id=[0],
    )  # fmt: skip
    insert(
        store, "documents", document_id=np.arange(n_documents), corpus_id=[0] * n_documents,
        source=[f"planted#{i}" for i in range(n_documents)], text=texts,
    )  # fmt: skip
    insert(
        store, "words", word=np.arange(N_UNITS), document_id=document, start_char=start,
        end_char=start + 4, form=[word.strip() for word in words],
    )  # fmt: skip
    insert(
        store, "tokenizers", tokenizer_id=[0], name=["words"], sha256=[_sha("words")],
        n_vocab=[len(forms)], first_token=[0], n_tokens=[N_UNITS], run_id=[0],
    )  # fmt: skip
    insert(
        store, "vocabulary", tokenizer_id=[0] * len(forms), token_id=np.arange(len(forms)),
        text=[form + " " for form in forms], n_tokens=np.bincount(ids, minlength=len(forms)),
    )  # fmt: skip
    insert(
        store, "tokens", token=np.arange(N_UNITS), document_id=document,
        position=np.arange(N_UNITS) % DOCUMENT, token_id=ids, start_char=start, end_char=start + 4,
        word=np.arange(N_UNITS),
    )  # fmt: skip
    insert(
        store, "models", model_id=[0, 1], name=["deep", "twin"], source=["planted"] * 2,
        sha256=[_sha("deep"), _sha("twin")], model_type=["toy"] * 2, n_layers=[DEPTH] * 2,
        d_model=[D_MODEL] * 2, n_parameters=[1000] * 2, is_causal=[True] * 2,
        prepends_bos=[True] * 2, block_path=["blocks"] * 2, tokenizer_id=[0, 0], run_id=[0, 0],
    )  # fmt: skip


def _add_sae(store: Atlas, sae_id: int, name: str, q: np.ndarray, rng: np.random.Generator) -> None:
    model_id, layer, first = int(sae_id >= DEPTH), int(name.split("/")[1][0]), WIDTH * sae_id
    insert(
        store, "saes", sae_id=[sae_id], model_id=[model_id], name=[name], layer=[layer],
        hook=["resid_post"], architecture=["topk"], activation=["topk"], d_in=[D_MODEL],
        d_sae=[WIDTH], d_out=[D_MODEL], k=[4], first_feature_id=[first], input_scale=[1.0],
        output_scale=[1.0], normalize=["none"], pre_bias=[[0.0] * D_MODEL],
        b_dec=[[0.0] * D_MODEL], scale=[SCALE], context=[DOCUMENT], source=["trained"],
        sha256=[_sha(name)], train_tokens=[100_000], held_out=[True], run_id=[0],
    )  # fmt: skip
    insert(
        store, "sae_sites", sae_id=[sae_id] * 2, role=["input", "output"], place=[0, 0],
        model_id=[model_id] * 2, layer=[layer] * 2, hook=["resid_post"] * 2, first_column=[0, 0],
        width=[D_MODEL] * 2,
    )  # fmt: skip
    ids, n_active = first + np.arange(WIDTH), (q > 0).sum(0)
    sums, squares = q.sum(0), (q * q).sum(0)
    quantiles = [
        np.quantile(mine[mine > 0], (0.1, 0.25, 0.5, 0.75, 0.9, 0.99), method="lower").tolist()
        if mine.any() else [] for mine in q.T
    ]  # fmt: skip
    insert(
        store, "features", feature_id=ids, sae_id=[sae_id] * WIDTH, index=np.arange(WIDTH),
        alive=n_active > 0, density=n_active / N_UNITS, n_active=n_active, sum_q=sums,
        sum_q2=squares, max_q=q.max(0), quantiles_q=quantiles, word_n_active=n_active,
        word_sum_q=sums, word_sum_q2=squares,
    )  # fmt: skip
    feature, token = np.nonzero(q.T)
    insert(store, "activations", feature_id=first + feature, token=token, q=q[token, feature])
    directions = rng.standard_normal((WIDTH, D_MODEL))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    insert(
        store, "vectors", feature_id=ids, encoder=list(directions), decoder=list(directions),
        encoder_bias=np.zeros(WIDTH), signature=list(_signatures(q)),
    )  # fmt: skip
    insert(
        store, "labels", feature_id=ids, text=[f"planted {one}" for one in ids],
        method=["words"] * WIDTH, explainer=["planted"] * WIDTH, run_id=[0] * WIDTH,
    )  # fmt: skip
    insert(store, "strong_activity", feature_id=ids, over=["tokens"] * WIDTH,
           n_strong=strong(q).sum(0))  # fmt: skip


def _signatures(q: np.ndarray) -> np.ndarray:
    """Unit count-sketches of the centred columns, zeros if dead; float32 (WIDTH, 512)."""
    rng = np.random.default_rng(7)
    bucket, sign = rng.integers(0, 512, N_UNITS), rng.choice([-1.0, 1.0], N_UNITS)
    out = np.zeros((512, WIDTH))
    np.add.at(out, bucket, (q - q.mean(0)) * sign[:, None])
    norm = np.linalg.norm(out, axis=0)
    return np.divide(out, norm, out=np.zeros_like(out), where=norm > 0).T.astype("f4")


def strong(q: np.ndarray) -> np.ndarray:
    """Whether each feature exceeds a fifth of its maximum, as q (units, features)."""
    return 5 * q > q.max(0)


def _add_link(store: Atlas, link_id: int, a: int, b: int, q_a: np.ndarray, q_b: np.ndarray) -> None:
    # Doubles hold these sums exactly, and are multiplied by a faster routine.
    joint = ((q_a > 0).astype("f8").T @ (q_b > 0)).astype("i8")
    i, j = np.nonzero(joint >= MIN_JOINT)
    insert(
        store, "links", link_id=[link_id], run_id=[0], sae_a=[a], sae_b=[b], over=["tokens"],
        min_joint=[MIN_JOINT], n=[N_UNITS], n_pairs=[len(i)],
    )  # fmt: skip
    insert(
        store, "coactivations", link_id=[link_id] * len(i), feature_a=WIDTH * a + i,
        feature_b=WIDTH * b + j, n_both=joint[i, j],
        n_both_strong=(strong(q_a).astype("f8").T @ strong(q_b))[i, j].astype("i8"),
        sum_ab=(q_a.astype("f8").T @ q_b)[i, j].astype("i8"),
        pearson=correlations(q_a, q_b)[i, j],
    )  # fmt: skip


def _add_pairing(
    store: Atlas, pairing_id: int, a: int, b: int, q_a: np.ndarray, q_b: np.ndarray
) -> None:
    even = np.arange(N_UNITS) // DOCUMENT % 2 == 0
    r_chosen, (i, j) = mutual(q_a[even].astype("f8"), q_b[even].astype("f8"))
    n_live = [int((one[even] > 0).any(0).sum()) for one in (q_a, q_b)]
    insert(
        store, "pairings", pairing_id=[pairing_id], run_id=[0], sae_a=[a], sae_b=[b],
        subspace=["all"], method=["mutual"], over=["words"], min_joint=[PAIR_MIN_JOINT],
        concepts_only=[False], shifts=[20], seed=[0], n_a=n_live[:1], n_b=n_live[1:],
        n_pairs=[len(i)],
    )  # fmt: skip
    insert(
        store, "feature_pairs", pairing_id=[pairing_id] * len(i), feature_a=WIDTH * a + i,
        feature_b=WIDTH * b + j, r=correlations(q_a, q_b)[i, j], r_chosen=r_chosen[i, j],
        r_held_out=correlations(q_a[~even], q_b[~even])[i, j],
        n_both=((q_a > 0).astype("f8").T @ (q_b > 0))[i, j].astype("i8"),
        # Not a test of anything: the weak ones by luck, the others beyond doubt.
        p=np.where(r_chosen[i, j] > 0.5, 0.001, 1.0), q=np.where(r_chosen[i, j] > 0.5, 0.001, 1.0),
    )  # fmt: skip


def insert(store: Atlas, table: str, /, **columns: Any) -> None:
    """Append rows, given as equally long columns; what is left out becomes null."""
    store.insert(table, pa.table({name: pa.array(values) for name, values in columns.items()}))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
