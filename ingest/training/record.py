"""The course of a training as files: NDJSON, and TensorBoard's own where that is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas.errors import BadInput

Records = Mapping[str, list[dict[str, float]]]
"""Per SAE its figures, each with the 'tokens' trained on by then."""


class Record:
    """Writes `folder`/MODEL/KEY.ndjson, one object a line, and TensorBoard's events beside it."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder / model
        self._written: dict[str, int] = {}
        self._board: Any = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"--log {folder} cannot be made ({error.strerror}); name another folder."
            ) from error

    def __call__(self, records: Records) -> None:
        """Write what has come since the last call; the first one also cuts off what was undone."""
        for key, record in records.items():
            first = self._written.get(key, 0)
            mode = "a" if key in self._written else "w"
            with (self._folder / f"{key}.ndjson").open(mode, encoding="utf-8") as stream:
                stream.writelines(json.dumps(entry) + "\n" for entry in record[first:])
            self._written[key] = len(record)
            self._draw(key, record[first:])

    def _draw(self, key: str, entries: list[dict[str, float]]) -> None:
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self._board = False
            else:
                self._board = SummaryWriter(str(self._folder))
        if not self._board:
            return
        for entry in entries:
            for name, value in entry.items():
                if name != "tokens":
                    self._board.add_scalar(f"{key}/{name}", value, int(entry["tokens"]))
        self._board.flush()
