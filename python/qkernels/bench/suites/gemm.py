# SPDX-License-Identifier: Apache-2.0
"""Linear layers: uint8 activations, int8 weights, bias, relu, uint8 out."""

from __future__ import annotations

from qkernels.bench.case import Case

from .shapes import LARGE, LARGE_QUICK, matrix_case

ABOUT = "linear layers, int8 in and out"


def case(m: int, k: int, n: int) -> Case:
    return matrix_case("gemm", "linear", (m, k, n))


def cases(quick: bool) -> list[Case]:
    return [case(*shape) for shape in (LARGE_QUICK if quick else LARGE)]
