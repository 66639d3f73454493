# SPDX-License-Identifier: Apache-2.0
"""The products of gemm without an epilogue: raw int32 sums out."""

from __future__ import annotations

from qkernels.bench.case import Case

from .shapes import LARGE, LARGE_QUICK, matrix_case

ABOUT = "matrix products, int32 sums out"


def case(m: int, k: int, n: int) -> Case:
    return matrix_case("gemm_s32", "linear_s32", (m, k, n))


def cases(quick: bool) -> list[Case]:
    return [case(*shape) for shape in (LARGE_QUICK if quick else LARGE)]
