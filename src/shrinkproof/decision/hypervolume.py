"""Exact hypervolume of up to three objectives, and what each point adds to it.

The hypervolume of points is the volume of everything that some point is at least as good as, up to
a reference point (Zitzler and Thiele 1998, doi:10.1007/BFb0056872). It grows whenever a point is
added that no other one is at least as good as, and inside the reference box it depends on nothing
else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shrinkproof.decision.pareto import nondominated, oriented
from shrinkproof.errors import UsageError
from shrinkproof.protocols import Better

# Shape suffixes: N points, K objectives.

MOST_OBJECTIVES: Final = 3
"""Beyond this an exact hypervolume needs another algorithm and says little to a reader."""


def hypervolume(points: ArrayLike, better: Sequence[Better], reference: ArrayLike) -> float:
    """Return the volume that points dominate up to a reference point, in the objectives' units.

    Points that are not better than the reference in every objective add nothing; without any
    other point the volume is 0. For two objectives O(N log N) after sorting; for three a sweep
    over the third one that keeps the front of the first two (dimension sweep: Beume et al. 2009,
    doi:10.1109/TEVC.2009.2015575), O(N log N) besides moving numbers within a list.

    Args:
        points: (N, K) numbers, all finite, K of 1 to 3.
        better: K directions, each ``HIGHER`` or ``LOWER``.
        reference: (K,) numbers, a point that every interesting one is better than.

    Raises:
        UsageError: as in `pareto.oriented`, more than three objectives, or a reference of other
            length.
    """
    costs_NK, reference_K = _checked(points, better, reference)
    return _volume(costs_NK, reference_K)


def hypervolume_contributions(
    points: ArrayLike, better: Sequence[Better], reference: ArrayLike
) -> NDArray[np.float64]:
    """Return by how much the hypervolume shrinks without each point, (N,) float64.

    Dominated points, duplicates and points beyond the reference add 0. Computed as the point's own
    box minus the part of it that the others dominate (While et al. 2012, WFG,
    doi:10.1109/TEVC.2010.2077298), so that no two nearly equal volumes are subtracted.

    Arguments and errors are those of `hypervolume`.
    """
    costs_NK, reference_K = _checked(points, better, reference)
    added_N = np.zeros(len(costs_NK))
    front = nondominated(costs_NK, [Better.LOWER] * costs_NK.shape[1])
    for position in np.flatnonzero(front & (costs_NK < reference_K).all(axis=1)):
        own_K = costs_NK[position]
        inside_NK = np.maximum(np.delete(costs_NK, position, axis=0), own_K)
        box = float(np.prod(reference_K - own_K))
        added_N[position] = max(0.0, box - _volume(inside_NK, reference_K))
    return added_N


def _checked(
    points: ArrayLike, better: Sequence[Better], reference: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points and reference, oriented so that smaller is better."""
    if len(better) > MOST_OBJECTIVES:
        raise UsageError(
            f"hypervolume: must have at most {MOST_OBJECTIVES} objectives to be exact here, got "
            f"{len(better)}; leave some out"
        )
    costs_NK = oriented(points, better)
    try:
        reference_1K = np.asarray(reference, dtype=np.float64).reshape(1, -1)
    except (TypeError, ValueError) as error:
        raise UsageError(f"reference: must be numbers ({error})") from None
    if reference_1K.shape[1] != len(better) or not np.isfinite(reference_1K).all():
        raise UsageError(
            f"reference: must be one finite number for each of {len(better)} objectives, got "
            f"{np.asarray(reference).tolist()}"
        )
    return costs_NK, oriented(reference_1K, better)[0]


def _volume(costs_NK: NDArray[np.float64], reference_K: NDArray[np.float64]) -> float:
    """Return the hypervolume; fewer than three objectives get further ones of length 1."""
    inside_NK = costs_NK[(costs_NK < reference_K).all(axis=1)]
    sizes_NK = reference_K - inside_NK  # in these terms larger is better and 0 the reference
    padded_N3 = np.ones((len(sizes_NK), MOST_OBJECTIVES))
    padded_N3[:, : sizes_NK.shape[1]] = sizes_NK
    staircase, volume, area, height = _Staircase(), 0.0, 0.0, 0.0
    # Ties are broken by value, so that sums do not depend on the order of the points.
    order = np.lexsort((padded_N3[:, 1], padded_N3[:, 0], -padded_N3[:, 2]))
    for width, depth, top in padded_N3[order].tolist():
        volume += area * (height - top)
        height = top
        area += staircase.add(width, depth)
    return volume + area * height


class _Staircase:
    """The front of points of two objectives, both from 0 on and larger better."""

    def __init__(self) -> None:
        self._widths: list[float] = []  # ascending
        self._depths: list[float] = []  # descending, of the same points

    def add(self, width: float, depth: float) -> float:
        """Add a point and return the area that it alone dominates."""
        widths, depths = self._widths, self._depths
        after = bisect_left(widths, width)
        if after < len(depths) and depths[after] >= depth:
            return 0.0
        # The new point swallows a run of points that ends before `after`, or at an equal width.
        stop = after + (after < len(widths) and widths[after] == width)
        start = after
        while start > 0 and depths[start - 1] <= depth:
            start -= 1
        left = widths[start - 1] if start else 0.0
        below = depths[stop] if stop < len(depths) else 0.0
        added = 0.0
        for position in range(start, stop):
            added += (widths[position] - left) * (depth - depths[position])
            left = widths[position]
        added += (width - left) * (depth - below)
        widths[start:stop] = [width]
        depths[start:stop] = [depth]
        return added
