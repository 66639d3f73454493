# SPDX-License-Identifier: Apache-2.0
"""Proves the installed kernels on this machine.

Every tier that the CPU has runs the same cases (`sweep`); its results must have the bits of the
scalar tier, whose sums are compared with NumPy's, and the hashes that every machine gives
(`golden`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qkernels import _core, machine
from qkernels.progress import Progress

from . import golden, sweep
from .data import Array

__all__ = ["Proof", "Report", "run"]

REFERENCE = "scalar"


@dataclass
class Proof:
    """What was found about a tier: how many results were compared, and which of them differ."""

    tier: str
    results: int = 0
    hashes: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def proven(self) -> bool:
        """Compared, and without a difference."""
        return self.results > 0 and self.hashes > 0 and not self.differences


@dataclass(frozen=True)
class Report:
    """Proofs of the tiers of this CPU, the slowest first; `absent` says what the others lack."""

    proofs: tuple[Proof, ...]
    absent: dict[str, str]
    seconds: float

    @property
    def passed(self) -> bool:
        return bool(self.proofs) and all(proof.proven for proof in self.proofs)

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": _core.__version__,
            "passed": self.passed,
            "seconds": round(self.seconds, 3),
            "tiers": [
                {
                    "name": proof.tier,
                    "proven": proof.proven,
                    "results": proof.results,
                    "hashes": proof.hashes,
                    "differences": proof.differences,
                }
                for proof in self.proofs
            ],
            "absent": self.absent,
        }


def run(*, progress: bool = False) -> Report:
    """Run every kernel of every tier that this CPU has, and compare. Takes some seconds.

    progress: show a bar on stderr. While it runs the active tier of the process changes.
    """
    start = time.perf_counter()
    tiers = machine.available_isas()
    proofs = {tier: Proof(tier) for tier in tiers}
    cases = list(sweep.cases())
    with Progress("selftest", len(cases) + len(tiers), shown=progress) as bar:
        for case in cases:
            _compare(case, proofs)
            bar.advance()
        for tier in tiers:
            _compare_hashes(proofs[tier])
            bar.advance()
    return Report(
        proofs=tuple(proofs.values()),
        absent={t["name"]: t["missing"] for t in _core.isas() if not t["available"]},
        seconds=time.perf_counter() - start,
    )


def _compare(case: sweep.Case, proofs: dict[str, Proof]) -> None:
    """One case on every tier against the reference tier, and that against NumPy where it can be."""
    with machine.use_isa(REFERENCE):
        want = _arrays(case.call())
    exact = [] if case.exact is None else [case.exact()]
    for tier, proof in proofs.items():
        got = want
        if tier != REFERENCE:
            with machine.use_isa(tier):
                got = _arrays(case.call())
        proof.results += len(got)
        against = [(REFERENCE, want)] if tier != REFERENCE else [("NumPy", exact)] if exact else []
        for name, arrays in against:
            proof.differences += (
                f"{case.name}: {text}" for text in _differences(got, arrays, name)
            )


def _arrays(result: Any) -> list[Array]:
    parts = result if isinstance(result, tuple) else (result,)
    return [np.asarray(part) for part in parts]


def _differences(got: list[Array], want: list[Array], reference: str) -> Iterator[str]:
    """A sentence for each array that has other bits; -0 differs from 0."""
    if len(got) != len(want):
        yield f"{len(got)} arrays instead of {len(want)}"
        return
    for one, other in zip(got, want, strict=True):
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            yield f"{one.dtype} {one.shape} instead of {other.dtype} {other.shape}"
        elif one.tobytes() != other.tobytes():
            differ = np.frombuffer(one.tobytes(), np.uint8) != np.frombuffer(
                other.tobytes(), np.uint8
            )
            at = np.flatnonzero(differ.reshape(one.size, -1).any(1))
            first = int(at[0])
            index = tuple(map(int, np.unravel_index(first, one.shape)))
            yield (
                f"{at.size} of {one.size} values differ from {reference}, the first at {index}: "
                f"{one.flat[first]!s} instead of {other.flat[first]!s}"
            )


def _compare_hashes(proof: Proof) -> None:
    expected = golden.expected()
    with machine.use_isa(proof.tier):
        found = golden.hashes()
    proof.hashes = len(found)
    for name in expected.keys() | found.keys():
        if found.get(name) != expected.get(name):
            proof.differences.append(
                f"golden case {name!r} has hash {str(found.get(name))[:16]}..., every machine must "
                f"find {str(expected.get(name))[:16]}..."
            )
