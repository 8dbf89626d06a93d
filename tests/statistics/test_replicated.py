import numpy as np
import pytest

from shrinkproof.statistics import BOOTSTRAP, Replicated, calculated, replicated_interval


def test_calculated_numbers_are_paired_by_themselves():
    first = Replicated(0.5, np.array([0.4, 0.6]))
    second = Replicated(0.25, np.array([0.2, 0.3]))
    found = calculated(np.divide, first, second)
    assert found.value == 2
    np.testing.assert_allclose(found.values, [2, 2])


def test_a_number_that_is_undefined_somewhere_stays_so():
    found = calculated(np.divide, Replicated(1.0, np.ones(2)), Replicated(2.0, np.array([0.0, 4])))
    assert found.value == 0.5
    assert not np.isfinite(found.values[0])
    assert found.values[1] == 0.25
    assert "leave the metric undefined" in replicated_interval(found, 100).reason


def test_the_interval_is_between_percentiles():
    found = replicated_interval(Replicated(0.5, np.linspace(0, 1, 1001)), 30)
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
    assert found.method == BOOTSTRAP
    narrow = replicated_interval(Replicated(0.5, np.linspace(0, 1, 1001)), 30, level=0.5)
    assert (narrow.low, narrow.high) == pytest.approx((0.25, 0.75))


@pytest.mark.parametrize(
    ("values", "units", "reason"),
    [
        ([0.1, 0.2], 29, "needs at least 30 independent images, got 29"),
        ([], 30, "leave the metric undefined"),
        ([0.1, np.nan], 30, "leave the metric undefined"),
        ([0.1, 0.1], 30, "every resampled data set has the same value"),
    ],
)
def test_no_interval_is_stated_without_a_reason(values, units, reason):
    found = replicated_interval(Replicated(0.1, np.array(values)), units)
    assert not found.is_stated
    assert reason in found.reason
