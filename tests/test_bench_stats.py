# SPDX-License-Identifier: Apache-2.0
"""Medians, intervals and the verdict on noise, on samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from qkernels.bench import stats


@pytest.mark.parametrize(
    ("count", "dropped"),  # from tables of the binomial distribution, 95 %
    [(1, 0), (2, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (20, 5), (50, 17), (99, 39)],
)
def test_order_statistics_of_the_interval(count, dropped):
    samples = [float(value) for value in range(count)]
    interval = stats.median_interval(samples[::-1])
    assert interval == ((count - 1) / 2, dropped, count - 1 - dropped)


@pytest.mark.parametrize("count", [6, 15, 40])
@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential"])
def test_the_interval_holds_the_median_as_often_as_it_says(rng, count, draw):
    truth = {"standard_normal": 0.0, "standard_exponential": np.log(2)}[draw]
    trials = getattr(rng, draw)((2000, count))
    held = sum(i.low <= truth <= i.high for i in map(stats.median_interval, trials.tolist()))
    assert held / 2000 > 0.935


def test_more_confidence_is_a_wider_interval(rng):
    samples = rng.standard_normal(31).tolist()
    narrow, wide = (stats.median_interval(samples, c) for c in (0.8, 0.99))
    assert wide.low < narrow.low <= narrow.median <= narrow.high < wide.high


def test_many_samples_do_not_overflow():
    interval = stats.median_interval([float(value) for value in range(5001)])
    assert interval.median == 2500
    assert 2420 < interval.low < 2440


def test_ratios_are_paired(rng):
    """What slows both in a round does not move their ratio."""
    ours = rng.uniform(1, 10, 25)
    interval = stats.ratio_interval((2 * ours).tolist(), ours.tolist())
    assert interval == pytest.approx((2, 2, 2))
    with pytest.raises(ValueError, match="zip"):
        stats.ratio_interval([1.0, 2.0], [1.0])


def test_quartiles_and_spread():
    assert stats.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2, 4)
    assert stats.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert stats.spread([7.0, 7.0]) == 0


def run_of(rng, *, unsteady: float, share: float = 1.0) -> list[list[float]]:
    """Samples of 12 cases; in `share` of them as much as `unsteady` is added to a third."""
    rows = []
    for case in range(12):
        samples = 1 + 0.01 * rng.standard_exponential(30)
        if case < 12 * share:
            samples[rng.permutation(30)[:12]] += unsteady * rng.uniform(0.5, 1, 12)
        rows.append(samples.tolist())
    return rows


def test_a_quiet_machine_is_not_noisy(rng):
    found = stats.noise(run_of(rng, unsteady=0))
    assert 0 < found["spread"] < 0.03
    assert found["noisy"] is False


def test_a_loaded_machine_is_noisy(rng):
    """Another process that takes turns on the CPU doubles some of the times."""
    found = stats.noise(run_of(rng, unsteady=1.0))
    assert found["spread"] > 0.2
    assert found["noisy"] is True


def test_a_load_that_comes_and_goes_is_noisy(rng):
    found = stats.noise(run_of(rng, unsteady=1.0, share=0.4))
    assert found["spread"] < stats.NOISY_SPREAD
    assert found["noisy"] is True


def test_a_single_outlier_is_not_noise(rng):
    rows = run_of(rng, unsteady=0)
    for samples in rows:
        samples[3] = 50.0
    assert stats.noise(rows)["noisy"] is False


@pytest.mark.parametrize("rows", [[], [[]], [[1.0]]])
def test_nothing_to_judge(rows):
    assert stats.noise(rows) == {"spread": None, "noisy": False}
