# SPDX-License-Identifier: Apache-2.0
"""The benchmark behind `qkernels bench`: qkernels beside what else is installed, on this machine.

A suite (`suites`) is a list of cases; an adapter (`peers`) makes the contenders of a library; the
runner (`runner`) times them in turns, each in a process of its own, and what comes out is one JSON
document (`results`), from which every table and picture is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["run_bench"]

QUICK_SECONDS, SECONDS = 0.25, 1.0


def run_bench(
    suites: Sequence[str] | None = None,
    *,
    isas: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    peers: str | Sequence[str] = "auto",
    shapes: Sequence[tuple[int, int, int]] | None = None,
    quick: bool = False,
    seconds: float | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Measure, and return the document (`results`).

    Args:
        suites: names of `suites.SUITES`; default gemm, gemv, dynamic, overhead.
        isas: tiers of qkernels to measure, peers capped to the same where they can be; default
            the active tier, and peers as they are.
        threads: numbers of threads; default 1 and all CPUs to be had.
        peers: "auto", all that is installed; "none"; or names of `peers.ADAPTERS`.
        shapes: (M, K, N) each, instead of those of the suites, which must be of matrix products.
        quick: fewer cases and less time for each.
        seconds: for each contender of a case; default 1, or 0.25 when quick.
        progress: called with (steps done, of how many, what comes next).

    A KeyboardInterrupt ends the run early: the document holds what was measured, and
    `settings["interrupted"]` is true. Raises QKernelsError for names and numbers that cannot be.
    """
    from .session import Session

    session = Session(
        suites=suites,
        isas=isas,
        threads=threads,
        peers=peers,
        shapes=shapes,
        quick=quick,
        seconds=seconds,
    )
    return session.run(progress or _quiet)


def _quiet(done: int, steps: int, what: str) -> None:
    pass
