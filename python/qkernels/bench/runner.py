# SPDX-License-Identifier: Apache-2.0
"""Times the contenders of each case in turns, each library in a process of its own.

Of all workers one runs, the others are stopped: threads that spin while they wait take no CPU from
it. A round lets every contender run once, for some milliseconds, and the next round starts with
another one; ratios are of times of the same round. An answer is judged before it is timed. A
worker that crashes or hangs costs its row, not the run.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from . import stats
from .case import Case
from .contender import Adapter
from .problem import make_data
from .process import Worker, WorkerFailed, WorkerLost
from .results import OURS, TIMED, Row

ROUND_SECONDS = 3e-3  # a contender runs at least this long in a round
MIN_ROUNDS = 5
_MAX_ROUNDS = 500
_LOAD_TIMEOUT = 300.0  # a peer may have to compile something
_RESTARTS = 3


@dataclass(frozen=True)
class Plan:
    """What to run: every case at every number of threads on every tier.

    Attributes:
        adapters: modules (`contender.Adapter`), qkernels' own first.
        isas: tiers of qkernels, to which peers are capped as well; the fastest last. With
            `capped` False there is one, the active tier, and peers are left as they are.
        seconds: for each contender of a case. round_seconds: of a turn.
        timeout: seconds that a turn may take beyond what was to be expected.
    """

    cases: Sequence[Case]
    adapters: Sequence[str]
    threads: Sequence[int]
    isas: Sequence[str]
    capped: bool
    seconds: float = 1.0
    round_seconds: float = ROUND_SECONDS
    timeout: float = 60.0

    @property
    def steps(self) -> int:
        return len(self.cases) * len(self.threads) * len(self.isas)


@dataclass
class Outcome:
    """What a run found so far; it grows while the run goes on."""

    rows: list[Row] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


Progress = Callable[[Case, int, str], None]


def run(plan: Plan, outcome: Outcome, progress: Progress) -> None:
    """Run the plan into `outcome`. `progress` is called with the case, threads and tier before
    each step. A KeyboardInterrupt ends the run; what was measured stays, and so does what has
    enough rounds of the case at hand."""
    try:
        for threads in plan.threads:
            for isa in plan.isas:
                with _Group(plan, threads, isa, outcome) as group:
                    for case in plan.cases:
                        progress(case, threads, isa)
                        outcome.rows += group.measure(case)
                        if outcome.interrupted:
                            return
    except KeyboardInterrupt:
        outcome.interrupted = True


@dataclass
class _Entrant:
    """A contender in the group, and what is known of it on the present case."""

    host: _Host
    name: str
    dtype: str
    status: str = ""
    note: str = ""
    calls: int = 1
    once: float = 0.0
    samples: list[float] = field(default_factory=list)

    @property
    def timed(self) -> bool:
        return self.status in TIMED


class _Host:
    """An adapter's worker, started again when it is lost."""

    def __init__(self, module: str, isa: str | None, environment: dict[str, str]) -> None:
        self.module, self.isa = module, isa
        self.library = _adapter(module).LIBRARY
        self._environment = environment
        self._worker: Worker | None = None
        self._lost = 0

    def start(self) -> Worker:
        """The worker, told to discover its contenders; the reply is the next to be received."""
        self._worker = Worker(self.module, self._environment)
        self._worker.send(do="discover")
        return self._worker

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """Raises WorkerLost or WorkerFailed."""
        if self._worker is None:
            if self._lost > _RESTARTS:
                raise WorkerLost(f"given up after its process was lost {self._lost} times")
            self.start().receive(_LOAD_TIMEOUT)
        assert self._worker is not None
        try:
            return self._worker.ask(timeout, **request)
        except WorkerLost:
            self._worker = None
            self._lost += 1
            raise

    def unload(self) -> None:
        if self._worker is not None:
            with suppress(WorkerLost, WorkerFailed):  # the next case finds out
                self.ask(_LOAD_TIMEOUT, do="unload")

    def end(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None


def _adapter(module: str) -> Adapter:
    return cast("Adapter", importlib.import_module(module))


class _Group:
    """The contenders at one number of threads on one tier; a context manager that ends them."""

    def __init__(self, plan: Plan, threads: int, isa: str, outcome: Outcome) -> None:
        self._plan, self._threads, self._outcome = plan, threads, outcome
        self._isa = isa
        self._exit = ExitStack()
        self._hosts: list[_Host] = []
        self._contenders: list[tuple[_Host, dict[str, str]]] = []

    def __enter__(self) -> _Group:
        with self._exit as stack:
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="qkernels-bench-")))
            # All start at once and import their libraries side by side.
            started = []
            for host in self._make_hosts():
                stack.callback(host.end)
                started.append((host, host.start()))
            for host, worker in started:
                self._discover(host, worker)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _make_hosts(self) -> Iterator[_Host]:
        for module in self._plan.adapters:
            adapter = _adapter(module)
            ours = adapter.LIBRARY == OURS
            if adapter.LIBRARY in self._outcome.absent:
                continue
            isa = self._isa if self._plan.capped or ours else None
            environment = adapter.environment(isa, self._threads)
            if environment is None:
                # It cannot be capped: it stands beside our fastest tier alone, as it is.
                if self._isa != self._plan.isas[-1]:
                    continue
                isa, environment = None, adapter.environment(None, self._threads) or {}
            yield _Host(module, isa, environment)

    def _discover(self, host: _Host, worker: Worker) -> None:
        try:
            reply = worker.receive(_LOAD_TIMEOUT)
        except (WorkerFailed, WorkerLost) as error:
            host.end()
            self._outcome.absent[host.library] = f"{host.library} cannot be loaded: {error}"
            return
        if "absent" in reply:
            host.end()
            self._outcome.absent[host.library] = reply["absent"]
            return
        self._hosts.append(host)
        for facts in reply["contenders"]:
            self._outcome.versions[host.library] = facts["version"]
            self._contenders.append((host, facts))

    def measure(self, case: Case) -> list[Row]:
        """The rows of one case. Interrupted with too few rounds: none."""
        make_data(case).save(self._folder)
        entrants = [_Entrant(host, f["name"], f["dtype"]) for host, f in self._contenders]
        try:
            for entrant in entrants:
                self._load(case, entrant)
            self._time([entrant for entrant in entrants if entrant.timed])
        except KeyboardInterrupt:
            self._outcome.interrupted = True
            rounds = min((len(e.samples) for e in entrants if e.timed), default=0)
            if rounds < MIN_ROUNDS:
                return []
            for entrant in entrants:
                del entrant.samples[rounds:]
        else:
            for host in self._hosts:
                host.unload()
        return self._rows(case, entrants)

    def _load(self, case: Case, entrant: _Entrant) -> None:
        """Prepare, judge, and find how many calls make a turn."""
        with _Losses(entrant):
            reply = entrant.host.ask(
                _LOAD_TIMEOUT,
                do="load",
                contender=entrant.name,
                case=case.to_json(),
                folder=str(self._folder),
                threads=self._threads,
            )
            entrant.status, entrant.note = reply["status"], reply["note"]
            if entrant.timed:
                reply = entrant.host.ask(
                    self._plan.timeout,
                    do="calibrate",
                    contender=entrant.name,
                    seconds=self._plan.round_seconds,
                )
                entrant.calls, entrant.once = reply["calls"], reply["seconds"]

    def _time(self, entrants: list[_Entrant]) -> None:
        """Rounds until the time is used up. Who is lost drops out."""
        deadline = time.perf_counter() + self._plan.seconds * len(entrants)
        for done in range(_MAX_ROUNDS):
            if done >= MIN_ROUNDS and time.perf_counter() > deadline:
                break
            for turn in range(len(entrants)):
                entrant = entrants[(done + turn) % len(entrants)]
                if entrant.timed:
                    self._turn(entrant)

    def _turn(self, entrant: _Entrant) -> None:
        expected = 2 * entrant.calls * entrant.once
        with _Losses(entrant):
            reply = entrant.host.ask(
                self._plan.timeout + 20 * expected,
                do="time",
                contender=entrant.name,
                calls=entrant.calls,
            )
            entrant.samples.append(float(f"{reply['seconds']:.5g}"))  # what a clock can tell

    def _rows(self, case: Case, entrants: list[_Entrant]) -> list[Row]:
        ours = next((e for e in entrants if e.host.library == OURS and e.timed), None)
        return [self._row(case, entrant, ours) for entrant in entrants]

    def _row(self, case: Case, entrant: _Entrant, ours: _Entrant | None) -> Row:
        samples = entrant.samples if entrant.timed else []
        seconds = float(np.median(samples)) if samples else None
        ratio = None
        if ours is not None and samples and entrant.host.library != OURS:
            ratio = stats.ratio_interval(samples, ours.samples).to_json()
        return {
            "suite": case.suite,
            "case": case.name,
            "op": case.op,
            "params": dict(case.params),
            "threads": self._threads,
            "contender": entrant.name,
            "library": entrant.host.library,
            "isa": entrant.host.isa,
            "dtype": entrant.dtype,
            "status": entrant.status,
            "note": entrant.note,
            "macs": case.macs,
            "bytes": case.bytes,
            "samples": samples,
            "seconds": seconds,
            "quartiles": list(stats.quartiles(samples)) if samples else None,
            "gmacs": case.macs / seconds / 1e9 if seconds and case.macs else None,
            "gbs": case.bytes / seconds / 1e9 if seconds else None,
            "limit": None,
            "share": None,
            "bound": None,
            "ratio": ratio,
        }


class _Losses:
    """Turns a lost or failed worker into the status of its entrant."""

    def __init__(self, entrant: _Entrant) -> None:
        self._entrant = entrant

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: object) -> bool:
        if not isinstance(error, WorkerLost | WorkerFailed):
            return False
        self._entrant.status, self._entrant.note = "failed", str(error)
        return True
