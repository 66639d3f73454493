# SPDX-License-Identifier: Apache-2.0
"""What this machine gives at most: the roofs under which results are read.

Measured by small loops in C++ (`_core.probe`) on the threads that the kernels run on: the dot
instruction of each tier and float32 multiply-adds on registers alone, and reading memory that sits
in each level of the hierarchy.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from qkernels import _core, checks, machine
from qkernels.hardware import capacity, free_memory
from qkernels.linear import pack_linear

SECONDS, QUICK_SECONDS = 0.2, 0.03  # a probe
_BLOCK = 1024  # reads are a multiple of it
_LEAST_DRAM, _MOST_DRAM = 64 << 20, 1 << 30


def measure(threads: int, quick: bool = False) -> dict[str, Any]:
    """The limits with `threads` threads:

    - "dots": {tier: GMAC/s} of int8 for each tier that this CPU has;
    - "float32": GMAC/s by the fastest tier;
    - "read": {level: GB/s} from "L1" to the last cache, and "DRAM";
    - "overhead": seconds of the smallest prepared call.

    Takes about two seconds, or less than half a one when quick. While it runs the active tier of
    the process changes.
    """
    checks.integer(threads, "threads", 1)
    seconds = QUICK_SECONDS if quick else SECONDS
    isas = machine.available_isas()
    dots = {}
    with machine.num_threads(threads):
        for isa in isas:
            with machine.use_isa(isa):
                dots[isa] = _core.probe("dots", seconds) / 1e9
        with machine.use_isa(isas[-1]):
            return {
                "dots": dots,
                "float32": _core.probe("float32", seconds) / 1e9,
                "read": {
                    level: _core.probe("read", seconds, size) / 1e9
                    for level, size in working_sets(threads).items()
                },
                "overhead": call_overhead(),
            }


def working_sets(threads: int) -> dict[str, int]:
    """Bytes for each thread to read so that all of it comes from one level: four times what the
    level before holds, where that is at most half of the level. What fills a level is slower, most
    of all where other machines share the hardware, and would be no roof."""
    sizes: dict[str, int] = {}
    before = last = 0
    for level, held in capacity(threads).items():
        half = held // threads // 2
        sizes[level] = _blocks(max(min(half, 4 * before) if before else half, 2 * before))
        before, last = held // threads, held
    size = max(_LEAST_DRAM, 4 * last)
    free = free_memory()
    size = min(size, _MOST_DRAM if free is None else min(_MOST_DRAM, free // 4))
    sizes["DRAM"] = _blocks(size // threads)
    return sizes


def _blocks(size: int) -> int:
    return max(size // _BLOCK, 1) * _BLOCK


def call_overhead() -> float:
    """Seconds of a prepared `linear_int8` on next to no data: the least of several tries."""
    packed = pack_linear(np.ones((16, 4), np.int8), weight_scale=1.0)
    call = packed.bind(x_scale=1.0, out_scale=1.0)
    x, out = np.ones((1, 4), np.int8), np.empty((1, 16), np.int8)
    return least_time(lambda: call(x, out), calls=1000, tries=7)


def least_time(call: Any, calls: int, tries: int) -> float:
    """Seconds of one call in the fastest of `tries` runs of `calls` calls."""
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, time.perf_counter() - start)
    return best / calls
