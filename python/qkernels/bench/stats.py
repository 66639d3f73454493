# SPDX-License-Identifier: Apache-2.0
"""Medians and their intervals. Nothing here assumes that times are normally distributed: they are
not, as interruptions only ever add."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.95
# Half the samples of a quiet machine lie within 2 or 3 % of each other.
NOISY_SPREAD = 0.05
_NOISY_ROW = 0.15
_NOISY_SHARE = 0.25


class Interval(NamedTuple):
    """A median and a confidence interval around it."""

    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return self._asdict()


def median_interval(samples: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The median and the order statistics that enclose the true one with `confidence`.

    The number of samples below the true median is binomial (n, 1/2) whatever the distribution; so
    the j-th smallest and the j-th largest enclose it with 1 - 2 P(fewer than j). Under 6 samples
    no pair reaches 95 %, and the interval is the whole range. samples: at least one.
    """
    ordered = sorted(samples)
    n = len(ordered)
    j, beyond = 0, 0.0
    while 2 * (beyond := beyond + math.comb(n, j) / 2**n) <= 1 - confidence:
        j += 1
    end = max(j, 1) - 1
    return Interval(float(np.median(ordered)), float(ordered[end]), float(ordered[n - 1 - end]))


def ratio_interval(others: Sequence[float], ours: Sequence[float]) -> Interval:
    """The median over rounds of other / ours, times of the same round, and its interval."""
    return median_interval([a / b for a, b in zip(others, ours, strict=True)])


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(samples, [25, 75])
    return float(low), float(high)


def spread(samples: Sequence[float]) -> float:
    """The distance of the quartiles over the median: how unsteady a time was."""
    low, high = quartiles(samples)
    return (high - low) / float(np.median(samples))


def noise(rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """`spread`, the median over rows of samples of their spread, and `noisy`, whether it or a
    quarter of the rows is too unsteady to conclude from. Without rows the spread is None."""
    spreads = [spread(samples) for samples in rows if len(samples) > 1]
    if not spreads:
        return {"spread": None, "noisy": False}
    typical = float(np.median(spreads))
    unsteady = sum(value > _NOISY_ROW for value in spreads) / len(spreads)
    return {"spread": typical, "noisy": typical > NOISY_SPREAD or unsteady > _NOISY_SHARE}
