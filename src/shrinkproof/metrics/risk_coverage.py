"""What a model gains by answering only where it is sure: risk-coverage curves and their areas."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from shrinkproof.metrics.ranking import Score, ranking
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better
from shrinkproof.registry import Fraction, OpenFraction, component

_ROUNDING = 1e-9
"""Products such as 0.07 * 100 miss whole numbers by a few units in the last place."""


@component
class AURC:
    """Error rate among the surest images, averaged over all coverages.

    The mean over n = 1 to N of the error rate among the n images with the largest score of
    `score`. It mixes how often the model errs and how well it knows when; an error among the
    surest images weighs most.

    Ties: images whose scores agree to 12 digits are in random order; the value is the mean over
    all orders, exactly. All tied gives the error rate.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined (nan) for N = 0.
    Differences: some tools integrate by trapezoids from coverage 1/N on, or drop all but one image
        of a tie; many print 1,000 times the value.
    Reference: Geifman et al. 2019, arXiv:1805.08206.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.9, 0.1], [0.7, 0.3]], dtype=np.float32)),
        ...     target=np.array([0, 1]),
        ...     index=np.arange(2),
        ... )
        >>> AURC()(predictions)
        0.25

    Attributes:
        score: ``confidence`` (largest probability), ``margin`` (lead over the second) or
            ``entropy``.
    """

    name: ClassVar[str] = "selective.aurc"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    score: Score = "confidence"

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        return _aurc(predictions, self.score)

    def terms(self, predictions: ClassificationPredictions) -> None:
        """An order of images is no mean over them: there are no terms."""


@component
class EAURC:
    """Area under the risk-coverage curve above that of a perfect order.

    `selective.aurc` minus its value where the same number of wrong answers comes last: 0 for a
    model that is less sure of every wrong answer than of any right one. Where all answers are
    right, or all wrong, every order is perfect.

    Ties: as in `selective.aurc`.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined (nan) for N = 0.
    Differences: the perfect order's area is summed for these N images; the paper approximates it
        by r + (1 - r) ln(1 - r) for the error rate r, so that small samples fall below 0.
    Reference: Geifman et al. 2019, arXiv:1805.08206.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.9, 0.1], [0.7, 0.3]], dtype=np.float32)),
        ...     target=np.array([1, 0]),
        ...     index=np.arange(2),
        ... )
        >>> EAURC()(predictions)
        0.5

    Attributes:
        score: ``confidence`` (largest probability), ``margin`` (lead over the second) or
            ``entropy``.
    """

    name: ClassVar[str] = "selective.eaurc"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    score: Score = "confidence"

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        count = len(predictions)
        if not count:
            return math.nan
        wrong = int(ranking(predictions, self.score).wrong.sum())
        last_W = np.arange(1, wrong + 1)
        perfect = float((last_W / (count - wrong + last_W)).sum() / count)
        return max(0.0, _aurc(predictions, self.score) - perfect)

    def terms(self, predictions: ClassificationPredictions) -> None:
        """An order of images is no mean over them: there are no terms."""


@component
class AUGRC:
    """Share of images answered wrongly unnoticed, averaged over all coverages.

    The area, by trapezoids from coverage 0 to 1, under the share of all images that are among the
    surest by the score of `score` and wrong. With the error rate r it is
    r (1 - r) (1 - AUROC) + r^2 / 2, exactly, so unlike `selective.aurc` it weighs all errors alike
    and is defined where all answers are right (0) or wrong (1/2).

    Ties: images whose scores agree to 12 digits are in random order; the value is the mean over
    all orders, exactly. All tied gives r / 2.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 0.5], lower is better. Undefined (nan) for N = 0.
    Differences: the plain mean over n = 1 to N is larger by r / (2 N).
    Reference: Traub et al. 2024, arXiv:2407.01032.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.9, 0.1], [0.7, 0.3]], dtype=np.float32)),
        ...     target=np.array([0, 1]),
        ...     index=np.arange(2),
        ... )
        >>> AUGRC()(predictions)
        0.125

    Attributes:
        score: ``confidence`` (largest probability), ``margin`` (lead over the second) or
            ``entropy``.
    """

    name: ClassVar[str] = "selective.augrc"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 0.5)
    is_fast: ClassVar[bool] = False

    score: Score = "confidence"

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        count = len(predictions)
        if not count:
            return math.nan
        order = ranking(predictions, self.score)
        until_T = np.cumsum(order.wrong)
        # Over a run of ties the expected number of errors grows along a straight line.
        twice = int((2 * until_T - order.wrong) @ order.count)
        return twice / (2 * count**2)

    def terms(self, predictions: ClassificationPredictions) -> None:
        """An order of images is no mean over them: there are no terms."""


@component
class RiskAtCoverage:
    """Error rate among the surest images where a stated share must be answered.

    The images with the largest score of `score` are answered, as few as make the share `coverage`
    of all (N times coverage, rounded up), and the value is the error rate among them.

    Ties: where the last place falls into a run of images whose scores agree to 12 digits, the
    value is the mean over all choices from that run. All tied gives the error rate.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined (nan) for N = 0.
    Differences: tools that sort and cut give a value that depends on the order of tied images.
    Reference: Geifman and El-Yaniv 2017, arXiv:1705.08500.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.9, 0.1], [0.7, 0.3]], dtype=np.float32)),
        ...     target=np.array([0, 1]),
        ...     index=np.arange(2),
        ... )
        >>> RiskAtCoverage(coverage=0.5)(predictions)
        0.0

    Attributes:
        score: ``confidence`` (largest probability), ``margin`` (lead over the second) or
            ``entropy``.
        coverage: share of the images that must be answered, above 0 and below 1.
    """

    name: ClassVar[str] = "selective.risk_at_coverage"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    score: Score = "confidence"
    coverage: OpenFraction = 0.8

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        count = len(predictions)
        if not count:
            return math.nan
        answered = max(1, math.ceil(self.coverage * count - _ROUNDING))
        return float(ranking(predictions, self.score).expected_wrong()[answered - 1] / answered)

    def terms(self, predictions: ClassificationPredictions) -> None:
        """Which images are answered depends on all of them: there are no terms."""


@component
class CoverageAtRisk:
    """Largest share of images that can be answered at an acceptable error rate.

    The largest n / N such that the n images with the largest score of `score` have an error rate
    of at most `risk`. It is 0 where there is none: not even the surest image may be answered. The
    threshold is chosen on the images it is measured on, so it is a description, no guarantee for
    new images.

    Ties: images whose scores agree to 12 digits are in random order, and n images count as
    answered at the mean error rate over all orders. All tied gives 1 or 0.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], higher is better. Undefined (nan) for N = 0.
    Differences: tools that stop at the first n above the risk show less, because the error rate
        may fall again.
    Reference: Geifman and El-Yaniv 2017, arXiv:1705.08500.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.9, 0.1], [0.7, 0.3]], dtype=np.float32)),
        ...     target=np.array([0, 1]),
        ...     index=np.arange(2),
        ... )
        >>> CoverageAtRisk(risk=0.05)(predictions)
        0.5

    Attributes:
        score: ``confidence`` (largest probability), ``margin`` (lead over the second) or
            ``entropy``.
        risk: largest acceptable error rate.
    """

    name: ClassVar[str] = "selective.coverage_at_risk"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.HIGHER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    score: Score = "confidence"
    risk: Fraction = 0.05

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        count = len(predictions)
        if not count:
            return math.nan
        wrong_N = ranking(predictions, self.score).expected_wrong()
        fits_N = wrong_N <= self.risk * np.arange(1, count + 1) + _ROUNDING
        return float(np.flatnonzero(fits_N).max(initial=-1) + 1) / count

    def terms(self, predictions: ClassificationPredictions) -> None:
        """Which images are answered depends on all of them: there are no terms."""


def _aurc(predictions: ClassificationPredictions, score: Score) -> float:
    count = len(predictions)
    if not count:
        return math.nan
    wrong_N = ranking(predictions, score).expected_wrong()
    return float((wrong_N / np.arange(1, count + 1)).sum() / count)
