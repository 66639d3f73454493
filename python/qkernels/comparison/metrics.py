# SPDX-License-Identifier: Apache-2.0
"""Error measures of one layer, summed batch by batch so that activations need not be kept.

Sums are float64. With r the float reference and v the dequantized value of each element:
SQNR = 10 log10(sum r^2 / sum (v - r)^2) dB, cosine = sum r v / sqrt(sum r^2 sum v^2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class ErrorStats:
    """How far values are from their float reference.

    Attributes:
        sqnr_db: signal to quantization noise ratio; inf without any error, -inf when the
            reference is all zeros and the values are not.
        cosine: cosine similarity, in [-1, 1]; 1 when both sides are all zeros, 0 when one is.
        max_abs_error, mean_abs_error: in the units of the reference.
    """

    sqnr_db: float
    cosine: float
    max_abs_error: float
    mean_abs_error: float


class ErrorSums:
    """The running sums behind an `ErrorStats`."""

    def __init__(self) -> None:
        self._count = 0
        self._signal = self._noise = self._power = self._product = self._absolute = 0.0
        self._largest = 0.0

    def add(self, reference: Array, value: Array) -> None:
        """Count one batch; both arrays of one shape, any float dtype."""
        if reference.shape != value.shape:
            raise ValueError(f"reference has shape {reference.shape} but value {value.shape}")
        r = np.ascontiguousarray(reference, np.float64).ravel()
        v = np.ascontiguousarray(value, np.float64).ravel()
        error = v - r
        self._count += r.size
        self._signal += _dot(r, r)
        self._power += _dot(v, v)
        self._product += _dot(r, v)
        self._noise += _dot(error, error)
        np.abs(error, out=error)
        self._absolute += float(error.sum())
        self._largest = max(self._largest, float(error.max(initial=0.0)))

    def stats(self) -> ErrorStats:
        return ErrorStats(
            sqnr_db=sqnr_db(self._signal, self._noise),
            cosine=_cosine(self._product, self._signal, self._power),
            max_abs_error=self._largest,
            mean_abs_error=self._absolute / max(self._count, 1),
        )


def _dot(a: Array, b: Array) -> float:
    # Not BLAS: vectors this short are not worth its threads, and its sums depend on their number.
    return float(np.einsum("i,i->", a, b))


def sqnr_db(signal: float, noise: float) -> float:
    """Decibels of two sums of squares, with the limits where one of them is zero."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _cosine(product: float, signal: float, power: float) -> float:
    if signal == 0 or power == 0:
        return float(signal == power)
    # Rounding may leave the quotient of parallel vectors an ulp above 1.
    return max(-1.0, min(1.0, product / math.sqrt(signal) / math.sqrt(power)))


@dataclass(frozen=True)
class Histogram:
    """Counts of float and of dequantized values over the range that the codes can express.

    Attributes:
        low, high: the real values of the lowest and the highest code.
        edges: bin borders, ascending, len(bins) + 1, in real units; each bin covers the same
            number of codes and the borders lie half-way between codes.
        reference, value: counts a bin; values beyond the range are counted in the end bins.
    """

    low: float
    high: float
    edges: tuple[float, ...]
    reference: tuple[int, ...]
    value: tuple[int, ...]


class CodeHistogram:
    """Counts by code of one quantized tensor, its float reference beside it.

    Args:
        scale, zero_point: per-tensor quantization parameters.
        lo, hi: the bounds of the codes.
        codes_per_bin: codes merged into one bin of the result.
    """

    def __init__(
        self, scale: float, zero_point: int, lo: int, hi: int, codes_per_bin: int = 4
    ) -> None:
        self._scale, self._zero_point, self._lo, self._hi = scale, zero_point, lo, hi
        self._codes_per_bin = codes_per_bin
        self._reference = np.zeros(hi - lo + 1, np.int64)
        self._value = np.zeros(hi - lo + 1, np.int64)
        self._clipped = 0

    def add(self, reference: Array, codes: Array) -> None:
        ideal = np.rint(reference.ravel() / np.float32(self._scale)) + np.float32(self._zero_point)
        inside = np.clip(ideal, self._lo, self._hi)
        self._clipped += int(np.count_nonzero(inside != ideal))
        bins = self._hi - self._lo + 1
        self._reference += np.bincount((inside - self._lo).astype(np.intp), minlength=bins)
        self._value += np.bincount(codes.ravel().astype(np.intp) - self._lo, minlength=bins)

    @property
    def saturated(self) -> float:
        """Share of reference values whose code would lie outside the range of the codes."""
        return self._clipped / max(int(self._reference.sum()), 1)

    def histogram(self) -> Histogram:
        starts = np.arange(self._lo, self._hi + 1, self._codes_per_bin)
        offsets = starts - self._lo
        borders = np.append(starts, self._hi + 1) - 0.5
        edges = (borders - self._zero_point) * self._scale
        return Histogram(
            low=(self._lo - self._zero_point) * self._scale,
            high=(self._hi - self._zero_point) * self._scale,
            edges=tuple(edges.tolist()),
            reference=tuple(np.add.reduceat(self._reference, offsets).tolist()),
            value=tuple(np.add.reduceat(self._value, offsets).tolist()),
        )
