# SPDX-License-Identifier: Apache-2.0
"""quantize, dequantize, QParams and verify."""

from __future__ import annotations

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

DTYPES = tuple(oracle.CODES)
EDGE_VALUES = np.array(
    [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 127.5, -128.5, 254.5, 255.5, np.inf,
     -np.inf, 3.4e38, -3.4e38, 1e-45, -1e-45, 0.49999997, 8388608.5, 2147483648.0],
    np.float32,
)  # fmt: skip


def real_dtype(name):
    return np.dtype(require("ml_dtypes").bfloat16 if name == "bfloat16" else name)


@pytest.mark.parametrize("x_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("n", EDGES)
def test_lengths_and_channels(rng, n, x_dtype):
    x = rng.normal(0, 3, (3, n)).astype(real_dtype(x_dtype))
    for dtype in ("int8", "uint8", "int4", "uint3"):
        low, high = oracle.CODES[dtype]
        zp = rng.integers(low, high + 1, n).astype(np.int32)
        cases = [
            {"scale": 0.037, "zero_point": int((low + high) // 2)},
            {"scale": scales(rng, (n,), 0.01, 0.2), "zero_point": zp, "axis": 1},
            {"scale": scales(rng, (3,), 0.01, 0.2), "zero_point": low, "axis": 0},
            {"scale": 0.05, "zero_point": zp, "axis": -1},
        ]
        for case in cases:
            want = oracle.quantize(x, dtype=dtype, **case)
            same(everywhere(lambda c=case, d=dtype: qk.quantize(x, dtype=d, **c)), want, str(case))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_infinities_and_extremes(dtype):
    low, high = oracle.CODES[dtype]
    for scale in (1.0, 0.5, 3.0, 1e-38, 1e-45, 1e38):
        for zp in (low, 0, high):
            want = oracle.quantize(EDGE_VALUES, scale, zp, dtype=dtype)
            assert want.min() >= low
            assert want.max() <= high
            got = everywhere(
                lambda s=scale, z=zp: qk.quantize(EDGE_VALUES, s, z, dtype=dtype), (1,)
            )
            same(got, want, f"scale {scale}, zero point {zp}")


@pytest.mark.parametrize("x_dtype", ["float32", "float16", "bfloat16"])
def test_every_half_precision_number(x_dtype):
    """All 2^16 bit patterns of the short formats, and as many of float32."""
    bits = np.arange(2**16, dtype=np.uint32)
    if x_dtype == "float32":
        x = (bits * 65537).astype(np.uint32).view(np.float32)
    else:
        x = bits.astype(np.uint16).view(real_dtype(x_dtype))
    with np.errstate(invalid="ignore"):  # signalling NaNs, where converting them is an instruction
        x = x[~np.isnan(x.astype(np.float32))]
    for scale in (1e-7, 0.043, 700.0):
        want = oracle.quantize(x, scale, -5)
        same(everywhere(lambda s=scale: qk.quantize(x, s, -5), (1, 2)), want)


@pytest.mark.parametrize("at", [0, 7, 31, 63, 64, 99])
@pytest.mark.parametrize("x_dtype", ["float32", "float16", "bfloat16"])
def test_nan_is_an_error_wherever_it_stands(at, x_dtype):
    x = np.zeros(100, real_dtype(x_dtype))
    x[at] = np.nan

    def call():
        with pytest.raises(ValueError, match="x") as caught:
            qk.quantize(x, 1.0)
        assert isinstance(caught.value, qk.QKernelsError)
        return np.zeros(1)

    everywhere(call)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 4, 5)])
def test_shapes_of_any_rank(rng, shape):
    x = np.asarray(rng.normal(0, 1, shape), np.float32)
    got = qk.quantize(x, 0.1)
    same(got, oracle.quantize(x, 0.1))
    same(qk.dequantize(got, 0.1), oracle.dequantize(got, 0.1))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_channels_along_any_axis(rng, axis):
    x = rng.normal(0, 1, (4, 17, 5)).astype(np.float32)
    case = {"scale": scales(rng, (x.shape[axis],)), "axis": axis}
    case["zero_point"] = zero_point(rng, "int8", (x.shape[axis],))
    q = everywhere(lambda: qk.quantize(x, **case))
    same(q, oracle.quantize(x, **case))
    same(everywhere(lambda: qk.dequantize(q, **case)), oracle.dequantize(q, **case))
    same(qk.quantize(np.asfortranarray(x), **case), q)
    same(
        qk.dequantize(q.transpose(2, 0, 1).transpose(1, 2, 0), **case), oracle.dequantize(q, **case)
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
@pytest.mark.parametrize("n", EDGES)
def test_dequantize(rng, dtype, n):
    q = integers(rng, (2, n), dtype)
    if n > 2:
        q[0, :2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    zp = zero_point(rng, dtype, (n,))
    for case in (
        {"scale": 0.3, "zero_point": int(np.iinfo(dtype).max)},
        {"scale": scales(rng, (n,)), "zero_point": zp, "axis": 1},
        {"scale": 1e38, "zero_point": int(np.iinfo(dtype).min)},
    ):
        want = oracle.dequantize(q, **case)
        same(everywhere(lambda c=case: qk.dequantize(q, **c)), want, str(case))


def test_large_enough_to_split_over_threads(rng):
    x = rng.normal(0, 1, (311, 2003)).astype(np.float32)
    q = everywhere(lambda: qk.quantize(x, 0.02, 7))
    same(q, oracle.quantize(x, 0.02, 7))
    same(everywhere(lambda: qk.dequantize(q, 0.02, 7)), oracle.dequantize(q, 0.02, 7))


def test_memory_placements_and_out(rng):
    x = rng.normal(0, 1, (35, 49)).astype(np.float32)
    case = {"scale": scales(rng, (49,)), "axis": 1}
    q = oracle.quantize(x, **case)
    for name, view in placements(x).items():
        same(everywhere(lambda v=view: qk.quantize(v, **case), (2,)), q, name)
    for name, view in placements(q).items():
        same(
            everywhere(lambda v=view: qk.dequantize(v, **case), (2,)),
            oracle.dequantize(q, **case),
            name,
        )
    for dtype, call, want in (
        ("int8", lambda out: qk.quantize(x, **case, out=out), q),
        ("float32", lambda out: qk.dequantize(q, **case, out=out), oracle.dequantize(q, **case)),
    ):
        canvas = np.full((80, 110), 77, dtype)
        for view in (
            canvas[1:36, 2:51],
            canvas[:70:2, :98:2],
            canvas[34::-1, 48::-1],
            canvas[:49, :35].T,
        ):
            canvas[...] = 77
            assert call(view) is view
            same(view, want)
            view[...] = 77
            assert (canvas == 77).all(), "written outside of out"


def test_quantize_in_place_of_its_input(rng):
    """out may be the memory of x: the right answer or an error, not a mixture."""
    memory = rng.normal(0, 1, 64).astype(np.float32)
    for out in (
        memory.view(np.int8)[:64],
        memory.view(np.int8)[100:164],
        memory.view(np.int8)[::4],
    ):
        x = memory.copy()
        if attempt(lambda out=out: qk.quantize(memory, 0.01, out=out), "out") is not None:
            same(out, oracle.quantize(x, 0.01))
        memory[...] = x


@given(st.data())
def test_any_numbers(data):
    values = data.draw(st.lists(st.floats(width=32, allow_nan=False), max_size=70))
    x = np.array(values, np.float32)
    dtype = data.draw(st.sampled_from(DTYPES))
    low, high = oracle.CODES[dtype]
    case = {
        "scale": data.draw(st.floats(2.0**-149, 2.0**127, width=32)),
        "zero_point": data.draw(st.integers(low, high)),
        "dtype": dtype,
    }
    same(everywhere(lambda: qk.quantize(x, **case), (1,)), oracle.quantize(x, **case))


# QParams and verify -------------------------------------------------------------------------------
def test_qparams_hold_what_they_were_given():
    params = qk.QParams(0.5, 3)
    assert (float(params.scale), int(params.zero_point), params.axis, params.dtype) == (
        0.5,
        3,
        None,
        "int8",
    )
    with pytest.raises(AttributeError):
        params.scale = 1.0
    channels = qk.QParams(np.array([1, 2], np.float64), [0, 200], axis=1, dtype="uint8")
    assert np.asarray(channels.scale).dtype == np.float32
    assert channels.axis == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"scale": 0.0}, {"scale": -1.0}, {"scale": np.nan}, {"scale": np.inf}, {"scale": [[1.0]]},
        {"zero_point": 128}, {"zero_point": -129}, {"zero_point": 0.5}, {"dtype": "int9"},
        {"dtype": "uint8", "zero_point": -1}, {"dtype": "int4", "zero_point": 8},
        {"scale": [1.0, 2.0]}, {"scale": [1.0, 2.0], "zero_point": [1, 2, 3], "axis": 0},
        {"scale": [1.0, 0.0], "axis": 0}, {"scale": "a"}, {"scale": 1e-60}, {"scale": 1e60},
    ],
)  # fmt: skip
def test_qparams_refuse_what_cannot_be(bad):
    with pytest.raises(qk.QKernelsError):
        qk.QParams(**{"scale": 1.0, "zero_point": 0} | bad)


def test_verify_measures_the_error(rng):
    x = rng.normal(0, 1, 4000).astype(np.float32)
    x[0] = 100.0
    params = qk.QParams(0.02, 0)
    q = qk.quantize(x, params.scale, params.zero_point)
    error = qk.verify(x, q, params)
    difference = x.astype(np.float64) - oracle.dequantize(q, 0.02).astype(np.float64)
    assert error.max_abs_error == pytest.approx(np.abs(difference).max(), rel=1e-6)
    assert error.mean_abs_error == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    assert error.mse == pytest.approx((difference**2).mean(), rel=1e-5)
    sqnr = 10 * np.log10((x.astype(np.float64) ** 2).mean() / (difference**2).mean())
    assert error.sqnr_db == pytest.approx(sqnr, abs=1e-3)
    text = str(error)
    for word in ("SQNR", "cosine", "clipped"):
        assert word.lower() in text.lower()
    exact = qk.verify(
        np.arange(5, dtype=np.float32), np.arange(5, dtype=np.int8), qk.QParams(1.0, 0)
    )
    assert exact.max_abs_error == 0
    assert exact.sqnr_db == np.inf
