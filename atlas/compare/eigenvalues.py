"""Eigenvalues of symmetric matrices in single precision, in half of NumPy's time.

LAPACK's driver, behind `numpy.linalg.eigvalsh`, takes twice as long for float32 (NumPy 2.4 with
OpenBLAS 0.3.31) as the two routines it consists of, given a workspace in which the first one goes
by blocks. SciPy's wrappers of these hold the interpreter's lock, so they are called directly.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CFUNCTYPE, byref, c_char, c_int, c_void_p
from functools import cache

import numpy as np
from numba.extending import get_cython_function_address
from numpy.typing import NDArray

Singles = NDArray[np.float32]

_BLOCK = 64
"""Columns that one step of the reduction takes at most."""


def eigenvalues(S: Singles) -> Singles:
    """Of a symmetric S (k, k), ascending, (k,); right to about 1e-6 of the largest.

    Several threads may call this at once.
    """
    k = len(S)
    reduced = np.array(S, np.float32, order="C")  # a copy, as it is overwritten
    diagonal, beside, rest, work = (np.empty(size, np.float32) for size in (k, k, k, k * _BLOCK))
    n, n_work, info = c_int(k), c_int(len(work)), c_int()
    upper = byref(c_char(b"U"))
    _routine("ssytrd", 10)(
        upper, byref(n), reduced.ctypes.data, byref(n), diagonal.ctypes.data, beside.ctypes.data,
        rest.ctypes.data, work.ctypes.data, byref(n_work), byref(info),
    )  # fmt: skip
    if not info.value:
        _routine("ssterf", 4)(byref(n), diagonal.ctypes.data, beside.ctypes.data, byref(info))
    if info.value:
        raise np.linalg.LinAlgError(f"no eigenvalues of a matrix {S.shape}: code {info.value}")
    return diagonal


@cache
def _routine(name: str, n_arguments: int) -> Callable[..., None]:
    """One of the LAPACK routines that SciPy brings; all arguments are pointers."""
    address = get_cython_function_address("scipy.linalg.cython_lapack", name)
    return CFUNCTYPE(None, *[c_void_p] * n_arguments)(address)
