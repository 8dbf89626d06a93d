"""Changes over trainings and images: by hand, and how often their intervals hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from shrinkproof.statistics import (
    Replicated,
    Terms,
    bootstrap_weights,
    calculated,
    estimate,
    replicates,
)
from shrinkproof.verdict.contrasts import (
    Change,
    Contrast,
    Spread,
    bias_of,
    minus,
    over_trainings,
)

NONE = np.empty(0)


def plain(value: float) -> Change:
    """A change without values on resampled images."""
    return Change(Replicated(value, NONE))


def test_trainings_alone_have_the_interval_of_student() -> None:
    found = over_trainings([plain(v) for v in (0.1, 0.2, 0.4)], 400)
    values = np.array([0.1, 0.2, 0.4])
    expected = stats.t.interval(0.95, 2, values.mean(), values.std(ddof=1) / math.sqrt(3))
    assert found.interval() == pytest.approx(expected)
    test = stats.ttest_1samp(values, 0.05, alternative="greater")
    assert found.p_above(0.05) == pytest.approx(test.pvalue)
    assert found.p_below(0.05) == pytest.approx(1 - test.pvalue)


def test_images_alone_have_the_normal_interval() -> None:
    drawn = np.random.default_rng(0).normal(0.3, 0.02, 4000)
    found = over_trainings([Change(Replicated(0.3, drawn))], 400)
    low, high = found.interval() or (0, 0)
    assert (high - low) / 2 == pytest.approx(stats.norm.ppf(0.975) * drawn.std(ddof=1))
    assert found.p_above(0.3) == pytest.approx(0.5)


def test_interval_and_p_values_agree() -> None:
    found = Contrast(0.2, (Spread(0.01, 2), Spread(0.02, math.inf)), 0.03, 0.05, 3)
    low, high = found.interval() or (0, 0)
    assert found.p_above(low) == pytest.approx(0.025)
    assert found.p_below(high) == pytest.approx(0.025)


def test_the_quantile_lies_between_those_of_the_sources() -> None:
    found = Contrast(0.0, (Spread(0.5, 2), Spread(0.5, math.inf)))
    low, high = found.interval() or (0, 0)
    quantile = (stats.t.ppf(0.975, 2) + stats.norm.ppf(0.975)) / 2
    assert (-low, high) == pytest.approx((quantile, quantile))


def test_one_plain_number_has_no_interval() -> None:
    found = over_trainings([plain(0.1)], 400)
    assert (found.interval(), found.p_above(0), found.p_below(0)) == (None, None, None)
    assert "has no interval" in found.reason


def test_equal_plain_numbers_have_no_interval() -> None:
    found = over_trainings([plain(0.1)] * 3, 400)
    assert found.interval() is None
    assert "the same value" in found.reason


def test_undefined_resamples_leave_the_trainings() -> None:
    broken = np.array([0.1, math.nan])
    changes = [Change(Replicated(v, broken)) for v in (0.1, 0.2)]
    found = over_trainings(changes, 400)
    assert [spread.freedom for spread in found.spreads] == [1]
    assert "leave it undefined" in found.reason


def test_turning_swaps_the_ends() -> None:
    found = Contrast(0.2, (Spread(0.01, 2),), above=0.01, below=0.07, values=(0.2,))
    low, high = found.interval() or (0, 0)
    assert found.turned().interval() == pytest.approx((-high, -low))


def test_two_networks_add_their_trainings_and_share_their_images() -> None:
    drawn = np.random.default_rng(0).normal(0.1, 0.02, 1000)
    a = Contrast(0.3, (Spread(0.01, 2), Spread(0.5, math.inf)), trainings=3)
    b = Contrast(0.2, (Spread(0.02, 2), Spread(0.5, math.inf)), trainings=3)
    found = minus(a, b, Replicated(0.1, drawn), 400)
    assert found.value == pytest.approx(0.1)
    assert found.variance == pytest.approx(0.03 + drawn.var(ddof=1))


def test_bias_of_gaps_of_expectation_zero() -> None:
    rng = np.random.default_rng(0)
    gaps_K = rng.normal(0, 1, 2000)
    resampled_RK = gaps_K + rng.normal(0, 1, (200, 2000))
    number = Replicated(float(np.abs(gaps_K).sum()), np.abs(resampled_RK).sum(axis=1))
    assert bias_of(number) == pytest.approx(number.value, rel=0.1)  # all of it is bias
    assert bias_of(Replicated(1.0, np.array([0.5]))) == 0
    assert bias_of(Replicated(1.0, NONE)) == 0


# How often intervals hold.


def _simulated(trainings: int, ratio: float, repeats: int = 1500) -> list[Contrast]:
    """Estimates of 0 with a spread over trainings of 1 and over images of ``ratio``."""
    rng = np.random.default_rng([trainings, int(100 * ratio)])
    found = []
    for _ in range(repeats):
        values = rng.normal(0, math.sqrt(trainings), trainings)
        mean = float(values.mean() + rng.normal(0, math.sqrt(ratio)))
        between = float(values.var(ddof=1)) / trainings
        found.append(Contrast(mean, (Spread(between, trainings - 1), Spread(ratio, math.inf))))
    return found


def _holds(found: Contrast, truth: float) -> bool:
    low, high = found.interval() or (0, 0)
    return low <= truth <= high


@pytest.mark.slow
@pytest.mark.parametrize("trainings", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.05, 0.5, 3.0])
def test_intervals_hold_whichever_spread_is_larger(trainings: int, ratio: float) -> None:
    share = np.mean([_holds(found, 0.0) for found in _simulated(trainings, ratio)])
    assert share >= 0.938  # 0.95, less two standard errors of 1,500 draws


@pytest.mark.slow
@pytest.mark.parametrize(("trainings", "most"), [(2, 0.90), (3, 0.94)])
def test_satterthwaites_intervals_would_not_hold(trainings: int, most: float) -> None:
    hits = []
    for found in _simulated(trainings, 0.1):
        between, images = (spread.variance for spread in found.spreads)
        freedom = (between + images) ** 2 / (between**2 / (trainings - 1))
        half = stats.t.ppf(0.975, freedom) * math.sqrt(between + images)
        hits.append(abs(found.value) <= half)
    assert np.mean(hits) < most


def _binned(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> Terms:
    bin_N = np.clip(np.ceil(10 * confidence_N).astype(int) - 1, 0, 9)
    values_NK = np.zeros((len(bin_N), 10), np.float32)
    values_NK[np.arange(len(bin_N)), bin_N] = confidence_N - right_N
    return Terms(values_NK, "absolute-sum")


class _World:
    """Networks that see the same images; a temperature makes them sure or unsure."""

    def __init__(self, count: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.margin_N = self.rng.normal(2.5, 1.8, count)
        self.luck_N = self.rng.random(count)

    def terms(self, sharpness: float) -> Terms:
        """The terms of a network of its own, whose confidence is sharpened."""
        margin_N = self.margin_N + 0.8 * self.rng.normal(size=len(self.margin_N))
        right_N = self.luck_N < 1 / (1 + np.exp(-margin_N))
        return _binned(np.clip(1 / (1 + np.exp(-margin_N * sharpness)), 0.1, 1), right_N)


def _truth(sharpness: float) -> float:
    return estimate(_World(400_000, 99).terms(sharpness))


def _changes(first: float, second: float, spread: float) -> list[Contrast]:
    """Changes of calibration errors from one sharpness to another, three trainings each."""
    found = []
    for seed in range(120):
        world = _World(800, seed)
        weights = bootstrap_weights(800, replicates=300, seed=seed)
        base = _seen(world, weights, first)
        own = [_seen(world, weights, second + spread * world.rng.normal()) for _ in range(3)]
        changes = [Change(calculated(np.subtract, o, base), bias_of(o), bias_of(base)) for o in own]
        found.append(over_trainings(changes, 800))
    return found


def _seen(world: _World, weights: NDArray[np.float32], sharpness: float) -> Replicated:
    terms = world.terms(sharpness)
    return Replicated(estimate(terms), replicates(terms, weights))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "spread"), [(1.0, 1.0, 0.0), (1.3, 1.0, 0.0), (1.6, 1.3, 0.1)]
)
def test_intervals_of_changes_of_calibration_hold_with_three_trainings(
    first: float, second: float, spread: float
) -> None:
    """Also where one network is perfectly calibrated and its estimate is all bias."""
    truth = _truth(second) - _truth(first)
    share = np.mean([_holds(found, truth) for found in _changes(first, second, spread)])
    assert share >= 0.93


@pytest.mark.slow
def test_without_the_reach_for_bias_they_would_not_hold() -> None:
    truth = _truth(1.0) - _truth(1.3)
    plainly = [replace(found, above=0.0, below=0.0) for found in _changes(1.3, 1.0, 0.0)]
    assert np.mean([_holds(found, truth) for found in plainly]) < 0.9
