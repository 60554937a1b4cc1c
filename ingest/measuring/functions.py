"""What the features of SAEs are good for, without outside data: k-sparse probing and absorption."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from atlas.ingest.measuring.absorption import (
    LEAST_LETTERS,
    Absorption,
    KnownLetter,
    absorption,
    absorption_metrics,
    known_letters,
    letter_words,
)
from atlas.ingest.measuring.parts import Parts
from atlas.ingest.measuring.probing import Probe, ProbedTokens, probe, probe_metrics
from atlas.ingest.measuring.properties import token_properties
from atlas.ingest.measuring.quality import spread, write_json
from atlas.ingest.models.forwards import Forwards
from atlas.ingest.models.joint import JointText, Reader, reference_contexts
from atlas.ingest.models.sites import HookPoint, Placed, all_points
from atlas.ingest.text.contexts import Batch, Context, batches, by_length
from atlas.ingest.text.forms import WordForms
from atlas.ingest.text.reference import Reference
from atlas.ingest.text.tokens import TokenStream
from atlas.progress import Progress, Silent
from atlas.sae import NORMALIZATIONS, SaeWeights, SparseCode
from atlas.workers import Stage, run_lanes

WORD_TOKENS = 1 << 16
"""Tokens of the contexts in which words are looked at for absorption."""

WORDS = 1 << 14
"""Most of these words."""

_BATCH_TOKENS = 1 << 11
_ROWS = 1 << 12
_NUMBERS = 1 << 26
"""Numbers of all words' activations at one hook point, at most: a file of 256 MiB."""

PROBE_SCHEMA = pa.schema(
    [
        ("property", pa.string()),
        ("k", pa.int32()),
        ("features", pa.list_(pa.int32())),
        ("n_tokens", pa.int64()),
        ("n_positive", pa.int64()),
        ("balanced_accuracy", pa.float64()),
        ("f1", pa.float64()),
        ("auc", pa.float64()),
    ]
)
ABSORPTION_SCHEMA = pa.schema(
    [
        ("letter", pa.string()),
        ("probe_f1", pa.float64()),
        ("main", pa.list_(pa.int32())),
        ("main_f1", pa.float64()),
        ("n_words", pa.int64()),
        ("full_share", pa.float64()),
        ("fraction", pa.float64()),
        ("absorbers", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Functions:
    """Of one SAE."""

    probes: list[Probe]
    absorptions: list[Absorption]

    def metrics(self) -> dict[str, float]:
        """The means over properties and letters."""
        return probe_metrics(self.probes) | absorption_metrics(self.absorptions)

    def tables(self) -> dict[str, pa.Table]:
        """Rows of the tables `probes` and `absorptions`, without `sae_id`; features by index."""
        return {
            "probes": pa.Table.from_pylist([asdict(one) for one in self.probes], PROBE_SCHEMA),
            "absorptions": pa.Table.from_pylist(
                [asdict(one) for one in self.absorptions], ABSORPTION_SCHEMA
            ),
        }


def measure_functions(
    model: Reader,
    saes: Mapping[str, Placed],
    parts: Mapping[str, Parts],
    reference: Reference,
    forms: WordForms,
    text: TokenStream | JointText,
    context: int,
    folder: Path,
    progress: Progress | None = None,
) -> dict[str, Functions]:
    """Probe each SAE for properties of tokens, and look for absorption of first letters.

    saes: by their names within the model, on the model's device; parts: what `encode_reference`
    made of them and `text`. Of several models side by side the first one's tokens are looked at,
    and of these the ones that count in all of them.

    Finished SAEs are kept as `folder`/functions-*.json and not measured again.
    """
    paths = {key: folder / f"functions-{key}.json" for key in saes}
    missing = {key: placed for key, placed in saes.items() if not paths[key].exists()}
    with (progress or Silent()).task("probing features", len(saes), "SAEs") as task:
        task.advance(len(saes) - len(missing))
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            stream = text.streams[0] if isinstance(text, JointText) else text
            contexts = list(reference_contexts(model, text, context))
            with threadpool_limits(1, user_api="blas"):
                words = _Words(model, missing, reference, forms, stream, contexts, folder)
            tokens = ProbedTokens(
                token_properties(reference, stream, context),
                np.asarray(stream.document),
                _counted(contexts, len(stream)),
            )

            def lane(key: str, placed: Placed) -> Iterator[Stage]:
                yield [partial(_measure, placed, parts[key], tokens, words, paths[key])]
                task.advance()

            # Lanes have a core each: products that take more would only wait for each other.
            with threadpool_limits(1, user_api="blas"):
                run_lanes(itertools.starmap(lane, missing.items()))
            words.remove()
    return {key: _read(path) for key, path in paths.items()}


class _Words:
    """The words that absorption is looked for in, and the model's activations on them, as files."""

    def __init__(
        self,
        model: Reader,
        saes: Mapping[str, Placed],
        reference: Reference,
        forms: WordForms,
        stream: TokenStream,
        contexts: list[Context],
        folder: Path,
    ) -> None:
        points = all_points(sites for sites, _ in saes.values())
        chosen = spread(contexts, WORD_TOKENS)
        read = list(batches(by_length(chosen), _BATCH_TOKENS, model.pad_id))
        most = min(WORDS, _NUMBERS // max(model.width(point) for point in points))
        among = _counted(chosen, len(stream))
        self.words = letter_words(reference, forms, stream, among, most)
        self._files = {point: folder / f"words-{i}.npy" for i, point in enumerate(points)}
        self._gather(model, read, len(stream))
        outputs = {sites.outputs for sites, _ in saes.values()}
        self.known = {points: self._known(points) for points in sorted(outputs)}
        """Of each combination of output points, the letters that can be read off there."""

    def activations(self, points: tuple[HookPoint, ...]) -> NDArray[np.float32]:
        """Those of several points side by side, float32 (n_words, d)."""
        return np.concatenate([np.load(self._files[point]) for point in points], axis=1)

    def remove(self) -> None:
        """Delete the files."""
        for path in self._files.values():
            path.unlink(missing_ok=True)

    def _gather(self, model: Reader, read: list[Batch], n_tokens: int) -> None:
        if not len(self.words):
            return
        row = np.full(n_tokens, -1, np.int64)
        row[self.words.token] = np.arange(len(self.words))
        found = [
            np.lib.format.open_memmap(
                path, "w+", np.dtype(np.float32), (len(self.words), model.width(point))
            )
            for point, path in self._files.items()
        ]

        def keep(i: int, activations: list[torch.Tensor]) -> None:
            rows = row[read[i].token]
            there = rows >= 0
            for matrix, activation in zip(found, activations, strict=True):
                matrix[rows[there]] = activation.cpu().numpy()[there]

        Forwards(model, list(self._files)).run(read, keep)

    def _known(self, points: tuple[HookPoint, ...]) -> list[KnownLetter]:
        return known_letters(self.activations(points), self.words) if len(self.words) else []


def _counted(contexts: list[Context], n_tokens: int) -> NDArray[np.bool_]:
    """Which tokens of the stream count in one of the contexts, (n_tokens,)."""
    counted = np.zeros(n_tokens, bool)
    for one in contexts:
        here = slice(one.first, one.first + len(one.ids))
        counted[here] = True if one.counted is None else one.counted
    return counted


def _measure(placed: Placed, parts: Parts, tokens: ProbedTokens, words: _Words, path: Path) -> None:
    """Write what is found of one SAE to `path`."""
    sites, sae = placed
    length = sae.W_dec.norm(dim=1).double().cpu().numpy()
    probes = probe(parts, length, tokens)
    letters, absorptions = words.known[sites.outputs], list[Absorption]()
    if len(letters) >= LEAST_LETTERS:
        x = words.activations(sites.inputs)
        y = x if sites.same else words.activations(sites.outputs)
        acts, base = latent_activations(sae, x)
        absorptions = absorption(words.words, letters, acts, sae.W_dec.cpu().numpy(), y - base)
    write_json(
        path,
        {
            "probes": [asdict(one) for one in probes],
            "absorptions": [asdict(one) for one in absorptions],
        },
    )


def latent_activations(
    sae: SaeWeights, x: NDArray[np.float32]
) -> tuple[sparse.csr_array, NDArray[np.float32]]:
    """An SAE's code of x (n, d_in) in the model's units, and what it makes of an empty code.

    Sparse (n, d_sae) `acts` and float32 (n, d_out) `base` such that ŷ = acts @ W_dec + base.
    """
    codes, bases = [], []
    for first in range(0, len(x), _ROWS):
        some = torch.from_numpy(x[first : first + _ROWS]).to(sae.W_enc.device)
        code = sae.encode(some)
        nothing = SparseCode(torch.zeros_like(code.offset), code.index[:0], code.value[:0])
        bases.append(sae.decode(nothing, some).cpu().numpy())
        # The way back from a normalised input is linear in what is added to it.
        _, denormalize = NORMALIZATIONS[sae.normalize](some)
        units = some.new_ones((len(some), 1))
        unit = (denormalize(units) - denormalize(0 * units))[:, 0] / sae.output_scale
        value = code.value * torch.repeat_interleave(unit, code.offset.diff())
        arrays = (value.cpu().numpy(), code.index.cpu().numpy(), code.offset.cpu().numpy())
        codes.append(sparse.csr_array(arrays, shape=(len(some), sae.d_sae)))
    return sparse.vstack(codes, format="csr"), np.concatenate(bases)


def _read(path: Path) -> Functions:
    found = json.loads(path.read_text("utf-8"))
    return Functions(
        [Probe(**one | {"features": tuple(one["features"])}) for one in found["probes"]],
        [
            Absorption(**one | {name: tuple(one[name]) for name in ("main", "absorbers")})
            for one in found["absorptions"]
        ],
    )
