# SPDX-License-Identifier: Apache-2.0
"""`qkernels selftest` proves what is right, and catches what is not."""

from __future__ import annotations

import json
import re
from itertools import islice

import numpy as np
import pytest

import qkernels as qk
from qkernels import _core, selftest
from qkernels.cli import main
from qkernels.selftest import golden, sweep

TIERS = qk.available_isas()
FASTEST = TIERS[-1]


def test_all_tiers_are_proven_in_time():
    report = selftest.run()
    assert report.passed
    assert [proof.tier for proof in report.proofs] == TIERS
    results = {proof.results for proof in report.proofs}
    assert len(results) == 1
    assert results.pop() > 4000
    assert {proof.hashes for proof in report.proofs} == {len(golden.expected())}
    assert report.absent == {t["name"]: t["missing"] for t in _core.isas() if not t["available"]}
    assert report.seconds < 20


def test_cases_reach_every_row_count_tail_and_epilogue():
    cases = list(sweep.cases())
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    text = "\n".join(names)
    gemm = re.findall(r"^gemm (\w+) x (\w+), (\d+)x(\d+)x(\d+)$", text, re.MULTILINE)
    shapes = {tuple(map(int, found[2:])) for found in gemm}
    for kernel in _core.kernels():
        if kernel["op"] == "gemm":
            rows = {m for m, _, _ in shapes}
            assert rows >= set(range(1, 2 * kernel["mr"] + 2))
            for m in rows:
                here = {(k, n) for m_, k, n in shapes if m_ == m}
                assert {n for _, n in here} >= {kernel["nr"] - 1, kernel["nr"], kernel["nr"] + 1}
                assert {k for k, _ in here} >= {kernel["kr"] - 1, kernel["kr"], kernel["kr"] + 1}
    assert {found[:2] for found in gemm} == {
        (left, right) for left in sweep.CODES for right in sweep.CODES
    }
    for word in (
        *("rounding=nearest_even", "rounding=fixed_point,", "rounding=fixed_point_single"),
        *(f"activation={name}" for name in ("relu", "relu6", *sweep.CURVES)),
        *("bias=float32", "bias=int32", "depthwise 5x5", "dilation 2", "dynamic float16"),
        *("requantize, 3x", "dequantize, 3x", "dynamic_quantize, 3x", "on 3 threads"),
    ):
        assert word in text, word


def test_every_result_has_elements():
    for case in sweep.cases():
        result = case.call()
        parts = result if isinstance(result, tuple) else (result,)
        assert all(np.asarray(part).size > 0 for part in parts), case.name


def break_results(monkeypatch, name, tier, change):
    """From now on the public function `name` gives what `change` makes of its result on `tier`."""
    right = getattr(qk, name)

    def wrong(*arguments, **keywords):
        result = right(*arguments, **keywords)
        return change(result) if qk.isa() == tier else result

    monkeypatch.setattr(qk, name, wrong)


def one_bit_flipped(array):
    array.reshape(-1).view(np.uint8)[-1] ^= 1
    return array


@pytest.mark.skipif(len(TIERS) < 2, reason="this CPU runs the scalar tier alone")
@pytest.mark.parametrize(
    "name", ["gemm_int8", "linear_int8", "conv2d_int8", "quantize", "dequantize", "requantize"]
)
def test_a_wrong_result_of_one_tier_is_caught(monkeypatch, name):
    break_results(monkeypatch, name, FASTEST, one_bit_flipped)
    report = selftest.run()
    assert not report.passed
    assert [proof.tier for proof in report.proofs if not proof.proven] == [FASTEST]
    differences = report.proofs[-1].differences
    assert any("differ from scalar" in text for text in differences)
    assert any(text.startswith("golden case") for text in differences)


def test_a_scalar_tier_that_is_wrong_is_caught(monkeypatch):
    break_results(monkeypatch, "gemm_int8", "scalar", one_bit_flipped)
    report = selftest.run()
    scalar = report.proofs[0]
    assert (scalar.tier, scalar.proven) == ("scalar", False)
    assert any("differ from NumPy" in text for text in scalar.differences)


def test_one_bit_of_the_sign_of_zero_is_a_difference():
    zeros = np.zeros((2, 3), np.float32)
    other = zeros.copy()
    other[1, 2] = -0.0
    (text,) = selftest._differences([other], [zeros], "scalar")
    assert text == "1 of 6 values differ from scalar, the first at (1, 2): -0.0 instead of 0.0"
    assert list(selftest._differences([zeros], [zeros.copy()], "scalar")) == []
    assert list(selftest._differences([zeros], [zeros.astype(np.float64)], "scalar"))
    assert list(selftest._differences([zeros], [zeros, zeros], "scalar"))


def test_a_missing_or_unknown_golden_case_is_a_difference(monkeypatch):
    hashes = golden.expected()
    name, value = hashes.popitem()
    monkeypatch.setattr(golden, "expected", lambda: {**hashes, "another": value})
    proof = selftest.Proof("scalar", results=1)
    selftest._compare_hashes(proof)
    assert len(proof.differences) == 2
    assert any(name in text for text in proof.differences)
    assert not proof.proven


def test_nothing_compared_is_nothing_proven():
    assert not selftest.Proof("scalar").proven
    assert not selftest.Report((), {}, 0.0).passed


@pytest.fixture
def few_cases(monkeypatch):
    """Only the first cases, for tests of what is said about them."""
    every = sweep.cases
    monkeypatch.setattr(sweep, "cases", lambda: islice(every(), 40))


@pytest.mark.usefixtures("few_cases")
def test_command(capsys):
    assert main(["selftest"]) == 0
    out = capsys.readouterr().out
    for tier in _core.isas():
        line = next(x for x in out.splitlines() if x.startswith(f"  {tier['name']} "))
        assert ("proven" in line) == tier["available"]
        if not tier["available"]:
            assert f"this CPU lacks {tier['missing']}" in line


@pytest.mark.usefixtures("few_cases")
def test_command_json(capsys):
    assert main(["selftest", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True
    assert [tier["name"] for tier in found["tiers"]] == TIERS
    assert all(tier["proven"] and tier["differences"] == [] for tier in found["tiers"])


@pytest.mark.usefixtures("few_cases")
def test_command_fails_on_a_difference(monkeypatch, capsys):
    break_results(monkeypatch, "gemm_int8", FASTEST, one_bit_flipped)
    assert main(["selftest"]) == 1
    out = capsys.readouterr().out
    assert f"{FASTEST} must not be used on this machine" in out
    assert re.search(rf"^  {FASTEST}\s+WRONG", out, re.MULTILINE)
    assert "more differences" in out
    assert main(["selftest", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert found["tiers"][-1]["differences"]


def test_the_active_tier_is_restored(monkeypatch):
    monkeypatch.setattr(sweep, "cases", lambda: iter(()))
    with qk.use_isa("scalar"):
        selftest.run()
        assert qk.isa() == "scalar"
