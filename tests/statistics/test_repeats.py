import math

import numpy as np
import pytest

from shrinkproof.errors import UsageError
from shrinkproof.statistics import across_repeats


def test_two_repeats_have_the_interval_of_one_degree_of_freedom():
    found = across_repeats([1.0, 3.0])
    assert (found.count, found.mean) == (2, 2)
    assert found.sd == pytest.approx(math.sqrt(2))
    assert found.interval.high - 2 == pytest.approx(12.7062, rel=1e-5)
    assert found.interval.method == "t-repeats"


def test_one_repeat_has_a_mean_and_a_reason():
    found = across_repeats([0.7])
    assert (found.mean, found.sd) == (0.7, None)
    assert not found.interval.is_stated
    assert "another seed" in found.interval.reason


def test_equal_repeats_claim_no_certainty():
    found = across_repeats([5.0, 5.0, 5.0])
    assert found.sd == 0
    assert found.interval.reason == "all 3 repeats have the same value"


@pytest.mark.parametrize("bad", [[], [math.nan], [[1.0, 2.0]]])
def test_no_or_odd_values_are_refused(bad):
    with pytest.raises(UsageError, match="at least one finite number"):
        across_repeats(bad)


def test_a_level_outside_0_and_1_is_refused():
    with pytest.raises(UsageError, match=r"write 0\.95"):
        across_repeats([1.0, 2.0], level=95)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_mean_over_all_seeds_is_covered(count):
    draws = np.random.default_rng(count)
    covered = 0
    for values in draws.normal(0.5, 0.01, size=(1_000, count)):
        found = across_repeats(values).interval
        covered += found.low <= 0.5 <= found.high
    assert covered / 1_000 == pytest.approx(0.95, abs=0.022)
