"""Calibration errors for which a score claims how well the box fits, too: LaECE and LaACE."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.binning import Bins, equal_width
from shrinkproof.metrics.detection.counted import (
    Counted,
    Overlap,
    Score,
    counted,
    nothing,
    protocol,
    reason_of,
)
from shrinkproof.metrics.detection.gapped import GapError
from shrinkproof.metrics.detection.gaps import Gaps, in_cells
from shrinkproof.metrics.detection.intervals import (
    mean_change_interval,
    mean_interval,
)
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.registry import component
from shrinkproof.statistics import Interval

# Shape suffixes: N images, m detections that count, R resampled data sets.


@component
class LocalizationAwareCalibrationError(GapError):
    """Mean gap between score and precision times IoU over bins and classes (LaECE).

    A score claims precision times localization: within a class and a bin of the score, the mean
    score is compared with the mean IoU of the detections, 0 for those that found no object; that is
    precision times the mean IoU of the right ones. The absolute differences are weighted by
    the share of the detections in each bin, and the classes are averaged. Bins have equal
    width between 0 and 1, (l, r] with 0 in the first. Classes without a detection that counts
    are left out of the mean, and the caveat names how many. By falling score each detection takes
    the free object of its class with the largest IoU; what lies on a crowd region and found no
    object does not count.

    The value is biased upward, far more than D-ECE, because each class has bins of its own.

    Input: DetectionPredictions of N images with objects.
    Output: fraction in [0, 1], lower is better. Undefined where no detection counts.
    Differences: ``uq-detr`` spreads its bins between the lowest and the highest score of each
        class; the authors' code also leaves out the classes that have no objects.
    Reference: Oksuz et al. 2023, arXiv:2307.00934, which takes 25 bins and an IoU of 0.1; Kuzucu et
        al. 2024, arXiv:2405.20459, take an IoU of 0 (LaECE_0) and a score threshold of each class.

    Example:
        >>> from shrinkproof.predictions import Objects
        >>> truth = Objects(
        ...     boxes=np.array([[0.0, 0.0, 10.0, 10.0]]),
        ...     label=np.array([0]),
        ...     offsets=np.array([0, 1]),
        ...     crowd=np.array([False]),
        ...     area=np.array([100.0]),
        ...     sizes=np.array([[20, 20]]),
        ... )
        >>> predictions = DetectionPredictions(
        ...     boxes=np.array([[0, 0, 10, 5], [10, 10, 20, 20]], dtype=np.float32),
        ...     score=np.array([0.75, 0.5], dtype=np.float32),
        ...     label=np.array([0, 0]),
        ...     offsets=np.array([0, 2]),
        ...     objects=truth,
        ...     index=np.arange(1),
        ...     num_classes=1,
        ... )
        >>> LocalizationAwareCalibrationError(bins=2)(predictions)
        0.375

    Attributes:
        iou: smallest IoU of a detection that found an object; 0 for any overlap.
        score: smallest score that counts.
        bins: number of bins of the score.
    """

    name: ClassVar[str] = "detection.laece"
    version: ClassVar[int] = 1

    iou: Overlap = 0.1
    score: Score = 0.3
    bins: Bins = 25

    def caveat(self, predictions: DetectionPredictions) -> str:
        """Return the protocol of the number."""
        found = counted(predictions, iou=self.iou, score=self.score)
        return f"{_classes(predictions, found)}; {protocol(iou=self.iou, score=self.score)}"

    def gaps(self, predictions: DetectionPredictions) -> Gaps | Undefined:
        """Return score minus IoU of each detection in its bin, or why there is none."""
        found = counted(predictions, iou=self.iou, score=self.score)
        if not len(found):
            return nothing(predictions, self.score)
        return in_cells(
            found.image,
            found.label,
            equal_width(found.score, self.bins),
            found.score - found.overlap,
            images=len(predictions),
        )


@component
class LocalizationAwareAdaptiveError(GapError):
    """Mean gap between score and IoU of single detections and over classes (LaACE).

    Every detection is a bin of its own: the absolute difference between its score and the IoU with
    the object it found, 0 where it found none, averaged within each class and then over the
    classes that have a detection that counts. Nothing cancels, so the value is not biased, but even
    a perfect score has one: it cannot know the IoU of a single box. By falling score each
    detection takes the free object of its class with the largest IoU, any overlap being
    enough by default; what lies on a crowd region and found no object does not count.

    Input: DetectionPredictions of N images with objects.
    Output: fraction in [0, 1], lower is better. Undefined where no detection counts.
    Differences: the authors' code has a score threshold for each class and lets a detection without
        any overlap take an object.
    Reference: Kuzucu et al. 2024, arXiv:2405.20459 (LaACE_0).

    Example:
        >>> from shrinkproof.predictions import Objects
        >>> truth = Objects(
        ...     boxes=np.array([[0.0, 0.0, 10.0, 10.0]]),
        ...     label=np.array([0]),
        ...     offsets=np.array([0, 1]),
        ...     crowd=np.array([False]),
        ...     area=np.array([100.0]),
        ...     sizes=np.array([[20, 20]]),
        ... )
        >>> predictions = DetectionPredictions(
        ...     boxes=np.array([[0, 0, 10, 5], [10, 10, 20, 20]], dtype=np.float32),
        ...     score=np.array([0.75, 0.5], dtype=np.float32),
        ...     label=np.array([0, 0]),
        ...     offsets=np.array([0, 2]),
        ...     objects=truth,
        ...     index=np.arange(1),
        ...     num_classes=1,
        ... )
        >>> LocalizationAwareAdaptiveError()(predictions)
        0.375

    Attributes:
        iou: smallest IoU of a detection that found an object; 0 for any overlap.
        score: smallest score that counts.
    """

    name: ClassVar[str] = "detection.laace"
    version: ClassVar[int] = 1

    iou: Overlap = 0.0
    score: Score = 0.3

    def interval(
        self, predictions: DetectionPredictions, weights: NDArray[np.float32], units: int
    ) -> Interval:
        """Return the interval from resampled data sets, weights (R, N), or why there is none."""
        gaps = self.gaps(predictions)
        if isinstance(gaps, Undefined):
            return Interval(reason=gaps.reason)
        return mean_interval(gaps, weights, units)

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
        return mean_change_interval((first, second), weights, units)

    def caveat(self, predictions: DetectionPredictions) -> str:
        """Return the protocol of the number."""
        found = counted(predictions, iou=self.iou, score=self.score)
        return f"{_classes(predictions, found)}; {protocol(iou=self.iou, score=self.score)}"

    def gaps(self, predictions: DetectionPredictions) -> Gaps | Undefined:
        """Return the distance of score and IoU of each detection, or why there is none."""
        found = counted(predictions, iou=self.iou, score=self.score)
        if not len(found):
            return nothing(predictions, self.score)
        return in_cells(
            found.image,
            found.label,
            np.zeros_like(found.label),
            np.abs(found.score - found.overlap),
            images=len(predictions),
        )


def _classes(predictions: DetectionPredictions, found: Counted) -> str:
    """Return over which classes the mean is taken, for readers."""
    seen = len(np.unique(found.label))
    total = predictions.num_classes
    if seen == total:
        return f"mean over all {total} classes"
    return f"mean over the {seen} of {total} classes with detections that count"
