# SPDX-License-Identifier: Apache-2.0
"""Integer pooling and addition in NumPy, for layers of a model without a kernel.

Pools keep the scale and zero point of their input, so they work on the codes themselves: the
maximum of the codes, and their mean rounded half to even, padding not counted. Addition
dequantizes both sides, adds in float32, and quantizes. Feature maps are (batch, height, width,
channels).
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels.errors import QKernelsValueError
from qkernels.graph.float_ops import covered, taps
from qkernels.graph.geometry import Padding, Pair, check_addable, feature_map
from qkernels.quantization.functional import dequantize, quantize
from qkernels.quantization.qparams import QParams

Codes = NDArray[Any]  # int8 or uint8


def bounds(qparams: QParams, activation: str | None) -> Pair:
    """Smallest and largest code after an activation: q(0) for ReLU, q(6) above for ReLU6."""
    info = np.iinfo(qparams.dtype)
    if activation is None:
        return int(info.min), int(info.max)
    zero_point = int(qparams.zero_point)
    if activation == "relu":
        return zero_point, int(info.max)
    with np.errstate(over="ignore"):  # a tiny scale: infinity, which saturates
        six = np.rint(np.float32(6) / np.float32(qparams.scale)) + zero_point
    return zero_point, int(np.clip(six, info.min, info.max))


def clip(q: Codes, qparams: QParams, activation: str) -> Codes:
    """ReLU or ReLU6 on codes."""
    clipped: Codes = np.clip(q, *np.array(bounds(qparams, activation), q.dtype))
    return clipped


def max_pool2d(q: Codes, kernel: Pair, stride: Pair, padding: Padding) -> Codes:
    """The largest code under each window."""
    lowest = q.dtype.type(np.iinfo(q.dtype).min)
    largest: Codes = reduce(np.maximum, taps(q, kernel, stride, padding, lowest))
    return np.ascontiguousarray(largest)


def avg_pool2d(q: Codes, kernel: Pair, stride: Pair, padding: Padding) -> Codes:
    """The mean code under each window, rounded half to even."""
    total = sum(taps(q, kernel, stride, padding, 0), np.int64(0))
    count = covered((q.shape[1], q.shape[2]), kernel, stride, padding)
    # A float64 quotient is exact enough to keep ties and only ties at one half.
    result: Codes = np.rint(total / count).astype(q.dtype)
    return result


def global_avg_pool2d(q: Codes) -> Codes:
    """The mean code of each channel, rounded half to even; height and width stay with size 1."""
    if 0 in feature_map(q).shape[1:3]:
        raise QKernelsValueError(f"x must have at least one pixel, not shape {q.shape}")
    result: Codes = np.rint(q.mean((1, 2), dtype=np.float64, keepdims=True)).astype(q.dtype)
    return result


def add(
    a: Codes,
    a_qparams: QParams,
    b: Codes,
    b_qparams: QParams,
    out_qparams: QParams,
    activation: str | None,
) -> Codes:
    """a + b, shapes broadcast."""
    check_addable(a.shape, b.shape)
    total = dequantize(a, a_qparams.scale, a_qparams.zero_point) + dequantize(
        b, b_qparams.scale, b_qparams.zero_point
    )
    q = quantize(total, out_qparams.scale, out_qparams.zero_point, dtype=out_qparams.dtype)
    return q if activation is None else clip(q, out_qparams, activation)
