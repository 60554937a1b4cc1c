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
from atlas.ingest.measuring.parts import Parts, part_path, part_scale, write_part
from atlas.ingest.measuring.quality import add_sums, reconstruction_sums, site_sums
from atlas.ingest.models.forwards import Forwards
from atlas.ingest.models.joint import JointText, Reader, reference_contexts
from atlas.ingest.models.sites import HookPoint, Placed, all_points
from atlas.ingest.text.contexts import Batch, batches, by_length, chunks
from atlas.ingest.text.tokens import TokenStream
from atlas.progress import Progress, Silent, Task

CHUNK_TOKENS = 1 << 16
"""Tokens between two savings; an SAE with k active features takes 8 k bytes a token until then."""

BATCH_TOKENS = 1 << 11
"""Positions read at once, padding included: what a core computes of them stays in its cache."""

USUAL_BITS = 13
"""The strength that 99 of 100 activations stay below takes so many bits as an integer."""

MOST_ACTIVATIONS = 2_000_000_000
"""More of one SAE are not written: 9 GB."""

_USUAL = 0.99


def encode_reference(
    model: Reader,
    saes: Mapping[str, Placed],
    stream: TokenStream | JointText,
    context: int,
    folder: Path,
    progress: Progress | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[str, Parts]:
    """Write each SAE's parts to `folder`/KEY/ and return them; finished chunks are not redone.

    saes: by their names within the model, on the model's device. stream: a joint text for an
    ensemble, whose activations are stored at the first model's tokens. BadInput where an activation
    is not finite or, in units of the scale, leaves 32 bits.
    """
    folders = {key: folder / key for key in saes}
    scales: dict[str, float] = {}
    points = all_points(sites for sites, _ in saes.values())
    forwards = Forwards(model, points)
    n_chunks = 0
    with (progress or Silent()).task("reference corpus", len(stream), "tokens") as task:
        contexts = reference_contexts(model, stream, context)
        for number, chunk in enumerate(chunks(contexts, chunk_tokens)):
            n_tokens = chunk[-1].first + len(chunk[-1].ids) - chunk[0].first
            n_chunks = number + 1
            if all(part_path(place, number).exists() for place in folders.values()):
                task.advance(sum(one.n_counted for one in chunk))
                continue
            if number > 0 and not scales:
                scales = {key: part_scale(place) for key, place in folders.items()}
            read = list(batches(by_length(chunk), batch_tokens, model.pad_id))
            encoded = _encode_chunk(forwards, points, list(saes.values()), read, task)
            for (key, (_, sae)), codes in zip(saes.items(), encoded, strict=True):
                name = f"{model.name}/{key}"
                code = _joined(codes, name)
                if number == 0:
                    _check_amount(code, name, len(stream) / n_tokens)
                    scales[key] = choose_scale(code.value)
                q = quantise(code.value, scales[key], name)
                write_part(
                    folders[key],
                    number,
                    *columns(code.latent, code.token, q, sae.d_sae, chunk[0].first, n_tokens),
                    scales[key],
                    code.sums,
                )
    return {key: Parts(place, n_chunks) for key, place in folders.items()}


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


def _encode(
    placed: Placed, activations: Mapping[HookPoint, torch.Tensor], token: NDArray[np.int64]
) -> _Code:
    """Encode the activations float32 (n, d) that the model has at `token` (n,)."""
    sites, sae = placed
    x, y = sites.gather(activations)
    code = sae.encode(x)
    y_hat = sae.decode(code, x)
    widths = [activations[point].shape[1] for point in sites.outputs]
    value = code.value.cpu().numpy()
    # `>` would also drop NaN, which must be seen.
    there = value != 0
    return _Code(
        code.index.cpu().numpy()[there],
        np.repeat(token, np.diff(code.offset.cpu().numpy()))[there],
        value[there],
        reconstruction_sums(y, y_hat) | site_sums(y, y_hat, widths),
    )


def _joined(codes: Sequence[_Code], name: str) -> _Code:
    """The codes of batches as one; BadInput if an activation is not finite. name: the SAE."""
    value = np.concatenate([code.value for code in codes])
    sums = add_sums([code.sums for code in codes])
    if not np.isfinite(value).all() or not all(np.isfinite(total).all() for total in sums.values()):
        raise BadInput(
            f"The SAE {name} meets activations that are not finite numbers; the model "
            "overflows at this layer, so leave the layer out or run on another device."
        )
    latent = np.concatenate([code.latent for code in codes])
    return _Code(latent, np.concatenate([code.token for code in codes]), value, sums)


def _check_amount(code: _Code, name: str, chunks: float) -> None:
    """BadInput where an SAE would flood the atlas, by its activations in one of so many chunks."""
    expected = round(np.count_nonzero(code.value) * chunks)
    if expected > MOST_ACTIVATIONS:
        raise BadInput(
            f"The SAE {name} would store about {expected:,} activations; it is broken, or so dense "
            "that only a shorter --reference-tokens suits it."
        )


def _encode_chunk(
    forwards: Forwards[Reader],
    points: Sequence[HookPoint],
    saes: Sequence[Placed],
    chunk: Sequence[Batch],
    task: Task,
) -> list[list[_Code]]:
    """For each SAE its codes of the batches, in their order."""
    found: list[list[_Code]] = [[] for _ in chunk]

    def encode(i: int, activations: list[torch.Tensor]) -> None:
        token = chunk[i].token
        by_point = dict(zip(points, activations, strict=True))
        found[i] = [_encode(placed, by_point, token) for placed in saes]

    forwards.run(chunk, encode, lambda i: task.advance(len(chunk[i].token)))
    return [list(codes) for codes in zip(*found, strict=True)]
