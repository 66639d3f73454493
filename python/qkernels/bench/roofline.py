# SPDX-License-Identifier: Apache-2.0
"""How fast a row could be on this machine, and what binds it.

The limit is the longest of the times that cannot be avoided: the multiply-adds at the peak of the
tier, one call, and for each level of memory the bytes that it must deliver: all but those that the
levels before can hold from one call to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkernels.hardware import capacity

_PRODUCTS = ("linear", "linear_s32", "dynamic")


def judge(row: Mapping[str, Any], limits: Mapping[str, Any]) -> tuple[float | None, str | None]:
    """(limit in seconds, what binds: "compute", a level of memory or "overhead") of a result row
    (`results`), given `limits.measure` of the row's number of threads; (None, None) where the peak
    of the row's arithmetic is not known.

    A row without a tier (`isa` None) is judged by the fastest one of this CPU.
    """
    times: dict[str, float] = {"overhead": limits["overhead"]}
    if row["macs"]:
        rate = peak(row["dtype"], row["isa"], limits)
        if rate is None:
            return None, None
        times["compute"] = row["macs"] / rate
    times.update(memory_times(moved_bytes(row), row["threads"], limits))
    bound = max(times, key=lambda name: times[name])
    return times[bound], bound


def peak(dtype: str, isa: str | None, limits: Mapping[str, Any]) -> float | None:
    """Multiply-adds a second of a kind of arithmetic, or None where it was not measured."""
    if dtype == "float32":
        return 1e9 * float(limits["float32"])
    if dtype != "int8":
        return None
    dots = limits["dots"]
    return 1e9 * float(max(dots.values()) if isa is None else dots[isa])


def moved_bytes(row: Mapping[str, Any]) -> float:
    """Bytes that must move. A row's own count is of int8 work: in float32 each number takes 4."""
    size = float(row["bytes"])
    if row["dtype"] != "float32" or not row["macs"]:
        return size
    if row["op"] in _PRODUCTS:
        m, k, n = (row["params"][name] for name in "mkn")
        return float(4 * (m * k + k * n + m * n))
    return 4.0 * size


def memory_times(size: float, threads: int, limits: Mapping[str, Any]) -> dict[str, float]:
    """Seconds that each level needs at least for a working set of `size` bytes that is used again
    and again, by name, the fastest level first."""
    held = capacity(threads)
    times = {}
    before = 0
    for level, rate in limits["read"].items():
        times[level] = max(size - before, 0) / (1e9 * rate)
        before = held.get(level, before)
    return times
