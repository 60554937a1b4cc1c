"""Logistic regression, and how well its scores tell two classes apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RIDGE = 1e-3
"""λ: so weak that it decides only what the data leave open."""

_STEPS = 50
_CONVERGED = 1e-12
_TINY = 1e-12
_ITERATIONS = 200


def fit(x: Floats, y: Bools) -> tuple[Floats, float]:
    """Weights (d,) and bias of a regression of y (n,) on few columns x (n, d), by Newton's method.

    Minimises the mean of -log p(y), in which both classes weigh the same however rare one is, plus
    λ/2 ‖w‖² for columns scaled to unit variance, λ being `RIDGE`. Constant columns weigh 0.
    """
    z, mean, scale = _standardised(x)
    z = np.column_stack([z, np.ones(len(z))])
    ridge = np.append(np.full(x.shape[1], RIDGE), 0.0)
    weight = np.where(y, 0.5 / max(int(y.sum()), 1), 0.5 / max(int((~y).sum()), 1))
    sign = np.where(y, 1.0, -1.0)

    def loss(w: Floats) -> float:
        return float(weight @ np.logaddexp(0, -sign * (z @ w)) + ridge @ (w * w) / 2)

    w = np.zeros(z.shape[1])
    now = loss(w)
    for _ in range(_STEPS):
        p = expit(z @ w)
        gradient = z.T @ (weight * (p - y)) + ridge * w
        curvature = (z.T * (weight * p * (1 - p))) @ z + np.diag(ridge + _TINY)
        step = np.linalg.solve(curvature, gradient)
        fall = float(gradient @ step)
        if fall < _CONVERGED:
            break
        size = 1.0
        while (then := loss(w - size * step)) > now - size * fall / 4 and size > _TINY:
            size /= 2
        w, now = w - size * step, then
    weights = w[:-1] * scale
    return weights, float(w[-1] - mean @ weights)


def fit_each(x: NDArray[np.float32], y: Bools) -> tuple[Floats, Floats]:
    """Weights (d, m) and biases (m,) of a regression for each column of y (n, m) on many, x (n, d).

    As `fit`, but every row weighs the same, and by a method (L-BFGS) that needs no d² numbers.
    """
    n, d = x.shape
    m = y.shape[1]
    z, mean, scale = _standardised(x)
    sign = np.where(y, 1.0, -1.0)

    def loss(flat: Floats) -> tuple[float, Floats]:
        parameters = flat.reshape(d + 1, m)
        w, b = parameters[:d], parameters[d]
        margin = sign * (z @ w.astype(z.dtype) + b)
        value = np.logaddexp(0, -margin).sum() / n + RIDGE / 2 * (w * w).sum()
        slope = -sign * expit(-margin) / n
        gradient = np.empty_like(parameters)
        gradient[:d] = z.T @ slope.astype(z.dtype) + RIDGE * w
        gradient[d] = slope.sum(0)
        return float(value), gradient.ravel()

    options = {"maxiter": _ITERATIONS, "gtol": 1e-6}
    start = np.zeros((d + 1) * m)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    parameters = found.x.reshape(d + 1, m)
    weights = parameters[:d] * scale[:, None]
    return weights, parameters[d] - mean @ weights


def _standardised(x: NDArray[Any]) -> tuple[NDArray[Any], Floats, Floats]:
    """Columns of x (n, d) with mean 0 and variance 1; what was subtracted, and multiplied with."""
    mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    scale = np.divide(1.0, deviation, out=np.zeros(x.shape[1]), where=deviation > 0)
    return ((x - mean) * scale).astype(x.dtype), mean, scale


def f1(predicted: Bools, y: Bools) -> float:
    """2 · true positives / (predicted + actual positives); 0 where there are none of either."""
    hits = float((predicted & y).sum())
    marked = float(predicted.sum() + y.sum())
    return 2 * hits / marked if marked else 0.0


def best_threshold(score: Floats, y: Bools) -> float:
    """The t for which `score >= t`, both (n,), has the largest F1; of several the largest."""
    order = np.argsort(-score, kind="stable")
    sorted_score = score[order]
    hits = np.cumsum(y[order])
    # A cut lies behind the last of equal scores.
    last = np.flatnonzero(np.append(sorted_score[1:] != sorted_score[:-1], True))
    values = 2 * hits[last] / (last + 1 + max(int(y.sum()), 1))
    return float(sorted_score[last[np.argmax(values)]])


def balanced_accuracy(predicted: Bools, y: Bools) -> float:
    """Mean of the shares of positives and of negatives that are told right."""
    return float(predicted[y].mean() + (~predicted)[~y].mean()) / 2


def auc(score: Floats, y: Bools) -> float:
    """Chance that a positive scores higher than a negative, ties counting half (Mann-Whitney)."""
    n_positive = int(y.sum())
    n_negative = len(y) - n_positive
    ranks = float(rankdata(score)[y].sum())
    return (ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
