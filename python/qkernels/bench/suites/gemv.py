# SPDX-License-Identifier: Apache-2.0
"""Linear layers with few rows, where reading the weights is most of the work."""

from __future__ import annotations

from qkernels.bench.case import Case

from .shapes import Shape, matrix_case

ABOUT = "linear layers with 1 to 16 rows, int8 in and out"
SHAPES: tuple[Shape, ...] = (
    (1, 768, 768),
    (1, 4096, 4096),
    (1, 1024, 4096),
    (8, 768, 3072),
    (16, 4096, 4096),
)
QUICK: tuple[Shape, ...] = ((1, 768, 768), (1, 4096, 4096), (8, 768, 3072))


def case(m: int, k: int, n: int) -> Case:
    return matrix_case("gemv", "linear", (m, k, n))


def cases(quick: bool) -> list[Case]:
    return [case(*shape) for shape in (QUICK if quick else SHAPES)]
