"""The distance between outputs of networks that choose among their own numbers."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.compressors.reordered import reordered_difference


def test_equal_outputs_are_not_apart():
    values = np.arange(12.0).reshape(2, 6)
    assert reordered_difference(values, values + 0.01, limit=0.02) == 0.0


def test_another_order_is_no_difference():
    one = np.array([[5.0, 1, 2, 3, 4]])
    assert reordered_difference(one, one[:, [0, 2, 1, 4, 3]], limit=0.5) == 0.0


def test_wrong_numbers_are_averaged_from_the_first_that_differs():
    one = np.array([[5.0, 1, 2, 3, 4], [0, 0, 0, 0, 0]])
    other = np.array([[5.0, 1, 2, 3, 8], [0, 0, 0, 1, 1]])
    # Behind the first difference of each image: 4 against 8, and 0, 0 against 1, 1.
    assert reordered_difference(one, other, limit=0.5) == pytest.approx(4.0)
    assert reordered_difference(one[1:], other[1:], limit=0.5) == pytest.approx(1.0)
