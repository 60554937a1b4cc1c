"""/api/sentence: which features are active on a sentence that the reader types."""

from __future__ import annotations

from pathlib import Path

from atlas.web.viewed import Connection


def runnable(atlas: Connection) -> list[str]:
    """Names of the models that may be loaded: those with a folder, or of the hub."""
    return [
        name
        for name, source in atlas.rows("select name, source from models order by model_id")
        if Path(source).expanduser().is_dir() or not Path(source).is_absolute()
    ]
