# SPDX-License-Identifier: Apache-2.0
"""One run from its settings to its document: limits, cases, conditions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from qkernels import _core, checks, machine
from qkernels.errors import QKernelsValueError

from . import QUICK_SECONDS, SECONDS, conditions, limits, results, roofline, runner, stats
from .case import Case
from .peers import ADAPTERS
from .process import CAN_STOP
from .results import OURS, Document
from .suites import DEFAULT, cases
from .view import count

Progress = Callable[[int, int, str], None]


class Session:
    """The checked settings of a run; arguments are those of `run_bench`."""

    def __init__(
        self,
        *,
        suites: Sequence[str] | None,
        isas: Sequence[str] | None,
        threads: Sequence[int] | None,
        peers: str | Sequence[str],
        shapes: Sequence[tuple[int, int, int]] | None,
        quick: bool,
        seconds: float | None,
    ) -> None:
        self._suites = list(DEFAULT if suites is None else suites)
        self._quick, self._shapes = quick, shapes
        adapters = _adapters(peers)
        if seconds is None:
            seconds = QUICK_SECONDS if quick else SECONDS
        if not (math.isfinite(seconds) and seconds > 0):
            raise QKernelsValueError(f"seconds must be positive and finite, not {seconds}")
        self._plan = runner.Plan(
            cases=cases(self._suites, quick=quick, shapes=_shapes(shapes)),
            adapters=[ADAPTERS[name] for name in adapters],
            threads=_threads(threads),
            isas=[machine.isa()] if isas is None else _isas(isas),
            capped=isas is not None,
            seconds=seconds,
        )
        self._settings = {
            "suites": self._suites,
            "isas": list(self._plan.isas),
            "capped": self._plan.capped,
            "threads": list(self._plan.threads),
            "peers": peers if isinstance(peers, str) else list(peers),
            "shapes": None if shapes is None else [list(shape) for shape in shapes],
            "quick": quick,
            "seconds": seconds,
            "peers_stopped": CAN_STOP,
        }

    def run(self, progress: Progress) -> Document:
        """Measure the limits, then the cases. A KeyboardInterrupt ends it early."""
        plan, outcome = self._plan, runner.Outcome()
        measured: dict[str, Any] = {}
        done, steps = 0, plan.steps + len(plan.threads)

        def next_step(what: str) -> None:
            nonlocal done
            progress(done, steps, what)
            done += 1

        with conditions.Monitor() as monitor:
            try:
                for threads in plan.threads:
                    next_step(f"limits of this machine, {count(threads, 'thread')}")
                    measured[str(threads)] = limits.measure(threads, self._quick)
            except KeyboardInterrupt:
                outcome.interrupted = True
            if not outcome.interrupted:

                def next_case(case: Case, threads: int, isa: str) -> None:
                    monitor.sample()
                    next_step(f"{case.suite} {case.name}, {count(threads, 'thread')}, {isa}")

                runner.run(plan, outcome, next_case)
        return self._document(outcome, measured, monitor.report())

    def _document(
        self, outcome: runner.Outcome, measured: dict[str, Any], seen: dict[str, Any]
    ) -> Document:
        for row in outcome.rows:
            limit = measured.get(str(row["threads"]))
            if limit is not None:
                row["limit"], row["bound"] = roofline.judge(row, limit)
                if row["limit"] and row["seconds"]:
                    row["share"] = row["limit"] / row["seconds"]
        noise = stats.noise([row["samples"] for row in outcome.rows if row["library"] == OURS])
        warnings = list(seen.pop("warnings"))
        if noise["noisy"]:
            warnings.append(
                f"too noisy to conclude: the quartiles of qkernels' times lie "
                f"{100 * noise['spread']:.0f} % apart, at most {100 * stats.NOISY_SPREAD:.0f} % on "
                "a quiet machine"
            )
        if outcome.interrupted:
            warnings.append("interrupted: not all cases were measured")
        if self._plan.capped:
            free = {row["contender"] for row in outcome.rows if row["isa"] is None}
            warnings += [f"{name} could not be capped to a tier" for name in sorted(free)]
        if not CAN_STOP:
            warnings.append("idle contenders could not be stopped on this system")
        return {
            "format": results.FORMAT,
            "version": results.VERSION,
            "created": results.now(),
            "machine": conditions.machine(),
            "versions": outcome.versions,
            "settings": {**self._settings, "interrupted": outcome.interrupted},
            "limits": measured,
            "conditions": {**seen, **noise, "warnings": warnings},
            "absent": outcome.absent,
            "rows": outcome.rows,
        }


def _adapters(peers: str | Sequence[str]) -> list[str]:
    """Names of adapters, qkernels' own first."""
    others = [name for name in ADAPTERS if name != OURS]
    if peers == "auto":
        return [OURS, *others]
    if peers == "none":
        return [OURS]
    names = [peers] if isinstance(peers, str) else list(peers)
    for name in names:
        if name not in others:
            raise QKernelsValueError(
                f"peers must be 'auto', 'none' or among {', '.join(others)}, not {name!r}"
            )
    return [OURS, *dict.fromkeys(names)]


def _threads(threads: Sequence[int] | None) -> list[int]:
    if threads is None:
        return sorted({1, _core.cpu_count()})
    if not threads:
        raise QKernelsValueError("threads must not be empty")
    return list(dict.fromkeys(checks.integer(n, "threads", 1) for n in threads))


def _isas(isas: Sequence[str]) -> list[str]:
    """The tiers asked for, the fastest last."""
    available = machine.available_isas()
    for name in isas:
        if name not in available:
            checks.choice(name, machine.ISA_NAMES, "isa")
            raise QKernelsValueError(
                f"isa {name!r} cannot run here; available: {', '.join(available)}"
            )
    if not isas:
        raise QKernelsValueError("isas must not be empty")
    return [name for name in available if name in isas]


def _shapes(shapes: Sequence[tuple[int, int, int]] | None) -> list[tuple[int, int, int]] | None:
    if shapes is None:
        return None
    checked = []
    for shape in shapes:
        if len(shape) != 3:
            raise QKernelsValueError(f"shapes must be (M, K, N) each, not {shape!r}")
        m, k, n = (checks.integer(size, "shapes", 1) for size in shape)
        checked.append((m, k, n))
    if not checked or len(set(checked)) != len(checked):
        raise QKernelsValueError("shapes must be at least one, each once")
    return checked
