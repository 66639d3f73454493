# SPDX-License-Identifier: Apache-2.0
"""The numerics of qkernels written a second time, in NumPy, for the tests to compare with.

Nothing here shares a line with the library. Integers are summed exactly (in float64 below 2^53,
which BLAS makes fast, or in int64) and every float32 step is one NumPy operation in the order that
docs/numerics.md gives. Arguments have the names and meanings of the public functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

F32 = np.float32
INT32 = (-(2**31), 2**31 - 1)
CODES = {"int8": (-128, 127), "uint8": (0, 255)} | {
    f"{'u' * unsigned}int{bits}": (0, 2**bits - 1)
    if unsigned
    else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for bits in range(2, 8)
    for unsigned in (False, True)
}


def storage(dtype: str) -> np.dtype[Any]:
    """The array dtype that holds codes of `dtype`, one a byte."""
    return np.dtype(np.uint8 if dtype.startswith("u") else np.int8)


# Quantization -------------------------------------------------------------------------------------
def along(values: Any, ndim: int, axis: int | None) -> np.ndarray:
    """`values` shaped to broadcast along `axis` of an array of `ndim` dimensions."""
    values = np.asarray(values)
    if values.ndim == 0:
        return values
    shape = [1] * ndim
    shape[axis if axis is not None else -1] = values.size
    return values.reshape(shape)


def to_int(real: np.ndarray, low: int, high: int, zero_point: Any = 0) -> np.ndarray:
    """clamp(rint(real) + zero_point) as int64; infinities saturate."""
    rounded = np.rint(real).astype(np.float64)
    return np.clip(np.clip(rounded, -1e12, 1e12).astype(np.int64) + zero_point, low, high)


def quantize(
    x: Any, scale: Any, zero_point: Any = 0, *, axis: int | None = None, dtype: str = "int8"
):
    x = np.asarray(x).astype(F32)
    with np.errstate(over="ignore"):
        ratio = x / along(np.asarray(scale, F32), x.ndim, axis)
    zero_point = along(np.asarray(zero_point, np.int64), x.ndim, axis)
    return to_int(ratio, *CODES[dtype], zero_point).astype(storage(dtype))


def dequantize(q: Any, scale: Any, zero_point: Any = 0, *, axis: int | None = None) -> np.ndarray:
    q = np.asarray(q)
    difference = q.astype(np.int64) - along(np.asarray(zero_point, np.int64), q.ndim, axis)
    with np.errstate(over="ignore"):
        return difference.astype(F32) * along(np.asarray(scale, F32), q.ndim, axis)


def dynamic_symmetric(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows along the last axis: (q int8, scale x.shape[:-1])."""
    x = np.asarray(x).astype(F32)
    amax = np.max(np.abs(x), axis=-1, initial=0).astype(F32)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = F32(127) / amax
    usable = np.isfinite(inverse)
    inverse = np.where(usable, inverse, F32(0)).astype(F32)
    scale = np.where(usable, amax / F32(127), F32(1)).astype(F32)
    return np.rint(x * inverse[..., None]).astype(np.int8), scale


def dynamic_asymmetric(x: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ONNX DynamicQuantizeLinear, each row along the last axis: (q uint8, scale, zero point)."""
    x = np.asarray(x).astype(F32)
    high = np.max(x, axis=-1, initial=0).astype(F32)
    low = np.min(x, axis=-1, initial=0).astype(F32)
    scale = np.where(high == low, F32(1), (high - low) / F32(255)).astype(F32)
    zero_point = to_int(-low / scale, 0, 255)
    q = to_int(x / scale[..., None], 0, 255, zero_point[..., None])
    return q.astype(np.uint8), scale, zero_point


def minmax_qparams(x: Any, dtype: str = "int8", scheme: str = "symmetric", axis: int | None = None):
    """(scale, zero_point) of method "minmax"."""
    x = np.asarray(x).astype(F32)
    others = None if axis is None else tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    low_code, high_code = CODES[dtype]
    if scheme == "symmetric":
        amax = np.abs(x).max(axis=others).astype(F32)
        scale = np.where(amax == 0, F32(1), amax / F32(high_code)).astype(F32)
        return scale, np.zeros(scale.shape, np.int64)
    low = np.minimum(x.min(axis=others), F32(0)).astype(F32)
    high = np.maximum(x.max(axis=others), F32(0)).astype(F32)
    span = (high - low).astype(F32)
    scale = np.where(span == 0, F32(1), span / F32(high_code - low_code)).astype(F32)
    return scale, to_int(F32(low_code) - low / scale, low_code, high_code)


def quantize_weight(weight: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows (axis 0) of a float weight: (int8, scale (N,)), a zero row having scale 1."""
    weight = np.asarray(weight).astype(F32)
    scale, _ = minmax_qparams(weight, axis=0) if weight.size else (np.ones(len(weight), F32), 0)
    return quantize(weight, scale, axis=0), scale


# Sums ---------------------------------------------------------------------------------------------
def exact_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b of integers: products and sums stay far below 2^53, where float64 is exact."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def as_int32(sums: np.ndarray) -> np.ndarray:
    assert sums.size == 0 or (sums.min() >= INT32[0] and sums.max() <= INT32[1])
    return sums.astype(np.int32)


def gemm(a: Any, b: Any, *, a_zero_point: Any = 0, b_zero_point: Any = 0) -> np.ndarray:
    a_zp, b_zp = np.asarray(a_zero_point, np.int64), np.asarray(b_zero_point, np.int64)
    left = np.asarray(a).astype(np.int64) - (a_zp[:, None] if a_zp.ndim else a_zp)
    return as_int32(exact_matmul(left, np.asarray(b).astype(np.int64) - b_zp))


def pads(padding: Any, size: tuple[int, int], kernel: tuple[int, int], stride: Any, dilation: Any):
    """((top, bottom), (left, right)) of any accepted form of `padding`."""
    if padding == "same":
        result = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
            result.append((total // 2, total - total // 2))
        return tuple(result)
    if isinstance(padding, int):
        return ((padding, padding),) * 2
    return tuple((p, p) if isinstance(p, int) else tuple(p) for p in padding)


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def convolve(x, weight, x_zp, w_zp, stride, padding, dilation, groups) -> np.ndarray:
    """Direct convolution: x (B, H, W, C), weight (O, KH, KW, C / groups), int32 (B, OH, OW, O)."""
    stride, dilation = pair(stride), pair(dilation)
    o, kh, kw, depth = weight.shape
    padding = pads(padding, x.shape[1:3], (kh, kw), stride, dilation)
    x = np.pad(x.astype(np.int64) - x_zp, ((0, 0), *padding, (0, 0)))
    weight = weight.astype(np.int64) - np.asarray(w_zp, np.int64).reshape(-1, 1, 1, 1)
    oh = (x.shape[1] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (x.shape[2] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    sums = np.zeros((x.shape[0], oh, ow, o), np.int64)
    per_group = o // groups
    for r in range(kh):
        for c in range(kw):
            top, left = r * dilation[0], c * dilation[1]
            seen = x[:, top : top + (oh - 1) * stride[0] + 1 : stride[0]]
            seen = seen[:, :, left : left + (ow - 1) * stride[1] + 1 : stride[1]]
            if depth == 1 and per_group == 1:
                sums += seen * weight[:, r, c, 0]
                continue
            for g in range(groups):
                outs, ins = (
                    slice(g * per_group, (g + 1) * per_group),
                    slice(g * depth, (g + 1) * depth),
                )
                sums[..., outs] += exact_matmul(seen[..., ins], weight[outs, r, c].T)
    return as_int32(sums)


# From sums to outputs -----------------------------------------------------------------------------
def fixed_multiplier(real: float) -> tuple[int, int]:
    """TFLite's QuantizeMultiplier: real = mantissa * 2^(shift - 31), mantissa in [2^30, 2^31)."""
    fraction, shift = math.frexp(real)
    mantissa = math.floor(fraction * 2**31 + 0.5)
    if mantissa == 2**31:
        mantissa, shift = 2**30, shift + 1
    return (0, 0) if shift < -31 else (mantissa, shift)


def rescale(v: np.ndarray, multiplier: np.ndarray, rounding: str) -> np.ndarray:
    """Sums (int64, channels last) times float64 multipliers by a fixed-point rule, unclamped."""
    pairs = np.array([fixed_multiplier(float(m)) for m in np.ravel(multiplier)], np.int64)
    mantissa, shift = pairs.reshape(*np.shape(multiplier), 2).transpose(-1, *range(multiplier.ndim))
    if rounding == "fixed_point_single":
        right = np.maximum(31 - shift, 0)
        half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
        return (v * mantissa + half) >> right
    # A sum that the left shift takes out of int32 saturates (TFLite leaves it undefined).
    shifted = np.clip(v << np.clip(shift, 0, 31), *INT32)
    product = shifted * mantissa
    product += np.where(product >= 0, 2**30, 1 - 2**30)
    high = np.sign(product) * (np.abs(product) >> 31)
    right = np.maximum(-shift, 0)
    mask = (np.int64(1) << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def bounds(activation: Any, out_scale: Any, zero_point: int, dtype: str) -> tuple[int, int]:
    """Smallest and largest code that an output may have."""
    low, high = CODES[dtype]
    if activation is None:
        return low, high
    pair_ = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}.get(activation, activation)
    if activation == "relu" and out_scale is None:
        return max(low, zero_point), high
    ends = [to_int(F32(v) / F32(out_scale), low, high, zero_point) for v in pair_]
    return int(ends[0]), int(ends[1])


def saturate(sums: np.ndarray) -> np.ndarray:
    return np.clip(sums, *INT32)


def to_codes(v, real, single, zero_point, dtype, rounding, limits) -> np.ndarray:
    """Saturated sums to codes: `real` the float64 multiplier, `single` the float32 one."""
    if rounding == "nearest_even":
        with np.errstate(over="ignore"):
            codes = to_int(v.astype(F32) * single, *INT32) + zero_point
    else:
        codes = rescale(v, np.asarray(real, np.float64), rounding) + zero_point
    return np.clip(codes, *limits).astype(storage(dtype))


def requantize(
    acc,
    scale,
    zero_point=0,
    *,
    axis=None,
    bias=None,
    dtype="int8",
    activation=None,
    rounding="nearest_even",
) -> np.ndarray:
    acc = np.asarray(acc).astype(np.int64)
    m = along(np.asarray(scale, F32), acc.ndim, axis)
    if bias is not None:
        acc = saturate(acc + along(np.asarray(bias, np.int64), acc.ndim, axis))
    limits = bounds(activation, None, zero_point, dtype)
    return to_codes(acc, m.astype(np.float64), m, zero_point, dtype, rounding, limits)


CURVES = {
    "gelu": lambda v: 0.5 * v * (1 + np.vectorize(math.erf, otypes=[float])(v / math.sqrt(2))),
    "silu": lambda v: v / (1 + np.exp(-v)),
    "tanh": np.tanh,
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "hardswish": lambda v: v * np.clip(v + 3, 0, 6) / 6,
}


def finish(
    acc, *, x_scale=None, weight_scale=None, bias=None, out_scale=None, out_zero_point=0,
    out_dtype="int32", activation=None, rounding="nearest_even",
) -> np.ndarray:  # fmt: skip
    """Sums (..., N) to any output. For a dynamic x, x_scale has shape (..., 1). A named curve is
    left to the caller: the value before it is returned."""
    v = np.asarray(acc).astype(np.int64)
    w = None if weight_scale is None else np.asarray(weight_scale, F32)
    float_bias = bias is not None and np.asarray(bias).dtype != np.int32
    if bias is not None and not float_bias:
        v = saturate(v + np.asarray(bias, np.int64))
    elif float_bias and out_dtype != "float32":
        with np.errstate(over="ignore"):
            ratio = np.asarray(bias, F32) / (F32(x_scale) * w)
        v = saturate(v + to_int(ratio, *INT32))
    if out_dtype == "int32":
        return v.astype(np.int32)
    if out_dtype == "float32":
        with np.errstate(over="ignore"):
            y = v.astype(F32) * (np.asarray(x_scale, F32) * w)
            if float_bias:
                y = y + np.asarray(bias, F32)
        pair_ = {"relu": (0, math.inf), "relu6": (0, 6)}.get(activation, activation)
        return y if isinstance(pair_, str | None) else np.clip(y, F32(pair_[0]), F32(pair_[1]))
    single = (F32(x_scale) * w) / F32(out_scale)
    real = np.float64(F32(x_scale)) * w.astype(np.float64) / np.float64(F32(out_scale))
    limits = bounds(activation, out_scale, out_zero_point, out_dtype)
    return to_codes(v, real, single, out_zero_point, out_dtype, rounding, limits)


def prepare(x, weight, weight_scale, x_scale, x_zero_point, out_scale, out_dtype, rank):
    """What linear and conv2d share: integers and scales on both sides, and the output dtype.
    A dynamic x is quantized over its last `rank` axes; its scale keeps them with size 1."""
    x, weight = np.asarray(x), np.asarray(weight)
    if weight.dtype.kind not in "iu":
        weight, weight_scale = quantize_weight(weight)
    if x.dtype.kind in "iu":
        default = "int32" if x_scale is None else "float32" if out_scale is None else x.dtype.name
    elif x_scale is not None:
        x, default = quantize(x, x_scale, x_zero_point), "float32" if out_scale is None else "int8"
    else:
        lead = x.shape[: x.ndim - rank]
        rows = x.reshape(*lead, math.prod(x.shape[x.ndim - rank :]))
        q, x_scale = dynamic_symmetric(rows)
        x, x_scale, default = (
            q.reshape(x.shape),
            x_scale.reshape(x_scale.shape + (1,) * rank),
            "float32",
        )
    return x, weight, weight_scale, x_scale, out_dtype or default


def linear(
    x, weight, bias=None, *, x_scale=None, x_zero_point=0, weight_scale=None, weight_zero_point=0,
    out_scale=None, out_dtype=None, **epilogue,
) -> np.ndarray:  # fmt: skip
    x, weight, weight_scale, x_scale, out_dtype = prepare(
        x, weight, weight_scale, x_scale, x_zero_point, out_scale, out_dtype, 1
    )
    w_zp = np.broadcast_to(np.asarray(weight_zero_point, np.int64), len(weight))
    acc = gemm(x, weight.T, a_zero_point=x_zero_point, b_zero_point=w_zp)
    return finish(
        acc,
        x_scale=x_scale,
        weight_scale=weight_scale,
        bias=bias,
        out_scale=out_scale,
        out_dtype=out_dtype,
        **epilogue,
    )


def conv2d(
    x, weight, bias=None, *, layout="NHWC", weight_layout="OIHW",
    stride=1, padding=0, dilation=1, groups=1,
    x_scale=None, x_zero_point=0, weight_scale=None, weight_zero_point=0,
    out_scale=None, out_dtype=None, **epilogue,
) -> np.ndarray:  # fmt: skip
    x, weight = np.asarray(x), np.asarray(weight)
    x = x.transpose(0, 2, 3, 1) if layout == "NCHW" else x
    weight = weight.transpose([weight_layout.index(letter) for letter in "OHWI"])
    x, weight, weight_scale, x_scale, out_dtype = prepare(
        x, weight, weight_scale, x_scale, x_zero_point, out_scale, out_dtype, 3
    )
    acc = convolve(x, weight, x_zero_point, weight_zero_point, stride, padding, dilation, groups)
    y = finish(
        acc,
        x_scale=x_scale,
        weight_scale=weight_scale,
        bias=bias,
        out_scale=out_scale,
        out_dtype=out_dtype,
        **epilogue,
    )
    return y.transpose(0, 3, 1, 2) if layout == "NCHW" else y
