"""Bytes per stored activation, and how fast one layer's matrix comes back, against Parquet."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse

import atlas
from atlas import activations
from tests.benchmarks.data import demo_atlas
from tests.benchmarks.timing import paired


def run(folder: Path) -> Iterator[str]:
    """Size of the table `activations`, then loading to SciPy."""
    path = demo_atlas(folder)
    bare = folder / "activations-only.atlas"
    with atlas.create(bare) as copy:
        copy.execute(f"attach '{path}' as whole (read_only)")
        before = bare.stat().st_size
        copy.execute("insert into activations select * from whole.activations")
        copy.execute("detach whole")
        copy.execute("checkpoint")
    with atlas.open(path) as a:
        n = a.rows("select count(*) from activations")[0][0]
        size = bare.stat().st_size - before
        parquet = folder / "activations.parquet"
        a.execute(f"copy activations to '{parquet}' (format parquet, compression zstd)")
        yield (
            f"{n:,} activations: {size / n:.2f} bytes each in the atlas, "
            f"{parquet.stat().st_size / n:.2f} as Parquet with zstd"
        )
        sae = a.rows(
            "select name from saes join features using (sae_id) group by all"
            " order by sum(n_active) desc limit 1"
        )[0][0]
        matrix = activations.load(a, sae)
        npz = folder / "matrix.npz"
        scipy.sparse.save_npz(npz, matrix, compressed=False)

        def ours() -> object:
            return activations.load(a, sae)

        mine, theirs, ratio = paired(ours, lambda: scipy.sparse.load_npz(npz), 9)
        yield (
            f"load of {sae} to SciPy: {matrix.nnz:,} entries in {mine:.3f} s, "
            f"{matrix.nnz / mine / 1e6:.1f} M entries/s; SciPy's own .npz {theirs:.3f} s, "
            f"ratio {ratio:.1f}"
        )
    yield from _large(folder)
    shutil.rmtree(folder / "large", ignore_errors=True)


def _large(folder: Path) -> Iterator[str]:
    """The same with as many entries as one SAE has on a million tokens."""
    import pyarrow as pa

    n_tokens, d_sae, k = 1_000_000, 8192, 16
    rng = np.random.default_rng(0)
    token = np.repeat(np.arange(n_tokens), k)
    # Densities of a trained SAE span three decades.
    feature = (d_sae * rng.random(n_tokens * k) ** 2).astype(np.int64)
    pair = np.unique(feature * n_tokens + token)
    table = pa.table(
        {
            "feature_id": pair // n_tokens,
            "token": pair % n_tokens,
            "q": np.minimum(rng.lognormal(7, 1, len(pair)), 32767).astype(np.int32) + 1,
        }
    )
    path = folder / "large.atlas"
    counts = np.bincount(table["feature_id"].to_numpy(), minlength=d_sae)
    with atlas.create(path) as a:
        con = a.execute("select 1")
        con.fetchall()
        con.register("_rows", table)
        before = path.stat().st_size
        a.execute("insert into activations from _rows")
        a.execute("checkpoint")
        size = path.stat().st_size - before
        con.register("_counts", pa.table({"i": np.arange(d_sae), "n": counts}))
        a.execute(
            "insert into features by name select i as feature_id, 0 as sae_id, i as index,"
            " n as n_active from _counts"
        )
        a.execute("insert into corpora (corpus_id, n_words) values (0, 1)")
        a.execute(
            "insert into tokenizers (tokenizer_id, first_token, n_tokens) values (0, 0, ?)",
            [n_tokens],
        )
        a.execute("insert into models (model_id, name, tokenizer_id) values (0, 'm', 0)")
        a.execute(
            "insert into saes (sae_id, model_id, name, first_feature_id, d_sae, scale)"
            " values (0, 0, 'm/0-resid_post', 0, ?, 1.0)",
            [d_sae],
        )
    with atlas.open(path) as a:
        matrix = activations.load(a, 0)
        npz = folder / "large.npz"
        scipy.sparse.save_npz(npz, matrix, compressed=False)

        def ours() -> object:
            return activations.load(a, 0)

        mine, theirs, ratio = paired(ours, lambda: scipy.sparse.load_npz(npz), 5)
    yield (
        f"synthetic, {n_tokens:,} tokens x {d_sae:,}: {len(pair):,} activations, "
        f"{size / len(pair):.2f} bytes each; load {len(pair) / mine / 1e6:.1f} M entries/s, "
        f"SciPy's own .npz {len(pair) / theirs / 1e6:.1f} M/s, ratio {ratio:.1f}"
    )
