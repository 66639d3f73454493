# SPDX-License-Identifier: Apache-2.0
"""dynamic_quantize: the row formula, ONNX's formula, independence of rows."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import oracle
import qkernels as qk
from support import EDGES, attempt, everywhere, placements, require, same

TINY = [0.0, 1e-45, 1e-40, 1.1754944e-38, 3.6e-37, 3.7323e-37, 3.7324e-37, 3.74e-37, 4e-37]


def real_dtype(name):
    return np.dtype(require("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def want(x, scheme):
    """(q, scale, zero point) with the dtypes of the library."""
    if scheme == "symmetric":
        q, scale = oracle.dynamic_symmetric(x)
        return q, scale, np.zeros(scale.shape, np.int8)
    q, scale, zp = oracle.dynamic_asymmetric(x)
    return q, scale, zp.astype(np.uint8)


def check(x, scheme="symmetric", threads=(1, 2, 5), what=""):
    expected = want(x, scheme)
    if scheme == "symmetric":
        assert expected[0].size == 0 or expected[0].min() >= -127
    same(everywhere(lambda: qk.dynamic_quantize(x, scheme=scheme), threads), expected, what)


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("n", EDGES)
def test_rows_of_any_length(rng, n, dtype, scheme):
    x = (rng.normal(0, 1, (5, n)) * np.array([[1], [1e-3], [300], [1], [7]])).astype(
        real_dtype(dtype)
    )
    x[3] = np.abs(x[3])
    x[4] = 0
    check(x, scheme)


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("shape", [(7,), (0, 7), (2, 0), (2, 3, 5), (0,), (3, 0, 4)])
def test_shapes(rng, shape, scheme):
    x = rng.normal(0, 1, shape).astype(np.float32)
    check(x, scheme)
    q, scale, zp = qk.dynamic_quantize(x, scheme=scheme, granularity="per_tensor")
    flat = want(x.reshape(-1), scheme)
    same((q, np.asarray(scale), np.asarray(zp)), (flat[0].reshape(shape), flat[1], flat[2]))
    assert np.ndim(scale) == np.ndim(zp) == 0


def test_tiny_rows_have_scale_one():
    """127 / amax overflows below about 3.7e-37: q = 0, scale 1; above it, the formula."""
    x = np.array([[value, -value / 2, 0] for value in TINY], np.float32)
    check(x)
    q, scale, _ = qk.dynamic_quantize(x)
    assert (scale[:5] == 1).all()
    assert (q[:5] == 0).all()
    assert q[-1, 0] == 127


def test_huge_rows():
    x = np.array([[3.4028235e38, -3.4028235e38, 1e38], [1e38, 3e37, 0]], np.float32)
    check(x)


@pytest.mark.parametrize("row", [[3.4e38, -3.4e38], [1e-45, 0], [3e-44, -1e-44], [1e-40, 3e-40]])
def test_asymmetric_ranges_at_the_edge_of_float32(row):
    """A range that overflows or underflows: usable parameters or an error."""
    x = np.array([row], np.float32)
    result = attempt(lambda: qk.dynamic_quantize(x, scheme="asymmetric"), "x")
    if result is None:
        return
    q, scale, zp = result
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    back = oracle.dequantize(q, scale[0], zp[0]).astype(np.float64)
    assert (np.abs(back - x) <= max(np.abs(x).max() / 100, 1e-44) + float(scale[0])).all()


def test_ties_go_to_even():
    check(np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]], np.float32))


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_a_batch_gives_the_bits_of_its_rows(rng, scheme):
    x = (rng.normal(0, 1, (67, 131)) * np.geomspace(1e-20, 1e20, 67)[:, None]).astype(np.float32)
    whole = everywhere(lambda: qk.dynamic_quantize(x, scheme=scheme))
    rows = [qk.dynamic_quantize(row, scheme=scheme) for row in x]
    for part, together in enumerate(whole):
        same(np.stack([np.asarray(row[part]) for row in rows]), together)


def test_large_enough_to_split_over_threads(rng):
    x = rng.normal(0, 1, (257, 1031)).astype(np.float32)
    check(x)
    check(x, "asymmetric")
    for scheme in ("symmetric", "asymmetric"):
        got = everywhere(
            lambda s=scheme: qk.dynamic_quantize(x, granularity="per_tensor", scheme=s)
        )
        flat = want(x.reshape(-1), scheme)
        same(got, (flat[0].reshape(x.shape), flat[1], flat[2]))


def test_memory_placements(rng):
    x = rng.normal(0, 1, (33, 47)).astype(np.float32)
    for name, view in placements(x).items():
        same(qk.dynamic_quantize(view), want(x, "symmetric"), name)
        same(
            qk.dynamic_quantize(view.astype("f4"), scheme="asymmetric"), want(x, "asymmetric"), name
        )


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 30, 31, 32, 66])
def test_non_finite_is_an_error(scheme, value, at):
    x = np.ones((4, 67), np.float32)
    x[2, at] = value

    def call():
        for kw in ({}, {"granularity": "per_tensor"}):
            with pytest.raises(ValueError, match="x") as caught:
                qk.dynamic_quantize(x, scheme=scheme, **kw)
            assert isinstance(caught.value, qk.QKernelsError)
        with pytest.raises(ValueError, match="x"):
            qk.linear_int8(x, np.ones((3, 67), np.float32))
        return np.zeros(1)

    everywhere(call, (1, 2))


@given(st.data())
def test_any_numbers(data):
    rows, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 40))
    number = st.floats(-(2.0**126), 2.0**126, width=32)
    values = data.draw(st.lists(number, min_size=rows * columns, max_size=rows * columns))
    x = np.array(values, np.float32).reshape(rows, columns)
    check(x, threads=(1,))
    # Differences below the smallest normal number have no exact scale in ONNX's formula.
    x[np.abs(x) < 1e-30] = 0
    check(x, "asymmetric", threads=(1,))
