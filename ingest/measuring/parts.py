"""The sparse activations of one SAE on the reference corpus, as files in the work folder.

One file per chunk of tokens, `part-00000.safetensors`, …, each the compressed sparse columns of
(tokens x features):

    indptr   i8 (d_sae + 1)    feature f's entries are indptr[f] … indptr[f + 1] - 1
    token    i4 (n)            local token number, ascending within a feature
    q        i4 (n)            activation = q * scale, q > 0

and the chunk's float64 sums for `quality`. A file appears whole or not at all. Chunks follow each
other in token order, so that a feature's entries are its slices of all parts, one after another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from atlas.errors import BadInput

Float64 = NDArray[np.float64]

BLOCK_ENTRIES = 1 << 21
"""Entries handled at once: a block and its temporaries then take some 200 MB."""

ENTRY_SCHEMA = pa.schema([("index", pa.int32()), ("token", pa.int32()), ("q", pa.int32())])


@dataclass(frozen=True)
class Block:
    """The entries of the features first … first + n_features - 1 on the whole corpus."""

    first: int
    indptr: NDArray[np.int64]
    """(n_features + 1,), starting at 0."""
    token: NDArray[np.int32]
    """(n,), ascending within a feature."""
    q: NDArray[np.int32]
    """(n,), positive."""

    @property
    def n_features(self) -> int:
        """How many features, dead ones included."""
        return len(self.indptr) - 1

    @cached_property
    def feature(self) -> NDArray[np.int32]:
        """(n,) number of each entry's feature within the block, from 0."""
        return np.repeat(np.arange(self.n_features, dtype=np.int32), np.diff(self.indptr))


def part_path(folder: Path, chunk: int) -> Path:
    """Where the part of a chunk lies."""
    return folder / f"part-{chunk:05d}.safetensors"


def write_part(
    folder: Path,
    chunk: int,
    indptr: NDArray[np.int64],
    token: NDArray[np.int32],
    q: NDArray[np.int32],
    scale: float,
    sums: Mapping[str, Float64],
) -> None:
    """Write one part atomically: a crash at any instant leaves it whole or absent."""
    path = part_path(folder, chunk)
    arrays: dict[str, NDArray[Any]] = {"indptr": indptr, "token": token, "q": q}
    arrays |= {f"sums.{name}": np.ascontiguousarray(array) for name, array in sums.items()}
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as stream:
        stream.write(save(arrays, metadata={"scale": scale.hex()}))
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)


def part_scale(folder: Path) -> float:
    """Scale of the SAE whose parts lie in `folder`, from the first of them."""
    return float.fromhex(_open(part_path(folder, 0)).metadata()["scale"])


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="np")
    except Exception as error:  # safetensors raises its own class and several of Python's
        raise BadInput(
            f"The part {path} cannot be read; delete the file and give the command again."
        ) from error


class Parts:
    """Reads the `n_chunks` parts of one SAE; BadInput if one is missing or damaged."""

    def __init__(self, folder: Path, n_chunks: int) -> None:
        self.folder = folder
        self._files = [_open(part_path(folder, chunk)) for chunk in range(n_chunks)]
        self.scale = float.fromhex(self._files[0].metadata()["scale"])
        """Activation = q * scale."""
        self._indptr = np.stack([file.get_tensor("indptr") for file in self._files])

    @property
    def d_sae(self) -> int:
        """How many features."""
        return int(self._indptr.shape[1]) - 1

    def n_active(self) -> NDArray[np.int64]:
        """Active tokens of each feature, (d_sae,)."""
        counts: NDArray[np.int64] = np.diff(self._indptr, axis=1).sum(axis=0)
        return counts

    def sums(self) -> dict[str, Float64]:
        """The chunks' float64 sums, added in chunk order."""
        names = [name for name in self._files[0].keys() if name.startswith("sums.")]  # noqa: SIM118
        totals = {}
        for name in names:
            total = self._files[0].get_tensor(name)
            for file in self._files[1:]:
                total = total + file.get_tensor(name)
            totals[name.removeprefix("sums.")] = total
        return totals

    def blocks(self, max_entries: int = BLOCK_ENTRIES) -> Iterator[Block]:
        """All features in order, in blocks of at most `max_entries` entries or one feature."""
        ends = np.cumsum(self.n_active())
        first = 0
        while first < self.d_sae:
            done = ends[first - 1] if first else 0
            last = int(np.searchsorted(ends, done + max_entries, side="right"))
            last = max(last, first + 1)
            yield self._block(first, last)
            first = last

    def feature(self, index: int) -> Block:
        """The entries of one feature, as a block of its own."""
        return self._block(index, index + 1)

    def batches(self, max_entries: int = BLOCK_ENTRIES) -> Iterator[pa.RecordBatch]:
        """The activations as Arrow batches of `ENTRY_SCHEMA`, ordered by (index, token)."""
        for block in self.blocks(max_entries):
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(block.feature + np.int32(block.first)),
                    pa.array(block.token),
                    pa.array(block.q),
                ],
                schema=ENTRY_SCHEMA,
            )

    def _block(self, first: int, last: int) -> Block:
        pointers = self._indptr[:, first : last + 1]
        counts = np.diff(pointers, axis=1)
        indptr = np.concatenate([[0], np.cumsum(counts.sum(axis=0))])
        # Where each part's slice of each feature begins in the block.
        begins = indptr[:-1] + np.cumsum(counts, axis=0) - counts
        token = np.empty(indptr[-1], np.int32)
        q = np.empty(indptr[-1], np.int32)
        for file, pointer, count, begin in zip(self._files, pointers, counts, begins, strict=True):
            rows = slice(int(pointer[0]), int(pointer[-1]))
            if rows.start == rows.stop:
                continue
            place = np.arange(rows.stop - rows.start)
            place += np.repeat(begin - (pointer[:-1] - pointer[0]), count)
            token[place] = file.get_slice("token")[rows]
            q[place] = file.get_slice("q")[rows]
        return Block(first, indptr, token, q)
