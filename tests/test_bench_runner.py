# SPDX-License-Identifier: Apache-2.0
"""The runner with real processes: our own adapter on a small case, and peers that misbehave."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import qkernels as qk
from qkernels.bench import process
from qkernels.bench.process import Worker, WorkerFailed
from qkernels.bench.runner import Outcome, Plan, run
from qkernels.bench.suites import gemm, gemm_s32

OURS = "qkernels.bench.peers.qkernels_"
SMALL, DEEP = gemm.case(3, 64, 20), gemm.case(5, 96, 16)
Progress = Callable[..., None]


def quiet(*_: object) -> None:
    pass


def measure(
    *fakes: str,
    cases=(SMALL,),
    ours: str = OURS,
    progress: Progress = quiet,
    **others: object,
) -> Outcome:
    plan = {
        "cases": cases,
        "adapters": [ours, *(f"bench_fakes.{fake}" for fake in fakes)],
        "threads": [1],
        "isas": [qk.isa()],
        "capped": False,
        "seconds": 0.02,
        "round_seconds": 5e-4,
    }
    outcome = Outcome()
    run(Plan(**(plan | others)), outcome, progress)
    return outcome


def test_rows_of_a_run():
    seen = []
    outcome = measure("slow", cases=[SMALL, DEEP], progress=lambda *at: seen.append(at))
    assert seen == [(SMALL, 1, qk.isa()), (DEEP, 1, qk.isa())]
    assert outcome.versions == {"qkernels": qk.__version__, "Slow": "1.0"}
    assert (outcome.absent, outcome.interrupted) == ({}, False)
    assert [(row["case"], row["contender"]) for row in outcome.rows] == [
        (case.name, name) for case in (SMALL, DEEP) for name in ("qkernels", "Slow", "Half as slow")
    ]
    for ours, slow, half in (outcome.rows[:3], outcome.rows[3:]):
        assert [row["status"] for row in (ours, slow, half)] == ["ok"] * 3
        assert (ours["isa"], slow["isa"], ours["ratio"]) == (qk.isa(), None, None)
        assert slow["seconds"] == pytest.approx(1e-3, rel=0.5)
        rounds = [b / a for a, b in zip(ours["samples"], slow["samples"], strict=True)]
        assert len(rounds) >= 5
        assert slow["ratio"]["low"] >= min(rounds)
        assert slow["ratio"]["high"] <= max(rounds)
        assert slow["ratio"]["low"] <= sorted(rounds)[len(rounds) // 2] <= slow["ratio"]["high"]
        assert slow["ratio"]["median"] > half["ratio"]["median"] > 1
        assert ours["gmacs"] == pytest.approx(ours["macs"] / ours["seconds"] / 1e9)
        assert ours["gbs"] == pytest.approx(ours["bytes"] / ours["seconds"] / 1e9)


def test_a_wrong_peer_is_timed_and_marked():
    (_, wrong) = measure("wrong").rows
    assert wrong["status"] == "wrong"
    assert "of the outputs differ, by up to" in wrong["note"]
    assert wrong["seconds"] > 0
    assert wrong["ratio"]["median"] > 0


def test_what_a_peer_cannot_do_is_no_failure():
    ours, fake = measure("slow", cases=[gemm_s32.case(2, 8, 8)]).rows[:2]
    assert (ours["status"], fake["status"], fake["note"]) == ("ok", "unsupported", "linear alone")
    assert (fake["samples"], fake["seconds"], fake["ratio"]) == ([], None, None)


def test_a_crash_costs_its_row_alone():
    rows = measure("crashing", "slow", cases=[DEEP, SMALL], seconds=0.2).rows
    by_name = {(row["case"], row["contender"]): row for row in rows}
    crashed = by_name[DEEP.name, "Crashing"]
    assert (crashed["status"], crashed["samples"]) == ("failed", [])
    assert crashed["note"].startswith("killed: ")
    assert crashed["note"].endswith("fatal: out of luck")
    again = by_name.pop((SMALL.name, "Crashing"))
    assert again["status"] == "ok"
    del by_name[DEEP.name, "Crashing"]
    assert all(row["status"] == "ok" for row in by_name.values())


def test_a_hang_costs_its_row_alone():
    start = time.perf_counter()
    ours, hung = measure("hanging", timeout=1.0).rows
    assert time.perf_counter() - start < 30
    assert (ours["status"], hung["status"]) == ("ok", "failed")
    assert hung["note"].startswith("no answer within 1 s")
    assert hung["samples"] == []


def test_an_exception_costs_its_row_alone_and_printing_nothing():
    _, failed, _, fine = measure("raising", cases=[SMALL, DEEP]).rows
    assert (failed["status"], failed["note"]) == ("failed", "RuntimeError: K is too small")
    assert fine["status"] == "ok"


def test_libraries_that_are_not_there():
    outcome = measure("absent", "dying", threads=[1, 2])
    assert [(row["contender"], row["threads"]) for row in outcome.rows] == [
        ("qkernels", 1),
        ("qkernels", 2),
    ]
    assert outcome.absent == {
        "Absent": "Absent is not installed.",
        "Dying": "Dying cannot be loaded: ended with code 3",
    }


def test_tiers_are_capped_and_who_cannot_be_stands_beside_the_fastest():
    tiers = ["scalar", qk.isa()] if qk.isa() != "scalar" else ["scalar"]
    rows = measure("slow", "crashing", isas=tiers, capped=True).rows
    found = [(row["contender"], row["isa"]) for row in rows if row["contender"] != "Half as slow"]
    expected = [(name, tier) for tier in tiers for name in ("qkernels", "Slow")]
    assert found == [*expected, ("Crashing", None)]


def test_interrupted_between_cases():
    def stop(case, threads, isa):
        if case is DEEP:
            raise KeyboardInterrupt

    outcome = measure(cases=[SMALL, DEEP], progress=stop)
    assert outcome.interrupted
    assert [row["case"] for row in outcome.rows] == [SMALL.name]


@pytest.mark.parametrize("turns", [2, 17])
def test_interrupted_while_timing(monkeypatch, turns):
    """Complete rounds are kept if there are enough of them, and otherwise the case is not."""
    receive, left = Worker.receive, [turns]

    def interrupted(self, timeout):
        reply = receive(self, timeout)
        left[0] -= reply.keys() == {"seconds"}
        if left[0] == 0:
            raise KeyboardInterrupt
        return reply

    monkeypatch.setattr(Worker, "receive", interrupted)
    outcome = measure("wrong", seconds=30.0)
    assert outcome.interrupted
    assert [len(row["samples"]) for row in outcome.rows] == ([] if turns == 2 else [8, 8])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_is_stopped_while_it_is_not_asked():
    def state() -> str:
        return Path(f"/proc/{worker._process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    worker = Worker("bench_fakes.slow", {})
    try:
        worker.ask(60, do="discover")
        assert state() == "T"
        worker.send(do="unload")
        assert state() != "T"
        assert worker.receive(60) == {}
        assert state() == "T"
        with pytest.raises(WorkerFailed, match="KeyError"):
            worker.ask(60, do="time", contender="Slow", calls=1)
        assert state() == "T"
    finally:
        worker.end()
    worker.end()  # again is fine


def test_nothing_is_stopped_where_that_cannot_be(monkeypatch):
    monkeypatch.setattr(process, "CAN_STOP", False)
    assert [row["status"] for row in measure("slow").rows] == ["ok"] * 3


def test_no_worker_and_no_file_stays_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    started = []
    make = Worker.__init__

    def remember(self, *arguments):
        make(self, *arguments)
        started.append(self._process)

    monkeypatch.setattr(Worker, "__init__", remember)
    measure("slow", "absent", "dying")
    assert len(started) == 4
    assert all(each.returncode is not None for each in started)
    assert list(tmp_path.iterdir()) == []
