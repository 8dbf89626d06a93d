"""The band of a reliability diagram holds what honest confidence gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from shrinkproof.report.bands import honest_bands


@pytest.mark.parametrize("count", [1, 2, 7, 40, 1000, 250_000])
@pytest.mark.parametrize("confidence", [0.0, 0.01, 0.3, 0.5, 0.93, 1.0])
def test_ends_are_exact_binomial_quantiles(count, confidence):
    low, high = honest_bands([count], [confidence])[0]
    ends = np.maximum(binom.ppf([0.025, 0.975], count, confidence), 0)
    assert (low * count, high * count) == pytest.approx(ends, abs=1e-6)


def test_one_image_can_be_right_or_wrong():
    assert honest_bands([1], [0.5]).tolist() == [[0.0, 1.0]]
    assert honest_bands([1], [0.99]).tolist() == [[1.0, 1.0]]


def test_honest_bins_stay_inside_as_often_as_promised():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1.0, 4000)
    count = rng.integers(20, 400, 4000)
    bands = honest_bands(count, confidence)
    accuracy = rng.binomial(count, confidence) / count
    inside = (bands[:, 0] - 1e-12 <= accuracy) & (accuracy <= bands[:, 1] + 1e-12)
    assert 0.945 <= inside.mean() <= 0.985


def test_bands_shrink_with_the_number_of_images():
    width = np.diff(honest_bands([10, 100, 1000, 10_000], [0.8] * 4), axis=1).ravel()
    assert (np.diff(width) < 0).all()
