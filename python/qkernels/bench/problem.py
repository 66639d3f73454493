# SPDX-License-Identifier: Apache-2.0
"""The data of a case, and its exact answer from the definition (docs/numerics.md).

Codes use their whole range, so that an implementation that saturates 16-bit sums is found out.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .case import Array, Case, Data, aligned

X_SCALE, X_ZERO_POINT = float(np.float32(0.02)), 128
OUT_SCALE = float(np.float32(0.02))
# 128 * 127 * 1024 < 2^24: a sum of so many products is an integer that float32 holds exactly.
_EXACT_DEPTH = 1024


def make_data(case: Case) -> Data:
    """The same arrays for the same op and parameters, on every machine."""
    text = json.dumps([case.op, dict(case.params)], sort_keys=True)
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    return _MAKERS[case.op](case, rng)


def _data(x: Array, expected: Array, **others: Any) -> Data:
    """A Data with what is given, aligned, and nothing in the other places."""
    values: dict[str, Any] = {
        "w": np.empty(0, np.int8),
        "w_scale": np.empty(0, np.float32),
        "bias": np.empty(0, np.int32),
        "real": np.empty(0, np.float32),
        "x_scale": X_SCALE,
        "x_zero_point": X_ZERO_POINT,
        "out_scale": OUT_SCALE,
        "out_zero_point": 0,
        **others,
    }
    for name, value in {"x": x, "expected": expected, **values}.items():
        values[name] = aligned(value) if isinstance(value, np.ndarray) else value
    return Data(**values)


def exact_matmul(a: Array, b: Array) -> NDArray[np.int64]:
    """a (..., M, K) @ b (..., K, N) of integers within [-128, 128] and [-127, 127]: float32 BLAS
    over pieces of K that stay exact, summed as integers."""
    total: NDArray[np.int64] | None = None
    for start in range(0, a.shape[-1], _EXACT_DEPTH):
        piece = slice(start, start + _EXACT_DEPTH)
        product = a[..., piece].astype(np.float32) @ b[..., piece, :].astype(np.float32)
        whole = product.astype(np.int64)
        total = whole if total is None else total + whole
    assert total is not None
    return total


def exact_conv(x: Array, w: Array, case: Case) -> NDArray[np.int64]:
    """Sums of x (batch, h, w, c) minus its zero point with w (oc, kh, kw, c / groups): a product
    of matrices a kernel position and group."""
    rows, columns = case.out_pixels
    pad, stride, groups = case.pad, case.stride, case.groups
    centred = np.pad(x.astype(np.int16) - X_ZERO_POINT, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    depth, per_group = case.c // groups, case.oc // groups
    sums = np.zeros((groups, case.batch * rows * columns, per_group), np.int64)
    for ky in range(case.kh):
        for kx in range(case.kw):
            top, left = ky * case.dilation, kx * case.dilation
            pixels = centred[
                :,
                top : top + (rows - 1) * stride + 1 : stride,
                left : left + (columns - 1) * stride + 1 : stride,
            ]
            a = pixels.reshape(-1, groups, depth).transpose(1, 0, 2)
            b = w[:, ky, kx].reshape(groups, per_group, depth).transpose(0, 2, 1)
            sums += a.astype(np.int64) * b if depth == per_group == 1 else exact_matmul(a, b)
    result: NDArray[np.int64] = sums.transpose(1, 0, 2)
    return result.reshape(case.batch, rows, columns, case.oc)


def _codes(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Array]:
    """int8 weights, scales that give outputs of about unit variance, a bias of half of that."""
    channels, depth = shape[0], int(np.prod(shape[1:]))
    w_scale = (rng.uniform(0.5, 1.5, channels) / (110 * np.sqrt(depth))).astype(np.float32)
    bias = np.rint(rng.normal(0, 0.5, channels) / (X_SCALE * w_scale)).astype(np.int32)
    w = rng.integers(-127, 128, shape, dtype=np.int8)
    return {"w": w, "w_scale": w_scale, "bias": bias}


def _integer_output(x: Array, weights: dict[str, Array], sums: NDArray[np.int64]) -> Data:
    """Codes of the sums plus bias: one multiplier a channel, ties to even, clamped at code 0."""
    multiplier = np.float32(X_SCALE) * weights["w_scale"]
    with_bias = (sums + weights["bias"]).astype(np.float32)
    codes = np.rint(with_bias * (multiplier / np.float32(OUT_SCALE)))
    return _data(
        x,
        np.clip(codes, 0, 255).astype(np.uint8),
        real=np.maximum(with_bias * multiplier, np.float32(0)),
        **weights,
    )


def _linear(case: Case, rng: np.random.Generator) -> Data:
    x, weights = _codes(rng, (case.m, case.k)), _weights(rng, (case.n, case.k))
    sums = exact_matmul(x.astype(np.int16) - X_ZERO_POINT, weights["w"].T)
    return _integer_output(x, weights, sums)


def _linear_s32(case: Case, rng: np.random.Generator) -> Data:
    x, weights = _codes(rng, (case.m, case.k)), _weights(rng, (case.n, case.k))
    sums = exact_matmul(x.astype(np.int16) - X_ZERO_POINT, weights["w"].T)
    return _data(x, sums.astype(np.int32), **weights)


def _dynamic(case: Case, rng: np.random.Generator) -> Data:
    weights = _weights(rng, (case.n, case.k))
    x = rng.standard_normal((case.m, case.k), dtype=np.float32)
    # The scale of x is the contender's to choose; X_SCALE only fixes the unit of the bias.
    real_bias = weights["bias"] * (np.float32(X_SCALE) * weights["w_scale"])
    real = (x @ weights["w"].T.astype(np.float32)) * weights["w_scale"] + real_bias
    return _data(x, real.astype(np.float32), **weights)


def _conv(case: Case, rng: np.random.Generator) -> Data:
    x = _codes(rng, (case.batch, case.h, case.w, case.c))
    weights = _weights(rng, (case.oc, case.kh, case.kw, case.c // case.groups))
    return _integer_output(x, weights, exact_conv(x, weights["w"], case))


def _quantize(case: Case, rng: np.random.Generator) -> Data:
    x = rng.normal(0, 1, (case.rows, case.columns)).astype(np.float32)
    codes = np.rint(x / np.float32(OUT_SCALE)) + 128
    expected = np.clip(codes, 0, 255).astype(np.uint8)
    return _data(x, expected, out_zero_point=128)


def _dequantize(case: Case, rng: np.random.Generator) -> Data:
    x = _codes(rng, (case.rows, case.columns))
    real = (x.astype(np.float32) - np.float32(X_ZERO_POINT)) * np.float32(X_SCALE)
    return _data(x, real)


def _requantize(case: Case, rng: np.random.Generator) -> Data:
    x = rng.integers(-(2**20), 2**20, (case.rows, case.columns), dtype=np.int32)
    multiplier = (rng.uniform(0.5, 1.5, case.columns) * 2.0**-13).astype(np.float32)
    codes = np.rint(x.astype(np.float32) * multiplier) + 128
    return _data(x, np.clip(codes, 0, 255).astype(np.uint8), w_scale=multiplier, out_zero_point=128)


def _dynamic_quantize(case: Case, rng: np.random.Generator) -> Data:
    """Symmetric by the row: `expected` are the int8 codes."""
    x = rng.standard_normal((case.rows, case.columns), dtype=np.float32)
    amax = np.abs(x).max(axis=1, keepdims=True)
    return _data(x, np.rint(x * (np.float32(127) / amax)).astype(np.int8))


def _digits(case: Case, rng: np.random.Generator) -> Data:
    """Images that training has not seen, in random order; the scores are those of float32."""
    from qkernels.data import digits

    images = digits.held_out().images
    x = images[rng.integers(0, len(images), case.batch)]
    return _data(x, digits.network()(x))


_MAKERS = {
    "linear": _linear,
    "linear_s32": _linear_s32,
    "dynamic": _dynamic,
    "conv": _conv,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "requantize": _requantize,
    "dynamic_quantize": _dynamic_quantize,
    "digits": _digits,
}
