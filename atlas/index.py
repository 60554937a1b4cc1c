"""Nearest neighbours with FAISS: flat inner-product search, and the cached arrays it runs over.

The arrays (signatures, unit decoders, activations over words) are derived from the atlas and kept
as .npy files in the folder ATLAS.index beside it, memory-mapped, so that a query reads only what
it needs. They are a cache: an array is used only if its note carries the atlas's stamp and the
checksum of the file, and is made anew otherwise; where the folder cannot be written, arrays live
in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ranges = Sequence[tuple[int, int]]
"""Half-open ranges of rows, [begin, end)."""

_FORMAT = 1
_CHECKED_WHOLE = 1 << 28
_CHECKED_BLOCK = 1 << 20
_GPU_MAX_K = 2048


class Cache:
    """The arrays derived from one state of an atlas."""

    def __init__(self, folder: Path, stamp: str) -> None:
        self.folder = folder
        self.stamp = stamp

    @classmethod
    def beside(cls, atlas: Path, stamp: str) -> Cache:
        """The cache of the atlas at that path: the folder ATLAS.index."""
        return cls(atlas.with_name(f"{atlas.name}.index"), stamp)

    def array(
        self,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        fill: Callable[[NDArray[Any]], None],
    ) -> NDArray[Any]:
        """The array of that name, from its file if that is sound, else filled and kept.

        fill: writes every element of an array of that shape; called at most once.
        """
        return self.arrays({name: (dtype, shape)}, lambda made: fill(made[name]))[name]

    def arrays(
        self,
        wanted: Mapping[str, tuple[str, tuple[int, ...]]],
        fill: Callable[[dict[str, NDArray[Any]]], None],
    ) -> dict[str, NDArray[Any]]:
        """Several arrays, {name: (dtype, shape)}, that are filled together."""
        found = {name: self._read(name, *kind) for name, kind in wanted.items()}
        sound = {name: array for name, array in found.items() if array is not None}
        if len(sound) == len(wanted):
            return sound
        with contextlib.suppress(OSError):
            return self._make(wanted, fill)
        in_memory = {name: np.empty(shape, dtype) for name, (dtype, shape) in wanted.items()}
        fill(in_memory)
        return in_memory

    def _files(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.npy", self.folder / f"{name}.json"

    def _note(self, path: Path, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "stamp": self.stamp,
            "dtype": np.dtype(dtype).str,
            "shape": list(shape),
            "size": path.stat().st_size,
            "crc32": _checksum(path),
        }

    def _read(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
        """The array as memory map, or None if any of note, size, checksum or header is off."""
        if 0 in shape:
            return np.empty(shape, dtype)  # nothing to keep, and no file of no bytes can be mapped
        path, note = self._files(name)
        try:
            if json.loads(note.read_text()) != self._note(path, dtype, shape):
                return None
            # As a plain array: the class memmap slows every small operation down.
            array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError):
            return None
        return array if array.dtype == np.dtype(dtype) and array.shape == shape else None

    def _make(
        self,
        wanted: Mapping[str, tuple[str, tuple[int, ...]]],
        fill: Callable[[dict[str, NDArray[Any]]], None],
    ) -> dict[str, NDArray[Any]]:
        """Fill new files under passing names and move them in place, their notes after them.

        Between the two moves the old note does not fit the new file, which is then not used.
        """
        self.folder.mkdir(exist_ok=True)
        made = {name: np.empty(kind[1], kind[0]) for name, kind in wanted.items() if 0 in kind[1]}
        kept = {name: kind for name, kind in wanted.items() if name not in made}
        with contextlib.ExitStack() as stack:
            mapped = []
            for name, (dtype, shape) in kept.items():
                part = stack.enter_context(_replacing(self._files(name)[0]))
                mapped.append(np.lib.format.open_memmap(part, "w+", np.dtype(dtype), shape))
                made[name] = np.asarray(mapped[-1])
                _claim_space(part)
            fill(made)
            for array in mapped:
                array.flush()
        for name, (dtype, shape) in kept.items():
            path, note = self._files(name)
            with _replacing(note) as part:
                part.write_text(json.dumps(self._note(path, dtype, shape)))
        return {name: made[name] for name in wanted}


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A passing name to write to, which takes the place of `path` when all went well."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _claim_space(path: Path) -> None:
    """OSError if the disk is too full for the file: writing to its map would end the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _checksum(path: Path) -> int:
    """CRC-32 of a file; of one above 256 MiB, of 256 evenly spaced MiB of it.

    Bounded so that opening a cache of any size takes a fraction of a second.
    """
    size = path.stat().st_size
    crc = 0
    with path.open("rb") as file:
        if size <= _CHECKED_WHOLE:
            while block := file.read(_CHECKED_BLOCK):
                crc = zlib.crc32(block, crc)
            return crc
        n_blocks = _CHECKED_WHOLE // _CHECKED_BLOCK
        for i in range(n_blocks):
            file.seek(i * (size - _CHECKED_BLOCK) // (n_blocks - 1))
            crc = zlib.crc32(file.read(_CHECKED_BLOCK), crc)
    return crc


class FlatIndex:
    """Exact inner-product search over the rows of one matrix, all of them or some ranges.

    On a machine with a CUDA device and faiss-gpu, searches run there; the CPU is the reference.
    """

    def __init__(self, vectors: NDArray[np.float32], *, use_gpu: bool | None = None) -> None:
        """Search in `vectors`, float32 (n, d), without copying them (on the CPU).

        use_gpu: None for a GPU where there is one.
        """
        self.vectors = vectors
        self._faiss = _import_faiss()
        n_gpus = self._faiss.get_num_gpus() if hasattr(self._faiss, "get_num_gpus") else 0
        self.on_gpu = n_gpus > 0 if use_gpu is None else use_gpu
        self._gpu_indexes: dict[tuple[int, int], Any] = {}
        self._gpu_resources: Any = None
        self._gpu_lock = threading.Lock()

    def search(
        self, queries: NDArray[np.float32], k: int, ranges: Ranges | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Inner products and rows of the k best rows for each of the queries, float32 (m, d).

        Both results are (m, min(k, rows searched)), best first; equal products in any order.
        """
        ranges = [(0, len(self.vectors))] if ranges is None else _joined(ranges)
        parts = [self._search_range(queries, k, begin, end) for begin, end in ranges]
        if not parts:
            nothing = (len(queries), 0)
            return np.empty(nothing, np.float32), np.empty(nothing, np.int64)
        if len(parts) == 1:
            return parts[0]
        score = np.concatenate([part[0] for part in parts], axis=1)
        row = np.concatenate([part[1] for part in parts], axis=1)
        best = np.argsort(-score, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(score, best, 1), np.take_along_axis(row, best, 1)

    def _search_range(
        self, queries: NDArray[np.float32], k: int, begin: int, end: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        k = min(k, end - begin)
        if self.on_gpu and k <= _GPU_MAX_K:
            score, row = self._gpu_search(queries, k, begin, end)
        else:
            score, row = self._faiss.knn(
                queries, self.vectors[begin:end], k, metric=self._faiss.METRIC_INNER_PRODUCT
            )
        return score, row + begin

    def _gpu_search(
        self, queries: NDArray[np.float32], k: int, begin: int, end: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        # FAISS's GPU resources serve one thread at a time.
        with self._gpu_lock:
            if self._gpu_resources is None:
                self._gpu_resources = self._faiss.StandardGpuResources()
            if (begin, end) not in self._gpu_indexes:
                index = self._faiss.GpuIndexFlatIP(self._gpu_resources, self.vectors.shape[1])
                index.add(np.ascontiguousarray(self.vectors[begin:end]))
                self._gpu_indexes[begin, end] = index
            found: tuple[NDArray[np.float32], NDArray[np.int64]] = self._gpu_indexes[
                begin, end
            ].search(queries, k)
            return found


def _import_faiss() -> Any:
    # Where both are built with CUDA, FAISS finds CUDA's libraries only after torch has loaded them.
    if Path("/proc/driver/nvidia").exists():
        with contextlib.suppress(ImportError):
            import torch  # noqa: F401
    import faiss

    return faiss


def _joined(ranges: Ranges) -> list[tuple[int, int]]:
    """The same rows in as few ranges as there are, ascending, without empty ones."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(r for r in ranges if r[0] < r[1]):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined
