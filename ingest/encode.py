"""One pass of the model over the reference corpus: every SAE's sparse activations, as parts.

The corpus is cut into chunks of contexts at fixed places, and a chunk into batches in a fixed way,
whatever was done before: floating-point results may depend on what is computed together, so a
resumed pass must compute the same things together. Activations become integers on arrival:
q = round(activation / scale), where the scale is a power of two chosen from the first chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from atlas.errors import BadInput
from atlas.ingest.contexts import Context, batches, by_length, chunks, stream_contexts
from atlas.ingest.models import HookPoint, LanguageModel
from atlas.ingest.parts import Parts, part_path, part_scale, write_part
from atlas.ingest.quality import ReconstructionSums
from atlas.ingest.tokens import TokenStream
from atlas.progress import Progress, Silent
from atlas.sae import SaeWeights

CHUNK_TOKENS = 1 << 16
"""Tokens between two savings; an SAE with k active features takes 8 k bytes a token until then."""

BATCH_TOKENS = 1 << 13
"""Positions read at once, padding included."""

USUAL_BITS = 13
"""The strength that 99 of 100 activations stay below takes so many bits as an integer."""

_USUAL = 0.99


def encode_reference(
    model: LanguageModel,
    saes: Mapping[HookPoint, SaeWeights],
    stream: TokenStream,
    context: int,
    folder: Path,
    progress: Progress | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[HookPoint, Parts]:
    """Write each SAE's parts to `folder`/POINT/ and return them; finished chunks are not redone.

    saes: on the model's device. BadInput where an activation is not finite or, in units of the
    scale, leaves 32 bits.
    """
    folders = {point: folder / str(point) for point in saes}
    scales: dict[HookPoint, float] = {}
    n_chunks = 0
    with (progress or Silent()).task("reference corpus", len(stream), "tokens") as task:
        contexts = stream_contexts(stream, context, model.bos_id)
        for number, chunk in enumerate(chunks(contexts, chunk_tokens)):
            n_tokens = sum(len(one.ids) for one in chunk)
            if not all(part_path(place, number).exists() for place in folders.values()):
                if number > 0 and not scales:
                    scales = {point: part_scale(place) for point, place in folders.items()}
                for point, codes in _encode_chunk(model, saes, chunk, batch_tokens).items():
                    name = f"{model.name}/{point}"
                    index, token, value = codes.entries(name)
                    if number == 0:
                        scales[point] = choose_scale(value)
                    q = quantise(value, scales[point], name)
                    write_part(
                        folders[point],
                        number,
                        *columns(index, token, q, saes[point].d_sae, chunk[0].first, n_tokens),
                        scales[point],
                        codes.sums.arrays(),
                    )
            task.advance(n_tokens)
            n_chunks = number + 1
    return {point: Parts(place, n_chunks) for point, place in folders.items()}


def choose_scale(value: NDArray[np.float32]) -> float:
    """The power of two that gives the 99th percentile of active `value` (n,) `USUAL_BITS` bits.

    Not the maximum: the few first tokens of a context whose activations some models let grow a
    thousandfold would leave nothing for the others.
    """
    if len(value) == 0:
        return 2.0**-USUAL_BITS
    place = math.floor(_USUAL * (len(value) - 1))
    usual = float(np.partition(value, place)[place])
    return math.ldexp(1.0, math.frexp(usual)[1] - USUAL_BITS)


def quantise(value: NDArray[np.float32], scale: float, name: str) -> NDArray[np.int32]:
    """Integers round(value / scale), int32 (n,), halves to even; BadInput over 31 bits.

    Dividing by a power of two is exact. name: the SAE, for the sentence.
    """
    q = np.rint(value / np.float64(scale))
    if len(q) and q.max() >= 2**31:
        raise BadInput(
            f"The SAE {name} has an activation of {float(value.max()):g}, too far from its usual "
            "ones to be stored with them; the SAE is broken or does not belong to this hook point."
        )
    return q.astype(np.int32)


def columns(
    index: NDArray[np.int32],
    token: NDArray[np.int64],
    q: NDArray[np.int32],
    d_sae: int,
    first_token: int,
    n_tokens: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Compressed sparse columns (indptr, token, q), as `parts` has them, of entries (n,).

    The entries come in any order; those with q = 0 are dropped. Tokens are of the `n_tokens` from
    `first_token` on.
    """
    active = q > 0
    rows = (token[active] - first_token).astype(np.int32)
    shape = (n_tokens, d_sae)
    # Two counting sorts, by token and then by feature, which is linear in the entries.
    matrix = sparse.coo_array((q[active], (rows, index[active])), shape=shape).tocsr().tocsc()
    return (
        matrix.indptr.astype(np.int64),
        (matrix.indices + first_token).astype(np.int32),
        matrix.data.astype(np.int32),
    )


@dataclass
class _Codes:
    """One SAE's activations on a chunk, as its batches come."""

    sums: ReconstructionSums
    index: list[NDArray[np.int32]] = field(default_factory=list)
    token: list[NDArray[np.int64]] = field(default_factory=list)
    value: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, sae: SaeWeights, x: torch.Tensor, token: NDArray[np.int64]) -> None:
        """Encode x, float32 (n, d_in), the activations at `token` (n,)."""
        code = sae.encode(x)
        self.sums.add(x, sae.decode(code))
        value = code.value.cpu().numpy()
        # `>` would also drop NaN, which must be seen.
        row, place = np.nonzero(value != 0)
        self.index.append(code.index.cpu().numpy()[row, place].astype(np.int32))
        self.token.append(token[row])
        self.value.append(value[row, place])

    def entries(
        self, name: str
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
        """Index, token and value, each (n,), of the active features; BadInput if one is NaN."""
        value = np.concatenate(self.value)
        if not np.isfinite(value).all() or not np.isfinite(self.sums.arrays()["x2"]).all():
            raise BadInput(
                f"The SAE {name} meets activations that are not finite numbers; the model "
                "overflows at this layer, so leave the layer out or run on another device."
            )
        return np.concatenate(self.index), np.concatenate(self.token), value


def _encode_chunk(
    model: LanguageModel,
    saes: Mapping[HookPoint, SaeWeights],
    chunk: list[Context],
    batch_tokens: int,
) -> dict[HookPoint, _Codes]:
    points = list(saes)
    codes = {
        point: _Codes(ReconstructionSums(sae.d_in, model.device)) for point, sae in saes.items()
    }
    for batch in batches(by_length(chunk), batch_tokens, model.pad_id):
        for point, x in zip(points, model.run(batch, points), strict=True):
            codes[point].add(saes[point], x, batch.token)
    return codes
