"""Finding wrong answers by how sure the model is: AUROC, precision-recall areas, FPR95.

The areas under risk-coverage curves have their own file, `risk_coverage`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.ranking import Ranking, Score, ranking
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.registry import component

# Shape suffixes: T tied runs of images, the surest first.


@component
class AUROC:
    """Probability that a right answer is surer than a wrong one, ties half.

    The area under the receiver operating characteristic of telling right from wrong answers by the
    score of `score`. 0.5 is what a model shows that does not know when it errs. It says nothing
    about how often the model errs, so models of different accuracy are better compared by
    `selective.augrc`.

    Ties: a right and a wrong answer with scores that agree to 12 digits count one half (mid-ranks),
    so saturated and 8-bit confidences have a defined value; all tied gives 0.5.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], higher is better. Undefined where all answers are right, or all
        wrong, and (nan) for N = 0.
    Differences: none to scikit-learn's roc_auc_score on the same scores.
    Reference: Hendrycks and Gimpel 2017, arXiv:1610.02136.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]], dtype=np.float32)),
        ...     target=np.array([0, 1, 0]),
        ...     index=np.arange(3),
        ... )
        >>> AUROC()(predictions)
        0.5

    Attributes:
        score: ``confidence`` (largest probability), ``margin`` (lead over the second) or
            ``entropy``.
    """

    name: ClassVar[str] = "selective.auroc"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.HIGHER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    score: Score = "confidence"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined; ``nan`` for no images."""
        return _where_both(predictions, self.score, _auroc)

    def terms(self, predictions: ClassificationPredictions) -> None:
        """An order of images is no mean over them: there are no terms."""


@component
class AUPRError:
    """Average precision of finding the wrong answers among the unsure ones.

    Wrong answers are the positives, minus the score of `score` ranks them: the mean of the share
    of wrong answers among the images at most as sure, over the wrong answers. A model that does
    not know when it errs shows its error rate, so the value depends on the accuracy.

    Ties: images whose scores agree to 12 digits pass the threshold together, as in scikit-learn;
    all tied gives the error rate.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], higher is better. Undefined where all answers are right, or all
        wrong, and (nan) for N = 0.
    Differences: none to scikit-learn's average_precision_score; tools that join the points of the
        precision-recall curve by straight lines show too much.
    Reference: Hendrycks and Gimpel 2017, arXiv:1610.02136; Davis and Goadrich 2006,
        doi:10.1145/1143844.1143874.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]], dtype=np.float32)),
        ...     target=np.array([0, 1, 0]),
        ...     index=np.arange(3),
        ... )
        >>> AUPRError()(predictions)
        0.5

    Attributes:
        score: ``confidence`` (largest probability), ``margin`` (lead over the second) or
            ``entropy``.
    """

    name: ClassVar[str] = "selective.aupr_error"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.HIGHER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    score: Score = "confidence"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined; ``nan`` for no images."""
        return _where_both(
            predictions, self.score, lambda r: _average_precision(r.wrong[::-1], r.count[::-1])
        )

    def terms(self, predictions: ClassificationPredictions) -> None:
        """An order of images is no mean over them: there are no terms."""


@component
class AUPRSuccess:
    """Average precision of finding the right answers among the sure ones.

    Right answers are the positives, the score of `score` ranks them: the mean of the share of
    right answers among the images at least as sure, over the right answers. A model that does not
    know when it errs shows its accuracy.

    Ties: images whose scores agree to 12 digits pass the threshold together, as in scikit-learn;
    all tied gives the accuracy.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], higher is better. Undefined where all answers are right, or all
        wrong, and (nan) for N = 0.
    Differences: none to scikit-learn's average_precision_score; tools that join the points of the
        precision-recall curve by straight lines show too much.
    Reference: Hendrycks and Gimpel 2017, arXiv:1610.02136; Davis and Goadrich 2006,
        doi:10.1145/1143844.1143874.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]], dtype=np.float32)),
        ...     target=np.array([0, 1, 0]),
        ...     index=np.arange(3),
        ... )
        >>> round(AUPRSuccess()(predictions), 6)
        0.833333

    Attributes:
        score: ``confidence`` (largest probability), ``margin`` (lead over the second) or
            ``entropy``.
    """

    name: ClassVar[str] = "selective.aupr_success"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.HIGHER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    score: Score = "confidence"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined; ``nan`` for no images."""
        return _where_both(predictions, self.score, lambda r: _average_precision(r.right, r.count))

    def terms(self, predictions: ClassificationPredictions) -> None:
        """An order of images is no mean over them: there are no terms."""


@component
class FPR95:
    """Share of wrong answers kept where at least 95 % of the right ones are kept.

    Images are kept from the surest on, until for the first time at least 95 % of all right answers
    are among them; the value is the share of all wrong answers among them. Nothing is interpolated.

    Ties: images whose scores agree to 12 digits are kept together; all tied gives 1.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined where all answers are right, or all
        wrong, and (nan) for N = 0.
    Differences: some tools make wrong answers the positives (the share of right answers flagged
        where 95 % of the wrong ones are), or take the point nearest to 95 %.
    Reference: Liang et al. 2018, arXiv:1706.02690; Hendrycks and Gimpel 2017, arXiv:1610.02136.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]], dtype=np.float32)),
        ...     target=np.array([0, 0, 1]),
        ...     index=np.arange(3),
        ... )
        >>> FPR95()(predictions)
        0.0

    Attributes:
        score: ``confidence`` (largest probability), ``margin`` (lead over the second) or
            ``entropy``.
    """

    name: ClassVar[str] = "selective.fpr95"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    score: Score = "confidence"

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined; ``nan`` for no images."""
        return _where_both(predictions, self.score, _fpr95)

    def terms(self, predictions: ClassificationPredictions) -> None:
        """An order of images is no mean over them: there are no terms."""


def _where_both(
    predictions: ClassificationPredictions, score: Score, value: Callable[[Ranking], float]
) -> float | Undefined:
    """Return the value where there are right and wrong answers to tell apart."""
    count = len(predictions)
    if not count:
        return math.nan
    order = ranking(predictions, score)
    wrong = int(order.wrong.sum())
    if wrong in (0, count):
        which, lacking = ("right", "wrong") if not wrong else ("wrong", "right")
        return Undefined(
            f"all {count} answers are {which}; it needs at least one {lacking} answer to tell apart"
        )
    return value(order)


def _auroc(order: Ranking) -> float:
    """Return the probability that a right answer is surer than a wrong one, ties half."""
    right_T, wrong_T = order.right, order.wrong
    wrong = int(wrong_T.sum())
    # Twice the number of pairs in order: a whole number, so nothing is rounded before the division.
    below_T = 2 * (wrong - np.cumsum(wrong_T)) + wrong_T
    return float(int(right_T @ below_T) / (2 * int(right_T.sum()) * wrong))


def _average_precision(positive_T: NDArray[np.int64], count_T: NDArray[np.int64]) -> float:
    """Return the precision at each threshold, averaged over the positives."""
    precision_T = np.cumsum(positive_T) / np.cumsum(count_T)
    # The mean of numbers up to 1 may round to a hair above it.
    return min(1.0, float(precision_T @ positive_T / positive_T.sum()))


def _fpr95(order: Ranking) -> float:
    kept_T = np.cumsum(order.right)
    first = int(np.argmax(100 * kept_T >= 95 * kept_T[-1]))
    return float(order.wrong[: first + 1].sum() / order.wrong.sum())
