# SPDX-License-Identifier: Apache-2.0
"""requantize: three rounding rules, ties, saturation, channels."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import oracle
import qkernels as qk
from support import EDGES, everywhere, placements, same

ROUNDINGS = ("nearest_even", "fixed_point", "fixed_point_single")
SPECIAL = np.array(
    [0, 1, -1, 2, -2, 127, -128, 255, 2**15, -(2**15), 2**24 - 1, 2**24 + 1, -(2**24) - 1, 2**30,
     -(2**30), 2**31 - 1, -(2**31), -(2**31) + 1],
    np.int32,
)  # fmt: skip


def sums(rng, shape, span=2**20):
    return rng.integers(-span, span, shape).astype(np.int32)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("n", EDGES)
def test_lengths_channels_and_biases(rng, rounding, n):
    acc = sums(rng, (3, n))
    per_column = rng.uniform(1e-5, 5e-4, n).astype(np.float32)
    bias = sums(rng, n)
    cases = [
        {"scale": 1.7e-4},
        {"scale": 1.7e-4, "zero_point": 17, "dtype": "uint8", "activation": "relu"},
        {"scale": per_column, "axis": -1, "zero_point": -9, "bias": bias},
        {"scale": per_column, "axis": 1, "bias": bias, "zero_point": 200, "dtype": "uint8"},
        {"scale": per_column[:3], "axis": 0, "bias": bias[:3], "activation": "relu"},
    ]
    for case in cases[: None if n >= 3 else 4]:
        want = oracle.requantize(acc, rounding=rounding, **case)
        got = everywhere(lambda c=case: qk.requantize(acc, rounding=rounding, **c))
        same(got, want, str(case))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_extreme_sums_and_multipliers(rounding, dtype):
    """From multipliers that send everything to zero to those that send everything to the bounds."""
    for exponent in (*range(-44, 0, 3), -2, -1, 0, 1, 4, 9, 20, 31, 40):
        for factor in (1.0, 1 + 2**-23, 1.5, 2 - 2**-23):
            m = float(np.ldexp(np.float32(factor), exponent))
            for zp in (np.iinfo(dtype).min, 0, np.iinfo(dtype).max):
                case = {"scale": m, "zero_point": zp, "dtype": dtype, "rounding": rounding}
                want = oracle.requantize(SPECIAL, **case)
                same(everywhere(lambda c=case: qk.requantize(SPECIAL, **c), (1,)), want, str(case))


def test_ties_go_to_even_or_up_as_the_rule_says():
    acc = np.array([-5, -3, -1, 1, 3, 5], np.int32)
    halves = {r: everywhere(lambda r=r: qk.requantize(acc, 0.5, rounding=r)) for r in ROUNDINGS}
    same(halves["nearest_even"], np.array([-2, -2, 0, 0, 2, 2], np.int8))
    # The high multiply rounds a half away from zero (up, when double), the single shift up.
    same(halves["fixed_point"], oracle.requantize(acc, 0.5, rounding="fixed_point"))
    same(halves["fixed_point_single"], np.array([-2, -1, 0, 1, 2, 3], np.int8))


def test_the_zero_point_comes_after_rounding():
    acc = np.array([1, 3, 5], np.int32)
    same(qk.requantize(acc, 0.5, 1), np.array([1, 3, 3], np.int8))


def test_bias_saturates():
    acc = np.array([[2**31 - 1, -(2**31), 5]], np.int32)
    bias = np.array([2**31 - 1, -(2**31), -5], np.int32)
    for rounding in ROUNDINGS:
        case = {"scale": 5.0e-8, "axis": 1, "bias": bias, "rounding": rounding}
        want = oracle.requantize(acc, **case)
        assert want.tolist() == [[107, -107, 0]]
        same(everywhere(lambda c=case: qk.requantize(acc, **c)), want)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_channels_along_any_axis(rng, axis):
    acc = sums(rng, (5, 18, 7))
    size = acc.shape[axis]
    case = {
        "scale": rng.uniform(1e-5, 4e-4, size).astype("f4"),
        "axis": axis,
        "bias": sums(rng, size),
    }
    for rounding in ROUNDINGS:
        want = oracle.requantize(acc, rounding=rounding, **case)
        same(everywhere(lambda r=rounding: qk.requantize(acc, rounding=r, **case)), want)


def test_scalars_empty_and_large(rng):
    same(qk.requantize(np.int32(1000), 0.01), np.int8(10))
    assert qk.requantize(np.zeros((3, 0, 2), np.int32), 0.5).shape == (3, 0, 2)
    acc = sums(rng, (61, 4001))
    same(everywhere(lambda: qk.requantize(acc, 1e-4)), oracle.requantize(acc, 1e-4))


def test_memory_placements_and_out(rng):
    acc = sums(rng, (35, 49))
    case = {"scale": rng.uniform(1e-5, 3e-4, 49).astype("f4"), "axis": 1}
    want = oracle.requantize(acc, **case)
    for name, view in placements(acc).items():
        same(everywhere(lambda v=view: qk.requantize(v, **case), (2,)), want, name)
    canvas = np.full((35, 98), 55, np.int8)
    assert qk.requantize(acc, **case, out=canvas[:, ::2]).base is canvas
    same(canvas[:, ::2], want)
    assert (canvas[:, 1::2] == 55).all()


@given(st.data())
def test_any_multiplier(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    acc = np.concatenate([SPECIAL, sums(rng, 40, 2 ** data.draw(st.integers(1, 31)))])
    case = {
        "scale": data.draw(st.floats(2.0**-66, 2.0**20, width=32)),
        "dtype": data.draw(st.sampled_from(["int8", "uint8"])),
        "activation": data.draw(st.sampled_from([None, "relu"])),
        "rounding": data.draw(st.sampled_from(ROUNDINGS)),
    }
    low, high = oracle.CODES[case["dtype"]]
    case["zero_point"] = data.draw(st.integers(low, high))
    same(everywhere(lambda: qk.requantize(acc, **case), (1,)), oracle.requantize(acc, **case))
