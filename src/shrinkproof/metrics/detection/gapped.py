"""What calibration errors of boxes have in common: each is a mean of gaps in bins or of boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.detection.counted import counted, reason_of
from shrinkproof.metrics.detection.gaps import Gaps, mean_gap, resampled
from shrinkproof.metrics.detection.intervals import gap_change_interval, gap_interval
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.statistics import Interval, Replicated


class GapError(ABC):
    """A calibration error of boxes; a subclass says what the gaps are.

    Intervals are those of binned gaps, which cancel within a bin.
    """

    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True
    task: ClassVar[str] = "detection"

    iou: float
    score: float

    @abstractmethod
    def gaps(self, predictions: DetectionPredictions) -> Gaps | Undefined:
        """Return the gaps of the detections that count, or why there are none."""

    def __call__(self, predictions: DetectionPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        gaps = self.gaps(predictions)
        return gaps if isinstance(gaps, Undefined) else mean_gap(gaps)

    def terms(self, predictions: DetectionPredictions) -> None:
        """A ratio of sums, or a mean of ratios, is no mean over images: there are no terms."""
        del predictions

    def replicated(
        self, predictions: DetectionPredictions, weights: NDArray[np.float32]
    ) -> Replicated | Undefined:
        """Return the value and its values on resampled data sets, weights (R, N)."""
        gaps = self.gaps(predictions)
        return gaps if isinstance(gaps, Undefined) else resampled(gaps, weights)

    def interval(
        self, predictions: DetectionPredictions, weights: NDArray[np.float32], units: int
    ) -> Interval:
        """Return the interval from resampled data sets, weights (R, N), or why there is none."""
        gaps = self.gaps(predictions)
        if isinstance(gaps, Undefined):
            return Interval(reason=gaps.reason)
        return gap_interval(gaps, self._right(predictions), weights, units)

    def change_interval(
        self,
        predictions: DetectionPredictions,
        baseline: DetectionPredictions,
        weights: NDArray[np.float32],
        units: int,
    ) -> Interval:
        """Return the interval of the value minus that of the baseline on the same images."""
        first, second = self.gaps(predictions), self.gaps(baseline)
        if isinstance(first, Undefined) or isinstance(second, Undefined):
            return Interval(reason=reason_of(first, second))
        right = self._right(predictions), self._right(baseline)
        return gap_change_interval((first, second), right, weights, units)

    def _right(self, predictions: DetectionPredictions) -> NDArray[np.bool_]:
        """Return which of the detections that count are right."""
        return counted(predictions, iou=self.iou, score=self.score).right
