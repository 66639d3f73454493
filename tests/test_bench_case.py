# SPDX-License-Identifier: Apache-2.0
"""Cases, their data, and the verdict on answers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import oracle
import qkernels as qk
from qkernels.bench import suites
from qkernels.bench.case import Case, Data, aligned, aligned_empty
from qkernels.bench.problem import exact_matmul, make_data
from qkernels.bench.suites.layers import Layer, layer_case
from qkernels.bench.suites.shapes import matrix_case
from qkernels.bench.verdict import judge

CONVS = [
    layer_case("conv", Layer(3, 8, kernel=7, size=11, stride=2)),
    layer_case("conv", Layer(6, 9, kernel=1, size=5), batch=2),
    layer_case("conv", Layer(8, 8, kernel=3, size=6, groups=2)),
    layer_case("depthwise", Layer(5, 5, kernel=5, size=7, groups=5)),
]
PASSES = ("quantize", "dequantize", "requantize", "dynamic_quantize")
SMALL = [
    matrix_case("gemm", "linear", (5, 37, 11)),
    matrix_case("gemm_s32", "linear_s32", (5, 1500, 11)),
    matrix_case("dynamic", "dynamic", (5, 64, 11)),
    *CONVS,
    *(Case("elementwise", op, op, {"rows": 7, "columns": 33}) for op in PASSES),
    Case("model", "digits batch 2", "digits", {"batch": 2}),
]


def by_op(case: Case) -> str:
    return f"{case.op} {case.name}"


@pytest.mark.parametrize("quick", [False, True])
def test_suites(quick):
    cases = suites.cases(suites.SUITES, quick=quick)
    places = [(case.suite, case.name) for case in cases]
    assert len(set(places)) == len(places)
    assert {case.suite for case in cases} == set(suites.SUITES)
    for case in cases:
        assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case
        assert case.bytes > 0
        assert (case.macs > 0) == (case.suite != "elementwise")
    if quick:
        assert len(cases) < len(suites.cases(suites.SUITES))


def test_chosen_shapes():
    found = suites.cases(["gemm", "dynamic"], shapes=[(2, 3, 4), (5, 6, 7)])
    assert [(case.op, case.m, case.k, case.n) for case in found] == [
        ("linear", 2, 3, 4),
        ("linear", 5, 6, 7),
        ("dynamic", 2, 3, 4),
        ("dynamic", 5, 6, 7),
    ]


@pytest.mark.parametrize(
    ("names", "shapes", "message"),
    [
        (["gemm", "gem"], None, "suite must be among gemm, .*, not 'gem'"),
        ([], None, "suite must name suites, each once, not ''"),
        (["gemm", "gemm"], None, "each once, not 'gemm,gemm'"),
        (["conv"], [(1, 2, 3)], "shapes are of matrix products, which suite 'conv' has not"),
    ],
)
def test_what_no_suite_is(names, shapes, message):
    with pytest.raises(qk.QKernelsError, match=message):
        suites.cases(names, shapes=shapes)


def test_sizes():
    linear, sums, dynamic = (
        matrix_case("s", op, (2, 3, 5)) for op in ("linear", "linear_s32", "dynamic")
    )
    assert [case.macs for case in (linear, sums, dynamic)] == [30, 30, 30]
    assert [case.bytes for case in (linear, sums, dynamic)] == [31, 61, 79]
    conv = layer_case("conv", Layer(4, 8, kernel=3, size=10, stride=2, groups=2), batch=3)
    assert conv.out_pixels == (5, 5)
    assert conv.macs == 3 * 25 * 8 * 9 * 2
    assert conv.bytes == 3 * (400 + 200) + 8 * 9 * 2
    assert Case("e", "q", "quantize", {"rows": 3, "columns": 7}).bytes == 105
    one, many = (Case("model", "d", "digits", {"batch": n}) for n in (1, 4))
    assert many.macs == 4 * one.macs
    assert many.bytes < 4 * one.bytes


def test_a_case_has_its_parameters_and_no_others():
    case = matrix_case("gemm", "linear", (2, 3, 5))
    assert (case.m, case.k, case.n) == (2, 3, 5)
    with pytest.raises(AttributeError, match="'stride'"):
        case.stride  # noqa: B018
    with pytest.raises(qk.QKernelsError, match="op must be one of linear, .*, not 'fly'"):
        Case.from_json({**case.to_json(), "op": "fly"})


@pytest.mark.parametrize("case", SMALL, ids=by_op)
def test_data(case, tmp_path):
    """Deterministic, aligned, and the same after a trip through files."""
    data, again = make_data(case), make_data(case)
    data.save(tmp_path)
    loaded = Data.load(tmp_path)
    for field in dataclasses.fields(Data):
        value = getattr(data, field.name)
        for other in (again, loaded):
            np.testing.assert_array_equal(getattr(other, field.name), value)
        if isinstance(value, np.ndarray):
            assert value.size == 0 or value.ctypes.data % 64 == 0
            assert value.size == 0 or getattr(loaded, field.name).ctypes.data % 64 == 0
            assert getattr(loaded, field.name).dtype == value.dtype
        else:
            assert type(getattr(loaded, field.name)) is type(value)
    assert loaded.x.flags.writeable
    assert judge(case, loaded, np.array(data.expected)) == ("ok", "")


@pytest.mark.parametrize("case", [SMALL[0], *CONVS], ids=by_op)
def test_the_expected_codes_are_the_definition(case):
    """Against the oracle of the tests, which shares nothing with it."""
    data = make_data(case)
    if case.op == "linear":
        sums = oracle.gemm(data.x, data.w.T, a_zero_point=data.x_zero_point)
    else:
        geometry = (case.stride, case.pad, case.dilation, case.groups)
        sums = oracle.convolve(data.x, data.w, data.x_zero_point, 0, *geometry)
    multiplier = (np.float32(data.x_scale) * data.w_scale) / np.float32(data.out_scale)
    codes = np.rint((sums + data.bias).astype(np.float32) * multiplier)
    expected = np.clip(codes, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(data.expected, expected)
    assert 0.2 < np.count_nonzero(expected) / expected.size < 0.9
    assert expected.max() > 80


def test_sums_are_exact_at_the_extremes():
    a = np.full((2, 3000), -128, np.int16)
    b = np.full((3000, 3), 127, np.int8)
    np.testing.assert_array_equal(exact_matmul(a, b), np.full((2, 3), -128 * 127 * 3000))


def test_views_of_data():
    data = make_data(SMALL[0])
    np.testing.assert_array_equal(data.x_int8, data.x.astype(np.int16) - 128)
    real = data.x_real @ data.w_real.T + data.bias_real
    np.testing.assert_allclose(np.maximum(real, 0), data.real, atol=1e-5)
    for array in (data.x_int8, data.x_real, data.w_real, data.bias_real):
        assert array.ctypes.data % 64 == 0
    dynamic = make_data(SMALL[2])
    assert dynamic.x_real is dynamic.x


def test_aligned():
    source = np.arange(24, dtype=np.int32).reshape(4, 6)[:, ::2]
    copy = aligned(source)
    np.testing.assert_array_equal(copy, source)
    assert copy.flags.c_contiguous
    assert copy.flags.writeable
    assert aligned_empty(0, np.float32).shape == (0,)
    for size in range(1, 9):
        assert aligned_empty((size, 3), np.int8).ctypes.data % 64 == 0


def spoiled(data: Data, count: int, by: int) -> np.ndarray:
    codes = data.expected.astype(np.int64).ravel()
    codes[:count] += np.where(codes[:count] > 128, -by, by)
    return codes.reshape(data.expected.shape).astype(data.expected.dtype)


def test_verdicts_on_codes():
    case = matrix_case("gemm", "linear", (20, 32, 50))
    data = make_data(case)
    signed = (data.expected.astype(np.int16) - 128).astype(np.int8)
    assert judge(case, data, signed) == ("ok", "")
    status, note = judge(case, data, spoiled(data, 5, 1))
    assert (status, note) == ("rounds elsewhere", "0.5 % of the outputs differ, by up to 1 step")
    status, note = judge(case, data, spoiled(data, 5, 2))
    assert (status, note) == ("wrong", "0.5 % of the outputs differ, by up to 2 steps")
    status, note = judge(case, data, spoiled(data, 10, 1))
    assert (status, note) == ("wrong", "1 % of the outputs differ, by up to 1 step")
    assert judge(case, data, data.expected[:1]).status == "wrong"
    assert judge(case, data, data.expected.astype(np.int32)).status == "wrong"


def test_verdicts_on_sums():
    case = SMALL[1]
    data = make_data(case)
    assert judge(case, data, spoiled(data, 1, 1)).status == "wrong"
    assert judge(case, data, data.expected.astype(np.int64)).status == "wrong"
    assert judge(case, data, data.expected.astype(np.float32)).status == "ok"


@pytest.mark.parametrize("case", [SMALL[0], SMALL[2], *CONVS[:1], SMALL[-1]], ids=by_op)
def test_verdicts_on_floats(case, rng):
    data = make_data(case)
    real = data.real if data.real.size else data.expected
    size = np.sqrt(np.mean(real**2))
    noise = rng.standard_normal(real.shape).astype(np.float32)
    assert judge(case, data, real + 0.01 * size * noise).status == "ok"
    status, note = judge(case, data, real + 0.3 * size * noise)
    assert status == "wrong"
    assert note.startswith("root mean square error ")
    broken = real.copy()
    broken.flat[0] = np.nan
    assert judge(case, data, broken) == ("wrong", "the answer holds infinities or NaN")
    if data.expected.dtype == np.uint8:
        assert judge(case, data, data.expected.astype(np.float32)).status == "wrong"


def test_dynamic_quantization_passes_and_saturation_does_not():
    case = matrix_case("dynamic", "dynamic", (8, 256, 16))
    data = make_data(case)
    packed = qk.pack_linear(data.w, data.bias_real, weight_scale=data.w_scale)
    assert judge(case, data, qk.linear_int8(data.x, packed)).status == "ok"
    clipped = np.clip(data.x, -1, 1)
    assert judge(case, data, qk.linear_int8(clipped, packed)).status == "wrong"
