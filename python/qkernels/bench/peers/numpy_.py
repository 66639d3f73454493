# SPDX-License-Identifier: Apache-2.0
"""NumPy: the float32 product of matrices by its BLAS, which is always there to compare with.

A matrix product alone: no bias, no rounding, nothing that would make the baseline look slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qkernels.bench.case import Case, Data, aligned, aligned_empty
from qkernels.bench.contender import Run

from .base import Fetch, Peer

LIBRARY = "NumPy"

_THREADS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# The kernels that OpenBLAS, which NumPy's wheels carry, has for the CPUs of these tiers.
_OPENBLAS_CORE = {
    "avx2": "Haswell",
    "avxvnni": "Haswell",
    "avx512vnni": "SkylakeX",
    "amx": "SkylakeX",
}


def environment(isa: str | None, threads: int) -> dict[str, str] | None:
    variables = dict.fromkeys(_THREADS, str(threads))
    if isa is None:
        return variables
    if isa not in _OPENBLAS_CORE:
        return None
    return variables | {"OPENBLAS_CORETYPE": _OPENBLAS_CORE[isa]}


def discover() -> Sequence[Peer] | str:
    return [NumPy("NumPy float32", np.__version__, "float32")]


class NumPy(Peer):
    """np.matmul with `out=`."""

    def prepare(self, case: Case, data: Data, threads: int) -> Run:
        self._limit = limit_blas(threads)
        return super().prepare(case, data, threads)

    def _linear(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        out, run = _product(data.x_real, data.w_real)
        return run, lambda: np.maximum(out + data.bias_real, np.float32(0))

    def _linear_s32(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        # Integers below 2^24, K <= 1,024, are exact in float32; longer sums round.
        x = aligned(data.x.astype(np.float32) - np.float32(data.x_zero_point))
        out, run = _product(x, aligned(data.w.astype(np.float32)))
        return run, lambda: out

    def _dynamic(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        out, run = _product(data.x, data.w_real)
        return run, lambda: out + data.bias_real

    def _digits(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        from qkernels.data import digits

        network, x, last = digits.network(), data.x, [np.empty(0, np.float32)]

        def run() -> None:
            last[0] = network(x)

        return run, lambda: last[0]


def _product(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, Run]:
    """x (M, K) times w (N, K) transposed."""
    right = aligned(w.T)
    out = aligned_empty((x.shape[0], right.shape[1]), np.float32)
    return out, lambda: np.matmul(x, right, out=out)


def limit_blas(threads: int) -> Any:
    """Sets the threads of a BLAS that is already loaded, where threadpoolctl can; else the
    environment of the worker has done it before NumPy was imported."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    return threadpool_limits(threads, user_api="blas")
