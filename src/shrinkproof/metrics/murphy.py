"""The Brier score split over confidence bins: reliability, resolution, uncertainty, and the rest.

    Brier score = reliability - resolution + uncertainty + within

holds exactly, whatever the bins are. The first three are Murphy's; they would be all if the images
of a bin shared one probability. The last is what their spread within the bins adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.binning import Bins, equal_width
from shrinkproof.metrics.derived import NO_IMAGES, Of, derived, events
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.registry import component

# Shape suffixes: N images, B bins, P images for which an event came true.


@dataclass(frozen=True, slots=True)
class MurphyParts:
    """The four parts of a Brier score, summed over the events it is about.

    Attributes:
        reliability: mean squared gap between mean probability and frequency of the bins.
        resolution: variance of the frequencies over bins.
        uncertainty: Brier score of the overall frequency.
        within: variance of the probabilities within bins, minus twice their covariance with the
            event.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float


def murphy_parts(predictions: ClassificationPredictions, bins: int, of: Of) -> MurphyParts:
    """Return the parts of ``accuracy.brier_top`` or, for all classes, of ``accuracy.brier``.

    Args:
        predictions: one condition, N >= 1.
        bins: number of equal-width bins.
        of: whose Brier score.

    Reference: Murphy 1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2; Stephenson et al.
        2008, doi:10.1175/2007WAF2006116.1, for the part within bins.
    """

    def make() -> MurphyParts:
        parts = [_of_event(p_N, true_P, bins) for p_N, true_P in events(predictions, of)]
        return MurphyParts(*np.sum(parts, axis=0).tolist())

    return derived(predictions).keep(("murphy", bins, of), make)


def _of_event(
    prob_N: NDArray[np.float64], true_P: NDArray[np.int64], bins: int
) -> tuple[float, float, float, float]:
    bin_N = equal_width(prob_N, bins)
    count_B = np.bincount(bin_N)
    filled = np.flatnonzero(count_B)
    count_B = count_B[filled]
    prob_B = np.bincount(bin_N, prob_N)[filled] / count_B
    true_B = np.bincount(bin_N[true_P], minlength=bins)[filled] / count_B
    count, base = len(prob_N), len(true_P) / len(prob_N)
    variance = np.square(prob_N).sum() - count_B @ prob_B**2
    covariance = prob_N[true_P].sum() - count_B @ (prob_B * true_B)
    return (
        float(count_B @ (prob_B - true_B) ** 2 / count),
        float(count_B @ (true_B - base) ** 2 / count),
        base * (1 - base),
        float(variance - 2 * covariance) / count,
    )


@component
class MurphyReliability:
    """Part of the Brier score from the gaps between confidence and accuracy of bins.

    With ``of: top`` it is about "the prediction is right" and ``accuracy.brier_top``; with
    ``of: classes`` it is the sum over classes of "the image is of this class" and belongs to
    ``accuracy.brier``. The probability of a bin is the mean of its images, not its center. Upper
    edges belong to their bin, 0 to the first and 1 to the last one; ties need no other rule.
    Brier score = reliability - resolution + uncertainty + within, exactly.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: plain number in [0, 2], lower is better; at most 1 for ``of: top``. Undefined for N = 0.
    Reference: Murphy 1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((4, 2), dtype=np.float32),
        ...     target=np.array([0, 0, 0, 1]),
        ...     index=np.arange(4),
        ... )
        >>> MurphyReliability()(predictions)
        0.0625

    Attributes:
        bins: number of equal-width bins.
        of: ``top`` or ``classes``.
    """

    name: ClassVar[str] = "calibration.murphy_reliability"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 2.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15
    of: Of = "top"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        return murphy_parts(predictions, self.bins, self.of).reliability

    def terms(self, predictions: ClassificationPredictions) -> None:
        """Squares of means are no means over images: there are no terms."""


@component
class MurphyResolution:
    """Part of the Brier score that the bins take away by telling images apart.

    The variance of the bins' accuracies around the overall accuracy, weighted by images; 0 for a
    model whose confidence says nothing. Fields, events and edges are those of
    ``calibration.murphy_reliability``. Brier score = reliability - resolution + uncertainty +
    within, exactly.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: plain number in [0, 1], higher is better. Undefined for N = 0.
    Reference: Murphy 1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((4, 2), dtype=np.float32),
        ...     target=np.array([0, 0, 0, 1]),
        ...     index=np.arange(4),
        ... )
        >>> MurphyResolution()(predictions)
        0.0

    Attributes:
        bins: number of equal-width bins.
        of: ``top`` or ``classes``.
    """

    name: ClassVar[str] = "calibration.murphy_resolution"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = Better.HIGHER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15
    of: Of = "top"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        return murphy_parts(predictions, self.bins, self.of).resolution

    def terms(self, predictions: ClassificationPredictions) -> None:
        """Squares of means are no means over images: there are no terms."""


@component
class MurphyUncertainty:
    """Brier score of a model that always states the overall accuracy.

    It depends on the accuracy alone (``of: classes``: on the frequencies of the classes), not on
    confidence. Fields and events are those of ``calibration.murphy_reliability``. Brier score =
    reliability - resolution + uncertainty + within, exactly.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: plain number in [0, 1], no direction is better. Undefined for N = 0.
    Reference: Murphy 1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((4, 2), dtype=np.float32),
        ...     target=np.array([0, 0, 0, 1]),
        ...     index=np.arange(4),
        ... )
        >>> MurphyUncertainty()(predictions)
        0.1875

    Attributes:
        bins: number of equal-width bins; the value does not depend on it.
        of: ``top`` or ``classes``.
    """

    name: ClassVar[str] = "calibration.murphy_uncertainty"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = Better.NONE
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15
    of: Of = "top"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        return murphy_parts(predictions, self.bins, self.of).uncertainty

    def terms(self, predictions: ClassificationPredictions) -> None:
        """Squares of means are no means over images: there are no terms."""


@component
class MurphyWithin:
    """Part of the Brier score from the spread of confidences within the bins.

    The variance of the probabilities within bins minus twice their covariance with the event.
    Below 0 the confidences tell images of the same bin apart, which resolution does not see; it
    is 0 where all images of a bin share one confidence, and goes to 0 as bins get narrow. Fields,
    events and edges are those of ``calibration.murphy_reliability``. Brier score = reliability -
    resolution + uncertainty + within, exactly.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: plain number in [-2, 2], no direction is better. Undefined for N = 0.
    Reference: Stephenson et al. 2008, doi:10.1175/2007WAF2006116.1.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((4, 2), dtype=np.float32),
        ...     target=np.array([0, 0, 0, 1]),
        ...     index=np.arange(4),
        ... )
        >>> MurphyWithin()(predictions)
        0.0

    Attributes:
        bins: number of equal-width bins.
        of: ``top`` or ``classes``.
    """

    name: ClassVar[str] = "calibration.murphy_within"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = Better.NONE
    range: ClassVar[tuple[float, float]] = (-2.0, 2.0)
    is_fast: ClassVar[bool] = True

    bins: Bins = 15
    of: Of = "top"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        return murphy_parts(predictions, self.bins, self.of).within

    def terms(self, predictions: ClassificationPredictions) -> None:
        """Squares of means are no means over images: there are no terms."""
