"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.planted_layers import PlantedLayers

# Models of a few thousand weights run several times faster on one thread, and on a machine that is
# busy with something else many times. Read by torch when a test imports it, and by processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def ctrl_c_as_on_a_terminal() -> None:
    """A shell's background jobs begin with Ctrl-C ignored, and so would every process of theirs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real models and texts: $ATLAS_SHARED_DATA, or ../shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ATLAS_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real models and texts at {folder}")
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic atlas; for reading only, as all tests share it."""
    from tests.synthetic import build_synthetic

    return build_synthetic(tmp_path_factory.mktemp("toy") / "toy.atlas")


@pytest.fixture(scope="session")
def layers(tmp_path_factory: pytest.TempPathFactory) -> PlantedLayers:
    """Layers with planted relations between their features; for reading only."""
    from tests.planted_layers import build_layers

    return build_layers(tmp_path_factory.mktemp("layers") / "layers.atlas")
