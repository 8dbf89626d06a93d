import numpy as np
import pytest

from shrinkproof.statistics import BOOTSTRAP, Replicated, calculated, replicated_interval
from shrinkproof.statistics.replicated import left_out_weights


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


def carried_by(images, count=100):
    """A mean of ones in some of the images, with its values on resampled data sets."""
    ones = np.arange(count) < images
    draws = np.random.default_rng(0).poisson(1, (500, count))
    left_out = (ones.sum() - ones) / (count - 1)
    return Replicated(float(ones.mean()), draws @ ones / draws.sum(axis=1), left_out)


def test_a_spread_that_rests_on_few_images_has_no_interval():
    assert "rests on about 1 images" in replicated_interval(carried_by(1), 100).reason
    assert replicated_interval(carried_by(30), 100).is_stated
    same = calculated(np.subtract, carried_by(30), carried_by(29))
    assert "rests on about 1 images" in replicated_interval(same, 100).reason
    alone = Replicated(0.3, carried_by(30).values)
    assert calculated(np.subtract, alone, carried_by(29)).left_out is None


def test_each_image_or_block_is_left_out_once():
    np.testing.assert_array_equal(left_out_weights(3), 1 - np.eye(3))
    many = left_out_weights(2500)
    assert many.shape == (1000, 2500)
    assert ((1 - many).sum(axis=0) == 1).all()
    assert set((1 - many).sum(axis=1)) == {2, 3}
    assert left_out_weights(0).shape == (0, 0)
