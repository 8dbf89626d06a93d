"""Differences of numbers that were measured on different images."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.errors import UsageError
from shrinkproof.statistics import Interval, clopper_pearson
from shrinkproof.statistics.unpaired import UNPAIRED, unpaired_interval


def wilson(successes, count, z=1.959963985):
    p = successes / count
    center = (2 * count * p + z**2) / (2 * (count + z**2))
    half = z * math.sqrt(z**2 + 4 * count * p * (1 - p)) / (2 * (count + z**2))
    return Interval(center - half, center + half, "wilson")


def test_newcombes_first_example_is_reproduced() -> None:
    """Newcombe 1998, table II (a): 56/70 minus 48/80, method 10: 0.0524 to 0.3339."""
    found = unpaired_interval(56 / 70, wilson(56, 70), 48 / 80, wilson(48, 80))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.method == UNPAIRED


def test_without_one_interval_there_is_none_and_the_reason_stays() -> None:
    nothing = Interval(reason="too few images")
    found = unpaired_interval(0.5, nothing, 0.4, Interval(0.3, 0.5, "x"))
    assert not found.is_stated
    assert found.reason == "too few images"


def test_a_number_outside_its_interval_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a number must lie in its interval, got 0\.6"):
        unpaired_interval(0.6, Interval(0.3, 0.5, "x"), 0.4, Interval(0.3, 0.5, "x"))


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 50))
def test_swapping_both_numbers_mirrors_the_interval(one: int, other: int) -> None:
    a, b = (Interval(*clopper_pearson(k, 50), "x") for k in (one, other))
    found = unpaired_interval(one / 50, a, other / 50, b)
    mirrored = unpaired_interval(other / 50, b, one / 50, a)
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low))
    assert found.low <= (one - other) / 50 <= found.high


@pytest.mark.parametrize(("p", "q"), [(0.9, 0.9), (0.95, 0.8), (0.5, 0.6)])
def test_coverage_of_a_difference_of_accuracies(p: float, q: float) -> None:
    count = 120
    known = [Interval(*clopper_pearson(k, count), "x") for k in range(count + 1)]
    rng = np.random.default_rng(0)
    draws = zip(rng.binomial(count, p, 3000), rng.binomial(count, q, 3000), strict=True)
    hits = 0
    for a, b in draws:
        found = unpaired_interval(a / count, known[a], b / count, known[b])
        hits += found.low <= p - q <= found.high
    assert 0.945 <= hits / 3000 <= 0.99
