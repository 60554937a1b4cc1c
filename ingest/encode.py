"""One pass of the model over the reference corpus: every SAE's sparse activations, as parts.

The corpus is cut into chunks of contexts at fixed places, and a chunk into batches in a fixed way,
whatever was done before: floating-point results may depend on what is computed together, so a
resumed pass must compute the same things together. Activations become integers on arrival:
q = round(activation / scale), where the scale is a power of two chosen from the first chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from atlas.errors import BadInput
from atlas.ingest.contexts import Batch, batches, by_length, chunks, stream_contexts
from atlas.ingest.forwards import Forwards
from atlas.ingest.models import HookPoint, LanguageModel
from atlas.ingest.parts import Parts, part_path, part_scale, write_part
from atlas.ingest.quality import add_sums, reconstruction_sums
from atlas.ingest.tokens import TokenStream
from atlas.progress import Progress, Silent, Task
from atlas.sae import SaeWeights

CHUNK_TOKENS = 1 << 16
"""Tokens between two savings; an SAE with k active features takes 8 k bytes a token until then."""

BATCH_TOKENS = 1 << 11
"""Positions read at once, padding included: what a core computes of them stays in its cache."""

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
    forwards = Forwards(model, list(saes))
    n_chunks = 0
    with (progress or Silent()).task("reference corpus", len(stream), "tokens") as task:
        contexts = stream_contexts(stream, context, model.bos_id)
        for number, chunk in enumerate(chunks(contexts, chunk_tokens)):
            n_tokens = sum(len(one.ids) for one in chunk)
            n_chunks = number + 1
            if all(part_path(place, number).exists() for place in folders.values()):
                task.advance(n_tokens)
                continue
            if number > 0 and not scales:
                scales = {point: part_scale(place) for point, place in folders.items()}
            read = list(batches(by_length(chunk), batch_tokens, model.pad_id))
            encoded = _encode_chunk(forwards, list(saes.values()), read, task)
            for (point, sae), codes in zip(saes.items(), encoded, strict=True):
                name = f"{model.name}/{point}"
                code = _joined(codes, name)
                if number == 0:
                    scales[point] = choose_scale(code.value)
                q = quantise(code.value, scales[point], name)
                write_part(
                    folders[point],
                    number,
                    *columns(code.latent, code.token, q, sae.d_sae, chunk[0].first, n_tokens),
                    scales[point],
                    code.sums,
                )
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


class _Code(NamedTuple):
    """One SAE's active features on some tokens, all arrays (n,), and the sums for `quality`."""

    latent: NDArray[np.int32]
    token: NDArray[np.int64]
    value: NDArray[np.float32]
    sums: dict[str, NDArray[np.float64]]


def _encode(sae: SaeWeights, x: torch.Tensor, token: NDArray[np.int64]) -> _Code:
    """Encode x, float32 (n, d_in), the activations at `token` (n,)."""
    code = sae.encode(x)
    value = code.value.cpu().numpy()
    # `>` would also drop NaN, which must be seen.
    row, place = np.nonzero(value != 0)
    return _Code(
        code.index.cpu().numpy()[row, place],
        token[row],
        value[row, place],
        reconstruction_sums(x, sae.decode(code)),
    )


def _joined(codes: Sequence[_Code], name: str) -> _Code:
    """The codes of batches as one; BadInput if an activation is not finite. name: the SAE."""
    value = np.concatenate([code.value for code in codes])
    sums = add_sums([code.sums for code in codes])
    if not np.isfinite(value).all() or not np.isfinite(sums["x2"]).all():
        raise BadInput(
            f"The SAE {name} meets activations that are not finite numbers; the model "
            "overflows at this layer, so leave the layer out or run on another device."
        )
    latent = np.concatenate([code.latent for code in codes])
    return _Code(latent, np.concatenate([code.token for code in codes]), value, sums)


def _encode_chunk(
    forwards: Forwards,
    saes: Sequence[SaeWeights],
    chunk: Sequence[Batch],
    task: Task,
) -> list[list[_Code]]:
    """For each SAE its codes of the batches, in their order."""
    found: list[list[_Code]] = [[] for _ in chunk]

    def encode(i: int, activations: list[torch.Tensor]) -> None:
        token = chunk[i].token
        found[i] = [_encode(sae, x, token) for sae, x in zip(saes, activations, strict=True)]

    forwards.run(chunk, encode, lambda i: task.advance(len(chunk[i].token)))
    return [list(codes) for codes in zip(*found, strict=True)]
