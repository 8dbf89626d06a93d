"""Calibration errors of every class, not of the predicted one alone."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.accuracy import without_images
from shrinkproof.metrics.binning import Bins, equal_width, tied, upper_edges
from shrinkproof.metrics.derived import NO_IMAGES, events
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.registry import Fraction, component
from shrinkproof.statistics import Terms

# Shape suffixes: N images, C classes, B bins, P images of one class, M images above a threshold.

MOST_TERMS: Final = 1 << 24
"""More terms than this, N times C times bins, would need more memory than an interval is worth."""


@component
class ClasswiseCalibrationError:
    """Mean gap between the probability of a class and how often it is true.

    For each class all images are sorted into equal-width bins by the probability of that class
    (not only those that are predicted as it); the mean over classes of the expected calibration
    errors of "is it this class" is the value. All C classes count. A class without images has a
    frequency of 0, so its error is the mean of its probabilities; the caveat names such classes.
    Upper edges belong to their bin, 0 to the first and 1 to the last one. With many classes nearly
    all probabilities are near 0, and so is the value: compare it only at equal C.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined for N = 0.
    Differences: static calibration error (SCE) is another name for it.
    Reference: Kull et al. 2019, arXiv:1910.12656; Nixon et al. 2019, arXiv:1904.01685.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([0, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(ClasswiseCalibrationError(bins=2)(predictions), 6)
        0.375

    Attributes:
        bins: number of bins.
    """

    name: ClassVar[str] = "calibration.classwise_ece"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    bins: Bins = 15

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        count, num_classes = predictions.logits.shape
        if not count:
            return NO_IMAGES
        total = 0.0
        for prob_N, true_P in events(predictions, "classes"):
            bin_N = equal_width(prob_N, self.bins)
            gap_B = np.bincount(bin_N, prob_N, minlength=self.bins)
            gap_B -= np.bincount(bin_N[true_P], minlength=self.bins)
            total += float(np.abs(gap_B).sum())
        return float(total / (count * num_classes))

    def terms(self, predictions: ClassificationPredictions) -> Terms | None:
        """Return probability minus truth in the column of each class and bin, (N, C bins) / C.

        None where these would be more than 2**24 numbers.
        """
        count, num_classes = predictions.logits.shape
        columns = num_classes * self.bins
        if count * columns > MOST_TERMS:
            return None
        gaps = np.zeros((count, columns), dtype=np.float32)
        rows = np.arange(count)
        for k, (prob_N, true_P) in enumerate(events(predictions, "classes")):
            gap_N = prob_N.copy()
            gap_N[true_P] -= 1
            gaps[rows, k * self.bins + equal_width(prob_N, self.bins)] = gap_N / num_classes
        return Terms(values=gaps, kind="absolute-sum")

    def caveat(self, predictions: ClassificationPredictions) -> str:
        """Return which classes have no images."""
        return without_images(predictions)


@component
class AdaptiveCalibrationError:
    """Mean gap between probability and frequency over equal-mass ranges of each class.

    For each class the images are sorted by the probability of that class and cut into ``ranges``
    runs of equal length; the value is the mean over classes of the mean over ranges, a range
    counting by its images. Where N is a multiple of ``ranges`` and nothing is tied that is the
    plain mean. Equal probabilities (to 12 digits) are never split: all go to the first range that
    holds one, so saturated probabilities, exactly 0 or 1, share a range. With ``threshold``,
    smaller probabilities are left out (TACE): without it nearly all of the many classes' ranges
    hold probabilities of about 0. Classes without images count and are named in the caveat.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined for N = 0, and where no probability
        reaches ``threshold``.
    Differences: netcal's ACE is the unweighted mean over equal-width bins of the predicted class,
        and torch-uncertainty's adaptive error bins the predicted class alone.
    Reference: Nixon et al. 2019, arXiv:1904.01685.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([0, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(AdaptiveCalibrationError(ranges=2)(predictions), 6)
        0.375

    Attributes:
        ranges: number of ranges of each class.
        threshold: smallest probability that counts.
    """

    name: ClassVar[str] = "calibration.ace"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    ranges: Bins = 15
    threshold: Fraction = 0.0

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        errors = [
            error
            for prob_N, true_P in events(predictions, "classes")
            if (error := self._of_class(prob_N, true_P)) is not None
        ]
        if not errors:
            return Undefined(f"no probability reaches the threshold {self.threshold:g}")
        return float(np.mean(errors))

    def _of_class(self, prob_N: NDArray[np.float64], true_P: NDArray[np.int64]) -> float | None:
        """Return the error of one class, None where no probability reaches the threshold."""
        sorted_M, true_M = tied(prob_N), tied(prob_N[true_P])
        if self.threshold > 0:
            sorted_M = sorted_M[sorted_M >= self.threshold]
            true_M = true_M[true_M >= self.threshold]
        if not len(sorted_M):
            return None
        sorted_M.sort()
        upper_B = upper_edges(sorted_M, self.ranges)
        ends = np.searchsorted(sorted_M, upper_B, side="right")
        starts = np.concatenate([[0], ends[:-1]])
        gap_B = np.add.reduceat(sorted_M, starts)
        gap_B -= np.bincount(np.searchsorted(upper_B, true_M), minlength=len(upper_B))
        return float(np.abs(gap_B).sum() / len(sorted_M))

    def caveat(self, predictions: ClassificationPredictions) -> str:
        """Return which classes have no images."""
        return without_images(predictions)

    def terms(self, predictions: ClassificationPredictions) -> None:
        """The ranges depend on all images: there are no terms."""
