"""Shares of boxes, and numbers of boxes per image, by what each image adds to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shrinkproof.protocols import Undefined
from shrinkproof.statistics import Interval, Replicated, Terms, group_count, interval

# Shape suffixes: N images, R resampled data sets.


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """A number of boxes over a number of boxes or of images.

    Boxes of one image are not independent, so whole images are resampled.

    Attributes:
        part: (N,) float64, what each image adds to the numerator.
        whole: (N,) float64, what it adds to the denominator, 0 or more.
        nothing: why there is no value where the denominator is 0.
        is_share: True where the numerator is part of the denominator, False where it may be larger
            (boxes per image).
    """

    part: NDArray[np.float64]
    whole: NDArray[np.float64]
    nothing: str
    is_share: bool = True

    def value(self) -> float | Undefined:
        """Return the ratio of the sums, or why it is undefined."""
        if not self.whole.any():
            return Undefined(self.nothing)
        return float(self.part.sum() / self.whole.sum())

    def replicated(self, weights: NDArray[np.float32]) -> Replicated | Undefined:
        """Return the value, and what it is on resampled data sets.

        Args:
            weights: (R, N) how often each image stands in each data set.
        """
        value = self.value()
        if isinstance(value, Undefined):
            return value
        sums_R2 = weights.astype(np.float64) @ np.stack([self.part, self.whole], axis=1)
        values_R = np.full(len(sums_R2), np.nan)
        np.divide(sums_R2[:, 0], sums_R2[:, 1], out=values_R, where=sums_R2[:, 1] > 0)
        return Replicated(value, values_R, _left_out(self.part, self.whole))

    def interval(
        self, weights: NDArray[np.float32], *, groups: NDArray[np.str_] | None = None
    ) -> Interval:
        """Return the 95 % interval, or why there is none.

        Exact (Clopper-Pearson) for a share where no image has several boxes in the denominator and
        few count (`statistics.interval`); otherwise from resampled images. Images that add nothing
        to the denominator do not count as images.

        Args:
            weights: (R, N) how often each image stands in each data set.
            groups: (N,) group of each image; None where images are independent.
        """
        value = self.value()
        if isinstance(value, Undefined):
            return Interval(reason=value.reason)
        rows = np.flatnonzero(self.whole)
        part, whole = self.part[rows], self.whole[rows]
        if whole.max() > 1 or not self.is_share:
            terms = Terms(np.stack([part, whole], axis=1), kind="mean-of-ratios")
        else:
            is_binary = bool(((part == 0) | (part == 1)).all())
            terms = Terms(part[:, None], is_binary=is_binary)
        units = group_count(None if groups is None else groups[rows])
        return interval(terms, weights[:, rows], group_count=units)


def _left_out(part_N: NDArray[np.float64], whole_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratio without each image, (N,); NaN where nothing is left."""
    rest_N = whole_N.sum() - whole_N
    left_N = np.full(len(rest_N), np.nan)
    np.divide(part_N.sum() - part_N, rest_N, out=left_N, where=rest_N > 0)
    return left_N
