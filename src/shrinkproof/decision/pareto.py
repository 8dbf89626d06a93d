"""Dominance between points of several objectives; pure numpy, undefined values are refused.

A point dominates another if it is at least as good in every objective and better in at least one
(Miettinen 1999, Nonlinear Multiobjective Optimization, definition 2.2.1). This is a strict partial
order, so equal points never dominate each other and duplicates stay on the front together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shrinkproof.errors import UsageError
from shrinkproof.protocols import Better

# Shape suffixes: N points, K objectives.


def oriented(points: ArrayLike, better: Sequence[Better]) -> NDArray[np.float64]:
    """Return the points with every objective turned so that smaller is better.

    Args:
        points: (N, K) numbers, all finite.
        better: K directions, each ``HIGHER`` or ``LOWER``.

    Returns:
        (N, K) float64.

    Raises:
        UsageError: the shape is wrong, a value is undefined, or an objective has no direction.
    """
    try:
        points_NK = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"points: must be a table of numbers ({error})") from None
    if points_NK.size == 0 and points_NK.ndim < 2:
        points_NK = points_NK.reshape(0, len(better))
    if points_NK.ndim != 2 or points_NK.shape[1] != len(better) or not better:
        raise UsageError(
            "points: must be (N, K) with one direction for each of K >= 1 objectives, got "
            f"{points_NK.shape} and {len(better)} directions"
        )
    bad = np.flatnonzero(~np.isfinite(points_NK).all(axis=1))
    if len(bad):
        raise UsageError(
            "points: every value must be finite, got undefined or infinite values in point "
            f"{int(bad[0])} ({len(bad)} of {len(points_NK)} points); drop such points before "
            "and keep the reason"
        )
    if any(direction is Better.NONE for direction in better):
        raise UsageError(
            "points: every objective needs a direction, got one for which neither higher nor "
            "lower is better; choose another metric"
        )
    sign_K = np.array([-1.0 if direction is Better.HIGHER else 1.0 for direction in better])
    return np.asarray(points_NK * sign_K, dtype=np.float64)


def domination(points: ArrayLike, better: Sequence[Better]) -> NDArray[np.bool_]:
    """Return who dominates whom, (N, N) bool: row dominates column.

    Raises:
        UsageError: as in `oriented`.
    """
    costs_NK = oriented(points, better)
    count = len(costs_NK)
    no_worse_NN = np.ones((count, count), dtype=np.bool_)
    better_NN = np.zeros((count, count), dtype=np.bool_)
    for cost_N in costs_NK.T:
        no_worse_NN &= cost_N[:, None] <= cost_N[None, :]
        better_NN |= cost_N[:, None] < cost_N[None, :]
    return np.asarray(no_worse_NN & better_NN)


def dominates(first: ArrayLike, second: ArrayLike, better: Sequence[Better]) -> bool:
    """Return whether the first point, (K,), dominates the second, (K,).

    Raises:
        UsageError: as in `oriented`.
    """
    pair = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    return bool(domination(pair, better)[0, 1])


def nondominated(points: ArrayLike, better: Sequence[Better]) -> NDArray[np.bool_]:
    """Return which points no other point dominates, (N,) bool: the front.

    Raises:
        UsageError: as in `oriented`.
    """
    return np.asarray(~domination(points, better).any(axis=0))


def ranks(points: ArrayLike, better: Sequence[Better]) -> NDArray[np.int64]:
    """Return the front each point is on, (N,) int64: 0 the front, 1 the front without it, ...

    Non-dominated sorting (Deb et al. 2002, doi:10.1109/4235.996017).

    Raises:
        UsageError: as in `oriented`.
    """
    dominating_NN = domination(points, better)
    rank_N = np.full(len(dominating_NN), -1, dtype=np.int64)
    left = np.arange(len(dominating_NN))
    rank = 0
    while len(left):
        front = ~dominating_NN[np.ix_(left, left)].any(axis=0)
        rank_N[left[front]] = rank
        left = left[~front]
        rank += 1
    return rank_N


def dominated_by(points: ArrayLike, better: Sequence[Better], position: int) -> NDArray[np.int64]:
    """Return the positions of the points that dominate the one at ``position``, ascending.

    Raises:
        UsageError: as in `oriented`, or there is no such position.
    """
    dominating_NN = domination(points, better)
    if not 0 <= position < len(dominating_NN):
        raise UsageError(
            f"position: must be 0 to {len(dominating_NN) - 1}, one of the points, got {position}"
        )
    return np.flatnonzero(dominating_NN[:, position]).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class TolerantFront:
    """A front on which no member owes its place to less than the tolerances.

    Attributes:
        members: (N,) bool, which points are on it.
        displaced: position of a point of the plain front that is not on this one -> position of
            the member that displaced it.
    """

    members: NDArray[np.bool_]
    displaced: Mapping[int, int]


def beats_beyond(
    points: ArrayLike, better: Sequence[Better], tolerance: ArrayLike
) -> NDArray[np.bool_]:
    """Return who beats whom beyond tolerances, (N, N) bool: row beats column.

    A point beats another if it is worse by no more than the tolerance in any objective and better
    by more than the tolerance in at least one. Without tolerances this is dominance. The relation
    is asymmetric; it is not transitive, and with three or more objectives that have a tolerance
    even cycles exist.

    Args:
        points: (N, K) numbers, all finite.
        better: K directions, each ``HIGHER`` or ``LOWER``.
        tolerance: (K,) numbers of 0 or more, in the units of the objectives.

    Raises:
        UsageError: as in `oriented`, or a tolerance is missing, negative or not finite.
    """
    costs_NK = oriented(points, better)
    tolerance_K = _tolerances(tolerance, len(better))
    count = len(costs_NK)
    no_worse_NN = np.ones((count, count), dtype=np.bool_)
    better_NN = np.zeros((count, count), dtype=np.bool_)
    for cost_N, margin in zip(costs_NK.T, tolerance_K.tolist(), strict=True):
        # One subtraction for both questions: rounding cannot make the relation symmetric.
        gap_NN = cost_N[:, None] - cost_N[None, :]
        no_worse_NN &= gap_NN <= margin
        better_NN |= gap_NN < -margin
    return np.asarray(no_worse_NN & better_NN)


def tolerant_front(
    points: ArrayLike, better: Sequence[Better], tolerance: ArrayLike
) -> TolerantFront:
    """Return the front on which one byte earns no place, and who displaced whom.

    The plain front is walked in an order that depends on the points alone, and a point stays
    unless a member kept before beats it beyond the tolerances (see `beats_beyond`). First come the
    best values in objectives without tolerance, then the smallest sum of values in units of
    their tolerances. With up to two objectives that have a tolerance, whoever beats another comes
    earlier in this order, so the result is the one set of which no member beats another and of
    which some member beats everybody else on the plain front (its kernel). With three or more,
    where cycles exist, the second half of this holds.

    Arguments and errors are those of `beats_beyond`.
    """
    costs_NK = oriented(points, better)
    tolerance_K = _tolerances(tolerance, len(better))
    beating_NN = beats_beyond(points, better, tolerance)
    has_K = tolerance_K > 0
    in_tolerances_N = (costs_NK[:, has_K] / tolerance_K[has_K]).sum(axis=1)
    order = sorted(
        np.flatnonzero(nondominated(points, better)).tolist(),
        key=lambda i: (*costs_NK[i, ~has_K], in_tolerances_N[i], *costs_NK[i], i),
    )
    kept: list[int] = []
    displaced: dict[int, int] = {}
    for position in order:
        winner = next((k for k in kept if beating_NN[k, position]), None)
        if winner is None:
            kept.append(position)
        else:
            displaced[position] = winner
    members_N = np.zeros(len(costs_NK), dtype=np.bool_)
    members_N[kept] = True
    return TolerantFront(members_N, displaced)


def _tolerances(tolerance: ArrayLike, objectives: int) -> NDArray[np.float64]:
    try:
        tolerance_K = np.asarray(tolerance, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"tolerance: must be numbers ({error})") from None
    is_fit = tolerance_K.shape == (objectives,) and bool(np.isfinite(tolerance_K).all())
    if not is_fit or (tolerance_K < 0).any():
        raise UsageError(
            f"tolerance: must be one finite number of 0 or more for each of {objectives} "
            f"objectives, got {np.asarray(tolerance).tolist()}"
        )
    return tolerance_K
