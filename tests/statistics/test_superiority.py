"""One-sided tests of paired differences against hand-computed values and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from shrinkproof.errors import UsageError
from shrinkproof.statistics.margins import noninferiority
from shrinkproof.statistics.superiority import no_worse, superiority


def difference(gained: int, lost: int, count: int) -> np.ndarray:
    values = np.zeros(count)
    values[:gained], values[gained : gained + lost] = 1, -1
    return values


def test_right_and_wrong_are_one_side_of_mcnemar() -> None:
    found = superiority(difference(9, 1, 50))
    assert found.p == pytest.approx(11 / 1024)  # at most 1 of 10 fair coins
    assert (found.method, found.count, found.value) == ("mcnemar-exact", 10, 0.16)
    assert superiority(-difference(9, 1, 50)).p == pytest.approx(1023 / 1024)
    assert superiority(np.zeros(50)).p == 1


def test_other_differences_are_students_t() -> None:
    values = np.random.default_rng(0).normal(0.05, 0.3, 200)
    expected = stats.ttest_1samp(values, 0, alternative="greater")
    found = superiority(values)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.value == pytest.approx(values.mean())


def test_groups_are_the_units() -> None:
    values = np.repeat(np.random.default_rng(0).normal(0.05, 0.3, 50), 4)
    groups = np.repeat(np.arange(50), 4)
    found = superiority(values, groups=groups)
    expected = stats.ttest_1samp(values[::4], 0, alternative="greater")
    assert (found.count, found.p) == (50, pytest.approx(expected.pvalue, rel=1e-6))


def test_a_spread_that_is_unknown_has_no_p_value() -> None:
    found = superiority(np.full(100, 0.25))
    assert (found.p, found.value) == (None, 0.25)
    assert "spread is unknown" in found.reason
    assert superiority(np.zeros(0)).p is None


def test_no_worse_at_tolerance_0_means_better() -> None:
    values = difference(9, 1, 50)
    assert no_worse(values, 0.0) == superiority(values)


def test_no_worse_is_noninferiority_where_that_is_stated() -> None:
    values = np.random.default_rng(0).normal(0, 0.3, 200)
    assert no_worse(values, 0.05) == noninferiority(values, 0.05)


def test_few_differing_images_are_counted() -> None:
    # 2 of 500 images lose something: a mean loss of 2 % needs at least 10 that do.
    values = np.zeros(500)
    values[:2] = -0.3
    found = no_worse(values, 0.02, largest_loss=1.0)
    assert found.p == pytest.approx(stats.binom.cdf(2, 500, 0.02))
    assert found.method == "lost-images-exact"
    # What can lose more than 1 on an image, or comes in groups, has no such bound.
    assert no_worse(5 * values, 0.02, largest_loss=1.0).p is None
    assert no_worse(values, 0.02, groups=np.arange(500), largest_loss=1.0).p is None


def test_bad_values_are_refused() -> None:
    with pytest.raises(UsageError, match="finite"):
        superiority(np.array([np.nan]))
    with pytest.raises(UsageError, match="margin"):
        no_worse(np.zeros(50), -0.1)


def test_what_an_image_can_lose_must_be_known_to_bound_a_mean_loss() -> None:
    # Of log-likelihoods one image in a thousand can lose more than all others gain.
    values = np.zeros(500)
    values[:2] = -0.3
    assert no_worse(values, 0.02).p is None
    # Brier scores differ by up to 2: 1 % of the images can lose 0.02 on average.
    found = no_worse(values, 0.02, largest_loss=2.0)
    assert found.p == pytest.approx(stats.binom.cdf(2, 500, 0.01))
