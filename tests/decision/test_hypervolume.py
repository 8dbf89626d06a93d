"""Exact hypervolume: by hand, against inclusion and exclusion of boxes, and its laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.decision.hypervolume import hypervolume, hypervolume_contributions
from shrinkproof.decision.pareto import nondominated
from shrinkproof.errors import UsageError
from shrinkproof.protocols import Better

LOW, HIGH = Better.LOWER, Better.HIGHER
SMALL = settings(max_examples=40, deadline=None)

clouds = st.integers(1, 3).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 5), min_size=k, max_size=k), min_size=1, max_size=6)
)


def unit_cells(points, reference):
    """Count the cells of side 1 that some point is at least as good as: points are integers."""
    return sum(
        any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points)
        for cell in itertools.product(range(reference), repeat=len(points[0]))
    )


def test_two_objectives_by_hand():
    # boxes of 4 x 1, 2 x 3 and their overlap of 2 x 1, up to (5, 5)
    points = [[1, 4], [3, 2]]
    assert hypervolume(points, [LOW, LOW], [5, 5]) == 4 + 6 - 2
    assert hypervolume_contributions(points, [LOW, LOW], [5, 5]).tolist() == [2, 4]


def test_directions_turn_the_box():
    # accuracy (higher) up from 0, bytes (lower) down from 10
    assert hypervolume([[0.5, 4], [1.0, 8]], [HIGH, LOW], [0, 10]) == pytest.approx(3 + 2 - 1)


def test_one_objective_is_the_distance_of_the_best():
    assert hypervolume([[3], [1], [1]], [LOW], [5]) == 4
    assert hypervolume_contributions([[3], [1], [2]], [LOW], [5]).tolist() == [0, 1, 0]
    assert hypervolume_contributions([[3], [1], [1]], [LOW], [5]).tolist() == [0, 0, 0]


def test_points_beyond_the_reference_add_nothing():
    assert hypervolume([[1, 9], [2, 2]], [LOW, LOW], [4, 4]) == 4
    assert hypervolume([[4, 0]], [LOW, LOW], [4, 4]) == 0
    assert hypervolume([], [LOW, LOW], [4, 4]) == 0
    assert hypervolume_contributions([[1, 9], [2, 2]], [LOW, LOW], [4, 4]).tolist() == [0, 4]


@given(clouds)
@SMALL
def test_the_volume_is_the_number_of_cells(points):
    k = len(points[0])
    assert hypervolume(points, [LOW] * k, [5] * k) == unit_cells(points, 5)


@given(clouds)
@SMALL
def test_a_contribution_is_what_is_lost_without_the_point(points):
    k = len(points[0])
    better, reference = [LOW] * k, [5] * k
    whole = hypervolume(points, better, reference)
    without = [
        hypervolume([p for j, p in enumerate(points) if j != i], better, reference)
        for i in range(len(points))
    ]
    found = hypervolume_contributions(points, better, reference)
    assert found.tolist() == [whole - rest for rest in without]


@given(clouds, st.randoms(use_true_random=False))
@SMALL
def test_the_volume_is_that_of_the_front_in_any_order(points, random):
    k = len(points[0])
    front = [p for p, on in zip(points, nondominated(points, [LOW] * k), strict=True) if on]
    random.shuffle(front)
    volumes = [hypervolume(p, [LOW] * k, [5] * k) for p in (points, front)]
    assert volumes[0] == volumes[1]


def test_four_objectives_are_refused():
    with pytest.raises(UsageError, match=r"at most 3 objectives .* got 4"):
        hypervolume([[1, 2, 3, 4]], [LOW] * 4, [5] * 4)


@pytest.mark.parametrize("reference", [[1], [1, np.inf], ["a", "b"], 3])
def test_wrong_references_are_refused(reference):
    with pytest.raises(UsageError, match="reference: must be"):
        hypervolume([[1, 2]], [LOW, LOW], reference)
