"""Comparing the outputs of networks that choose among their own numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def reordered_difference(one: NDArray[Any], other: NDArray[Any], limit: float) -> float:
    """Return how far two outputs are apart where rounding may have changed what was chosen.

    A network that chooses proposals by score takes another one of two that score the same up to
    rounding, and then all that follow are in other places. So everything from the first number of
    an image that differs is compared in order of size, and on average: the mean absolute
    difference of the sorted numbers (the distance of Wasserstein between the two sets).

    Args:
        one: (n, ...) finite numbers.
        other: as many.
        limit: numbers that differ by no more are equal.

    Returns:
        The largest of all images; 0 where nothing differs.
    """
    first, second = one.reshape(len(one), -1), other.reshape(len(other), -1)
    found = 0.0
    for mine, its in zip(first, second, strict=True):
        differs = np.flatnonzero(np.abs(mine - its) > limit)
        if len(differs):
            rest = np.sort(mine[differs[0] :]) - np.sort(its[differs[0] :])
            found = max(found, float(np.abs(rest).mean()))
    return found
