import numpy as np
import pytest
from scipy import stats

from shrinkproof.errors import UsageError
from shrinkproof.metrics.correlation import correlation
from shrinkproof.protocols import Undefined


def test_correlations_are_scipys():
    draws = np.random.default_rng(2)
    for count in (3, 4, 5, 20):
        x = draws.normal(size=count)
        y = np.round(x + draws.normal(size=count), 1)
        found = correlation(x, y)
        assert found.count == count
        assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_ties_share_their_mean_rank():
    x, y = [1, 1, 2, 3, 3, 3], [2, 1, 1, 5, 4, 4]
    expected = stats.spearmanr(x, y).statistic
    assert correlation(x, y).spearman == pytest.approx(expected, abs=1e-12)


def test_the_interval_is_fishers():
    draws = np.random.default_rng(4)
    x = draws.normal(size=12)
    y = x + draws.normal(size=12)
    found = correlation(x, y, 0.9)
    expected = stats.pearsonr(x, y).confidence_interval(0.9)
    assert found.pearson_interval.low == pytest.approx(expected.low, abs=1e-12)
    assert found.pearson_interval.high == pytest.approx(expected.high, abs=1e-12)
    assert found.pearson_interval.method == "fisher-z"
    # Bonett and Wright: a little wider for ranks.
    half = stats.norm.ppf(0.95) * np.sqrt((1 + found.spearman**2 / 2) / 9)
    assert found.spearman_interval.high == pytest.approx(
        np.tanh(np.arctanh(found.spearman) + half), abs=1e-12
    )


def test_fishers_interval_covers_the_truth():
    draws = np.random.default_rng(5)
    hits = 0
    for _ in range(2000):
        x, e = draws.normal(size=(2, 8))
        interval = correlation(x, 0.6 * x + 0.8 * e).pearson_interval
        hits += interval.low <= 0.6 <= interval.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.02)


def test_few_candidates_carry_a_warning():
    four = correlation([1, 2, 3, 4], [1, 3, 2, 4])
    assert four.caveat.startswith("only 4 candidates; candidates are chosen, not drawn at random")
    assert four.pearson_interval.is_stated
    five = correlation([1, 2, 3, 4, 5], [1, 3, 2, 4, 5])
    assert five.caveat.startswith("candidates are chosen")
    three = correlation([1, 2, 3], [1, 3, 2])
    assert three.pearson_interval.reason == "an interval needs at least 4 candidates, got 3"


def test_points_on_a_line_have_no_interval():
    found = correlation([1, 2, 3, 4], [2, 4, 6, 8])
    assert found.pearson == pytest.approx(1.0)
    assert "lie on one line" in found.pearson_interval.reason
    assert correlation([1, 2, 3, 4], [1, 8, 27, 99]).spearman == pytest.approx(1.0)


def test_tiny_and_huge_values_stay_in_range():
    x = np.array([1.0, 2.0, 4.0, 3.0])
    expected = correlation(x, x[::-1]).pearson
    assert correlation(1e-300 * x, 1e300 * x[::-1]).pearson == pytest.approx(expected)


def test_undefined_correlations_say_why():
    assert correlation([1, 2], [1, 2]) == Undefined(
        "a correlation needs at least 3 candidates, got 2"
    )
    assert correlation([1, 2, 3], [0.5, 0.5, 0.5]) == Undefined(
        "all candidates have the same value of the second metric"
    )


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2, 3], [1, 2], r"one value per candidate, got \(3,\) and \(2,\)"),
        ([1, 2, np.nan], [1, 2, 3], "must be finite"),
    ],
)
def test_wrong_values_are_refused(x, y, message):
    with pytest.raises(UsageError, match=message):
        correlation(x, y)


def test_a_level_in_percent_is_refused():
    with pytest.raises(UsageError, match="level must be between 0 and 1, got 95"):
        correlation([1, 2, 3], [1, 3, 2], 95)
