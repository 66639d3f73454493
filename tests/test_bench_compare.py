# SPDX-License-Identifier: Apache-2.0
"""Comparing two documents: what counts as a change, and a real run with a slowed kernel."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest

import qkernels as qk
from bench_document import document
from qkernels.bench import results
from qkernels.bench.compare import compare, render
from qkernels.bench.runner import Outcome, Plan, run
from qkernels.bench.suites import gemm

Document = dict[str, Any]


def slower(base: Document, factor: float, case: str = "", *, everybody: bool = False) -> Document:
    """The document of a run in which qkernels (or every contender) took `factor` of the time."""
    changed = copy.deepcopy(base)
    for row in changed["rows"]:
        if case not in row["case"] or not row["samples"]:
            continue
        if everybody or row["library"] == "qkernels":
            row["samples"] = [factor * sample for sample in row["samples"]]
            row["seconds"] *= factor
            row["quartiles"] = [factor * value for value in row["quartiles"]]
        elif row["ratio"]:
            row["ratio"] = {name: value / factor for name, value in row["ratio"].items()}
    results.check(changed)
    return changed


@pytest.fixture(name="base")
def base_document() -> Document:
    return document(threads=(1,))


def verdicts(before: Document, after: Document, **others: Any) -> dict[str, str]:
    changes = compare(before, after, **others).changes
    return {change.after["case"]: change.verdict for change in changes}


def test_equal_runs_are_the_same(base):
    comparison = compare(base, base)
    assert {change.verdict for change in comparison.changes} == {"same"}
    assert all(change.time.median == 1 for change in comparison.changes)
    assert comparison.regressions == []
    assert "no case is slower by more than 10 %" in render(comparison)
    assert "geometric mean of 18: 1.000" in render(comparison)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.3, "slower"), (1.03, "same"), (0.97, "same"), (0.7, "faster"), (1.1, "unclear")],
)
def test_the_changed_case_is_found(base, factor, verdict):
    found = verdicts(base, slower(base, factor, "64x512x512"))
    assert found.pop("64x512x512") == verdict
    assert set(found.values()) == {"same"}


def test_the_threshold_decides(base):
    after = slower(base, 1.3)
    assert set(verdicts(base, after, threshold=0.1).values()) == {"slower"}
    assert set(verdicts(base, after, threshold=0.5).values()) == {"same"}
    text = render(compare(base, after, threshold=0.1))
    assert "REGRESSION: 18 slower by more than 10 %" in text
    assert "geometric mean of 18: 1.300" in text


def test_a_slower_machine_is_no_slower_kernel(base):
    """Every contender took longer: ratios to the peers, taken in the same rounds, stayed."""
    comparison = compare(base, slower(base, 1.5, everybody=True))
    assert comparison.regressions == []
    assert all(change.time.low > 1.4 for change in comparison.changes)
    assert all(change.beside.median == 1 for change in comparison.changes)
    assert all(change.reference for change in comparison.changes)


def test_another_version_of_a_peer_is_no_reference(base):
    after = slower(base, 1.5, everybody=True)
    for library in {row["library"] for row in after["rows"]}:
        after["versions"][library] = "another"
    comparison = compare(base, after)
    assert {change.reference for change in comparison.changes} == {""}
    assert len(comparison.regressions) == len(comparison.changes)


def test_other_machines_are_compared_by_time(base):
    after = slower(base, 1.5, everybody=True)
    after["machine"]["cpu"] = "another CPU"
    comparison = compare(base, after)
    assert len(comparison.regressions) == len(comparison.changes)
    assert "different CPUs: AMD EPYC 9R14 before, another CPU after" in render(comparison)


def test_wide_intervals_are_no_regression(base):
    after = slower(base, 1.3)
    for row in after["rows"]:
        row["samples"] = [
            sample * (1 + 0.5 * (index % 3 - 1)) for index, sample in enumerate(row["samples"])
        ]
    assert set(verdicts(base, after).values()) == {"unclear"}


@pytest.mark.parametrize("status", ["wrong", "failed"])
def test_what_is_broken_is_a_regression(base, status):
    after = copy.deepcopy(base)
    ours = next(row for row in after["rows"] if row["case"] == "64x512x512")
    ours["status"] = status
    if status == "failed":
        ours.update(samples=[], seconds=None, quartiles=None)
    comparison = compare(base, after)
    assert [change.verdict for change in comparison.regressions] == ["broken"]
    assert "REGRESSION: 1 broken" in render(comparison)
    assert set(verdicts(after, base).values()) <= {"same", "unclear"}


def test_rows_without_a_fellow(base):
    after = copy.deepcopy(base)
    after["rows"] = [row for row in after["rows"] if row["case"] != "64x512x512"]
    comparison = compare(base, after)
    assert [row["case"] for row in comparison.only_before] == ["64x512x512"] * 2
    assert comparison.only_after == ()
    assert "only before: gemm 64x512x512, 1 thread, avx512vnni" in render(comparison)
    assert len(compare(after, base).only_after) == 2


def test_noise_is_said(base):
    after = copy.deepcopy(base)
    after["conditions"]["noisy"] = True
    assert "warning: the machine was too noisy to conclude from the run after" in render(
        compare(base, after)
    )


def test_one_tier_against_another(base):
    """A run has one tier: it is compared with the other's, whatever their names."""
    other = document(threads=(1,), isas=("avx2",))
    assert len(compare(base, other).changes) == 18
    several = document(threads=(1,), isas=("avx2", "avx512vnni"))
    assert len(compare(several, several).changes) == 36


def test_nothing_in_common(base):
    other = copy.deepcopy(base)
    for row in other["rows"]:
        row["suite"] = "another"
    with pytest.raises(qk.QKernelsError, match="no case in common: one has gemm 37x131x59, .* and"):
        compare(base, other)
    with pytest.raises(qk.QKernelsError, match="the other no row of qkernels"):
        compare(base, base | {"rows": []})


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan, math.inf])
def test_bad_threshold(base, threshold):
    with pytest.raises(qk.QKernelsError, match="threshold must be positive and finite"):
        compare(base, base, threshold)


def test_as_json(base):
    value = json.loads(json.dumps(compare(base, slower(base, 2.0)).to_json(), allow_nan=False))
    assert value["regressions"] == len(value["changes"]) == 18
    first = value["changes"][0]
    assert (first["suite"], first["case"], first["verdict"]) == ("gemm", "37x131x59", "slower")
    assert first["after"] == pytest.approx(2 * first["before"])
    assert first["time"]["low"] < first["time"]["median"] == pytest.approx(2)


def measured(base: Document, ours: str) -> Document:
    """A real run of a small case; machine and conditions are those of `base`."""
    outcome = Outcome()
    plan = Plan(
        cases=[gemm.case(32, 256, 256)],
        adapters=[ours, "qkernels.bench.peers.numpy_"],
        threads=[1],
        isas=[qk.isa()],
        capped=False,
        seconds=0.3,
        round_seconds=1e-3,
    )
    run(plan, outcome, lambda *_: None)
    return base | {"rows": outcome.rows, "versions": outcome.versions}


def test_a_slowed_kernel_is_caught_and_an_equal_one_is_not(base):
    ours = "qkernels.bench.peers.qkernels_"
    before, again, slowed = (measured(base, each) for each in (ours, ours, "bench_fakes.slowed"))
    threshold = 0.3
    assert compare(before, again, threshold).regressions == []
    (change,) = compare(before, slowed, threshold).regressions
    assert change.verdict == "slower"
    assert change.time.median == pytest.approx(2, rel=0.3)
    assert change.reference == "NumPy float32"
