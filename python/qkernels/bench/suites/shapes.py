# SPDX-License-Identifier: Apache-2.0
"""The matrix products that several suites measure, M x K x N."""

from __future__ import annotations

from qkernels.bench.case import Case

Shape = tuple[int, int, int]

# Layers of networks, cubes, and sizes that are multiples of nothing.
LARGE: tuple[Shape, ...] = (
    (64, 512, 512),
    (128, 768, 3072),
    (128, 384, 1536),
    (197, 192, 768),
    (256, 1024, 1024),
    (512, 4096, 1024),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (4096, 4096, 4096),
    (37, 131, 59),
    (127, 513, 257),
    (1000, 999, 1001),
)
LARGE_QUICK: tuple[Shape, ...] = ((64, 512, 512), (128, 768, 3072), (256, 1024, 1024))


def matrix_case(suite: str, op: str, shape: Shape) -> Case:
    m, k, n = shape
    return Case(suite, f"{m}x{k}x{n}", op, {"m": m, "k": k, "n": n})
