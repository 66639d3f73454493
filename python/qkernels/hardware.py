# SPDX-License-Identifier: Apache-2.0
"""The machine below the kernels: the CPU's name, its caches, memory that is free."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

# Where the system does not tell: small enough for every CPU of the last ten years.
_ASSUMED = {"L1": 32 << 10, "L2": 512 << 10}
_SUFFIX = {"K": 1024, "M": 1024**2, "G": 1024**3}


def cpu_model(root: Path = Path("/")) -> str:
    """The CPU's name as the system gives it, or its architecture."""
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    for line in read_text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model", "Hardware"} and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def caches(root: Path = Path("/")) -> list[dict[str, Any]]:
    """The first CPU's caches: {"level", "type" ("Data", "Instruction", "Unified"), "bytes",
    "cpus"}, the last being how many CPUs share it. Empty where the system does not tell."""
    if sys.platform == "darwin":
        return _caches_of_darwin()
    found = []
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        size = read_text(folder / "size")
        try:
            found.append(
                {
                    "level": int(read_text(folder / "level")),
                    "type": read_text(folder / "type"),
                    "bytes": int(size.rstrip("KMG")) * _SUFFIX.get(size[-1:], 1),
                    "cpus": _count(read_text(folder / "shared_cpu_list")),
                }
            )
        except ValueError:
            continue
    return found


def data_caches(root: Path = Path("/")) -> dict[str, dict[str, Any]]:
    """The caches that hold data by name, "L1" first; cautious sizes where the system is silent."""
    found = {f"L{c['level']}": c for c in caches(root) if c["type"] != "Instruction"}
    if not found:
        found = {name: {"bytes": size, "cpus": 1} for name, size in _ASSUMED.items()}
    return dict(sorted(found.items()))


def capacity(threads: int, root: Path = Path("/")) -> dict[str, int]:
    """Bytes that each level holds for `threads` threads on as many cores, by name."""
    cpus = os.cpu_count() or 1
    return {
        name: cache["bytes"] * min(threads, -(-cpus // cache["cpus"]))
        for name, cache in data_caches(root).items()
    }


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take, as system and control group say."""
    limits = []
    for line in read_text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(1024 * int(line.split()[1]))
    group = root / "sys/fs/cgroup"
    most, now = read_text(group / "memory.max"), read_text(group / "memory.current")
    if most.isdecimal() and now.isdecimal():
        limits.append(max(int(most) - int(now), 0))
    return min(limits, default=None)


def read_text(path: Path) -> str:
    """The contents of a small file of the system, stripped; empty where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _count(cpu_list: str) -> int:
    """How many CPUs a list such as "0-3,8" names; at least 1."""
    count = 0
    for part in filter(None, cpu_list.split(",")):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return max(count, 1)


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _caches_of_darwin() -> list[dict[str, Any]]:
    """Those of the fast cores."""
    found = []
    for level, kind, name in ((1, "Data", "l1dcachesize"), (2, "Unified", "l2cachesize")):
        size = _sysctl(f"hw.perflevel0.{name}") or _sysctl(f"hw.{name}")
        if size.isdecimal():
            sharing = _sysctl("hw.perflevel0.cpusperl2") if level == 2 else "1"
            cpus = int(sharing) if sharing.isdecimal() else 1
            found.append({"level": level, "type": kind, "bytes": int(size), "cpus": cpus})
    return found
