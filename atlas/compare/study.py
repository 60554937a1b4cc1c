"""Compares all SAEs of one name with all of another, and keeps what comes out in the atlas.

Long work is done while the atlas is open for reading; what is finished is added in short
transactions between, so that a comparison that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.compare import kept
from atlas.compare.comparer import Comparer
from atlas.compare.measures import metric
from atlas.compare.pairing import Pairs
from atlas.compare.question import Measured
from atlas.compare.settings import WHOLE, PairingSettings, Tests
from atlas.errors import AtlasLocked, BadInput, NotFound
from atlas.progress import Progress, Silent
from atlas.runs import add_run, end_run, made_with, now
from atlas.store import Atlas, bring_up_to_date, check_writable, told

if TYPE_CHECKING:
    import duckdb

ALGORITHM = 1
"""Raised whenever the same options would yield other numbers."""

_COMMIT_EVERY = 60.0
"""Seconds after which what is finished is kept."""


@dataclass(frozen=True)
class StudyOptions:
    """What is compared, and how."""

    a: str
    """An SAE, a model, or a pattern of SAEs' names."""
    b: str
    metrics: tuple[str, ...] = ("mean_correlation", "svcca", "rsa")
    settings: PairingSettings = field(default_factory=PairingSettings)
    tests: Tests = field(default_factory=Tests)
    semantic: bool = False
    """Also the features of each category, apart."""
    ceiling: str | None = None
    """SAEs as those of `a`, of another seed: each is compared with the one of its hook point."""
    floor: str | None = None
    """SAEs as those of `a`, of the model with random weights: compared with `b` in their place."""


@dataclass(frozen=True)
class _Sae:
    sae_id: int
    name: str
    point: tuple[int, str]
    sha256: str


@dataclass(frozen=True)
class _Job:
    """Two SAEs to compare."""

    role: str
    a: _Sae
    b: _Sae

    def __str__(self) -> str:
        return f"{self.a.name} × {self.b.name}"


@dataclass(frozen=True)
class _Result:
    """One pairing of a job, and its metrics."""

    job: _Job
    subspace: str
    pairing_id: int | None
    """Where it is kept already."""
    pairs: Pairs | None
    """Where it is not."""
    measured: list[Measured]


@dataclass(frozen=True)
class Outcome:
    """A comparison that the atlas holds now."""

    run_id: int
    added: bool
    """False if it was there before, with all its numbers."""


def compare(
    path: Path, options: StudyOptions, *, progress: Progress | None = None, wait: float = 0.0
) -> Outcome:
    """Compare, and keep: rows of `pairings`, `feature_pairs` and `comparisons` under one run.

    A comparison that the atlas holds already is not done again, nor those parts of it that it
    holds. NotFound for names that it does not hold, BadInput for what cannot be compared.
    wait: seconds to wait while another process holds the file.
    """
    metrics = tuple(metric(name).name for name in options.metrics)
    progress = progress or Silent()
    bring_up_to_date(path, wait)
    with Atlas.open(path, wait=wait) as atlas:
        con = atlas.cursor()
        jobs = _jobs(con, options)
        plan = _plan(con, options, metrics, jobs)
        known = dict(
            con.execute(
                "select status, max(run_id) from runs where command = 'compare' and plan = ?"
                " group by status",
                [plan],
            ).fetchall()
        )
    if _DONE in known:
        return Outcome(known[_DONE], added=False)
    check_writable(path)
    with (
        closing(_Run(path, options, metrics, plan, wait, known.get(_BEGUN))) as run,
        progress.task("comparing", len(jobs), "SAE pairs") as task,
    ):
        for job in jobs:
            task.note(str(job))
            run.do(job)
            task.advance()
        return Outcome(run.finish(), added=True)


_DONE = "done"
_BEGUN = "begun"


class _Run:
    """One comparison under way."""

    def __init__(
        self,
        path: Path,
        options: StudyOptions,
        metrics: Sequence[str],
        plan: str,
        wait: float,
        run_id: int | None,
    ) -> None:
        """run_id: of the same run, which was interrupted."""
        self._path, self._options, self._metrics = path, options, metrics
        self._plan, self._wait = plan, wait
        self._started = now()
        self._run_id = run_id
        self._results: list[_Result] = []
        self._kept_at = time.monotonic()
        self._atlas: Atlas | None = None
        self._comparer = Comparer(self._reader)

    def do(self, job: _Job) -> None:
        """Measure one pair of SAEs, all features and then each category."""
        subspaces = [WHOLE]
        if self._options.semantic:
            subspaces += self._comparer.categories(job.a.sae_id, job.b.sae_id)
        self._results += [self._measure(job, one) for one in subspaces]
        if time.monotonic() - self._kept_at > _COMMIT_EVERY:
            try:
                self._keep(0.0, _BEGUN)
            except AtlasLocked:
                self._kept_at = time.monotonic()  # Somebody reads: later, then.

    def finish(self) -> int:
        """Keep the rest, with q over all; the run's id."""
        return self._keep(self._wait, _DONE)

    def _measure(self, job: _Job, subspace: str) -> _Result:
        a, b, settings = job.a.sae_id, job.b.sae_id, self._options.settings
        tests = self._options.tests
        found: dict[str, Measured | None] = {}
        con = self._reader()
        pairing_id = kept.find_pairing(con, a, b, settings, subspace)
        if pairing_id is not None:
            found = {one: kept.find_measured(con, pairing_id, one, tests) for one in self._metrics}
        con.close()
        missing = [one for one in self._metrics if found.get(one) is None]
        if missing:
            measured = self._comparer.measure(a, b, missing, settings, tests, subspace)
            found |= {one.metric: one for one in measured}
        pairs = None
        if pairing_id is None:
            pairs = self._comparer.pairs(a, b, settings, subspace)
        every = [one for one in (found[name] for name in self._metrics) if one is not None]
        return _Result(job, subspace, pairing_id, pairs, every)

    def _reader(self) -> duckdb.DuckDBPyConnection:
        if self._atlas is None:
            self._atlas = Atlas.open(self._path, wait=self._wait)
        return self._atlas.cursor()

    def close(self) -> None:
        """Let go of the atlas."""
        if self._atlas is not None:
            self._atlas.close()
            self._atlas = None

    def _keep(self, wait: float, status: str) -> int:
        self.close()
        with Atlas.open(self._path, write=True, wait=wait) as atlas, atlas.transaction():
            run_id = self._row(atlas, status)
            for one in self._results:
                a, b = one.job.a.sae_id, one.job.b.sae_id
                pairing_id = one.pairing_id
                if one.pairs is not None:
                    pairing_id = kept.add_pairing(
                        atlas, run_id, a, b, self._options.settings, one.subspace, one.pairs
                    )
                assert pairing_id is not None
                kept.add_measured(
                    atlas, run_id, pairing_id, one.job.role, self._options.tests, one.measured
                )
            kept.correct(atlas, run_id)
        self._run_id = run_id
        self._results.clear()
        self._kept_at = time.monotonic()
        return run_id

    def _row(self, atlas: Atlas, status: str) -> int:
        """Write the row of `runs`; its id."""
        if self._run_id is not None:
            end_run(atlas, self._run_id, status)
            return self._run_id
        return add_run(
            atlas,
            "compare",
            self._plan,
            asdict(self._options),
            made_with("numpy", "scipy", "numba"),
            self._started,
            seed=self._options.settings.seed,
            status=status,
        )


def _jobs(con: duckdb.DuckDBPyConnection, options: StudyOptions) -> list[_Job]:
    """Every pair of SAEs to compare, those of `a` slowest."""
    ours, theirs = _saes(con, options.a), _saes(con, options.b)
    jobs = [_Job("pair", a, b) for a in ours for b in theirs if a != b]
    if not jobs:
        raise BadInput(
            f"{options.a!r} and {options.b!r} are one SAE; name two SAEs, models or patterns."
        )
    if options.ceiling is not None:
        others = _saes(con, options.ceiling)
        jobs += _ceiling(ours, others, options)
    if options.floor is not None:
        points = {one.point for one in ours}
        lowest = [one for one in _saes(con, options.floor) if one.point in points]
        if not lowest:
            raise BadInput(
                f"The floor {options.floor!r} has no SAE at a hook point of {options.a!r}; train "
                "SAEs there on the model with random weights (`atlas ingest --randomize`)."
            )
        jobs += [_Job("floor", a, b) for a in lowest for b in theirs]
    return jobs


def _ceiling(ours: Sequence[_Sae], others: Sequence[_Sae], options: StudyOptions) -> list[_Job]:
    jobs = [_Job("ceiling", a, b) for a in ours for b in others if a != b and a.point == b.point]
    if not jobs:
        raise BadInput(
            f"The ceiling {options.ceiling!r} has no SAE at a hook point of {options.a!r}; train "
            "some there with another seed (`atlas ingest --seed 1 --variant seed1`)."
        )
    return jobs


def _saes(con: duckdb.DuckDBPyConnection, name: str) -> list[_Sae]:
    with told(NotFound):
        rows = con.execute(
            """
            select sae_id, name, layer, hook, sha256
            from saes
            where list_contains((select saes_in(?)), sae_id)
            order by model_id, layer, hook, sae_id
            """,
            [name],
        ).fetchall()
    return [_Sae(sae_id, name, (layer, hook), sha) for sae_id, name, layer, hook, sha in rows]


def _plan(
    con: duckdb.DuckDBPyConnection,
    options: StudyOptions,
    metrics: Sequence[str],
    jobs: Sequence[_Job],
) -> str:
    """Identity of the run: a hash of all that decides its numbers."""
    keywords = con.execute(
        "select sha256(string_agg(category || ' ' || word, ',' order by category, word))"
        " from categories"
    ).fetchall()
    decides = [
        ALGORITHM,
        [(job.role, job.a.sha256, job.b.sha256, str(job)) for job in jobs],
        list(metrics),
        asdict(options.settings),
        asdict(options.tests),
        keywords if options.semantic else None,
        con.execute("select sha256 from corpora").fetchall(),
    ]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()
