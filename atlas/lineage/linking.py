"""Links SAEs: computes the joint activity of their features and keeps it in the atlas.

The atlas is open only while activations are read and while rows are added. A link is there wholly
or not at all, so what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from atlas.activations import Over
from atlas.compare.activity import Activity, read_activity
from atlas.errors import AtlasLocked, BadInput, NotFound
from atlas.lineage.clusterings import delete_clusterings
from atlas.lineage.joint import joint_activity, strong_counts, use_cuda
from atlas.progress import Progress, Silent, Task
from atlas.runs import add_run, end_run, made_with, now
from atlas.store import Atlas, bring_up_to_date, check_writable, told

if TYPE_CHECKING:
    import duckdb
    import pyarrow
    from numpy.typing import NDArray

ALGORITHM = 1
"""Raised whenever the same options would yield other numbers."""


@dataclass(frozen=True)
class LinkOptions:
    """How links are made."""

    min_joint: int = 20
    """Pairs of features are kept from as many joint firings on."""
    device: str = "auto"
    """'auto', 'cpu' or 'cuda'; the numbers are the same."""


@dataclass(frozen=True)
class Outcome:
    """What was asked for is in the atlas now."""

    link_ids: tuple[int, ...]
    """Of every link asked for, in the order of layers."""
    n_added: int
    """How many of them were not there before."""
    n_forgotten: int = 0
    """Clusterings that were deleted, because links between their layers changed."""


class _Sae(NamedTuple):
    sae_id: int
    name: str
    chain: tuple[int, str, str | None]
    """Model, hook and variant: SAEs that have these in common follow each other by layer."""
    layer: int
    first_feature_id: int
    d_sae: int
    tokenizer_id: int
    sha256: str


class _Job(NamedTuple):
    """Two SAEs to link: upstream and downstream where both are of one model."""

    a: _Sae
    b: _Sae

    @property
    def over(self) -> Over:
        """Tokens are finer, where both SAEs have them in common."""
        return "tokens" if self.a.tokenizer_id == self.b.tokenizer_id else "words"

    def __str__(self) -> str:
        return f"{self.a.name} → {self.b.name}"


_PAIRS = (
    *("feature_a", "feature_b", "n_both", "n_both_strong", "sum_ab"),
    *("sum_a", "sum_b", "sum_a2", "sum_b2"),
)
"""What is computed of a pair; the last four are sums over each feature alone, for Pearson's r."""


class _Found(NamedTuple):
    """A link that was computed and is not yet kept."""

    job: _Job
    n_units: int
    pairs: IO[bytes]
    """An Arrow file with the columns `_PAIRS`."""
    n_strong: dict[_Sae, NDArray[np.int64]]


def link(
    path: Path,
    a: str | None = None,
    b: str | None = None,
    options: LinkOptions | None = None,
    *,
    progress: Progress | None = None,
    wait: float = 0.0,
) -> Outcome:
    """Link every SAE of `a` with every SAE of `b`: rows of `links` and `coactivations`.

    a, b: an SAE, a model, or a pattern of SAEs' names. Without `b`, neighbouring layers within `a`;
        without both, within the atlas: SAEs of one model, hook and variant, each with the next one.
    wait: seconds to wait while another process holds the file.

    A link that is kept with as low a min_joint is not made again; one with a higher min_joint is
    replaced. A new link of neighbouring layers deletes the clusterings of that model, hook and
    variant, which were found without it. An atlas of an earlier version is brought up to date.
    NotFound for names that the atlas does not hold, BadInput if there is nothing to link.
    """

    def choose(con: duckdb.DuckDBPyConnection) -> list[_Job]:
        if b is not None:
            jobs = _between(_saes(con, a), _saes(con, b))
            if not jobs:
                raise BadInput(f"{a!r} and {b!r} are one SAE; name two SAEs, models or patterns.")
            return jobs
        jobs = _neighbours(_saes(con, a))
        if not jobs:
            raise BadInput(
                f"No two layers of {'the atlas' if a is None else repr(a)} have SAEs of one model, "
                "hook and variant; name two SAEs to link."
            )
        return jobs

    return _Run(path, options or LinkOptions(), progress or Silent(), wait).all(choose)


def link_neighbours(
    path: Path,
    models: Iterable[str],
    options: LinkOptions | None = None,
    *,
    progress: Progress | None = None,
    wait: float = 0.0,
) -> Outcome:
    """Link the neighbouring layers of some models; nothing happens where there are none."""

    def choose(con: duckdb.DuckDBPyConnection) -> list[_Job]:
        return [job for model in models for job in _neighbours(_saes(con, model))]

    return _Run(path, options or LinkOptions(), progress or Silent(), wait).all(choose)


class _Run:
    """Links under way."""

    def __init__(self, path: Path, options: LinkOptions, progress: Progress, wait: float) -> None:
        self._path, self._options, self._progress, self._wait = path, options, progress, wait
        self._started = now()
        self._plan = ""
        self._run_id: int | None = None
        self._activities: dict[tuple[int, Over], Activity] = {}
        self._found: list[_Found] = []
        self._n_added = 0
        self._n_forgotten = 0

    def all(self, choose: Callable[[duckdb.DuckDBPyConnection], list[_Job]]) -> Outcome:
        """Make the links that `choose` gives and the atlas does not hold."""
        if self._options.min_joint < 1:
            raise BadInput("Pairs need at least 1 joint firing to be kept; raise min_joint.")
        use_cuda(self._options.device)  # Told before anything is computed.
        bring_up_to_date(self._path, self._wait)
        with Atlas.open(self._path, wait=self._wait) as atlas:
            jobs = choose(atlas.cursor())
            kept = self._kept(atlas, jobs)
            self._plan = _plan(atlas, jobs, self._options)
        missing = [job for job in jobs if job not in kept]
        if missing:
            check_writable(self._path)
            self._make(missing)
            with Atlas.open(self._path, wait=self._wait) as atlas:
                kept = self._kept(atlas, jobs)
        return Outcome(tuple(kept[job] for job in jobs), self._n_added, self._n_forgotten)

    def _kept(self, atlas: Atlas, jobs: Sequence[_Job]) -> dict[_Job, int]:
        """Those jobs that are done, with the ids of their links."""
        found = atlas.rows(
            "select sae_a, sae_b, over, link_id from links where min_joint <= ?",
            [self._options.min_joint],
        )
        ids = {(frozenset((a, b)), over): link_id for a, b, over, link_id in found}
        keys = {job: (frozenset((job.a.sae_id, job.b.sae_id)), job.over) for job in jobs}
        return {job: ids[key] for job, key in keys.items() if key in ids}

    def _make(self, jobs: Sequence[_Job]) -> None:
        total = sum(job.a.d_sae for job in jobs)
        with self._progress.task("linking", total, "features") as task:
            for job in jobs:
                task.note(str(job))
                self._found.append(self._compute(job, task))
                try:
                    self._keep(0.0)
                except AtlasLocked:
                    continue  # Somebody reads: with the next one, then.
            self._keep(self._wait)

    def _compute(self, job: _Job, task: Task) -> _Found:
        over = job.over
        wanted = [(sae.sae_id, over) for sae in job]
        # A chain of layers needs each one twice, one after the other.
        self._activities = {key: one for key, one in self._activities.items() if key in wanted}
        with Atlas.open(self._path, wait=self._wait) as atlas:
            for sae_id, units in wanted:
                if (sae_id, units) not in self._activities:
                    found = read_activity(atlas.cursor(), sae_id, units)
                    self._activities[sae_id, units] = found
        a, b = (self._activities[key] for key in wanted)
        pairs = self._spool(job, a, b, task)
        n_strong = {job.a: strong_counts(a), job.b: strong_counts(b)}
        return _Found(job, a.n_units, pairs, n_strong)

    def _spool(self, job: _Job, a: Activity, b: Activity, task: Task) -> IO[bytes]:
        """The pairs in a file without a name: there may be more of them than fit into memory."""
        import pyarrow as pa

        schema = pa.schema([(name, pa.int64()) for name in _PAIRS])
        file = tempfile.TemporaryFile(dir=self._path.absolute().parent)  # noqa: SIM115 -- kept open
        with pa.ipc.new_file(file, schema) as writer:
            blocks = joint_activity(
                a,
                b,
                self._options.min_joint,
                device=self._options.device,
                report=task.advance,
            )
            for block in blocks:
                if len(block.a):
                    ids = (
                        job.a.first_feature_id + block.a.astype(np.int64),
                        job.b.first_feature_id + block.b.astype(np.int64),
                    )
                    sums = (a.sum_q[block.a], b.sum_q[block.b])
                    squares = (a.sum_q2[block.a], b.sum_q2[block.b])
                    columns = [*ids, *block[2:], *sums, *squares]
                    writer.write_batch(pa.record_batch(columns, schema))
        file.flush()
        return file

    def _keep(self, wait: float) -> None:
        """Add what was found; each link in a transaction of its own."""
        if not self._found:
            return
        with Atlas.open(self._path, write=True, wait=wait) as atlas:
            while self._found:
                found = self._found[0]
                if not self._kept(atlas, [found.job]):  # Another process may have been faster.
                    with atlas.transaction():
                        self._note_run(atlas)
                        self._add(atlas, found)
                        n_forgotten = _forget_clusterings(atlas, found.job)
                    self._n_added += 1
                    self._n_forgotten += n_forgotten
                self._found.pop(0).pairs.close()

    def _add(self, atlas: Atlas, found: _Found) -> None:
        job = found.job
        same = "(sae_a, sae_b) in ((?, ?), (?, ?)) and over = ?"
        replaced = [job.a.sae_id, job.b.sae_id, job.b.sae_id, job.a.sae_id, job.over]
        for table in ("coactivations", "links"):
            atlas.execute(
                f"delete from {table} where link_id in (select link_id from links where {same})",
                replaced,
            )
        ((link_id,),) = atlas.rows("select coalesce(max(link_id) + 1, 0) from links")
        pairs = _read(found.pairs)
        atlas.insert(
            "coactivations",
            pairs,
            f"""
            {link_id}::integer as link_id,
            * exclude (sum_a, sum_b, sum_a2, sum_b2),
            pearson({found.n_units}, sum_a, sum_b, sum_a2, sum_b2, sum_ab) as pearson
            """,
        )
        atlas.execute(
            "insert into links by name select ? as link_id, ? as run_id, ? as sae_a, ? as sae_b,"
            " ? as over, ? as min_joint, ? as n, ? as n_pairs",
            [
                link_id,
                self._run_id,
                job.a.sae_id,
                job.b.sae_id,
                job.over,
                self._options.min_joint,
                found.n_units,
                len(pairs),
            ],
        )
        for sae, n_strong in found.n_strong.items():
            _add_strong(atlas, sae, job.over, n_strong)

    def _note_run(self, atlas: Atlas) -> None:
        """The row of `runs`; done at each link, as each is whole."""
        if self._run_id is not None:
            end_run(atlas, self._run_id)
            return
        self._run_id = add_run(
            atlas,
            "link",
            self._plan,
            asdict(self._options),
            made_with("numpy", "numba"),
            self._started,
        )


def _read(file: IO[bytes]) -> pyarrow.Table:
    """The table of an Arrow file, which stays on disk."""
    import pyarrow as pa

    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.py_buffer(mapped)).read_all()


def _forget_clusterings(atlas: Atlas, job: _Job) -> int:
    """Delete the clusterings of the layers that a link joins, and tell how many there were.

    They come from other edges than there are now. Only links of neighbouring layers enter them.
    """
    neighbours = atlas.row(
        "select 1 from _layer_links where sae_id = ? and next_sae_id = ?",
        [job.a.sae_id, job.b.sae_id],
    )
    if neighbours is None:
        return 0
    of = dict(zip(("model_id", "hook", "variant"), job.a.chain, strict=True))
    return len(delete_clusterings(atlas, of))


def _add_strong(atlas: Atlas, sae: _Sae, over: Over, n_strong: NDArray[np.int64]) -> None:
    """Rows of `strong_activity` for an SAE, unless an earlier link brought them."""
    import pyarrow as pa

    known = atlas.row(
        "select 1 from strong_activity where feature_id = ? and over = ?",
        [sae.first_feature_id, over],
    )
    if known is None:
        rows = {
            "feature_id": sae.first_feature_id + np.arange(sae.d_sae, dtype=np.int64),
            "over": pa.repeat(pa.scalar(over), sae.d_sae),
            "n_strong": n_strong,
        }
        atlas.insert("strong_activity", pa.table(rows))


def _neighbours(saes: Sequence[_Sae]) -> list[_Job]:
    """Each SAE with the one of the next layer that has one of that model, hook and variant."""
    chains: dict[tuple[int, str, str | None], list[_Sae]] = {}
    for sae in sorted(saes, key=lambda sae: (sae.layer, sae.sae_id)):
        chains.setdefault(sae.chain, []).append(sae)
    return [_Job(a, b) for chain in chains.values() for a, b in itertools.pairwise(chain)]


def _between(ours: Sequence[_Sae], theirs: Sequence[_Sae]) -> list[_Job]:
    """Every SAE of one side with every one of the other, once; within a model upstream first."""
    jobs: dict[frozenset[int], _Job] = {}
    for a in ours:
        for b in theirs:
            if a != b:
                downward = a.chain[0] == b.chain[0] and b.layer < a.layer
                pair = _Job(b, a) if downward else _Job(a, b)
                jobs.setdefault(frozenset((a.sae_id, b.sae_id)), pair)
    return list(jobs.values())


def _saes(con: duckdb.DuckDBPyConnection, name: str | None) -> list[_Sae]:
    """The SAEs that a name covers; of all the atlas for None."""
    with told(NotFound):
        rows = con.execute(
            """
            select
                saes.sae_id, saes.name, saes.model_id, saes.hook, saes.variant, saes.layer,
                saes.first_feature_id, saes.d_sae, models.tokenizer_id, saes.sha256
            from saes
            join models on models.model_id = saes.model_id
            where list_contains((select saes_in(?)), saes.sae_id)
            order by saes.model_id, saes.hook, saes.variant nulls first, saes.layer, saes.sae_id
            """,
            [name],
        ).fetchall()
    return [_Sae(row[0], row[1], row[2:5], *row[5:]) for row in rows]


def _plan(atlas: Atlas, jobs: Sequence[_Job], options: LinkOptions) -> str:
    """Identity of the run: a hash of all that decides its numbers."""
    decides = [
        ALGORITHM,
        [(str(job), job.a.sha256, job.b.sha256) for job in jobs],
        options.min_joint,
        atlas.rows("select sha256 from corpora order by corpus_id"),
    ]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()
