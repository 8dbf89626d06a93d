"""How far confidence is from accuracy: expected calibration error and reliability diagrams.

Other summaries of the same bins stand in `binned`, per-class errors in `classwise`, errors without
bins in `unbinned`, decompositions of the Brier score in `murphy` and `corp`, and temperature
scaling in `temperature`.

Confidence is the softmax of the stored float32 logits in double precision. Saturated softmax is
exactly 0 or 1 there and counts as such, nothing is clipped. Equal logits in any order of classes
are a tie (to 12 digits); probabilities of 8 bit are ties where their logits are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.metrics.binning import Binning, Bins, edges
from shrinkproof.metrics.derived import derived
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better
from shrinkproof.records import Json
from shrinkproof.registry import component
from shrinkproof.statistics import Terms

# Shape suffixes: N images, B bins.


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityBins:
    """The points of a reliability diagram; bins without images are left out.

    The expected calibration error is the mean of ``|confidence - accuracy|``, weighted by
    ``count``.

    Attributes:
        low: (B,) lower edge of each bin, excluded (the first bin includes 0).
        high: (B,) upper edge of each bin, included.
        count: (B,) int64, number of images, at least 1.
        confidence: (B,) mean confidence, 0 to 1.
        accuracy: (B,) share classified correctly, 0 to 1.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return {name: getattr(self, name).tolist() for name in self.__slots__}


def reliability(
    predictions: ClassificationPredictions | Iterable[ClassificationPredictions], bins: int = 15
) -> ReliabilityBins:
    """Return the points of a reliability diagram over equal-width bins.

    Several sets of predictions (many conditions of one candidate) are pooled as if they were one;
    a generator keeps only one of them in memory at a time.

    Args:
        predictions: one condition, or several to be pooled.
        bins: number of equal-width bins between 0 and 1.

    Raises:
        UsageError: ``bins`` is not positive.
    """
    if bins < 1:
        raise UsageError(f"reliability: bins must be at least 1, got {bins}")
    if isinstance(predictions, ClassificationPredictions):
        predictions = [predictions]
    sums_3B = np.zeros((3, bins))
    for one in predictions:
        values = derived(one)
        bin_N = values.bin_of("equal-width", bins)
        for row, weights_N in enumerate((None, values.confidence, values.correct)):
            sums_3B[row] += np.bincount(bin_N, weights_N, minlength=bins)
    filled = np.flatnonzero(sums_3B[0])
    count_B, confidence_B, correct_B = sums_3B[:, filled]
    edges_B = edges(bins)
    return ReliabilityBins(
        low=edges_B[filled],
        high=edges_B[filled + 1],
        count=count_B.astype(np.int64),
        confidence=confidence_B / count_B,
        accuracy=correct_B / count_B,
    )


@component
class ExpectedCalibrationError:
    """Mean gap between confidence and accuracy over equal-width confidence bins.

    Images are sorted into ``bins`` bins by the largest softmax probability; a bin (l, r] excludes
    its lower and includes its upper edge, 0 belongs to the first and 1 to the last bin. Each bin
    adds its share of the images times the absolute difference between its mean confidence (not its
    center) and its accuracy. Empty bins add nothing. The value is biased upward: a perfectly
    calibrated model shows more than 0, the more the fewer images there are.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined (nan) for N = 0.
    Differences: torchmetrics gives confidence 1 a bin of its own (0.525 instead of 0.475 for two
        samples at 1.00 and 0.95, one of them wrong, two bins).
    Reference: Naeini et al. 2015; Guo et al. 2017, doi:10.5555/3305381.3305518.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([0, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(ExpectedCalibrationError(bins=2)(predictions), 6)
        0.375

    Attributes:
        bins: number of bins.
    """

    name: ClassVar[str] = "calibration.ece"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        return _gap(predictions, "equal-width", self.bins)

    def terms(self, predictions: ClassificationPredictions) -> Terms:
        """Return confidence minus correctness in the column of each image's bin, (N, bins)."""
        bin_N = derived(predictions).bin_of("equal-width", self.bins)
        return _terms(predictions, bin_N, self.bins)


@component
class EqualMassCalibrationError:
    """Mean gap between confidence and accuracy over bins with equally many images.

    Sorted by confidence, the images are cut into ``bins`` runs of equal length (where N is no
    multiple, the first runs hold one more). The largest confidence of a run is its upper edge, and
    equal confidences (to 12 digits) are never split: all go to the first run that holds one, and
    runs that become empty are dropped. If all confidences are equal there is one bin.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined (nan) for N = 0.
    Differences: netcal raises where all confidences are equal; other tools sort and split equal
        values, so their result depends on the order of the images.
    Reference: Nixon et al. 2019, arXiv:1904.01685; Roelofs et al. 2022, arXiv:2012.08668.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([0, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(EqualMassCalibrationError(bins=2)(predictions), 6)
        0.375

    Attributes:
        bins: largest number of bins.
    """

    name: ClassVar[str] = "calibration.ece_equal_mass"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        return _gap(predictions, "equal-mass", self.bins)

    def terms(self, predictions: ClassificationPredictions) -> Terms:
        """Return confidence minus correctness in the column of each image's bin, (N, <= bins).

        The bins are those of the full sample; resampling does not move them.
        """
        bin_N = derived(predictions).bin_of("equal-mass", self.bins)
        return _terms(predictions, bin_N, int(bin_N.max(initial=0)) + 1)


@component
class ConfidenceGap:
    """Mean confidence minus accuracy: above 0 the model is too sure on average.

    What one global correction would remove. Ties and saturated confidences need no rule here.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [-1, 1], 0 is calibrated on average. Undefined (nan) for N = 0.
    Differences: the expected calibration error with one bin is its absolute value.
    Reference: Guo et al. 2017, doi:10.5555/3305381.3305518.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([1, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(ConfidenceGap()(predictions), 6)
        0.125
    """

    name: ClassVar[str] = "calibration.confidence_gap"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.NONE
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    is_fast: ClassVar[bool] = True

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        return float(_residual(predictions).mean()) if len(predictions) else math.nan

    def terms(self, predictions: ClassificationPredictions) -> Terms:
        """Return confidence minus correctness of each image, (N, 1)."""
        return Terms(values=_residual(predictions)[:, None], kind="mean")


def _residual(predictions: ClassificationPredictions) -> NDArray[np.float64]:
    values = derived(predictions)
    return values.confidence - values.correct


def _gap(predictions: ClassificationPredictions, binning: Binning, bins: int) -> float:
    """Return the sum over bins of |sum of (confidence - correct)| / N; ``nan`` for N = 0."""
    count = len(predictions)
    if not count:
        return math.nan
    gap_B = np.bincount(derived(predictions).bin_of(binning, bins), _residual(predictions))
    return float(np.abs(gap_B).sum() / count)


def _terms(predictions: ClassificationPredictions, bin_N: NDArray[np.int64], bins: int) -> Terms:
    gaps_NB = np.zeros((len(bin_N), bins))
    gaps_NB[np.arange(len(bin_N)), bin_N] = _residual(predictions)
    return Terms(values=gaps_NB, kind="absolute-sum")
