# SPDX-License-Identifier: Apache-2.0
"""Linear layers on float32 activations that are quantized on the fly; float32 out."""

from __future__ import annotations

from qkernels.bench.case import Case

from .shapes import LARGE, LARGE_QUICK, matrix_case

ABOUT = "linear layers on float32, quantized on the fly"


def case(m: int, k: int, n: int) -> Case:
    return matrix_case("dynamic", "dynamic", (m, k, n))


def cases(quick: bool) -> list[Case]:
    return [case(*shape) for shape in (LARGE_QUICK if quick else LARGE)]
