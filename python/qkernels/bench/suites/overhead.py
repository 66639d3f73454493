# SPDX-License-Identifier: Apache-2.0
"""What a call costs beside its work: one row through 64 x 64 weights.

qkernels has two ways in: the function `linear_int8`, and a call bound ahead by `packed.bind`.
"""

from __future__ import annotations

from qkernels.bench.case import Case

ABOUT = "the cost of a call, on work that is next to nothing"


def case(m: int, k: int, n: int, call: str = "bound") -> Case:
    return Case("overhead", f"{call} {m}x{k}x{n}", "linear", {"m": m, "k": k, "n": n, "call": call})


def cases(quick: bool) -> list[Case]:
    return [case(1, 64, 64, call) for call in ("function", "bound")]
