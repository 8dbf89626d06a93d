"""Numbers that are no means over images, with their values on every resampled data set.

Average precision, for example, has no terms per image: it is computed anew on each resampled data
set. Whatever is calculated from several such numbers is calculated on each data set, so that it is
paired by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.statistics.intervals import (
    BOOTSTRAP,
    MINIMUM_OUTCOMES,
    MINIMUM_UNITS,
    Interval,
    carriers,
)

# Shape suffixes: N images, R resampled data sets, B blocks of images.

MOST_BLOCKS: Final = 1000
"""Most blocks of images that are left out one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Replicated:
    """A number and what it is on resampled data sets.

    Attributes:
        value: the number on the data set as it is.
        values: (R,) float64, or moved around the value where the metric says so; NaN where a
            resampled data set leaves it undefined.
        left_out: (B,) float64, what it is without each image, or each block of images, up to a
            constant; None where nobody knows. It tells on how many images the spread rests.
    """

    value: float
    values: NDArray[np.float64]
    left_out: NDArray[np.float64] | None = None


def left_out_weights(count: int, most: int = MOST_BLOCKS) -> NDArray[np.float32]:
    """Return the weights of data sets without one image each, (B, N): 1, and 0 where left out.

    Of more than ``most`` images these are blocks of neighboring ones, as many in each as evenly
    possible.

    Args:
        count: number of images, N.
        most: most blocks, >= 1.
    """
    blocks = min(count, most)
    block_N = np.arange(count) * blocks // max(1, count)
    return np.asarray(block_N != np.arange(blocks)[:, None], dtype=np.float32)


def calculated(function: Callable[..., Any], *numbers: Replicated) -> Replicated:
    """Return a number that is calculated from others, on each resampled data set by itself.

    Args:
        function: takes as many numbers or arrays (R,) as are given, works element by element.
        numbers: from the same resampled data sets.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(function(*(np.float64(number.value) for number in numbers)))
        values = np.asarray(function(*(number.values for number in numbers)), dtype=np.float64)
        left = [number.left_out for number in numbers if number.left_out is not None]
        is_known = len(left) == len(numbers)
        left_out = np.asarray(function(*left), dtype=np.float64) if is_known else None
    return Replicated(value, values, left_out)


def averaged(*numbers: Replicated) -> Replicated:
    """Return the mean of numbers from the same resampled data sets, at least one."""
    return calculated(lambda *values: sum(values) / len(values), *numbers)


def replicated_interval(number: Replicated, units: int, level: float = 0.95) -> Interval:
    """Return the percentile interval of a number, or why there is none.

    Resampling the few images that a spread rests on cannot show what others would have added, so
    there is none where they are fewer than `MINIMUM_OUTCOMES`, as for means over images.

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
    if number.left_out is not None:
        if not np.isfinite(number.left_out).all():
            return Interval(reason="without some images the metric is undefined")
        resting = carriers(number.left_out)
        if 0 < resting < MINIMUM_OUTCOMES:
            return Interval(
                reason=f"the spread rests on about {max(1, int(resting))} images; an interval "
                f"needs at least {MINIMUM_OUTCOMES}"
            )
    low, high = np.quantile(number.values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), BOOTSTRAP)
