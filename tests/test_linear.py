# SPDX-License-Identifier: Apache-2.0
"""linear_int8: every form of input and output, against the oracle bit for bit."""

from __future__ import annotations

import itertools
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import oracle
import qkernels as qk
from support import (
    EDGES,
    attempt,
    everywhere,
    integers,
    placements,
    require,
    same,
    scales,
    zero_point,
)

ROUNDINGS = ("nearest_even", "fixed_point", "fixed_point_single")
STEP = len(EDGES)
SHAPES = [(EDGES[(i * 7 + 2) % STEP], EDGES[(i * 5 + 4) % STEP], EDGES[i]) for i in range(STEP)]
SHAPES += [(1, 768, 96), (4, 130, 33), (129, 31, 17)]


def problem(rng, m, k, n, x_dtype="int8", *, dynamic=False):
    """Arguments of a static call whose outputs fill the range without all saturating."""
    weight = integers(rng, (n, k))
    x = integers(rng, (m, k), x_dtype)
    case = {
        "x_scale": scales(rng),
        "x_zero_point": zero_point(rng, x_dtype),
        "weight_scale": scales(rng, (n,)),
        "weight_zero_point": zero_point(rng, "int8", (n,)),
    }
    return x, weight, case


def out_scale(x, weight, case):
    """About a quarter of the largest real output is one hundred codes."""
    y = oracle.linear(x, weight, **case, out_dtype="float32")
    return float(np.float32(np.abs(y).max(initial=1e-3) / 250))


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_shapes(rng, m, k, n):
    for x_dtype in ("int8", "uint8"):
        x, weight, case = problem(rng, m, k, n, x_dtype)
        bias = rng.normal(0, 1, n).astype(np.float32)
        integer = case | {"out_scale": out_scale(x, weight, case), "out_zero_point": 3}
        plain = {key: case[key] for key in ("x_zero_point", "weight_zero_point")}
        for kind in (plain, case, *(integer | {"rounding": r} for r in ROUNDINGS)):
            with_bias = None if kind is plain else bias
            got = everywhere(
                lambda kw=kind, b=with_bias, x=x, w=weight: qk.linear_int8(x, w, b, **kw)
            )
            same(got, oracle.linear(x, weight, with_bias, **kind), str(kind))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("m", "k", "n"), [s for s in SHAPES if s[0] < 70])
def test_dynamic_shapes(rng, m, k, n, dtype):
    if dtype == "bfloat16":
        dtype = require("ml_dtypes").bfloat16
    x = rng.normal(0, 3, (m, k)).astype(dtype)
    weight = rng.normal(0, 0.2, (n, k)).astype(np.float32)
    bias = rng.normal(0, 1, n).astype(np.float32)
    want = oracle.linear(x, weight, bias)
    packed = qk.pack_linear(weight, bias)
    same(everywhere(lambda: qk.linear_int8(x, packed)), want, "packed")
    same(everywhere(lambda: qk.linear_int8(x, weight, bias), (1,)), want, "array")
    same(packed.weight_scale, oracle.quantize_weight(weight)[1])
    same(packed.unpack(), oracle.quantize_weight(weight)[0])


# Every combination of the arguments ---------------------------------------------------------------
X = ("int8", "uint8", "float32", "float16")
OUT = (None, "int32", "float32", "int8", "uint8")
BIAS = (None, "float32", "int32")
ACTIVATIONS = (None, "relu", "relu6", (-0.5, 2.0), "gelu")


def verdict(x, x_scale, out_scale, out_dtype, bias, activation):
    """True: must work; False: must be refused; None: the contract leaves it open."""
    dynamic = x.startswith("float") and not x_scale
    if out_scale and not x_scale:
        return False
    if dynamic:
        if bias == "int32":
            return False
        return True if out_dtype in (None, "float32") else None if out_dtype == "int32" else False
    result = out_dtype
    if result is None:
        quantized = "int8" if x.startswith("float") else x
        result = "int32" if not x_scale else quantized if out_scale else "float32"
    if result == "int32":
        if activation is not None or (bias == "float32" and not x_scale):
            return False
        return None if out_scale else True
    if not x_scale or (result in ("int8", "uint8") and not out_scale):
        return False
    if result == "float32":
        return None if out_scale else True
    return activation != "gelu"


@pytest.mark.parametrize("x_dtype", X)
@pytest.mark.parametrize("out_dtype", OUT)
def test_every_combination_of_forms(rng, x_dtype, out_dtype):
    counted = {True: 0, False: 0}
    weight, weight_scale = integers(rng, (19, 23)), scales(rng, (19,))
    biases = {
        None: None,
        "float32": rng.normal(0, 1, 19).astype("f4"),
        "int32": integers(rng, 19, "int32"),
    }
    biases["int32"] //= 2**18
    x = rng.normal(0, 30, (5, 23)).round().clip(-100, 100)
    x = (np.abs(x) if x_dtype == "uint8" else x).astype(x_dtype)
    for with_x, with_out, bias, activation in itertools.product((0, 1), (0, 1), BIAS, ACTIVATIONS):
        expected = verdict(x_dtype, with_x, with_out, out_dtype, bias, activation)
        if expected is None:
            continue
        counted[expected] += 1
        case = {"x_scale": 0.31} if with_x else {}
        case |= {"out_scale": 0.17, "out_zero_point": 5} if with_out else {}
        case |= {"weight_scale": weight_scale, "out_dtype": out_dtype, "activation": activation}

        def call(bias=bias, case=case):
            return qk.linear_int8(x, weight, biases[bias], **case)

        if not expected:
            with pytest.raises(qk.QKernelsError):
                call()
            continue
        want = oracle.linear(x, weight, biases[bias], **case)
        if activation == "gelu":
            curve = oracle.CURVES["gelu"](want.astype(np.float64))
            got = everywhere(call, (1,))
            assert got.dtype == np.float32
            assert (np.abs(got - curve) <= 1e-5 * np.maximum(1, np.abs(curve))).all()
        else:
            same(everywhere(call, (1,)), want, str(case))
    assert counted[False] > 0
    assert (
        counted[True] > 0
        or (x_dtype.startswith("float") and out_dtype == "int32")
        or (out_dtype in ("int8", "uint8"))
    )


@pytest.mark.parametrize("curve", list(oracle.CURVES))
def test_curves_on_float_output(curve):
    """Over the whole line, through a 1 x 1 weight that passes x on almost unchanged."""
    grid = np.concatenate([np.linspace(-30, 30, 6001), np.geomspace(1e-12, 1e4, 800)])
    bias = np.concatenate([grid, -grid]).astype(np.float32)
    zero = np.zeros((1, 1), np.int8)
    weight = np.zeros((bias.size, 1), np.int8)
    got = everywhere(
        lambda: qk.linear_int8(zero, weight, bias, x_scale=1.0, weight_scale=1.0, activation=curve)
    )[0]
    with np.errstate(over="ignore"):
        want = oracle.CURVES[curve](bias.astype(np.float64))
    error = np.abs(got - want) / np.maximum(1, np.abs(want))
    assert got.dtype == np.float32
    assert error.max() <= 1e-5, f"{curve} at {bias[error.argmax()]}: {got[error.argmax()]}"


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("activation", ["relu", "relu6", (-1.5, 0.75), (0.5, 0.5), (-1e30, 1e30)])
def test_bounds_on_integer_output(rng, rounding, dtype, activation):
    x, weight, case = problem(rng, 9, 40, 33)
    case |= {"out_dtype": dtype, "rounding": rounding, "activation": activation}
    for scale, zp in ((0.05, 0), (0.02, 100), (3.0, 1)):
        kw = case | {"out_scale": scale, "out_zero_point": zp}
        same(
            everywhere(lambda kw=kw: qk.linear_int8(x, weight, **kw), (1,)),
            oracle.linear(x, weight, **kw),
        )


def test_bounds_on_float_output(rng):
    x, weight, case = problem(rng, 9, 40, 33)
    for activation in ("relu", "relu6", (-1.5, 0.75)):
        kw = case | {"activation": activation}
        same(
            everywhere(lambda kw=kw: qk.linear_int8(x, weight, **kw)),
            oracle.linear(x, weight, **kw),
        )


# Biases, scales and zero points -------------------------------------------------------------------
def test_biases_saturate(rng):
    x, weight, case = problem(rng, 4, 64, 6)
    case |= {"x_scale": 0.5, "weight_scale": 0.25}
    integer = np.array([2**31 - 1, -(2**31), 2**31 - 5, 0, 7, -7], np.int32)
    real = np.array([1e30, -1e30, 3e8, 0, 0.0625, -0.1875], np.float32)
    for bias in (integer, real):
        for extra in ({"out_dtype": "int32"}, {"out_scale": 1e6}, {}):
            kw = case | extra
            got = everywhere(lambda kw=kw, b=bias: qk.linear_int8(x, weight, b, **kw), (1,))
            same(got, oracle.linear(x, weight, bias, **kw), str(extra))


@pytest.mark.parametrize("past", [-1, 0, 1])
def test_biases_at_the_edge_of_saturation(past):
    """The largest bias that no data can take out of int32, which is added without saturation, and
    its neighbours."""
    k = 5
    room = 2**31 - 1 - k * 128 * 128
    bias = np.array([room + past, -(room + past), 0, 1], np.int32)
    x = np.array([[-128] * k, [127] * k, [0] * k], np.int8)
    weight = np.array([[-128] * k, [127] * k, [-128] * k, [127] * k], np.int8)
    case = {"x_scale": 0.5, "weight_scale": 0.25}
    for extra in ({"out_dtype": "int32"}, {"out_scale": 3e6}, {"out_dtype": "float32"}):
        kw = case | extra
        got = everywhere(lambda kw=kw: qk.linear_int8(x, weight, bias, **kw), (1,))
        same(got, oracle.linear(x, weight, bias, **kw), str(extra))
    # Rows with zero points of their own reach further than the dtype alone.
    a, b = np.full((2, 3), -128, "int8"), np.full((3, 4), -128, "int8")
    zero_points = np.array([127, -128], np.int32)
    got = everywhere(lambda: qk.gemm_int8(a, b, a_zero_point=zero_points), (1,))
    same(got, oracle.gemm(a, b, a_zero_point=zero_points))


def test_scalar_scales_and_zero_points_equal_vectors(rng):
    x, weight, _ = problem(rng, 7, 33, 18)
    scalar = {"x_scale": 0.02, "weight_scale": 0.01, "weight_zero_point": 9, "out_scale": 0.4}
    vector = scalar | {"weight_scale": np.full(18, 0.01, "f4"), "weight_zero_point": np.full(18, 9)}
    want = oracle.linear(x, weight, **scalar)
    same(everywhere(lambda: qk.linear_int8(x, weight, **scalar)), want)
    same(everywhere(lambda: qk.linear_int8(x, weight, **vector)), want)


def test_float_weights_are_quantized_by_row(rng):
    weight = rng.normal(0, 1, (21, 34)).astype(np.float32)
    weight[3] = 0
    x, _, _ = problem(rng, 5, 34, 21)
    case = {"x_scale": 0.1, "x_zero_point": -3}
    assert oracle.quantize_weight(weight)[1][3] == 1
    same(everywhere(lambda: qk.linear_int8(x, weight, **case)), oracle.linear(x, weight, **case))


def test_unsigned_weights(rng):
    x, weight = integers(rng, (7, 33), "uint8"), integers(rng, (18, 33), "uint8")
    case = {"x_zero_point": 131, "weight_zero_point": zero_point(rng, "uint8", (18,))}
    same(everywhere(lambda: qk.linear_int8(x, weight, **case)), oracle.linear(x, weight, **case))
    case |= {"x_scale": 0.1, "weight_scale": scales(rng, (18,)), "out_scale": 0.7}
    for rounding in ROUNDINGS:
        kw = case | {"rounding": rounding}
        got = everywhere(lambda kw=kw: qk.linear_int8(x, weight, **kw))
        same(got, oracle.linear(x, weight, **kw))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("n", [1, 16, 17, 65])
def test_dynamic_with_weights_that_have_zero_points(rng, n, dtype):
    real = rng.normal(0, 1, (9, 35)).astype(np.float32)
    weight, bias = integers(rng, (n, 35), dtype), rng.normal(0, 1, n).astype(np.float32)
    for zp in (int(np.iinfo(dtype).max), zero_point(rng, dtype, (n,))):
        case = {"weight_scale": scales(rng, (n,)), "weight_zero_point": zp, "activation": "relu6"}
        got = everywhere(lambda kw=case: qk.linear_int8(real, weight, bias, **kw))
        same(got, oracle.linear(real, weight, bias, **case))


@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (0,), (2, 0), (1, 1, 1)])
def test_leading_dimensions(rng, lead):
    weight = integers(rng, (17, 20))
    x = integers(rng, (*lead, 20), "uint8")
    case = {"x_scale": 0.1, "weight_scale": 0.01, "out_scale": 0.3, "out_zero_point": 128}
    want = oracle.linear(x, weight, **case)
    assert want.shape == (*lead, 17)
    same(everywhere(lambda: qk.linear_int8(x, weight, **case)), want)
    real = rng.normal(0, 1, (*lead, 20)).astype(np.float32)
    same(everywhere(lambda: qk.linear_int8(real, weight, weight_scale=0.01)),
         oracle.linear(real, weight, weight_scale=0.01))  # fmt: skip


def test_a_batch_gives_the_bits_of_its_rows(rng):
    weight = rng.normal(0, 0.2, (70, 131)).astype(np.float32)
    packed = qk.pack_linear(weight, rng.normal(0, 1, 70).astype(np.float32))
    x = (rng.normal(0, 1, (37, 131)) * np.geomspace(1e-30, 1e30, 37)[:, None]).astype(np.float32)
    x[5] = 0
    whole = everywhere(lambda: qk.linear_int8(x, packed))
    same(everywhere(lambda: np.stack([qk.linear_int8(row, packed) for row in x])), whole)
    same(
        everywhere(
            lambda: np.concatenate([qk.linear_int8(x[i : i + 5], packed) for i in range(0, 37, 5)])
        ),
        whole,
    )


def test_large_enough_to_split_over_threads(rng):
    x, weight, case = problem(rng, 130, 300, 411)
    case |= {"out_scale": out_scale(x, weight, case)}
    same(everywhere(lambda: qk.linear_int8(x, weight, **case)), oracle.linear(x, weight, **case))
    real = rng.normal(0, 1, (67, 300)).astype(np.float32)
    same(everywhere(lambda: qk.linear_int8(real, weight, weight_scale=0.01)),
         oracle.linear(real, weight, weight_scale=0.01))  # fmt: skip


@pytest.mark.parametrize("k", [512, 2048, 4096, 4100])
@pytest.mark.parametrize("m", [1, 13, 16, 33])
def test_rows_far_apart_and_unaligned(rng, m, k):
    """Strides that fall into one set of a cache, and starts between cache lines: rows are read in
    place or copied first, as it pays."""
    weight = integers(rng, (160, k))
    for x_dtype in ("uint8", "int8"):
        kw = {"x_scale": 0.02, "weight_scale": 0.01, "out_scale": 40.0}
        for start, stride in ((0, 4096), (0, 4160), (16, 4112), (1, 8192)):
            memory = np.zeros(64 + m * stride + 4096, x_dtype)
            base = -memory.ctypes.data % 64 + start
            x = np.lib.stride_tricks.as_strided(memory[base:], (m, k), (stride, 1))
            x[:, :k] = integers(rng, (m, k), x_dtype)
            if k > stride:
                x = x.copy()
            packed = qk.pack_linear(weight, weight_scale=0.01)
            bound = packed.bind(**{key: kw[key] for key in ("x_scale", "out_scale")})
            got = everywhere(lambda x=x, bound=bound: bound(x))
            same(got, oracle.linear(x, weight, **kw), f"{x_dtype} {start} {stride}")


def test_tasks_that_share_their_rows(rng):
    """Few rows and many columns: rows are brought into the kernel's form once, for all threads."""
    x, weight, case = problem(rng, 26, 260, 1300)
    for extra in ({}, {"out_scale": out_scale(x, weight, case)}):
        kw = case | extra
        same(everywhere(lambda kw=kw: qk.linear_int8(x, weight, **kw)),
             oracle.linear(x, weight, **kw))  # fmt: skip
    for dtype in ("float32", "float16"):
        real = rng.normal(0, 1, (26, 260)).astype(dtype)
        for zp in (0, zero_point(rng, "int8", (1300,))):
            kw = {"weight_scale": 0.01, "weight_zero_point": zp}
            same(everywhere(lambda r=real, kw=kw: qk.linear_int8(r, weight, **kw)),
                 oracle.linear(real, weight, **kw))  # fmt: skip
        real[25, 259] = np.nan
        for isa in qk.available_isas():
            with qk.use_isa(isa), pytest.raises(qk.QKernelsError, match="finite"):
                qk.linear_int8(real, weight, weight_scale=0.01)


@pytest.mark.parametrize(
    ("x_zp", "w_zp", "k"), [(0, 0, 131071), (-128, 127, 33025), (0, 127, 65793)]
)
def test_depth_up_to_the_bound_and_no_further(x_zp, w_zp, k):
    kw = {"x_zero_point": x_zp, "weight_zero_point": w_zp}
    x, weight = np.full((1, k), -128 if x_zp >= 0 else 127, "int8"), np.full((2, k), -128, "int8")
    same(everywhere(lambda: qk.linear_int8(x, weight, **kw), (1,)), oracle.linear(x, weight, **kw))
    with pytest.raises(qk.QKernelsError, match=str(k + 1)):
        qk.linear_int8(np.zeros((1, k + 1), "int8"), np.zeros((2, k + 1), "int8"), **kw)


# Memory -------------------------------------------------------------------------------------------
def test_memory_placements(rng):
    x, weight, case = problem(rng, 33, 67, 18)
    case |= {"out_scale": 0.5}
    want = oracle.linear(x, weight, **case)
    for name, view in placements(x).items():
        same(everywhere(lambda v=view: qk.linear_int8(v, weight, **case), (2,)), want, f"x {name}")
    for name, view in placements(weight).items():
        same(everywhere(lambda v=view: qk.linear_int8(x, v, **case), (1,)), want, f"weight {name}")
    real = rng.normal(0, 1, (9, 67)).astype(np.float32)
    want = oracle.linear(real, weight, weight_scale=0.02)
    for name, view in placements(real).items():
        same(
            everywhere(lambda v=view: qk.linear_int8(v, weight, weight_scale=0.02), (1,)),
            want,
            name,
        )


@pytest.mark.parametrize("form", ["int32", "float32", "int8"])
def test_out_of_any_stride(rng, form):
    x, weight, case = problem(rng, 12, 30, 21)
    case |= {"out_dtype": form} | ({"out_scale": 0.5} if form == "int8" else {})
    want = oracle.linear(x, weight, **case)
    canvas = np.full((40, 50), 77, form)
    for view in (
        canvas[3:15, 4:25],
        canvas[:36:3, :42:2],
        canvas[11::-1, 20::-1],
        canvas[:21, :12].T,
    ):
        canvas[...] = 77
        assert qk.linear_int8(x, weight, **case, out=view) is view
        same(view, want)
        view[...] = 77
        assert (canvas == 77).all(), "written outside of out"


def test_out_that_overlaps_the_input(rng):
    """The right answer, or an error: never a mixture."""
    weight = integers(rng, (16, 16))
    case = {"x_scale": 0.1, "weight_scale": 0.02, "out_scale": 0.5}
    memory = integers(rng, (41, 16))
    for first in (0, 1, 20):
        work = memory.copy()
        want = oracle.linear(work[:20], weight, **case)
        out = work[first : first + 20]
        call = partial(qk.linear_int8, work[:20], weight, **case, out=out)
        if attempt(call, "out") is not None:
            same(out, want)
        else:
            assert first < 20, "refused without an overlap"


@given(st.data())
def test_any_problem(data):
    m, k, n = (data.draw(st.integers(0, 50), label=name) for name in "mkn")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x, weight, case = problem(rng, m, k, n, data.draw(st.sampled_from(["int8", "uint8"])))
    bias = data.draw(st.sampled_from([None, "f4", "i4"]))
    bias = bias and (rng.normal(0, 9, n) * (1 if bias == "f4" else 999)).astype(bias)
    case["out_dtype"] = data.draw(st.sampled_from(["int32", "float32", "int8", "uint8"]))
    if case["out_dtype"] in ("int8", "uint8"):
        case["out_scale"] = data.draw(st.floats(2.0**-10, 8, width=32))
        case["out_zero_point"] = zero_point(rng, case["out_dtype"])
        case["rounding"] = data.draw(st.sampled_from(ROUNDINGS))
    if case["out_dtype"] != "int32":
        case["activation"] = data.draw(st.sampled_from([None, "relu", "relu6", (-0.7, 1.3)]))
    got = everywhere(lambda: qk.linear_int8(x, weight, bias, **case), (1, 2))
    same(got, oracle.linear(x, weight, bias, **case))
