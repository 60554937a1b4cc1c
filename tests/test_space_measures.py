"""SVCCA, CKA, Procrustes and RSA against SciPy and scikit-learn, and what each promises."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import linalg, spatial, stats

from atlas.compare import spaces
from atlas.compare.eigenvalues import eigenvalues
from atlas.compare.measures import METRICS, from_matrix, has_direction, metric
from atlas.errors import BadInput

Array = NDArray[np.float64]

RSA = [f"rsa({inner}, {outer})" for inner in ("pearson", "cosine", "euclidean")
       for outer in ("spearman", "pearson", "kendall")]  # fmt: skip
OF_DIRECTIONS = [name for name, one in METRICS.items() if not one.of_correlations] + RSA[1:]
ROTATED_IS_1 = [name for name in OF_DIRECTIONS if name != "rsa" and "(pearson" not in name]


def related(n: int, d_a: int, d_b: int, seed: int = 0, noise: float = 1.0) -> tuple[Array, Array]:
    """Directions of which those of Y are a linear map of those of X, and noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d_a)) * np.linspace(1, 0.2, d_a) + 0.3
    return X, X @ rng.standard_normal((d_a, d_b)) / np.sqrt(d_a) + noise * rng.standard_normal(
        (n, d_b)
    )


def unit(X: Array) -> Array:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def centred(X: Array) -> Array:
    X = unit(X)
    return X - X.mean(axis=0)


def rotated(X: Array, d: int, seed: int = 1) -> Array:
    """X in another space of at least as many dimensions, each direction of a length of its own."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((d, X.shape[1])))[0]
    return X @ basis.T * rng.uniform(0.1, 10, (len(X), 1))


def leading(X: Array, variance: float) -> Array:
    """Scores of the fewest components with that share of the variance, by SVD."""
    U, s, _ = np.linalg.svd(centred(X), full_matrices=False)
    k = next(k for k in range(1, len(s) + 1) if (s[:k] ** 2).sum() >= variance * (s**2).sum())
    return U[:, :k] * s[:k]


# -- against others' code ------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d_a", "d_b"), [(300, 12, 30), (90, 40, 40), (41, 60, 7)])
def test_svcca_is_the_mean_cosine_between_subspaces_of_99_percent_of_the_variance(n, d_a, d_b):
    X, Y = related(n, d_a, d_b)
    most = (n - 1) // 2
    for name, bound in (("svcca", most), ("svcca_uncapped", n), ("svcca_k1", 1)):
        a, b = leading(X, 0.99)[:, :bound], leading(Y, 0.99)[:, :bound]
        found = metric(name).prepare(X, Y)
        assert (found.dims_a, found.dims_b) == (a.shape[1], b.shape[1])
        expected = np.cos(linalg.subspace_angles(a, b)).mean()
        assert found.value == pytest.approx(expected, abs=1e-9), name


def test_svcca_is_the_cca_of_scikit_learn():
    from sklearn.cross_decomposition import CCA

    X, Y = related(200, 5, 8, noise=0.3)
    found = metric("svcca").prepare(X, Y)
    a, b = leading(X, 0.99), leading(Y, 0.99)
    k = min(a.shape[1], b.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own iterations
        u, v = CCA(n_components=k, max_iter=20_000, tol=1e-12).fit_transform(a, b)
    expected = np.mean([abs(np.corrcoef(u[:, i], v[:, i])[0, 1]) for i in range(k)])
    assert found.value == pytest.approx(expected, abs=1e-6)


def test_svcca_k1_is_the_correlation_of_the_first_components():
    X, Y = related(50, 6, 9)
    r = np.corrcoef(leading(X, 0.0)[:, 0], leading(Y, 0.0)[:, 0])[0, 1]
    assert metric("svcca_k1").prepare(X, Y).value == pytest.approx(abs(r), abs=1e-12)


@pytest.mark.parametrize(("n", "d_a", "d_b"), [(60, 5, 9), (20, 40, 30)])
def test_cka_is_that_of_kernels_centred_by_scikit_learn(n, d_a, d_b):
    from sklearn.metrics.pairwise import cosine_similarity
    from sklearn.preprocessing import KernelCenterer

    X, Y = related(n, d_a, d_b)
    K, L = (KernelCenterer().fit_transform(cosine_similarity(W)) for W in (X, Y))
    expected = (K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum())
    assert metric("cka").prepare(X, Y).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("n", "d"), [(60, 7), (15, 30)])
def test_procrustes_leaves_the_distance_that_scipy_tells(n, d):
    X, Y = related(n, d, d)
    disparity = spatial.procrustes(centred(X), centred(Y))[2]
    assert metric("procrustes").prepare(X, Y).value ** 2 == pytest.approx(1 - disparity, abs=1e-9)


OUTER: dict[str, Callable[..., tuple[float, float]]] = {
    "spearman": stats.spearmanr,
    "pearson": stats.pearsonr,
    "kendall": stats.kendalltau,
}


@pytest.mark.parametrize("name", RSA)
@pytest.mark.parametrize("ties", [False, True])
def test_rsa_is_scipys_correlation_of_scipys_distances(name, ties):
    X, Y = related(40, 9, 6)
    if ties:  # a few directions, most of them several times
        X = np.sign(X[:, :4]) + np.array([0, 1, 2, 4])
        Y = np.sign(Y[:, :4]) + np.array([4, 2, 1, 0])
    inner, outer = name[4:-1].split(", ")
    kind = {"pearson": "correlation", "cosine": "cosine", "euclidean": "euclidean"}[inner]
    # Distances, not similarities, on both sides; equal ones are made so, as ranks need them to be.
    a, b = (np.round(spatial.distance.pdist(unit(W), kind), 7) for W in (X, Y))
    assert metric(name).prepare(X, Y).value == pytest.approx(OUTER[outer](a, b)[0], abs=2e-6)


# -- permutations --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_DIRECTIONS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_permuted_value_is_that_of_permuted_rows(name, data):
    n, d_a, d_b = (data.draw(st.integers(low, 40)) for low in (3, 3, 3))
    X, Y = related(n, d_a, d_b, seed=data.draw(st.integers(0, 99)))
    if data.draw(st.booleans()):
        X[n // 2 :] = X[0]  # directions that are the same
    one = metric(name)
    prepared = one.prepare(X, Y)
    order = np.array(data.draw(st.permutations(range(n))))
    expected = one.prepare(X, Y[order]).value
    assert prepared.permuted(order) == pytest.approx(expected, abs=1e-7, nan_ok=True)
    assert prepared.permuted(np.arange(n)) == pytest.approx(prepared.value, abs=1e-9, nan_ok=True)
    many = prepared.permuted_all(np.stack([order, np.arange(n), order[::-1]]))
    assert many[0] == pytest.approx(prepared.permuted(order), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", ["svcca", "svcca_k1", "cka", "procrustes", "rsa"])
def test_of_many_pairs_a_permuted_value_is_right_to_a_millionth(name):
    X, Y = related(2100, 70, 60)
    one = metric(name)
    prepared = one.prepare(X, Y)
    order = np.random.default_rng(0).permutation(len(X))
    expected = one.prepare(X, Y[order]).value
    assert prepared.permuted(order) == pytest.approx(expected, abs=1e-6)
    assert abs(expected - prepared.value) > 1e-3


@pytest.mark.parametrize("k", [1, 2, 7, 47, 48, 150])
def test_eigenvalues_are_numpys(k):
    M = np.random.default_rng(k).standard_normal((3, k, 2 * k)).astype(np.float32)
    S = M @ M.transpose(0, 2, 1)
    before = S.copy()
    expected = np.linalg.eigvalsh(S.astype(np.float64))
    assert eigenvalues(S) == pytest.approx(expected, abs=1e-5 * expected.max())
    assert (before == S).all()


def test_cka_is_the_same_by_products_and_by_gram_matrices(monkeypatch):
    X, Y = related(30, 20, 25)
    order = np.random.default_rng(0).permutation(30)
    grams = spaces.cka(X, Y)
    monkeypatch.setattr(spaces, "_MOST_GRAM", 0)
    products = spaces.cka(X, Y)
    assert type(grams) is not type(products)
    assert products.value == pytest.approx(grams.value, abs=1e-7)
    assert products.permuted(order) == pytest.approx(grams.permuted(order), abs=1e-7)


def test_the_mean_correlation_is_that_of_the_diagonal():
    R = np.random.default_rng(0).uniform(-1, 1, (7, 7)).astype(np.float32)
    prepared = METRICS["mean_correlation"].prepare(R)
    assert prepared.value == pytest.approx(np.trace(R.astype(float)) / 7)
    order = np.array([3, 1, 0, 2, 6, 5, 4])
    assert prepared.permuted(order) == pytest.approx(np.trace(R[:, order].astype(float)) / 7)
    assert np.isnan(from_matrix(np.empty((0, 0))).value)
    with pytest.raises(BadInput, match=r"\(2, 3\)"):
        from_matrix(np.zeros((2, 3)))


# -- what is promised ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROTATED_IS_1)
@pytest.mark.parametrize("n", [8, 60])
def test_a_rotated_copy_is_the_same(name, n):
    X = np.random.default_rng(0).standard_normal((n, 20))
    assert metric(name).prepare(X, rotated(X, 31)).value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ROTATED_IS_1)
def test_rotations_and_lengths_do_not_matter(name):
    X, Y = related(50, 8, 11)
    expected = metric(name).prepare(X, Y).value
    assert metric(name).prepare(rotated(X, 8), rotated(Y, 14)).value == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("name", OF_DIRECTIONS)
def test_lengths_the_order_of_pairs_and_which_side_is_which_do_not_matter(name):
    X, Y = related(50, 8, 11)
    rng = np.random.default_rng(0)
    expected = metric(name).prepare(X, Y).value
    order = rng.permutation(50)
    longer = X * 10.0 ** rng.uniform(-150, 150, (50, 1))
    for other in ((X[order], Y[order]), (Y, X), (longer, Y), (X, Y.astype(np.float32))):
        assert metric(name).prepare(*other).value == pytest.approx(expected, abs=1e-6)


def test_svcca_keeps_99_percent_of_the_variance_and_no_more_than_half_the_samples():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 30)) * np.repeat([1, 0.01], [5, 25])
    Y = rng.standard_normal((400, 50))
    found = metric("svcca").prepare(X, Y)
    assert (found.dims_a, found.dims_b) == (5, 49)
    few = metric("svcca").prepare(X[:40], Y[:40])
    assert (few.dims_a, few.dims_b) == (5, 19)
    assert metric("svcca_uncapped").prepare(X[:40], Y[:40]).dims_b > 30
    assert metric("svcca_k1").prepare(X, Y).dims_b == 1
    assert metric("cka").prepare(X, Y).dims_a is None


def test_uncapped_svcca_of_few_unrelated_features_is_near_1():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((2, 40, 64))
    assert metric("svcca_uncapped").prepare(X, Y).value > 0.9
    assert metric("svcca").prepare(X, Y).value < 0.7


def test_spaces_of_low_rank_are_measured_within_it():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 20))
    for name in OF_DIRECTIONS:
        assert np.isfinite(metric(name).prepare(X, rng.standard_normal((60, 20))).value)
    assert metric("svcca").prepare(X, X).dims_a <= 3
    assert metric("procrustes").prepare(X, X).value == pytest.approx(1)


def test_by_distances_features_order_as_by_cosines():
    X, Y = related(30, 8, 8)
    for outer in ("spearman", "kendall"):
        by_cosine = metric(f"rsa(cosine, {outer})").prepare(X, Y).value
        assert metric(f"rsa(euclidean, {outer})").prepare(X, Y).value == pytest.approx(
            by_cosine, abs=1e-4
        )


# -- what cannot be measured ---------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_DIRECTIONS)
def test_where_a_measure_is_not_defined_it_is_nan(name):
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((12, 5))
    for n in range(3):
        few = metric(name).prepare(Y[:n], Y[:n])
        assert np.isnan(few.value)
        assert few.n == n
        assert np.isnan(few.permuted(np.arange(n)))
    same = np.tile(rng.standard_normal(7), (12, 1))
    for pair in ((same, Y), (Y, same), (same, same), (same.astype(np.float32), Y)):
        prepared = metric(name).prepare(*pair)
        assert np.isnan(prepared.value)
        assert np.isnan(prepared.permuted_all(np.stack([np.arange(12)] * 3))).all()


@pytest.mark.parametrize("name", ["rsa(cosine, spearman)", "rsa(cosine, pearson)"])
def test_similarities_that_differ_by_rounding_alone_do_not_differ(name):
    rng = np.random.default_rng(0)
    orthonormal = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    assert np.isnan(metric(name).prepare(orthonormal, rng.standard_normal((9, 4))).value)


@pytest.mark.parametrize("name", OF_DIRECTIONS)
def test_pairs_without_direction_are_told(name):
    X, Y = related(12, 5, 6)
    Y[7] = 0
    with pytest.raises(BadInput, match="Of 1 pairs, the first in row 7"):
        metric(name).prepare(X, Y)
    X[3, 1] = np.nan
    with pytest.raises(BadInput, match="Of 2 pairs, the first in row 3"):
        metric(name).prepare(X, Y)
    fit = has_direction(X) & has_direction(Y)
    assert metric(name).prepare(X[fit], Y[fit]).n == 10
    with pytest.raises(BadInput, match=r"\(12, 5\) and \(11, 6\)"):
        metric(name).prepare(X, Y[1:])


def test_inside_pearson_a_direction_of_equal_numbers_is_told():
    X, Y = related(12, 5, 6)
    X[4] = 2.5
    with pytest.raises(BadInput, match="first in row 4"):
        metric("rsa").prepare(X, Y)
    assert np.isfinite(metric("rsa(cosine, spearman)").prepare(X, Y).value)


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("svcca", "svcca"),
        (" SVCCA_k1 ", "svcca_k1"),
        ("rsa(pearson,spearman)", "rsa"),
        ("RSA( Cosine , Pearson )", "rsa(cosine, pearson)"),
        ("rsa(cosine)", "rsa(cosine, spearman)"),
        ("rsa(,kendall)", "rsa(pearson, kendall)"),
        ("rsa()", "rsa"),
    ],
)
def test_measures_are_found_by_name(written, name):
    found = metric(written)
    assert found.name == name
    assert metric(found.name).name == name
    assert found.summary
    assert found.source
    assert found.quadratic == name.startswith("rsa")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("pwcca", "mean_correlation, svcca"),
        ("rsa(cosine", "rsa\\(inner, outer\\)"),
        ("rsa(dot, pearson)", "pearson, cosine, euclidean"),
        ("rsa(cosine, r)", "spearman, pearson, kendall"),
    ],
)
def test_other_names_are_told_what_there_is(written, told):
    with pytest.raises(BadInput, match=told):
        metric(written)


def test_names_of_measures_are_there_without_the_compiler():
    """What a command line needs to list them: numba alone takes half a second to load."""
    code = (
        "import sys, atlas.compare.measures, atlas.compare.nulls;"
        "print([m for m in ('numba', 'scipy', 'torch', 'faiss') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
