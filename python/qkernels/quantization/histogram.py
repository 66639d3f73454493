# SPDX-License-Identifier: Apache-2.0
"""A histogram that grows with its data: constant memory, mergeable, the same in any order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels import _core, arrays, checks
from qkernels.errors import QKernelsTypeError, QKernelsValueError, from_core
from qkernels.quantization import search
from qkernels.quantization.functional import real_operand
from qkernels.quantization.qparams import QParams

METHODS = ("minmax", "percentile", "mse", "entropy")
SCHEMES = ("symmetric", "asymmetric")

_CHUNK = 1 << 16  # elements binned at a time: temporaries stay in cache


class Histogram:
    """Counts of the values of a tensor over many batches, and the exact minimum and maximum.

    The bins span [-r, r) where r is the least power of two above the largest magnitude so far;
    when it must grow, neighbouring bins merge. Results depend neither on the order of the data nor
    on how it was split: `merge` of two histograms equals one histogram of both.

    bins: how many bins [0, max |x|] is sure to have, a power of two; memory is 32 bytes a bin.

    >>> import numpy as np
    >>> from qkernels.quantization import Histogram
    >>> histogram = Histogram()
    >>> histogram.update(np.array([-1.0, 3.0], np.float32))
    >>> histogram.update(np.array([2.54], np.float32))
    >>> histogram.choose()
    QParams(scale=0.023622047, zero_point=0, axis=None, dtype='int8')
    """

    def __init__(self, bins: int = 2048) -> None:
        self.bins = checks.integer(bins, "bins", 16, 1 << 24)
        if self.bins & (self.bins - 1):
            raise QKernelsValueError(f"bins must be a power of two, not {bins}")
        # The upper half of the range may be empty, so twice the bins a side.
        self._half = 2 * self.bins
        self._counts: NDArray[np.int64] = np.zeros(2 * self._half, np.int64)
        self._exponent: int | None = None  # r = 2**exponent; None until a value is not 0
        self.count = 0
        self.min = math.inf
        self.max = -math.inf

    def __repr__(self) -> str:
        return f"Histogram(bins={self.bins}, count={self.count}, min={self.min}, max={self.max})"

    def update(self, x: Any) -> None:
        """Add the elements of x: float32, float16 or bfloat16, finite, any shape; none is fine."""
        source = real_operand(x, "x", "Histogram.update")
        data = np.ascontiguousarray(source.data)
        if data.size == 0:
            return
        try:
            low, high, amax = _core.value_range(data, source.dtype)
        except _core.CoreError as error:
            raise from_core(error, "Histogram.update: x") from None
        if amax > 0:
            self._grow(math.frexp(amax)[1])
        flat = data.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            part = source._replace(data=flat[start : start + _CHUNK])
            values = arrays.widened(part).astype(np.float64)
            values *= self._half / 2.0 ** (self._exponent or 0)
            np.floor(values, out=values)
            index = values.astype(np.int64) + self._half
            self._counts += np.bincount(index, minlength=self._counts.size)
        self.count += data.size
        self.min = min(self.min, low)
        self.max = max(self.max, high)

    def merge(self, other: Histogram) -> None:
        """Add all that another histogram with the same number of bins has seen."""
        if not isinstance(other, Histogram) or other.bins != self.bins:
            raise QKernelsValueError(
                f"other must be a Histogram of {self.bins} bins, not {other!r}"
            )
        if other._exponent is not None:
            self._grow(other._exponent)
        shift = 0 if other._exponent is None else (self._exponent or 0) - other._exponent
        self._counts = self._counts + _coarser(other._counts, shift)
        self.count += other.count
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    def _grow(self, exponent: int) -> None:
        if self._exponent is None:
            self._exponent = exponent  # zeros alone so far: they stay in the bin after 0
        elif exponent > self._exponent:
            self._counts = _coarser(self._counts, exponent - self._exponent)
            self._exponent = exponent

    def choose(
        self,
        method: str = "minmax",
        scheme: str = "symmetric",
        dtype: Any = "int8",
        *,
        percentile: float = 99.99,
    ) -> QParams:
        """Parameters for the data seen; methods and schemes as in `choose_qparams`.

        Raises QKernelsError (ValueError) when no data was seen.
        """
        spec = check_choice(method, scheme, dtype, percentile)
        if self.count == 0:
            raise QKernelsValueError("the histogram is empty: update it with data first")
        lo, hi = self.clip_range(method, spec, percentile)
        scale, zero_point = search.parameters(np.array(lo), np.array(hi), spec)
        return QParams(
            np.float32(scale), int(zero_point), None, checks.dtype_name(dtype, DTYPES, "dtype")
        )

    def clip_range(self, method: str, spec: search.Spec, percentile: float) -> tuple[float, float]:
        """The range [lo, hi] that a method keeps."""
        amax = max(-self.min, self.max)
        lo, hi = (-amax, amax) if spec.symmetric else (min(self.min, 0.0), max(self.max, 0.0))
        if self._exponent is None or method == "minmax":
            return lo, hi
        width = 2.0**self._exponent / self._half
        if method == "percentile":
            lo, hi = self._percentile_range(spec, percentile, width)
        elif method == "mse":
            used = np.flatnonzero(self._counts)
            points = ((used - self._half + 0.5) * width)[None]
            weights = self._counts[used].astype(np.float64)[None]
            lows, highs = search.mse_range(points, weights, np.array([lo]), np.array([hi]), spec)
            lo, hi = float(lows[0]), float(highs[0])
        else:
            counts, zero = self._magnitudes(width) if spec.symmetric else self._spanned(width)
            low, high = search.entropy_range(counts, zero, width, spec)
            lo, hi = (
                (-min(high, hi), min(high, hi)) if spec.symmetric else (max(low, lo), min(high, hi))
            )
        return lo, hi

    def _magnitudes(self, width: float) -> tuple[NDArray[np.int64], int]:
        """Counts of |x| up to its maximum, from 0 on."""
        folded = self._counts[self._half :] + self._counts[: self._half][::-1]
        below, above = self._extent(width)
        return folded[: max(below, above)], 0

    def _extent(self, width: float) -> tuple[int, int]:
        """How many bins below and above 0 reach to the minimum and the maximum."""
        return math.ceil(max(-self.min, 0.0) / width), math.floor(max(self.max, 0.0) / width) + 1

    def _spanned(self, width: float) -> tuple[NDArray[np.int64], int]:
        """Counts from the minimum, or 0, to the maximum, or 0; and the place of 0."""
        below, above = self._extent(width)
        return self._counts[self._half - below : self._half + above], below

    def _percentile_range(
        self, spec: search.Spec, percentile: float, width: float
    ) -> tuple[float, float]:
        amax = max(-self.min, self.max)
        if spec.symmetric:
            counts, _ = self._magnitudes(width)
            top = min(_quantile(counts, percentile, 0.0, width, (None, amax)), amax) or amax
            return -top, top
        counts, zero = self._spanned(width)
        ends = (self.min, self.max)
        lo = max(_quantile(counts, 100 - percentile, -zero * width, width, ends), self.min)
        hi = min(_quantile(counts, percentile, -zero * width, width, ends), self.max)
        lo, hi = min(lo, 0.0), max(hi, 0.0)
        return (lo, hi) if lo < hi else (min(self.min, 0.0), max(self.max, 0.0))


DTYPES = tuple(checks.CODE_RANGES)


def check_choice(method: Any, scheme: Any, dtype: Any, percentile: Any) -> search.Spec:
    """Check what `choose` and `choose_qparams` share."""
    checks.choice(method, METHODS, "method")
    checks.choice(scheme, SCHEMES, "scheme")
    name = checks.dtype_name(dtype, DTYPES, "dtype")
    if scheme == "symmetric" and name.startswith("uint"):
        raise QKernelsValueError(
            f"scheme='symmetric' needs a signed dtype, not {name!r}: pass scheme='asymmetric'"
        )
    try:
        percent = float(percentile)
    except (TypeError, ValueError):
        raise QKernelsTypeError(f"percentile must be a number, not {percentile!r}") from None
    if not 50 < percent <= 100:
        raise QKernelsValueError(f"percentile must be above 50 and at most 100, not {percentile}")
    return search.Spec.of(scheme, name)


def _coarser(counts: NDArray[np.int64], doublings: int) -> NDArray[np.int64]:
    """The same counts in bins 2^doublings times as wide, 0 staying in the middle."""
    half = counts.size // 2
    group = min(1 << min(doublings, 62), half)
    if group == 1:
        return counts
    merged = counts.reshape(-1, group).sum(axis=1)
    result = np.zeros_like(counts)
    kept = half // group
    result[half - kept : half + kept] = merged
    return result


def _quantile(
    counts: NDArray[np.int64],
    percent: float,
    origin: float,
    width: float,
    ends: tuple[float | None, float],
) -> float:
    """As np.percentile gives, were the samples of each bin spread evenly over it.

    ends: the smallest sample, or None where it is not known, and the largest, exactly."""
    sums = np.cumsum(counts)
    last = int(sums[-1]) - 1

    def sample(index: int) -> float:
        if index == last:
            return ends[1]
        if index == 0 and ends[0] is not None:
            return ends[0]
        at = int(np.searchsorted(sums, index, side="right"))
        within = (index + 0.5 - (sums[at] - counts[at])) / counts[at]
        return float(origin + (at + within) * width)

    rank = percent / 100 * last
    below = min(int(rank), last)
    low, high = sample(below), sample(min(below + 1, last))
    return low + (high - low) * (rank - below)
