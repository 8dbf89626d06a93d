"""Dominance between points of several objectives; pure numpy, undefined values are refused.

A point dominates another if it is at least as good in every objective and better in at least one
(Miettinen 1999, Nonlinear Multiobjective Optimization, definition 2.2.1). This is a strict partial
order, so equal points never dominate each other and duplicates stay on the front together.
"""

from __future__ import annotations

from collections.abc import Sequence

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
