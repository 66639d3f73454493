# SPDX-License-Identifier: Apache-2.0
"""Passes over a matrix, at sizes of which one sits in each level of memory of common CPUs."""

from __future__ import annotations

from qkernels.bench.case import Case

ABOUT = "quantize, dequantize, requantize, dynamic_quantize"
OPS = ("quantize", "dequantize", "requantize", "dynamic_quantize")
# Five bytes an element go in and out: 20 KiB, 320 KiB, 5 MiB, 80 MiB.
SIZES = ((4, 1024), (64, 1024), (1024, 1024), (4096, 4096))


def cases(quick: bool) -> list[Case]:
    return [
        Case("elementwise", f"{op} {rows}x{columns}", op, {"rows": rows, "columns": columns})
        for op in OPS
        for rows, columns in (SIZES[:3] if quick else SIZES)
    ]
