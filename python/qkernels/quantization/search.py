# SPDX-License-Identifier: Apache-2.0
"""From ranges to parameters, and the searches for a range better than [min, max].

Ranges come as arrays with one element a channel. A range is clipped to [lo, hi]; codes beyond it
saturate. Sources: "mse" is the search over clipping ranges of Choukroun et al., "Low-bit
Quantization of Neural Networks for Efficient Inference" (2019); "entropy" is the calibration of
Migacz, "8-bit Inference with TensorRT" (GTC 2017).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkernels.checks import CODE_RANGES

Floats = NDArray[np.floating[Any]]

# The grid of clipping factors of "mse": 2^(-j / 8) down to 1/256, then 8 steps between neighbours.
_STEP = 2.0**-0.125
_COARSE = 64
_FINE = 8
# How many thresholds "entropy" compares.
_THRESHOLDS = 128


class Spec(NamedTuple):
    """What the parameters are for."""

    symmetric: bool
    low: int  # codes of the dtype
    high: int

    @classmethod
    def of(cls, scheme: str, dtype: str) -> Spec:
        return cls(scheme == "symmetric", *CODE_RANGES[dtype])


def parameters(lo: Floats, hi: Floats, spec: Spec) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """scale and zero point of each range [lo, hi], in float32.

    Symmetric: scale = max(-lo, hi) / (2^(b-1) - 1). Asymmetric: the range is widened to include 0,
    scale = (hi - lo) / (2^b - 1), zero point = clamp(rint(low - lo / scale)). An empty range, or
    one too small for float32, has scale 1.
    """
    lo32, hi32 = np.asarray(lo, np.float32), np.asarray(hi, np.float32)
    lo32, hi32 = np.minimum(lo32, np.float32(0)), np.maximum(hi32, np.float32(0))
    if spec.symmetric:
        scale = np.maximum(-lo32, hi32) / np.float32(spec.high)
    else:
        levels = np.float32(spec.high - spec.low)
        with np.errstate(over="ignore"):
            scale = (hi32 - lo32) / levels
        # A difference beyond float32: divide first.
        scale = np.where(np.isfinite(scale), scale, hi32 / levels - lo32 / levels)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    if spec.symmetric:
        return scale, np.zeros(scale.shape, np.int32)
    offset = np.rint(np.float32(spec.low) - lo32 / scale)
    return scale, np.clip(offset, spec.low, spec.high).astype(np.int32)


def squared_error(
    points: Floats, weights: Floats | None, lo: Floats, hi: Floats, spec: Spec
) -> NDArray[np.float64]:
    """Sum of squared quantization errors of each channel: points (C, P), ranges (C,)."""
    scale, zero_point = (
        np.asarray(part, points.dtype)[:, None] for part in parameters(lo, hi, spec)
    )
    error = points / scale
    np.rint(error, out=error)
    # Clamp before the zero point is added: code - zero_point is what gets dequantized.
    np.clip(error, spec.low - zero_point, spec.high - zero_point, out=error)
    with np.errstate(over="ignore"):  # an infinite error is never the least
        error *= scale
        error -= points
        error *= error
    if weights is not None:
        error *= weights
    total: NDArray[np.float64] = error.sum(axis=1, dtype=np.float64)
    return total


def mse_range(
    points: Floats, weights: Floats | None, lo: Floats, hi: Floats, spec: Spec
) -> tuple[Floats, Floats]:
    """The range with the least squared error, channel by channel; never worse than [lo, hi].

    points (C, P): elements, or centres of bins with their counts as weights (C, P). The symmetric
    search shrinks both ends together; the asymmetric one shrinks them in turn, twice.
    """
    best_lo, best_hi = np.array(lo, np.float64), np.array(hi, np.float64)
    best = squared_error(points, weights, best_lo, best_hi, spec)
    sides = ((True, True),) if spec.symmetric else ((False, True), (True, False)) * 2
    for shrink_lo, shrink_hi in sides:
        base_lo, base_hi = best_lo.copy(), best_hi.copy()
        chosen = np.ones_like(base_hi)
        factors = [np.full_like(base_hi, _STEP**step) for step in range(1, _COARSE + 1)]
        for stage in ("coarse", "fine"):
            if stage == "fine":
                spread = np.linspace(_STEP, 1 / _STEP, 2 * _FINE + 1)
                middle = chosen.copy()
                factors = [np.minimum(middle * factor, 1.0) for factor in spread]
            for factor in factors:
                try_lo = base_lo * factor if shrink_lo else base_lo
                try_hi = base_hi * factor if shrink_hi else base_hi
                error = squared_error(points, weights, try_lo, try_hi, spec)
                better = error < best
                best = np.where(better, error, best)
                best_lo = np.where(better, try_lo, best_lo)
                best_hi = np.where(better, try_hi, best_hi)
                chosen = np.where(better, factor, chosen)
                # Past the minimum, clipping costs more with every step.
                if stage == "coarse" and (error > 4 * best).all():
                    break
    return best_lo, best_hi


def entropy_range(counts: NDArray[Any], zero: int, width: float, spec: Spec) -> tuple[float, float]:
    """The clipping range whose quantized histogram is nearest to the histogram, by KL divergence.

    counts (B,): bins of `width`; the edge before bin `zero` lies at 0. For each threshold t the
    bins within [-t, t] are the reference P, the tails added to its end bins; Q is P without tails,
    merged into as many levels as the dtype has and spread again over the bins that are not empty.
    The threshold with the least KL(P || Q) wins. A spike of exact zeros (after a ReLU) would drown
    all other bins, though every scale represents it: bin `zero` counts no more than its neighbour,
    as in NVIDIA's pytorch-quantization. Fewer samples than bins say too little about a
    distribution: the whole range is kept.

    No loop over bins: the sums over each level are differences of running sums, so that
    KL = sum P log P - sum P log Q takes one table of thresholds x levels.
    """
    if counts.sum() < counts.size:
        return -float(zero * width), float((counts.size - zero) * width)
    counts = counts.astype(np.float64)
    if zero + 1 < counts.size and counts[zero + 1] > 0:
        counts[zero] = min(counts[zero], counts[zero + 1])
    below, above = zero, counts.size - zero
    levels = spec.high + 1 if spec.symmetric else spec.high - spec.low + 1
    reach = max(below, above)
    # A threshold needs at least a bin for each level.
    least = min(reach, -(-levels // 2) if below and above else levels)
    thresholds = np.unique(
        np.linspace(least, reach, min(_THRESHOLDS, reach - least + 1)).astype(int)
    )
    start = zero - np.minimum(thresholds, below)
    end = zero + np.minimum(thresholds, above)
    divergence = _divergence(counts, start, end, levels)
    at = int(np.argmin(divergence))
    return float((start[at] - zero) * width), float((end[at] - zero) * width)


def _divergence(
    counts: NDArray[np.float64], start: NDArray[Any], end: NDArray[Any], levels: int
) -> NDArray[np.float64]:
    """KL(P || Q) for each range of bins [start, end)."""

    def running(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.concatenate(([0.0], np.cumsum(values)))

    def xlogx(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values * np.log(np.where(values > 0, values, 1.0))

    total = counts.sum()
    sums, filled, logs = running(counts), running(counts > 0), running(xlogx(counts))
    edges = start[:, None] + ((end - start)[:, None] * np.arange(levels + 1)) // levels
    level_sum = np.diff(sums[edges], axis=1)
    level_filled = np.diff(filled[edges], axis=1)
    mean = level_sum / np.where(level_filled > 0, level_filled, 1.0)
    log_mean = np.log(np.where(mean > 0, mean, 1.0))

    tail_low, tail_high = sums[start], total - sums[end]
    first, last = counts[start], counts[end - 1]
    # sum c log c over the bins of P, the tails added to its first and its last bin.
    p_log_p = logs[end] - logs[start]
    p_log_p += xlogx(first + tail_low) - xlogx(first) + xlogx(last + tail_high) - xlogx(last)
    p_log_q = (level_sum * log_mean).sum(axis=1)
    kept = sums[end] - sums[start]
    # The first and last levels that hold a bin: levels may outnumber bins.
    sizes = np.diff(edges, axis=1) > 0
    rows = np.arange(len(start))
    ends = (sizes.argmax(axis=1), levels - 1 - sizes[:, ::-1].argmax(axis=1))
    for tail, level in ((tail_low, ends[0]), (tail_high, ends[1])):
        p_log_q += tail * log_mean[rows, level]
    # A tail on an empty level, where Q would be 0, meets the logarithm of one count: the smoothing
    # that lets a lone outlier be clipped.
    result = (p_log_p - p_log_q) / total - np.log(total) + np.log(np.where(kept > 0, kept, 1.0))
    return np.where(kept > 0, result, np.inf)
