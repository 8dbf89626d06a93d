"""Spread of a number over trainings with other seeds, kept apart from that over images.

An interval over images says what other images would show for these weights. An interval over
repeats says what another training would show on these images. Neither contains the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.statistics.intervals import Interval

# Shape suffix: S seeds.

T_REPEATS: Final = "t-repeats"


@dataclass(frozen=True, slots=True)
class Repeats:
    """A number over repeats.

    Attributes:
        count: number of repeats.
        mean: their mean.
        sd: standard deviation between repeats (n - 1 in the denominator); None for one repeat.
        interval: Student's t interval of the mean of all possible repeats, or why there is none.
    """

    count: int
    mean: float
    sd: float | None
    interval: Interval


def across_repeats(values_S: Sequence[float] | NDArray[Any], level: float = 0.95) -> Repeats:
    """Return mean, standard deviation and t interval of a number over training seeds.

    The interval takes the repeats for normal; with two or three repeats it is wide, and rightly so.

    Raises:
        UsageError: there is no repeat, a value is not finite, or the level is not between 0 and 1.
    """
    numbers_S = np.asarray(values_S, dtype=np.float64)
    if numbers_S.ndim != 1 or not len(numbers_S) or not np.isfinite(numbers_S).all():
        raise UsageError(
            "repeats: must be at least one finite number, got "
            f"{'none' if not numbers_S.size else 'others'}"
        )
    if not 0 < level < 1:
        raise UsageError(f"repeats: level must be between 0 and 1, got {level!r}; write 0.95")
    count, mean = len(numbers_S), float(numbers_S.mean())
    if count == 1:
        reason = "one training has no spread over seeds; repeat it with another seed"
        return Repeats(count, mean, None, Interval(reason=reason))
    if not np.ptp(numbers_S):
        reason = f"all {count} repeats have the same value"
        return Repeats(count, mean, 0.0, Interval(reason=reason))
    from scipy.special import stdtrit

    sd = float(numbers_S.std(ddof=1))
    half = float(stdtrit(count - 1, (1 + level) / 2)) * sd / math.sqrt(count)
    return Repeats(count, mean, sd, Interval(mean - half, mean + half, T_REPEATS))
