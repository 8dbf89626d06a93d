"""Other summaries of the gaps between confidence and accuracy of bins than their mean."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import pydantic

from shrinkproof.metrics.binning import Binning, Bins
from shrinkproof.metrics.derived import NO_IMAGES, derived
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.registry import component

# Shape suffixes: B bins.

Images = Annotated[int, pydantic.Field(ge=1, json_schema_extra={"unit": "count"})]
"""Number of images."""


@component
class RootMeanSquareCalibrationError:
    """Root of the mean squared gap between confidence and accuracy over bins.

    Each bin counts with its share of the images, so few bins that are far off weigh more than in
    the mean gap. Edges, ties and saturated confidences are treated as in ``calibration.ece`` and
    ``calibration.ece_equal_mass``: upper edges belong to their bin, 0 to the first and 1 to the
    last bin, equal confidences share one. It is biased upward like these.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined for N = 0.
    Differences: torchmetrics' norm l2 gives confidence 1 a bin of its own.
    Reference: Kumar et al. 2019, arXiv:1909.10155; Hendrycks et al. 2019, arXiv:1812.04606.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([0, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(RootMeanSquareCalibrationError(bins=2)(predictions), 6)
        0.395285

    Attributes:
        bins: number of bins; with equal mass the largest number.
        binning: ``equal-width`` or ``equal-mass``.
    """

    name: ClassVar[str] = "calibration.ece_l2"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15
    binning: Binning = "equal-width"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        means = derived(predictions).binned(self.binning, self.bins)
        return math.sqrt(means.over_images(means.gap**2))

    def terms(self, predictions: ClassificationPredictions) -> None:
        """A root of squares is no mean over images: there are no terms."""


@component
class MaximumCalibrationError:
    """Largest gap between confidence and accuracy of an equal-width confidence bin.

    A bin with few images shows a large gap by chance alone: with the default of one image the
    number is very noisy, and ``minimum_count`` leaves small bins out. Edges and saturated
    confidences are treated as in ``calibration.ece``.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined for N = 0, and where no bin holds
        ``minimum_count`` images.
    Differences: torchmetrics' norm max gives confidence 1 a bin of its own.
    Reference: Naeini et al. 2015; Guo et al. 2017, doi:10.5555/3305381.3305518.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([0, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(MaximumCalibrationError(bins=2)(predictions), 6)
        0.5

    Attributes:
        bins: number of bins.
        minimum_count: bins with fewer images do not count.
    """

    name: ClassVar[str] = "calibration.ece_max"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15
    minimum_count: Images = 1

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        means = derived(predictions).binned("equal-width", self.bins)
        gap_B = np.abs(means.gap[means.count >= self.minimum_count])
        if not len(gap_B):
            return Undefined(
                f"no bin holds {self.minimum_count} images, the fullest one {means.count.max():.0f}"
            )
        return float(gap_B.max())

    def terms(self, predictions: ClassificationPredictions) -> None:
        """A maximum is no mean over images: there are no terms."""


@component
class DebiasedCalibrationError:
    """Root mean squared calibration error without the bias from few images per bin.

    From the squared gap of each bin its expected value under perfect calibration is taken away,
    ``a (1 - a) / (n - 1)`` with accuracy a of n images. A sum below 0 becomes 0, so a calibrated
    model shows 0 about half of the time. Bins with one image have no such estimate and add
    nothing; equal confidences share a bin.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined where no bin holds two images.
    Differences: uncertainty-calibration puts its edges halfway between images, which is the same
        unless an edge falls among equal confidences.
    Reference: Broecker 2012, doi:10.1007/s00382-011-1191-1; Kumar et al. 2019, arXiv:1909.10155,
        section 5.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((4, 2), dtype=np.float32),
        ...     target=np.array([0, 0, 0, 0]),
        ...     index=np.arange(4),
        ... )
        >>> DebiasedCalibrationError()(predictions)
        0.5

    Attributes:
        bins: number of bins; with equal mass the largest number.
        binning: ``equal-width`` or ``equal-mass``.
    """

    name: ClassVar[str] = "calibration.ece_debiased"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15
    binning: Binning = "equal-mass"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        means = derived(predictions).binned(self.binning, self.bins)
        has_spread = means.count >= 2
        if not has_spread.any():
            return Undefined("no bin holds two images, so the bias cannot be estimated")
        chance_B = means.accuracy * (1 - means.accuracy) / np.maximum(means.count - 1, 1)
        squares_B = np.where(has_spread, means.gap**2 - chance_B, 0.0)
        return math.sqrt(max(0.0, means.over_images(squares_B)))

    def terms(self, predictions: ClassificationPredictions) -> None:
        """A root of squares is no mean over images: there are no terms."""


@component
class Overconfidence:
    """Part of the expected calibration error from bins that are too sure.

    Sums the gaps of the equal-width bins whose mean confidence is above their accuracy, each with
    its share of the images. Together with ``calibration.underconfidence`` it is
    ``calibration.ece``; the difference of the two is ``calibration.confidence_gap``. Edges and
    saturated confidences are treated as in ``calibration.ece``.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined for N = 0.
    Differences: some papers weight these gaps once more with the confidence.
    Reference: Thulasidasan et al. 2019, arXiv:1905.11001 (there weighted by confidence).

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([1, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(Overconfidence(bins=2)(predictions), 6)
        0.375

    Attributes:
        bins: number of bins.
    """

    name: ClassVar[str] = "calibration.overconfidence"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        return _signed(predictions, self.bins, 1.0)

    def terms(self, predictions: ClassificationPredictions) -> None:
        """Which bins count depends on all images: there are no terms."""


@component
class Underconfidence:
    """Part of the expected calibration error from bins that are not sure enough.

    Sums the gaps of the equal-width bins whose mean confidence is below their accuracy, each with
    its share of the images. Together with ``calibration.overconfidence`` it is
    ``calibration.ece``. Edges and saturated confidences are treated as in ``calibration.ece``.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined for N = 0.
    Reference: Thulasidasan et al. 2019, arXiv:1905.11001 (there weighted by confidence).

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([1, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(Underconfidence(bins=2)(predictions), 6)
        0.25

    Attributes:
        bins: number of bins.
    """

    name: ClassVar[str] = "calibration.underconfidence"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        return _signed(predictions, self.bins, -1.0)

    def terms(self, predictions: ClassificationPredictions) -> None:
        """Which bins count depends on all images: there are no terms."""


def _signed(predictions: ClassificationPredictions, bins: int, sign: float) -> float | Undefined:
    """Return the mean over images of the gaps with that sign."""
    if not len(predictions):
        return NO_IMAGES
    means = derived(predictions).binned("equal-width", bins)
    return means.over_images(np.maximum(sign * means.gap, 0.0))
