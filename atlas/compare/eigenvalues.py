"""Eigenvalues of symmetric matrices in single precision, in half of NumPy's time.

LAPACK's driver, behind `numpy.linalg.eigvalsh`, takes twice as long for float32 (NumPy 2.4 with
OpenBLAS 0.3.31) as the two routines it consists of, given a workspace in which the first one goes
by blocks. SciPy's wrappers of these hold the interpreter's lock, so they are called directly.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CFUNCTYPE, byref, c_char, c_int, c_void_p

import numpy as np
from numba.extending import get_cython_function_address
from numpy.typing import NDArray

Singles = NDArray[np.float32]

_LARGE = 48
"""Rows from which on this is faster than NumPy's one call for many matrices."""

_BLOCK = 64
"""Columns that one step of the reduction takes at most."""


def eigenvalues(S: Singles) -> Singles:
    """Of each of some symmetric matrices S (m, k, k): ascending, (m, k), to 1e-6 of the largest.

    Several threads may call this at once.
    """
    if S.shape[1] < _LARGE:
        small: Singles = np.linalg.eigvalsh(S)
        return small
    return np.stack([_eigenvalues(one) for one in S])


def _eigenvalues(S: Singles) -> Singles:
    k = len(S)
    reduced = np.array(S, np.float32, order="C")  # a copy, as it is overwritten
    diagonal, beside, rest, work = (np.empty(size, np.float32) for size in (k, k, k, k * _BLOCK))
    n, n_work, info = c_int(k), c_int(len(work)), c_int()
    _ssytrd(
        byref(c_char(b"U")), byref(n), reduced.ctypes.data, byref(n), diagonal.ctypes.data,
        beside.ctypes.data, rest.ctypes.data, work.ctypes.data, byref(n_work), byref(info),
    )  # fmt: skip
    if not info.value:
        _ssterf(byref(n), diagonal.ctypes.data, beside.ctypes.data, byref(info))
    if info.value:
        raise np.linalg.LinAlgError(f"no eigenvalues of a matrix {S.shape}: code {info.value}")
    return diagonal


def _routine(name: str, n_arguments: int) -> Callable[..., None]:
    """One of the LAPACK routines that SciPy brings; all arguments are pointers."""
    address = get_cython_function_address("scipy.linalg.cython_lapack", name)
    return CFUNCTYPE(None, *[c_void_p] * n_arguments)(address)


# Now, not at the first call: a limit on the threads of BLAS holds for what is loaded by then.
_ssytrd = _routine("ssytrd", 10)
_ssterf = _routine("ssterf", 4)
