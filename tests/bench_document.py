# SPDX-License-Identifier: Apache-2.0
"""A bench document as the runner writes it, made from a model of a machine instead of a run."""

from __future__ import annotations

import zlib
from typing import Any

LIMITS: dict[str, Any] = {
    "1": {
        "dots": {"scalar": 5.1, "avx2": 77.0, "avx512vnni": 231.0},
        "float32": 58.0,
        "read": {"L1": 212.0, "L2": 118.0, "L3": 41.0, "DRAM": 17.5},
        "overhead": 0.5e-6,
    },
    "4": {
        "dots": {"scalar": 20.0, "avx2": 290.0, "avx512vnni": 880.0},
        "float32": 221.0,
        "read": {"L1": 810.0, "L2": 440.0, "L3": 120.0, "DRAM": 32.0},
        "overhead": 0.5e-6,
    },
}
SHAPES = {
    "gemm": ["37x131x59", "64x512x512", "128x768x3072", "128x384x1536", "197x192x768",
             "256x1024x1024", "512x4096x1024", "1024x1024x1024", "2048x2048x2048"],
    "gemv": ["1x768x768", "1x4096x4096", "1x1024x4096", "8x768x3072", "16x4096x4096"],
    "dynamic": ["64x512x512", "197x192x768", "1024x1024x1024"],
    "overhead": ["1x64x64"],
}  # fmt: skip
# Contender: library, dtype, share of the limit it reaches, seconds a call of its own.
PEERS: dict[str, tuple[str, str, float, float]] = {
    "oneDNN": ("onednn", "int8", 0.70, 1.1e-6),
    "OpenVINO": ("openvino", "int8", 0.61, 9e-6),
    "ONNX Runtime": ("onnxruntime", "int8", 0.52, 6e-6),
    "LiteRT": ("litert", "int8", 0.55, 1.5e-6),
    "torch": ("torch", "int8", 0.58, 14e-6),
    "NumPy float32": ("numpy", "float32", 0.19, 0.7e-6),
}
LEVEL_BYTES = (("L1", 32 << 10), ("L2", 1 << 20), ("L3", 16 << 20))


def jitter(*key: object) -> float:
    """-1 to 1, the same for the same key on every machine."""
    return zlib.crc32(repr(key).encode()) / 2**31 - 1


def row(
    suite: str,
    case: str,
    contender: str,
    threads: int = 1,
    isa: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """One row of a contender; `changes` replace what the model says."""
    library, dtype, reach, overhead = PEERS.get(contender, ("qkernels", "int8", 0.84, 0.6e-6))
    tier = isa or "avx512vnni"
    limits = LIMITS[str(threads)]
    if suite == "elementwise":
        size = int(case.split()[1])
        macs, data = 0.0, 5 * size
        op = case.split(maxsplit=1)[0]
        params: dict[str, Any] = {"size": size}
    else:
        m, k, n = map(int, case.split("x"))
        macs, data = float(m * k * n), m * k + k * n + m * n * (4 if suite == "dynamic" else 1)
        op, params = "linear", {"m": m, "k": k, "n": n}
    level = next((name for name, size in LEVEL_BYTES if data <= size), "DRAM")
    compute = macs / (limits["dots"][tier] * 1e9)
    memory = data / (limits["read"][level] * 1e9)
    limit = max(compute, memory)
    bound = "compute" if compute > memory else level
    if suite == "overhead":
        limit, bound = limits["overhead"], "overhead"
    seconds = limit / (reach * (1 + 0.12 * jitter(suite, case, contender, threads))) + overhead
    found = {
        "suite": suite,
        "case": case,
        "op": op,
        "params": params,
        "threads": threads,
        "contender": contender,
        "library": library,
        "isa": isa,
        "dtype": dtype,
        "status": "ok",
        "note": "",
        "macs": macs,
        "bytes": data,
        "samples": [seconds * (1 + 0.01 * jitter(i, contender, case)) for i in range(9)],
        "seconds": seconds,
        "quartiles": [seconds * 0.995, seconds * 1.006],
        "gmacs": macs / seconds / 1e9 or None,
        "gbs": data / seconds / 1e9,
        "limit": limit,
        "share": limit / seconds,
        "bound": bound,
        "ratio": None,
    }
    return found | changes


def untimed(found: dict[str, Any], status: str, note: str) -> dict[str, Any]:
    """The row of a contender that gave no time."""
    nothing = dict.fromkeys(("seconds", "gmacs", "gbs", "limit", "share", "bound", "ratio"))
    return found | nothing | {"status": status, "note": note, "samples": [], "quartiles": None}


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ratios of one case filled in; the first row is ours."""
    ours = rows[0]["seconds"]
    for peer in rows[1:]:
        if peer["seconds"]:
            ratio = peer["seconds"] / ours
            width = 0.02 + 0.02 * abs(jitter(peer["contender"], peer["case"]))
            peer["ratio"] = {
                "median": ratio,
                "low": ratio * (1 - width),
                "high": ratio * (1 + width),
            }
    return rows


def document(
    suites: tuple[str, ...] = ("gemm", "gemv", "dynamic", "overhead"),
    threads: tuple[int, ...] = (1, 4),
    isas: tuple[str, ...] = ("avx512vnni",),
    peers: tuple[str, ...] = tuple(PEERS),
    **changes: Any,
) -> dict[str, Any]:
    """A whole run: torch is wrong on gemm, LiteRT rounds elsewhere once, ONNX Runtime lacks
    dynamic, OpenVINO failed once. `changes` replace top-level entries."""
    rows = []
    for suite in suites:
        for case in SHAPES[suite]:
            for isa in isas:
                for count in threads:
                    some = [row(suite, case, "qkernels", count, isa)]
                    capped = isa if len(isas) > 1 else None
                    for peer in peers:
                        found = row(suite, case, peer, count, capped)
                        if (peer, suite) == ("torch", "gemm"):
                            note = "63 % of the outputs, up to 11 steps"
                            found |= {"status": "wrong", "note": note}
                        elif (peer, case) == ("LiteRT", "1x768x768"):
                            note = "0.2 % of the outputs, 1 step"
                            found |= {"status": "rounds elsewhere", "note": note}
                        elif (peer, suite) == ("ONNX Runtime", "dynamic"):
                            found = untimed(found, "unsupported", "no float32 output")
                        elif (peer, case) == ("OpenVINO", "2048x2048x2048"):
                            found = untimed(found, "failed", "no answer within 60 s")
                        some.append(found)
                    rows += with_ratios(some)
    whole = {
        "format": "qkernels-bench",
        "version": 1,
        "created": "2026-11-21T13:40:07+00:00",
        "machine": {
            "cpu": "AMD EPYC 9R14",
            "arch": "x86_64",
            "system": "Linux 6.1",
            "python": "3.11.2",
            "cpus": 4,
            "isas": ["scalar", "avx2", "avx512vnni"],
            "caches": {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20},
        },
        "versions": {"qkernels": "0.1.0", "numpy": "2.4.6", "onednn": "3.8.0", "torch": "2.13.0"},
        "settings": {"seconds": 0.7, "quick": False},
        "limits": {str(count): LIMITS[str(count)] for count in threads},
        "conditions": {
            "clock_mhz": {"start": 3690.0, "end": 3688.0, "min": 3571.0},
            "temperature_c": None,
            "throttled": False,
            "speed": {"start": 1.0, "end": 0.998, "min": 0.97},
            "load": {"average": 0.2, "cpus": 4, "system_cpus": 4},
            "spread": 0.013,
            "noisy": False,
            "warnings": [],
        },
        "absent": {"ncnn": "ncnn is not installed: pip install ncnn"},
        "rows": rows,
    }
    return whole | changes
