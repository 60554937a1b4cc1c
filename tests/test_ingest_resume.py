"""An ingest that is killed, anywhere and as often as one likes, ends with the same atlas."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
from contents import assert_same, contents

from atlas.errors import AtlasLocked

# Children begin with torch imported, so that a kill falls into the work and not into the imports.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["atlas.ingest.run", "transformers", "atlas.lineage.joint_loops", "atlas.lineage.partition"]
)

OPTIONS = {
    "layers": "all",
    "width": "32",
    "k": "4",
    "train_tokens": "12k",
    "reference_tokens": "4k",
    "context": 16,
    "device": "cpu",
}


def _ingest(path: str, model: str, corpus: str | None, die_at: int = 0) -> None:
    """In a child. die_at: which renaming or linking of a file is the last thing it does."""
    import torch

    from atlas.ingest import making, run, specs
    from atlas.ingest.plan import IngestOptions

    torch.set_num_threads(1)
    # Small blocks, saved one by one: else a test's ingest is over before it can be interrupted.
    specs.TrainConfig = partial(specs.TrainConfig, block_tokens=3000)  # type: ignore[assignment,misc]
    making.train_saes = partial(making.train_saes, checkpoint_seconds=0.0)
    run.encode_reference = partial(run.encode_reference, chunk_tokens=1000)
    left = die_at

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and die_at % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    if die_at:
        for name in ("rename", "replace", "link"):
            setattr(os, name, deadly(getattr(os, name)))
    run.ingest(Path(path), IngestOptions(model=model, corpus=corpus, **OPTIONS))  # type: ignore[arg-type]


def _run(*args: Any, kill_after: float | None = None) -> int:
    child = FORKS.Process(target=_ingest, args=args)
    child.start()
    child.join(kill_after)
    if child.is_alive():
        child.kill()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    folder = tmp_path_factory.mktemp("inputs")
    corpus = tiny.make_corpus(folder)
    one = tiny.make_model(folder / "one")
    two = tiny.make_model(folder / "two", seed=1, n_layers=1)
    return str(one), str(two), str(corpus)


@pytest.fixture(scope="module")
def whole(
    inputs: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], float]:
    """Content of an atlas of both models made without interruption, and seconds of one ingest."""
    one, two, corpus = inputs
    path = tmp_path_factory.mktemp("whole") / "a.atlas"
    assert _run(str(path), one, corpus) == 0
    started = time.monotonic()
    assert _run(str(path), two, corpus) == 0
    return contents(path), time.monotonic() - started


def _finish(path: Path, inputs: tuple[str, str, str]) -> None:
    one, two, corpus = inputs
    assert _run(str(path), one, corpus) == 0
    assert _run(str(path), two, corpus) == 0


def test_two_runs_are_equal(
    inputs: tuple[str, str, str], whole: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    _finish(tmp_path / "a.atlas", inputs)
    assert_same(contents(tmp_path / "a.atlas"), whole[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.atlas"]


def test_killed_at_random_points(
    inputs: tuple[str, str, str], whole: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    one, _, corpus = inputs
    rng = random.Random(0)
    kills = 0
    for trial in range(4):
        path = tmp_path / f"{trial}.atlas"
        longest = whole[1] * (trial + 1) / 3.5
        for _ in range(4):
            code = _run(str(path), one, corpus, kill_after=rng.uniform(0.5, 1) * longest)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        _finish(path, inputs)
        assert_same(contents(path), whole[0])
    assert kills
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{trial}.atlas" for trial in range(4)]


def test_killed_before_and_after_every_change_of_a_file(
    inputs: tuple[str, str, str], whole: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    one, _, corpus = inputs
    path = tmp_path / "a.atlas"
    kills = 0
    for n in range(1, 60):
        code = _run(str(path), one, corpus, n)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills >= 5
    _finish(path, inputs)
    assert_same(contents(path), whole[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.atlas"]


def test_two_processes_never_do_the_same_ingest(
    inputs: tuple[str, str, str], tmp_path: Path
) -> None:
    from atlas.ingest.plan import IngestOptions
    from atlas.ingest.run import ingest, prepare
    from atlas.ingest.workspace import workspace

    one, _, corpus = inputs
    path = tmp_path / "a.atlas"
    options = IngestOptions(model=one, corpus=corpus, **OPTIONS)  # type: ignore[arg-type]
    prepared = prepare(path, options)
    with (
        workspace(path, prepared.circumstances.key(prepared.plan)),
        pytest.raises(AtlasLocked, match="Another process"),
    ):
        ingest(path, options)
    assert not path.exists()
