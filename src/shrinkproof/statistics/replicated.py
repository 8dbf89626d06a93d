"""Numbers that are no means over images, with their values on every resampled data set.

Average precision, for example, has no terms per image: it is computed anew on each resampled data
set. Whatever is calculated from several such numbers is calculated on each data set, so that it is
paired by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrinkproof.statistics.intervals import BOOTSTRAP, MINIMUM_UNITS, Interval

# Shape suffixes: R resampled data sets.


@dataclass(frozen=True, slots=True, eq=False)
class Replicated:
    """A number and what it is on resampled data sets.

    Attributes:
        value: the number on the data set as it is.
        values: (R,) float64, or moved around the value where the metric says so; NaN where a
            resampled data set leaves it undefined.
    """

    value: float
    values: NDArray[np.float64]


def calculated(function: Callable[..., Any], *numbers: Replicated) -> Replicated:
    """Return a number that is calculated from others, on each resampled data set by itself.

    Args:
        function: takes as many numbers or arrays (R,) as are given, works element by element.
        numbers: from the same resampled data sets.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(function(*(np.float64(number.value) for number in numbers)))
        values = np.asarray(function(*(number.values for number in numbers)), dtype=np.float64)
    return Replicated(value, values)


def replicated_interval(number: Replicated, units: int, level: float = 0.95) -> Interval:
    """Return the percentile interval of a number, or why there is none.

    Args:
        number: with its values on the resampled data sets.
        units: number of independent images, or of groups.
        level: confidence level, between 0 and 1.
    """
    if units < MINIMUM_UNITS:
        return Interval(
            reason=f"an interval needs at least {MINIMUM_UNITS} independent images, got {units}"
        )
    if not len(number.values) or not np.isfinite(number.values).all():
        return Interval(reason="some resampled data sets leave the metric undefined")
    if np.ptp(number.values) == 0:
        return Interval(reason="every resampled data set has the same value")
    low, high = np.quantile(number.values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), BOOTSTRAP)
