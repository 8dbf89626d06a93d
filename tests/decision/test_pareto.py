"""The front: hand-computed cases, the laws of a strict order, and a brute-force oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.decision.pareto import (
    beats_beyond,
    dominated_by,
    dominates,
    domination,
    nondominated,
    oriented,
    ranks,
    tolerant_front,
)
from shrinkproof.errors import UsageError
from shrinkproof.protocols import Better

LOW, HIGH = Better.LOWER, Better.HIGHER
SMALL = settings(max_examples=60, deadline=None)
FEW = settings(max_examples=30, deadline=None)

# Few distinct values, so that ties and duplicates are common.
clouds = st.integers(1, 3).flatmap(
    lambda k: st.tuples(
        st.lists(st.lists(st.integers(0, 3), min_size=k, max_size=k), min_size=1, max_size=9),
        st.lists(st.sampled_from([LOW, HIGH]), min_size=k, max_size=k),
    )
)


def brute_force(points, better):
    def beats(a, b):
        signed = [
            (x, y) if direction is LOW else (-x, -y)
            for x, y, direction in zip(a, b, better, strict=True)
        ]
        return all(x <= y for x, y in signed) and any(x < y for x, y in signed)

    return [not any(beats(other, point) for other in points) for point in points]


def test_front_of_five_points_by_hand():
    # error (lower), accuracy-like score (higher)
    points = [[1, 5], [2, 9], [2, 8], [3, 9], [0.5, 1]]
    assert nondominated(points, [LOW, HIGH]).tolist() == [True, True, False, False, True]
    assert ranks(points, [LOW, HIGH]).tolist() == [0, 0, 1, 1, 0]
    assert dominated_by(points, [LOW, HIGH], 2).tolist() == [1]
    assert dominated_by(points, [LOW, HIGH], 3).tolist() == [1]
    assert dominated_by(points, [LOW, HIGH], 0).tolist() == []


def test_ranks_peel_one_front_after_the_other():
    assert ranks([[3, 3], [1, 1], [2, 2], [2, 2]], [LOW, LOW]).tolist() == [2, 0, 1, 1]


def test_duplicates_both_stay_on_the_front():
    assert nondominated([[1, 1], [1, 1], [2, 2]], [LOW, LOW]).tolist() == [True, True, False]


def test_no_points_have_an_empty_front():
    assert nondominated([], [LOW, LOW]).tolist() == []
    assert ranks([], [LOW]).tolist() == []


def test_directions_are_respected():
    assert dominates([1.0], [2.0], [LOW])
    assert not dominates([1.0], [2.0], [HIGH])
    assert oriented([[1.0, 2.0]], [LOW, HIGH]).tolist() == [[1.0, -2.0]]


@given(clouds)
@SMALL
def test_front_equals_brute_force(cloud):
    points, better = cloud
    assert nondominated(points, better).tolist() == brute_force(points, better)


@given(clouds)
@SMALL
def test_dominance_is_a_strict_partial_order(cloud):
    points, better = cloud
    above = domination(points, better)
    assert not above.diagonal().any()
    assert not (above & above.T).any()
    for i, j, k in itertools.product(range(len(points)), repeat=3):
        if above[i, j] and above[j, k]:
            assert above[i, k]


@given(clouds)
@SMALL
def test_front_of_the_front_is_the_front(cloud):
    points, better = cloud
    front = np.asarray(points)[nondominated(points, better)]
    assert nondominated(front, better).all()


@given(clouds, st.randoms(use_true_random=False))
@SMALL
def test_front_does_not_depend_on_the_order_of_points(cloud, random):
    points, better = cloud
    order = list(range(len(points)))
    random.shuffle(order)
    shuffled = nondominated([points[i] for i in order], better)
    assert shuffled.tolist() == nondominated(points, better)[order].tolist()


@given(clouds, st.integers(0, 8))
@SMALL
def test_adding_a_dominated_point_changes_nothing(cloud, pick):
    points, better = cloud
    base = points[pick % len(points)]
    worse = [x + 1 if d is LOW else x - 1 for x, d in zip(base, better, strict=True)]
    before = nondominated(points, better).tolist()
    assert nondominated([*points, worse], better).tolist() == [*before, False]


@given(clouds)
@SMALL
def test_rank_zero_is_the_front_and_every_rank_has_a_dominator_one_above(cloud):
    points, better = cloud
    rank = ranks(points, better)
    assert ((rank == 0) == nondominated(points, better)).all()
    for i in np.flatnonzero(rank):
        assert rank[i] - 1 in rank[dominated_by(points, better, int(i))]


@pytest.mark.parametrize("hole", [None, float("nan"), float("inf")])
def test_undefined_points_are_refused_by_position(hole):
    with pytest.raises(UsageError, match=r"point 1 .*keep the reason"):
        nondominated([[1.0, 2.0], [3.0, hole]], [LOW, LOW])


def test_an_objective_without_direction_is_refused():
    with pytest.raises(UsageError, match="needs a direction"):
        nondominated([[1.0]], [Better.NONE])


@pytest.mark.parametrize("points", [[[1.0, 2.0]], [1.0, 2.0], [["a"]], [[1.0], [1.0, 2.0]]])
def test_wrong_tables_are_refused(points):
    with pytest.raises(UsageError, match="points: must be"):
        nondominated(points, [LOW])


def test_a_position_outside_is_refused():
    with pytest.raises(UsageError, match="must be 0 to 0"):
        dominated_by([[1.0]], [LOW], 1)


# tolerances

tolerant_clouds = clouds.flatmap(
    lambda cloud: st.tuples(
        st.just(cloud[0]),
        st.just(cloud[1]),
        st.lists(
            st.sampled_from([0.0, 0.5, 1.0, 2.0]),
            min_size=len(cloud[1]),
            max_size=len(cloud[1]),
        ),
    )
)


def test_one_byte_makes_no_front():
    # error, bytes: the second is 1 byte smaller and 2 points worse; the third earns its place
    points = [[0.10, 1000], [0.12, 999], [0.12, 500]]
    found = tolerant_front(points, [LOW, LOW], [0.005, 10])
    assert nondominated(points[:2], [LOW, LOW]).all()
    assert found.members.tolist() == [True, False, True]
    assert tolerant_front(points[:2], [LOW, LOW], [0.005, 10]).displaced == {1: 0}


def test_an_exact_objective_beside_a_tolerant_one():
    # The second is 1 within the tolerance worse and really better in the exact objective.
    points = [[10, 5], [11, 4]]
    assert tolerant_front(points, [LOW, LOW], [2, 0]).displaced == {0: 1}


def test_beating_beyond_tolerances_can_go_in_circles():
    circle = [[0, 0, 0], [1.1, -1.0, -0.1], [1.0, 0.1, -1.1]]
    beats = beats_beyond(circle, [LOW] * 3, [1, 1, 1])
    assert [beats[0, 1], beats[1, 2], beats[2, 0]] == [True] * 3
    assert tolerant_front(circle, [LOW] * 3, [1, 1, 1]).members.any()


@given(tolerant_clouds)
@FEW
def test_beating_beyond_tolerances_is_asymmetric(cloud):
    beats = beats_beyond(*cloud)
    assert not (beats & beats.T).any()


@given(clouds)
@FEW
def test_without_tolerances_beating_is_dominance_and_the_front_the_plain_one(cloud):
    points, better = cloud
    none = [0.0] * len(better)
    assert (beats_beyond(points, better, none) == domination(points, better)).all()
    found = tolerant_front(points, better, none)
    assert found.members.tolist() == nondominated(points, better).tolist()
    assert not found.displaced


@given(tolerant_clouds)
@FEW
def test_the_tolerant_front_is_part_of_the_plain_one_and_never_empty(cloud):
    points, better, tolerance = cloud
    found = tolerant_front(points, better, tolerance)
    plain = nondominated(points, better)
    assert found.members.any()
    assert not (found.members & ~plain).any()
    assert {*found.displaced} == set(np.flatnonzero(plain & ~found.members).tolist())
    beats = beats_beyond(points, better, tolerance)
    for loser, winner in found.displaced.items():
        assert found.members[winner]
        assert beats[winner, loser]


@given(tolerant_clouds)
@FEW
def test_with_two_tolerances_no_member_beats_another(cloud):
    points, better, tolerance = cloud
    if sum(t > 0 for t in tolerance) > 2:
        return
    members = tolerant_front(points, better, tolerance).members
    assert not beats_beyond(points, better, tolerance)[np.ix_(members, members)].any()


@given(tolerant_clouds)
@FEW
def test_the_tolerant_front_of_itself_is_itself(cloud):
    points, better, tolerance = cloud
    members = tolerant_front(points, better, tolerance).members
    assert tolerant_front(np.asarray(points)[members], better, tolerance).members.all()


@given(tolerant_clouds, st.randoms(use_true_random=False))
@FEW
def test_the_tolerant_front_does_not_depend_on_the_order_of_points(cloud, random):
    points, better, tolerance = cloud
    order = list(range(len(points)))
    random.shuffle(order)
    shuffled = tolerant_front([points[i] for i in order], better, tolerance).members
    assert shuffled.tolist() == tolerant_front(points, better, tolerance).members[order].tolist()


@given(tolerant_clouds, st.integers(0, 8))
@FEW
def test_a_dominated_point_changes_nothing_of_the_tolerant_front(cloud, pick):
    points, better, tolerance = cloud
    base = points[pick % len(points)]
    worse = [x + 1 if d is LOW else x - 1 for x, d in zip(base, better, strict=True)]
    before = tolerant_front(points, better, tolerance).members.tolist()
    after = tolerant_front([*points, worse], better, tolerance).members.tolist()
    assert after == [*before, False]


@pytest.mark.parametrize("tolerance", [[1], [1, -1], [1, float("nan")], ["a", 1], [[1, 1]]])
def test_wrong_tolerances_are_refused(tolerance):
    with pytest.raises(UsageError, match="tolerance: must be"):
        tolerant_front([[1, 2]], [LOW, LOW], tolerance)
