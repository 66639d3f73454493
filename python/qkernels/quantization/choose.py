# SPDX-License-Identifier: Apache-2.0
"""choose_qparams: quantization parameters from data."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qkernels import _core, arrays, checks
from qkernels.errors import QKernelsValueError, from_core
from qkernels.quantization import search
from qkernels.quantization.functional import real_operand
from qkernels.quantization.histogram import DTYPES, Histogram, check_choice
from qkernels.quantization.qparams import QParams

_BLOCK = 1 << 20  # elements of a block of channels in a search


def choose_qparams(
    x: Any,
    *,
    dtype: Any = "int8",
    scheme: Literal["symmetric", "asymmetric"] = "symmetric",
    axis: int | None = None,
    method: Literal["minmax", "percentile", "mse", "entropy"] = "minmax",
    percentile: float = 99.99,
    bins: int = 2048,
) -> QParams:
    """Quantization parameters that fit x, for the whole tensor or for each index along `axis`.

    x: float32, float16 or bfloat16, finite, not empty.
    dtype: "int8", "uint8", "int2".."int7" or "uint2".."uint7".
    scheme: "symmetric" (signed dtypes only): scale = amax / (2^(b-1) - 1), zero point 0;
    "asymmetric": the range, widened to include 0, over 2^b - 1 steps, zero point
    clamp(rint(qmin - min / scale)). All in float32; where all is zero the scale is 1.

    method: which range the codes span.
    - "minmax": all of it.
    - "percentile": |x| up to its `percentile` (above 50, at most 100); asymmetric: from the
      (100 - percentile)th to the percentile of x. A range that holds only zeros falls back to all.
    - "mse": the range of least squared error, by a search over clipping ranges; never worse than
      "minmax". Source: Choukroun et al., 2019.
    - "entropy": the range of least KL divergence between the histograms before and after.
      Source: Migacz, "8-bit Inference with TensorRT", GTC 2017.
    "mse" and "entropy" work on histograms of `bins` bins, a power of two.

    Returns QParams, arrays in it being NumPy. Raises QKernelsError: ValueError for an empty or
    non-finite x, an unknown name, symmetric with an unsigned dtype; TypeError for other dtypes.

    >>> import numpy as np, qkernels as qk
    >>> x = np.array([[-2.54, 1.0], [0.5, 1.27]], np.float32)
    >>> qk.choose_qparams(x)
    QParams(scale=0.02, zero_point=0, axis=None, dtype='int8')
    >>> qk.choose_qparams(x, scheme="asymmetric", dtype="uint8").zero_point
    170
    >>> qk.choose_qparams(x, axis=0, dtype="int4").scale.shape
    (2,)
    """
    spec = check_choice(method, scheme, dtype, percentile)
    name = checks.dtype_name(dtype, DTYPES, "dtype")
    source = real_operand(x, "x", "choose_qparams")
    data = source.data
    if axis is not None:
        axis = checks.normal_axis(axis, data.ndim)
    if data.size == 0:
        raise QKernelsValueError(f"x is empty, of shape {data.shape}: there is no range to choose")
    Histogram(bins)  # checks the argument
    try:
        low, high, _ = _core.value_range(np.ascontiguousarray(data), source.dtype)
    except _core.CoreError as error:
        raise from_core(error, "choose_qparams: x") from None
    if axis is None and method == "minmax":
        lows, highs = np.array([low]), np.array([high])
    else:
        values = arrays.widened(source)
        channels = (
            values.reshape(1, -1)
            if axis is None
            else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        )
        lows, highs = _ranges(channels, method, spec, percentile, bins)
    scale, zero_point = search.parameters(lows, highs, spec)
    if axis is None:
        return QParams(scale[0], int(zero_point[0]), None, name)
    return QParams(scale, zero_point, axis, name)


def _ranges(
    channels: NDArray[np.float32], method: str, spec: search.Spec, percentile: float, bins: int
) -> tuple[search.Floats, search.Floats]:
    """The range of each channel, channels (C, P)."""
    low, high = channels.min(axis=1), channels.max(axis=1)
    if method == "minmax":
        return low, high
    if method == "percentile":
        return _percentile_ranges(channels, low, high, spec, percentile)
    if method == "mse":
        return _mse_ranges(channels, low, high, spec, bins)
    results = [_entropy_range(channel, spec, bins) for channel in channels]
    lows, highs = np.array(results).T
    return lows, highs


def _percentile_ranges(
    channels: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    spec: search.Spec,
    percentile: float,
) -> tuple[search.Floats, search.Floats]:
    if spec.symmetric:
        top = np.percentile(np.abs(channels), percentile, axis=1)
        top = np.where(top > 0, top, np.maximum(-low, high))
        return -top, top
    with np.errstate(over="ignore"):  # between neighbours farther apart than float32 reaches
        ends = np.percentile(channels, [100 - percentile, percentile], axis=1)
    lows, highs = np.minimum(ends[0], 0), np.maximum(ends[1], 0)
    kept = (lows < highs) & np.isfinite(lows) & np.isfinite(highs)
    return np.where(kept, lows, low), np.where(kept, highs, high)


def _mse_ranges(
    channels: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    spec: search.Spec,
    bins: int,
) -> tuple[search.Floats, search.Floats]:
    """Search over the elements themselves where they are few, else over a histogram; a histogram's
    answer is kept only where it is better on the elements too."""
    count, size = channels.shape
    if spec.symmetric:
        high = np.maximum(-low, high)
        low = -high
    lows, highs = np.minimum(low, 0).astype(np.float64), np.maximum(high, 0).astype(np.float64)
    if size > 2 * bins:
        found = np.array(
            [_histogram(channel, bins).clip_range("mse", spec, 100) for channel in channels]
        )
        for at, channel in enumerate(channels):
            ranges = ((lows[at], highs[at]), (found[at, 0], found[at, 1]))
            errors = [_error_on(channel, lo, hi, spec) for lo, hi in ranges]
            lows[at], highs[at] = ranges[int(np.argmin(errors))]
        return lows, highs
    step = max(1, _BLOCK // size)
    for start in range(0, count, step):
        part = slice(start, start + step)
        lows[part], highs[part] = search.mse_range(
            channels[part], None, lows[part], highs[part], spec
        )
    return lows, highs


def _error_on(channel: NDArray[np.float32], lo: float, hi: float, spec: search.Spec) -> float:
    """The squared error of a range on the elements of one channel."""
    return sum(
        float(
            search.squared_error(
                channel[None, start : start + _BLOCK], None, np.array([lo]), np.array([hi]), spec
            )[0]
        )
        for start in range(0, channel.size, _BLOCK)
    )


def _histogram(channel: NDArray[np.float32], bins: int) -> Histogram:
    histogram = Histogram(bins)
    histogram.update(channel)
    return histogram


def _entropy_range(
    channel: NDArray[np.float32], spec: search.Spec, bins: int
) -> tuple[float, float]:
    return _histogram(channel, bins).clip_range("entropy", spec, 100.0)
