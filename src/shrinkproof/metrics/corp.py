"""The Brier score split by isotonic recalibration: miscalibration, discrimination, uncertainty.

    Brier score = miscalibration - discrimination + uncertainty

holds exactly, without bins and with nothing to choose. Recalibrated probabilities are the
nondecreasing function of the stated ones that is closest to what happened, found by pooling
adjacent violators.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.binning import tied
from shrinkproof.metrics.derived import NO_IMAGES, Of, derived, events
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.registry import component

# Shape suffixes: N images, B blocks, P images for which an event came true, U distinct values.


@dataclass(frozen=True, slots=True)
class CorpParts:
    """The three parts of a Brier score, summed over the events it is about.

    Attributes:
        miscalibration: Brier score minus that of the recalibrated probabilities.
        discrimination: uncertainty minus the Brier score of the recalibrated probabilities.
        uncertainty: Brier score of the overall frequency.
    """

    miscalibration: float
    discrimination: float
    uncertainty: float


def corp_parts(predictions: ClassificationPredictions, of: Of) -> CorpParts:
    """Return the parts of ``accuracy.brier_top`` or, for all classes, of ``accuracy.brier``.

    Args:
        predictions: one condition, N >= 1.
        of: whose Brier score.

    Reference: Dimitriadis et al. 2021, doi:10.1073/pnas.2016191118.
    """

    def make() -> CorpParts:
        parts = [_of_event(p_N, true_P) for p_N, true_P in events(predictions, of)]
        return CorpParts(*np.sum(parts, axis=0).tolist())

    return derived(predictions).keep(("corp", of), make)


def recalibrated(
    prob_N: NDArray[np.float64], true_P: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the blocks of equal recalibrated probability, by ascending stated probability.

    Equal probabilities (to 12 digits) are in one block. The recalibrated probability of a block
    is the share of its images for which the event came true.

    Args:
        prob_N: stated probability of the event for each image, (N,).
        true_P: positions of the images for which it came true, (P,).

    Returns:
        Number of images of each block, (B,), and for how many of them it came true, (B,).
    """
    sorted_N = np.sort(tied(prob_N))
    value_U, true_U = np.unique(tied(prob_N[true_P]), return_counts=True)
    low_U = np.searchsorted(sorted_N, value_U, side="left")
    high_U = np.searchsorted(sorted_N, value_U, side="right")
    # Images for which it did not come true matter only in number: one block lies before each of
    # the values at which it did, and one behind the last.
    count_B = np.diff(np.stack([low_U, high_U], axis=1).reshape(-1), prepend=0, append=len(prob_N))
    hits_B = np.zeros_like(count_B)
    hits_B[1::2] = true_U
    return _pooled(zip(count_B.tolist(), hits_B.tolist(), strict=True))


def _pooled(
    blocks: Iterable[tuple[int, int]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pool neighbors until the shares increase; whole numbers, so that comparisons are exact."""
    counts: list[int] = []
    hits: list[int] = []
    for count, hit in blocks:
        if not count:
            continue
        # The share before is at least this one: both become one block.
        while counts and hits[-1] * count >= hit * counts[-1]:
            count += counts.pop()
            hit += hits.pop()
        counts.append(count)
        hits.append(hit)
    return np.array(counts, dtype=np.int64), np.array(hits, dtype=np.int64)


def _of_event(prob_N: NDArray[np.float64], true_P: NDArray[np.int64]) -> tuple[float, float, float]:
    count, base = len(prob_N), len(true_P) / len(prob_N)
    count_B, hits_B = recalibrated(prob_N, true_P)
    score = float(np.square(prob_N).sum() - 2 * prob_N[true_P].sum() + len(true_P)) / count
    recalibrated_score = float((hits_B * (1 - hits_B / count_B)).sum()) / count
    uncertainty = base * (1 - base)
    return (
        max(0.0, score - recalibrated_score),
        max(0.0, uncertainty - recalibrated_score),
        uncertainty,
    )


@component
class CorpMiscalibration:
    """Part of the Brier score that isotonic recalibration would remove.

    With ``of: top`` it is about "the prediction is right" and ``accuracy.brier_top``; with
    ``of: classes`` it is the sum over classes of "the image is of this class" and belongs to
    ``accuracy.brier``. Equal probabilities (to 12 digits) are recalibrated together; exact 0 and 1
    need no other rule. The recalibration is fitted to these same images, so a calibrated model
    shows a little more than 0. Brier score = miscalibration - discrimination + uncertainty,
    exactly.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: plain number in [0, 2], lower is better; at most 1 for ``of: top``. Undefined for N = 0.
    Reference: Dimitriadis et al. 2021, doi:10.1073/pnas.2016191118.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((4, 2), dtype=np.float32),
        ...     target=np.array([0, 0, 0, 1]),
        ...     index=np.arange(4),
        ... )
        >>> CorpMiscalibration()(predictions)
        0.0625

    Attributes:
        of: ``top`` or ``classes``.
    """

    name: ClassVar[str] = "calibration.corp_miscalibration"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 2.0)
    is_fast: ClassVar[bool] = False

    of: Of = "top"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        return corp_parts(predictions, self.of).miscalibration

    def terms(self, predictions: ClassificationPredictions) -> None:
        """The recalibration depends on all images: there are no terms."""


@component
class CorpDiscrimination:
    """Part of the Brier score that the order of the confidences takes away.

    How much better the recalibrated confidences are than the overall accuracy alone; it depends
    on the order of the confidences, not on their values. Field, events and ties are those of
    ``calibration.corp_miscalibration``. Brier score = miscalibration - discrimination +
    uncertainty, exactly.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: plain number in [0, 1], higher is better. Undefined for N = 0.
    Reference: Dimitriadis et al. 2021, doi:10.1073/pnas.2016191118.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.array([[1, 0], [2, 0]], dtype=np.float32),
        ...     target=np.array([1, 0]),
        ...     index=np.arange(2),
        ... )
        >>> CorpDiscrimination()(predictions)
        0.25

    Attributes:
        of: ``top`` or ``classes``.
    """

    name: ClassVar[str] = "calibration.corp_discrimination"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = Better.HIGHER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    of: Of = "top"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        return corp_parts(predictions, self.of).discrimination

    def terms(self, predictions: ClassificationPredictions) -> None:
        """The recalibration depends on all images: there are no terms."""


@component
class CorpUncertainty:
    """Brier score of a model that always states the overall accuracy.

    It depends on the accuracy alone (``of: classes``: on the frequencies of the classes) and
    equals ``calibration.murphy_uncertainty``. Brier score = miscalibration - discrimination +
    uncertainty, exactly.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: plain number in [0, 1], no direction is better. Undefined for N = 0.
    Reference: Dimitriadis et al. 2021, doi:10.1073/pnas.2016191118.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((4, 2), dtype=np.float32),
        ...     target=np.array([0, 0, 0, 1]),
        ...     index=np.arange(4),
        ... )
        >>> CorpUncertainty()(predictions)
        0.1875

    Attributes:
        of: ``top`` or ``classes``.
    """

    name: ClassVar[str] = "calibration.corp_uncertainty"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = Better.NONE
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    of: Of = "top"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        return corp_parts(predictions, self.of).uncertainty

    def terms(self, predictions: ClassificationPredictions) -> None:
        """The recalibration depends on all images: there are no terms."""
