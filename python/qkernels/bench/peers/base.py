# SPDX-License-Identifier: Apache-2.0
"""What the adapters share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels.bench.case import Case, Data
from qkernels.bench.contender import Run

Fetch = Callable[[], NDArray[Any]]

# How oneDNN, and what is built on it, is capped to the tiers of qkernels.
ISA_VARIABLE, AMX = "ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX"
_ONEDNN_ISA = {
    "avx2": "AVX2",
    "avxvnni": "AVX2_VNNI",
    "avx512vnni": "AVX512_CORE_VNNI",
    "amx": AMX,
}


class Peer:
    """A contender with a method `_<op>(case, data, threads)` for each operation that it has, which
    returns the call to time and a function that gives the answer of the last call."""

    def __init__(self, name: str, version: str, dtype: str = "int8") -> None:
        self.name = name
        self.version = version
        self.dtype = dtype
        self._fetch: Fetch | None = None

    def supports(self, case: Case) -> str | None:
        return None if hasattr(self, f"_{case.op}") else f"{case.op} is not offered"

    def prepare(self, case: Case, data: Data, threads: int) -> Run:
        self._fetch = None  # frees what was prepared before
        run, self._fetch = getattr(self, f"_{case.op}")(case, data, threads)
        return run  # type: ignore[no-any-return]

    def answer(self) -> NDArray[Any]:
        assert self._fetch is not None, "nothing was prepared"
        return self._fetch()


def refuse_float(answer: NDArray[Any], data: Data) -> None:
    """A library that silently computes a dynamic layer in float32 is no int8 contender. Eight bits
    cost some thousandths; float32 arithmetic is below a millionth."""
    right = data.expected.astype(np.float64)
    error = np.sqrt(np.mean(np.square(answer - right)) / np.mean(np.square(right)))
    if error < 1e-5:
        raise RuntimeError("the layer runs in float32, not int8")


def onednn_environment(isa: str | None, threads: int) -> dict[str, str] | None:
    """The cap and the threads of oneDNN with the OpenMP runtime."""
    variables = {"OMP_NUM_THREADS": str(threads)}
    if isa is None:
        return variables
    if isa not in _ONEDNN_ISA:
        return None
    return variables | {ISA_VARIABLE: _ONEDNN_ISA[isa]}


def cache_folder() -> Path:
    """Where this user's compiled files go."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    return (Path(chosen) if chosen else Path.home() / ".cache") / "qkernels" / "bench"
