"""The mean change over trainings: its interval over trainings and images, and p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.statistics import MINIMUM_OUTCOMES, Replicated, averaged
from shrinkproof.statistics.intervals import carriers

LEVEL: Final = 0.95
"""Confidence of the two-sided intervals."""

_HALVINGS: Final = 200
_ROUNDING: Final = 1e-12
"""Values that differ by less are equal."""

_UNSEEN: Final = 4.0
"""Images, of one unit of change each, that are added where too few images carry the spread."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one training changes in a number.

    Attributes:
        number: the change with its values on resampled images.
        above: by how much binned calibration errors may make it too large on average.
        below: by how much they may make it too small.
    """

    number: Replicated
    above: float = 0.0
    below: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """One source of variance of an estimate.

    Attributes:
        variance: of the estimate, not of one training or image.
        freedom: degrees of freedom of its estimate, infinite over images.
    """

    variance: float
    freedom: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """A change with what is known of its uncertainty.

    Attributes:
        value: the estimate.
        spreads: sources of its variance that are known; none where nothing is.
        above: by how much it may be too large on average, see `bias_of`.
        below: by how much it may be too small.
        trainings: number of trainings behind it.
        values: the change of each training.
        reason: what is missing, or must be known about the spreads; empty for nothing.
    """

    value: float
    spreads: tuple[Spread, ...] = ()
    above: float = 0.0
    below: float = 0.0
    trainings: int = 1
    values: tuple[float, ...] = ()
    reason: str = ""

    @property
    def variance(self) -> float:
        """Variance of the estimate, over all sources."""
        return sum(spread.variance for spread in self.spreads)

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return the two-sided interval, or None where no spread is known.

        It reaches as much further as the estimate may be biased.
        Its half is the standard error times the mean of the quantiles of the sources, Student's t
        over trainings and the normal distribution over images, each weighted by its variance
        (Cochran and Cox 1957, "Experimental designs", section 4.14). Satterthwaite's degrees of
        freedom are not taken: with three trainings their intervals hold too seldom.
        """
        if not self.variance:
            return None
        half = self._quantile((1 - level) / 2) * math.sqrt(self.variance)
        return self.value - self.above - half, self.value + self.below + half

    def p_above(self, limit: float) -> float | None:
        """Return the p-value of the change being at most the limit; None without a spread."""
        return self._tail(self.value - self.above - limit)

    def p_below(self, limit: float) -> float | None:
        """Return the p-value of the change being at least the limit; None without a spread."""
        return self._tail(limit - self.value - self.below)

    def _tail(self, distance: float) -> float | None:
        """Return the probability of a change so far beyond the limit."""
        if not self.variance:
            return None
        steps = distance / math.sqrt(self.variance)
        low, high = 0.0, 0.5
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self._quantile(middle) > abs(steps):
                low = middle
            else:
                high = middle
        return high if steps > 0 else 1 - high

    def _quantile(self, tail: float) -> float:
        """Return how many standard errors leave so much probability beyond them."""
        from scipy.special import ndtri, stdtrit

        return sum(
            spread.variance
            / self.variance
            * -float(ndtri(tail) if math.isinf(spread.freedom) else stdtrit(spread.freedom, tail))
            for spread in self.spreads
        )

    def turned(self) -> Contrast:
        """Return the same change with its sign turned."""
        return replace(
            self,
            value=-self.value,
            above=self.below,
            below=self.above,
            values=tuple(-value for value in self.values),
        )


def bias_of(number: Replicated) -> float:
    """Return by how much a sum of absolute gaps may be too large on average, >= 0.

    A gap of expectation 0 adds ``E|z|`` to the sum. On resampled images, whose noise comes on top,
    it adds ``sqrt(2) E|z|``, so they show ``sqrt(2) - 1`` of the bias, and more of it where gaps
    are further from 0 and the bias is smaller.

    Args:
        number: a binned calibration error with its values on resampled images.
    """
    if not len(number.values) or not np.isfinite(number.values).all():
        return 0.0
    return max(0.0, float(number.values.mean()) - number.value) / (math.sqrt(2) - 1)


def over_trainings(changes: Sequence[Change], images: int) -> Contrast:
    """Return the mean of the changes of several trainings, seen on the same resampled images.

    The variance is that between trainings, sd^2 / S, plus that of the mean over resampled images.
    What single trainings show by chance on these images is in both, which errs to the safe side.

    Args:
        changes: one for each training, at least one.
        images: behind each number.
    """
    numbers = [change.number for change in changes]
    values = tuple(number.value for number in numbers)
    mean = averaged(*numbers)
    count, spreads, reasons = len(values), [], []
    if count > 1 and np.ptp(values) > _ROUNDING:
        spreads.append(Spread(float(np.var(values, ddof=1)) / count, count - 1))
    variance, reason = _over_images(mean, images)
    if variance is not None:
        spreads.append(Spread(variance, math.inf))
    if reason:
        reasons.append(reason)
    if _are_copies(numbers):
        reasons.append("all trainings gave the same answers, so they count as one")
        count = 1
    if not sum(spread.variance for spread in spreads):
        reasons.append(
            "every training has the same value, so its spread is unknown"
            if len(values) > 1
            else "one training without a spread over images has no interval"
        )
    known = tuple(spread for spread in spreads if spread.variance)
    above, below = (
        float(np.mean([getattr(change, side) for change in changes])) for side in ("above", "below")
    )
    return Contrast(mean.value, known, above, below, count, values, "; ".join(reasons))


def _are_copies(numbers: Sequence[Replicated]) -> bool:
    """Return whether several trainings are one: equal on all resampled images, too."""
    first = numbers[0].values
    return (
        len(numbers) > 1
        and len(first) > 0
        and all(np.array_equal(number.values, first, equal_nan=True) for number in numbers)
    )


def minus(a: Contrast, b: Contrast, shift: Replicated, images: int) -> Contrast:
    """Return the difference of two changes of other networks, seen on the same resampled images.

    Args:
        a: change of the first network.
        b: change of the second one.
        shift: the difference on resampled images.
        images: behind each number.
    """
    spreads = [s for s in (*a.spreads, *b.spreads) if not math.isinf(s.freedom)]
    variance, reason = _over_images(shift, images)
    if variance:
        spreads.append(Spread(variance, math.inf))
    return Contrast(
        value=a.value - b.value,
        spreads=tuple(spreads),
        above=a.above + b.below,
        below=a.below + b.above,
        trainings=min(a.trainings, b.trainings),
        reason=reason,
    )


_NO_IMAGES: Final = "known as a number only, not per image: the interval is over trainings alone"


def _over_images(mean: Replicated, images: int) -> tuple[float | None, str]:
    """Return the variance of a mean over resampled images, and what must be known about it."""
    if not len(mean.values):
        return None, _NO_IMAGES
    if not np.isfinite(mean.values).all():
        return None, "some resampled data sets leave it undefined: over trainings alone"
    variance = float(np.var(mean.values, ddof=1))
    if mean.left_out is None or not np.isfinite(mean.left_out).all():
        return variance, ""
    resting = carriers(_without_noise(mean.left_out))
    if resting >= MINIMUM_OUTCOMES:
        return variance, ""
    # Resampling so few images cannot show what others would have added.
    return (
        variance + _UNSEEN / images**2,
        f"only about {int(resting)} images show a change; {_UNSEEN:g} that were not seen are added "
        "to the spread",
    )


def _without_noise(left_out_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values without what rounding adds to equal ones."""
    is_noise = np.ptp(left_out_B) < 1e-9
    return np.zeros_like(left_out_B) if is_noise else left_out_B
