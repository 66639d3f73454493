# SPDX-License-Identifier: Apache-2.0
"""choose_qparams: min-max to the bit, the other methods by what they promise."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
import qkernels as qk
from qkernels.quantization import Histogram
from support import attempt, everywhere, placements, require, same

METHODS = ("minmax", "percentile", "mse", "entropy")
SIGNED = [d for d in oracle.CODES if not d.startswith("u")]


def check_minmax(x, dtype, scheme, axis):
    scale, zp = oracle.minmax_qparams(x, dtype, scheme, axis)

    def call():
        params = qk.choose_qparams(x, dtype=dtype, scheme=scheme, axis=axis)
        assert params.dtype == dtype
        assert params.axis == (None if axis is None else axis % x.ndim)
        return np.asarray(params.scale), np.broadcast_to(params.zero_point, scale.shape).astype(
            np.int64
        )

    same(everywhere(call, (1, 2)), (scale, zp))


@pytest.mark.parametrize("dtype", list(oracle.CODES))
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_minmax(rng, dtype, axis):
    for low, high in ((-1, 1), (0.5, 3), (-7, -2), (-0.001, 40)):
        x = rng.uniform(low, high, (6, 17)).astype(np.float32)
        check_minmax(x, dtype, "asymmetric", axis)
        if dtype in SIGNED:
            check_minmax(x, dtype, "symmetric", axis)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 129, 4097])
def test_the_extreme_is_found_wherever_it_stands(rng, n):
    for at in sorted({0, n // 2, n - 1}):
        x = rng.uniform(-1, 1, n).astype(np.float32)
        x[at] = -9
        check_minmax(x, "int8", "symmetric", None)
        check_minmax(x, "uint8", "asymmetric", None)


def test_short_floats(rng):
    for dtype in (np.float16, require("ml_dtypes").bfloat16):
        check_minmax(rng.normal(0, 2, (5, 33)).astype(dtype), "int8", "symmetric", 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_all_zeros_have_scale_one(method, scheme):
    params = qk.choose_qparams(np.zeros((3, 4), np.float32), scheme=scheme, method=method)
    assert float(params.scale) == 1
    assert (
        qk.dequantize(
            qk.quantize(np.zeros(1, "f4"), 1.0, params.zero_point), 1.0, params.zero_point
        )
        == 0
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [(s, d) for s in ("symmetric", "asymmetric") for d in ("int8", "int4")]
    + [("asymmetric", "uint8")],
)
def test_other_methods_are_sound(rng, method, scheme, dtype):
    x = rng.standard_t(3, 20000).astype(np.float32) + (0.5 if scheme == "asymmetric" else 0)
    widest = qk.choose_qparams(x, dtype=dtype, scheme=scheme)
    params = qk.choose_qparams(x, dtype=dtype, scheme=scheme, method=method)
    low, high = oracle.CODES[dtype]
    assert np.isfinite(params.scale)
    assert 0 < params.scale <= widest.scale * np.float32(1.0001)
    assert low <= params.zero_point <= high
    if scheme == "symmetric":
        assert params.zero_point == 0

    def error(p):
        q = oracle.quantize(x, p.scale, p.zero_point, dtype=dtype)
        return float(
            ((oracle.dequantize(q, p.scale, p.zero_point) - x).astype(np.float64) ** 2).mean()
        )

    if method == "mse":
        assert error(params) <= error(widest) * 1.0001
    again = qk.choose_qparams(x.copy(), dtype=dtype, scheme=scheme, method=method)
    same(np.asarray(again.scale), np.asarray(params.scale), "the same data, the same answer")


def test_outliers_are_cut_by_percentile_and_kept_by_minmax(rng):
    x = np.append(rng.normal(0, 1, 100_000), 1000.0).astype(np.float32)
    assert float(qk.choose_qparams(x).scale) == pytest.approx(1000 / 127)
    assert float(qk.choose_qparams(x, method="percentile").scale) < 10 / 127


@pytest.mark.parametrize("method", METHODS)
def test_channels_are_independent(rng, method):
    x = (rng.normal(0, 1, (3, 2000)) * [[1], [20], [0.01]]).astype(np.float32)
    whole = np.asarray(qk.choose_qparams(x, axis=0, method=method).scale)
    alone = [float(qk.choose_qparams(row, method=method).scale) for row in x]
    np.testing.assert_allclose(whole, alone, rtol=1e-6)


def test_memory_placements(rng):
    x = rng.normal(0, 1, (13, 34)).astype(np.float32)
    want = oracle.minmax_qparams(x, axis=1)[0]
    for name, view in placements(x).items():
        same(np.asarray(qk.choose_qparams(view, axis=1).scale), want, name)


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize(
    "x", [[-3.4e38, 3.4e38], [1e-45, -1e-45], [1e-40, 2e-40], [3e38], [-1e-38, 1e38]]
)
def test_ranges_at_the_edge_of_float32(x, scheme):
    """Usable parameters or an error, never a zero, infinite or NaN scale."""
    x = np.array(x, np.float32)
    params = attempt(lambda: qk.choose_qparams(x, scheme=scheme), "x")
    if params is None:
        return
    assert np.isfinite(params.scale)
    assert params.scale > 0
    codes = qk.quantize(x, params.scale, params.zero_point).astype(np.float64)
    back = (codes - params.zero_point) * np.float64(params.scale)
    assert (np.abs(back - x) <= np.float64(params.scale) * 1.01).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_is_an_error(method, value):
    x = np.ones(70, np.float32)
    x[66] = value
    for axis in (None, 0):
        with pytest.raises(ValueError, match="x") as caught:
            qk.choose_qparams(x.reshape(2, 35), method=method, axis=axis)
        assert isinstance(caught.value, qk.QKernelsError)


@pytest.mark.parametrize(
    ("x", "kw"),
    [
        (np.zeros(0, "f4"), {}), (np.zeros((3, 0), "f4"), {"axis": 0}), (np.ones(3, "f8"), {}),
        (np.ones(3, "i4"), {}), (np.ones(3, "f4"), {"dtype": "uint8"}),
        (np.ones(3, "f4"), {"axis": 1}),
        (np.ones(3, "f4"), {"method": "median"}), (np.ones(3, "f4"), {"scheme": "affine"}),
        (np.ones(3, "f4"), {"dtype": "int16"}), (np.ones(3, "f4"), {"axis": "0"}), ("abc", {}),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(x, kw):
    with pytest.raises(qk.QKernelsError):
        qk.choose_qparams(x, **kw)


def test_entropy_ignores_a_spike_at_zero_and_clips_a_lone_outlier(rng):
    relu = np.maximum(rng.standard_normal(50_000), 0).astype(np.float32)
    kept = qk.choose_qparams(relu, method="entropy", scheme="asymmetric", dtype="uint8").scale * 255
    assert kept > 0.8 * relu.max()
    outlier = np.append(rng.standard_normal(100_000), 100.0).astype(np.float32)
    assert qk.choose_qparams(outlier, method="entropy").scale * 127 < 10


def test_entropy_of_few_samples_keeps_the_whole_range(rng):
    few = np.maximum(rng.standard_normal(1000), 0).astype(np.float32)
    for scheme in ("symmetric", "asymmetric"):
        params = [
            qk.choose_qparams(few, method=method, scheme=scheme) for method in ("entropy", "minmax")
        ]
        assert params[0] == params[1]


@pytest.mark.parametrize("percentile", [60.0, 99.0, 99.99])
def test_percentile_of_a_histogram_is_that_of_the_samples(rng, percentile):
    for n in (1, 2, 100, 20_000):
        x = rng.standard_normal(n).astype(np.float32)
        histogram = Histogram()
        histogram.update(x)
        for scheme in ("symmetric", "asymmetric"):
            exact = qk.choose_qparams(x, method="percentile", percentile=percentile, scheme=scheme)
            binned = histogram.choose("percentile", scheme, percentile=percentile)
            # Two samples decide, each known to within a bin: 1/2048 of the largest, at most.
            assert binned.scale == pytest.approx(float(exact.scale), rel=0.01, abs=1e-5)


def test_extreme_magnitudes_make_no_warning():
    x = np.array([-3.4e38, 3.4e38], np.float32)
    for method in METHODS:  # a warning would be an error here
        assert np.isfinite(qk.choose_qparams(x, method=method).scale)
