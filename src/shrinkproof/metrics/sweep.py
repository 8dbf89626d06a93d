"""Calibration error with as many bins as the data can bear."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.binning import BinMeans, run_end, run_ends, run_of
from shrinkproof.metrics.derived import NO_IMAGES, Derived, derived
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.registry import component

# Shape suffixes: N images, B bins.


@component
class SweepCalibrationError:
    """Equal-mass calibration error with as many bins as keep accuracy monotone.

    The number of bins grows by one as long as the accuracy never falls from one bin to the next;
    a calibrated model is monotone, so the first fall says that the bins hold too few images. This
    removes most of the choice of ``bins``. Bins and ties are those of
    ``calibration.ece_equal_mass``: equal confidences share a bin, so all tied is one bin, and the
    sweep ends where every distinct confidence has its own.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined for N = 0.
    Differences: tools that split equal confidences depend on the order of the images.
    Reference: Roelofs et al. 2022, arXiv:2012.08668, algorithm 1.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([0, 1]),
        ...     index=np.arange(2),
        ... )
        >>> round(SweepCalibrationError()(predictions), 6)
        0.375

    Attributes:
        norm: 1 for the mean gap, 2 for the root of the mean squared gap.
    """

    name: ClassVar[str] = "calibration.ece_sweep"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    norm: Literal[1, 2] = 1

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        values = derived(predictions)
        means = values.keep("sweep", lambda: _swept(values))
        return float(means.over_images(np.abs(means.gap) ** self.norm) ** (1 / self.norm))

    def terms(self, predictions: ClassificationPredictions) -> None:
        """The number of bins depends on all images: there are no terms."""


def _swept(values: Derived) -> BinMeans:
    """Return the bins with which the sweep ends."""
    last = np.append(np.flatnonzero(np.diff(values.ascending)) + 1, len(values.ascending))
    right = np.concatenate([[0], np.cumsum(values.correct[values.order].astype(np.int64))])
    ends = _sweep(last, right)
    starts = np.concatenate([[0], ends[:-1]])
    count_B = (ends - starts).astype(np.float64)
    sure_B = np.add.reduceat(values.confidence[values.order], starts)
    return BinMeans(
        count=count_B,
        confidence=sure_B / count_B,
        accuracy=(right[ends] - right[starts]) / count_B,
    )


def _sweep(last: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where the bins end, (B,), with the last number of bins before accuracy falls.

    Args:
        last: where the images of each distinct confidence end, (U,) ascending.
        right: number of right images before each position, (N + 1,).
    """
    if not _falls(np.append(0, last), right):
        return last  # Merging neighbors of a monotone sequence leaves it monotone.
    count = len(right) - 1
    first = np.concatenate([[0], last[:-1]])
    # A run ends where a tie ends: the tie goes to the first run that holds one of its images.
    tie_end_N = np.repeat(last, last - first)
    # Accuracy can fall only between the first right image and the last wrong one.
    hits = right[last] - right[first]
    low = int(first[np.flatnonzero(hits)[0]])
    high = int(first[np.flatnonzero(hits < last - first)[-1]])
    bins = 2
    while True:
        start, stop = run_of(low, count, bins), run_of(high, count, bins) + 1
        edges = tie_end_N[run_end(np.arange(max(0, start - 1), stop), count, bins) - 1]
        if _falls(edges if start else np.append(0, edges), right):
            break
        bins += 1
    return np.unique(tie_end_N[run_ends(count, bins - 1) - 1])


def _falls(edges: NDArray[np.int64], right: NDArray[np.int64]) -> bool:
    """Return whether accuracy falls from one bin to the next; empty bins are left out."""
    count, hits = np.diff(edges), np.diff(right[edges])
    accuracy = hits[count > 0] / count[count > 0]
    return bool((accuracy[1:] < accuracy[:-1]).any())
