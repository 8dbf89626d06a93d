"""Tests of differences and ranks against scipy and against the published rank test of paper C."""

import numpy as np
import pytest
from scipy import stats

from shrinkproof.statistics import (
    across_repeats,
    friedman,
    images_needed,
    mcnemar,
    wilcoxon_signed_rank,
)
from shrinkproof.statistics.ranks import range_quantile

VARIANTS = """
    Original, INT8 PTQ, P50, P50+INT8, C16, C16+INT8, P50+C16, P50+C16+INT8,
    QAT, QAT+INT8, CQAT, CQAT+INT8, PQAT, PQAT+INT8, PCQAT, PCQAT+INT8
"""

# Rows: ResNet-50, VGG-19, MobileNetV2 on CIFAR-10, then on CIFAR-100; mCE, one decimal.
MCE = """
    100 99.6 76.7 77.3 81.3 82.1 81.1 81.6 78.5 201.7 81.2 81.1 76.7 76.7 77 76.7
    100 101.5 92.1 93.5 94.8 96.5 94.3 95 92.7 118.9 94.9 94.8 93.2 93.1 98.4 98.4
    100 112.5 105.1 121.7 96.2 109.3 94.7 103.3 100.5 144.1 99.7 99 107.4 106.9 108.2 108.1
    100 100.4 97.9 98.5 96.7 99.9 96.1 97.1 97.5 121.7 95.5 95.4 95.1 95.4 97.8 98.2
    100 100.2 96.1 96.3 95.8 98.7 96.5 99.7 87.5 99.7 91.3 91.2 92.4 92.5 91.5 91.5
    100 110.7 99.9 103 97.5 104.1 98.6 103.6 97.3 117.3 104.9 104.8 101 101.3 107.9 108.1
"""


def test_the_published_rank_test_of_mce_is_reproduced():
    # The printed mCE is rounded to one decimal, and so is what the authors rank: no tie moves.
    names = [name.strip() for name in VARIANTS.split(",")]
    table = np.array(MCE.split(), dtype=float).reshape(6, 16)
    found = friedman(table, names, is_higher_better=False)
    assert found.chi2 == pytest.approx(49.85, abs=0.005)
    assert found.p == pytest.approx(1.3e-5, abs=0.05e-5)
    assert found.is_low_power
    assert found.names[0] == "QAT"
    assert found.names[-1] == "QAT+INT8"


@pytest.mark.parametrize("seed", range(5))
def test_friedman_with_ties_agrees_with_scipy(seed):
    values = np.random.default_rng(seed).integers(0, 6, (8, 5)).astype(float)
    found = friedman(values, "abcde", is_higher_better=bool(seed % 2))
    expected = stats.friedmanchisquare(*values.T)
    assert found.chi2 == pytest.approx(expected.statistic, rel=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("treatments", [2, 5, 16, 48])
def test_quantiles_of_the_range_agree_with_scipy(treatments):
    expected = stats.studentized_range.ppf(0.95, treatments, np.inf)
    assert range_quantile(0.95, treatments) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [3, 8, 14])
def test_the_signed_rank_test_agrees_with_scipy(count):
    values = np.random.default_rng(count).normal(0.3, 1, count)
    expected = stats.wilcoxon(values, mode="exact").pvalue
    assert wilcoxon_signed_rank(values) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (3, 9), (40, 61), (500, 430)])
def test_mcnemar_agrees_with_the_binomial_test_of_scipy(only_a, only_b):
    a = np.repeat([1, 0], [only_a, only_b])
    expected = stats.binomtest(only_a, only_a + only_b).pvalue
    assert mcnemar(a, 1 - a).p == pytest.approx(expected, rel=1e-10)


def test_the_interval_over_repeats_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=5)
    low, high = stats.t.interval(0.9, 4, loc=values.mean(), scale=stats.sem(values))
    found = across_repeats(values, level=0.9).interval
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-10)


def test_planned_images_give_the_planned_power():
    count = images_needed(1.0, 0.2, power=0.9)
    for images, is_enough in ((count, True), (count - 1, False)):
        power = stats.norm.sf(stats.norm.ppf(0.975) - 0.2 * np.sqrt(images))
        assert (power >= 0.9) == is_enough
