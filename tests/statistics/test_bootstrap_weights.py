import math

import numpy as np
import pytest

from shrinkproof.errors import UsageError
from shrinkproof.statistics import bootstrap_weights


def test_weights_are_poisson_counts_with_mean_one():
    weights = bootstrap_weights(2_000, replicates=500, seed=3)
    assert weights.shape == (500, 2_000)
    assert weights.dtype == np.float32
    assert weights.flags.c_contiguous
    for count in range(5):
        expected = math.exp(-1) / math.factorial(count)
        noise = math.sqrt(expected / weights.size)
        assert abs((weights == count).mean() - expected) < 5 * noise + 2**-16
    assert (weights == np.round(weights)).all()


def test_same_seed_gives_the_same_matrix_and_another_seed_another():
    first = bootstrap_weights(50, replicates=20, seed=1)
    assert np.array_equal(first, bootstrap_weights(50, replicates=20, seed=1))
    assert not np.array_equal(first, bootstrap_weights(50, replicates=20, seed=2))


def test_images_of_one_group_share_their_weight():
    groups = np.array(["b", "a", "b", "c", "a"])
    weights = bootstrap_weights(5, groups=groups, replicates=200, seed=0)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert np.array_equal(weights[:, 1], weights[:, 4])
    assert not np.array_equal(weights[:, 0], weights[:, 3])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_replicate_is_empty(count):
    weights = bootstrap_weights(count, replicates=300, seed=0)
    assert weights.sum(axis=1).min() > 0


def test_no_images_give_an_empty_matrix():
    assert bootstrap_weights(0, replicates=4, seed=0).shape == (4, 0)


def test_groups_of_another_length_are_refused():
    with pytest.raises(UsageError, match=r"one value per image \(3\), got 2"):
        bootstrap_weights(3, groups=np.array(["a", "b"]), seed=0)


@pytest.mark.parametrize(("count", "replicates"), [(-1, 10), (3, 0)])
def test_impossible_sizes_are_refused(count, replicates):
    with pytest.raises(UsageError, match="must not be negative"):
        bootstrap_weights(count, replicates=replicates, seed=0)
