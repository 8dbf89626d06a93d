"""Confidence bins of equal width or equal mass, and what the images in each of them show.

Every metric that bins takes its bins from here, so all of them treat edges and ties alike: upper
edges belong to their bin, 0 to the first and 1 to the last one, and equal values are never split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

# Shape suffixes: N images, B bins.

Bins = Annotated[int, pydantic.Field(ge=1, le=1000, json_schema_extra={"unit": "count"})]
"""Number of confidence bins."""

Binning = Literal["equal-width", "equal-mass"]
"""How confidences are cut into bins."""

TIE_DIGITS: Final = 12
"""Confidences that agree to so many digits are equal: what differs is the order of a sum."""


@dataclass(frozen=True, slots=True, eq=False)
class BinMeans:
    """What the images of each bin show; bins without images are left out.

    Attributes:
        count: (B,) float64, number of images, at least 1.
        confidence: (B,) mean confidence.
        accuracy: (B,) share classified correctly.
    """

    count: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def gap(self) -> NDArray[np.float64]:
        """Confidence minus accuracy of each bin, (B,)."""
        return self.confidence - self.accuracy

    def over_images(self, values_B: NDArray[np.float64]) -> float:
        """Return the mean of a value of each bin, weighted by its number of images."""
        return float(self.count @ values_B / self.count.sum())


def edges(bins: int) -> NDArray[np.float64]:
    """Return the edges of equal-width bins between 0 and 1, (bins + 1,)."""
    return np.arange(bins + 1) / bins


def equal_width(values_N: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the bin of each value, (N,), 0 to bins - 1; upper edges included."""
    bin_N = np.searchsorted(edges(bins), values_N, side="left") - 1
    return np.clip(bin_N, 0, bins - 1)


def tied(values_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values such that ties are exactly equal, (N,)."""
    # The same logits in another order of classes sum up to another last bit: still a tie.
    return np.round(values_N, TIE_DIGITS)


def run_end(run: NDArray[np.int64], count: int, bins: int) -> NDArray[np.int64]:
    """Return the position behind each given run when a sequence is cut into ``bins`` runs.

    Runs are equally long; where ``count`` is no multiple of ``bins``, the first hold one more.
    """
    size, extra = divmod(count, bins)
    return (run + 1) * size + np.minimum(run + 1, extra)


def run_of(position: int, count: int, bins: int) -> int:
    """Return the run to which a position of the sequence belongs."""
    size, extra = divmod(count, bins)
    longer = extra * (size + 1)
    if position < longer:
        return position // (size + 1)
    return extra + (position - longer) // size


def run_ends(count: int, bins: int) -> NDArray[np.int64]:
    """Return where all runs end, at most (bins,); runs without images are left out."""
    return run_end(np.arange(min(bins, count)), count, bins)


def upper_edges(sorted_N: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return the upper edges of equal-mass bins, ascending and distinct, at most (bins,).

    Args:
        sorted_N: (N,), ascending, from `tied`.
        bins: largest number of bins.
    """
    return np.unique(sorted_N[run_ends(len(sorted_N), bins) - 1])


def bin_means(
    bin_N: NDArray[np.int64], confidence_N: NDArray[np.float64], correct_N: NDArray[np.float64]
) -> BinMeans:
    """Return the means of each bin that holds images."""
    count_B = np.bincount(bin_N).astype(np.float64)
    filled = np.flatnonzero(count_B)
    count_B = count_B[filled]
    return BinMeans(
        count=count_B,
        confidence=np.bincount(bin_N, confidence_N)[filled] / count_B,
        accuracy=np.bincount(bin_N, correct_N)[filled] / count_B,
    )
