"""TopK SAEs (Gao et al. 2024, arXiv 2406.04093): of each token the k largest pre-activations.

    encode      k largest of h @ W_enc + b_enc, and of these what is above 0
    decode      acts @ W_dec + b_dec
    loss        mean square error, and AuxK
    post-step   decoder rows to unit length
    stored as   'topk'

The dictionary may read what it reconstructs or another hook point (a transcoder).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from atlas.ingest.training.architectures.batch import Batch
from atlas.ingest.training.architectures.entries import Entries
from atlas.ingest.training.architectures.sparse import Sparse
from atlas.selection import k_largest
from atlas.workers import Stage


class TopK(Sparse):
    """In training."""

    BY_ROW = True

    def encode(self, batch: Batch) -> Iterator[Stage]:
        """Each row's k largest pre-activations."""
        batch.entries = Entries.of_k(batch.n, self.config.k, batch.h.device)
        yield batch.by_rows(partial(self._encode_rows, batch))

    def _encode_rows(self, batch: Batch, rows: slice) -> None:
        value, index = k_largest(self.pre(batch.read(rows)), self.config.k)
        batch.entries.put(rows.start * self.config.k, index, value)

    def stored(self) -> dict[str, Any]:
        """As it is."""
        return {"activation": "topk"}
