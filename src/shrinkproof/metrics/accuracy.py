"""How good predictions are: accuracy, its worst class, log-likelihood, and Brier scores."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.derived import NO_IMAGES, derived
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.registry import component
from shrinkproof.statistics import Terms


def _mean(values_N: NDArray[np.float64]) -> float:
    return float(values_N.mean()) if len(values_N) else math.nan


@component
class Top1:
    """Share of images whose class with the largest logit is the true one.

    Where several logits are the largest, the lowest class counts as the prediction.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], higher is better. Undefined (nan) for N = 0.
    Reference: Russakovsky et al. 2015, doi:10.1007/s11263-015-0816-y.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.array([[2, 0], [0, 1]], dtype=np.float32),
        ...     target=np.array([0, 0]),
        ...     index=np.arange(2),
        ... )
        >>> Top1()(predictions)
        0.5
    """

    name: ClassVar[str] = "accuracy.top1"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.HIGHER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        return _mean(derived(predictions).correct)

    def terms(self, predictions: ClassificationPredictions) -> Terms:
        """Return 1 for each image classified correctly and 0 for the others, (N, 1)."""
        return Terms(values=derived(predictions).correct[:, None], kind="mean", is_binary=True)


@component
class NLL:
    """Mean negative logarithm of the softmax probability of the true class.

    The log-softmax is taken from the logits in double precision, so nothing is clipped and the
    value is finite for all finite logits.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: nat, 0 or more, lower is better. Undefined (nan) for N = 0.
    Differences: scikit-learn's log_loss takes probabilities and clips them at the machine epsilon
        of their type.
    Reference: Good 1952, doi:10.1111/j.2517-6161.1952.tb00104.x.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((1, 2), dtype=np.float32),
        ...     target=np.array([1]),
        ...     index=np.arange(1),
        ... )
        >>> round(NLL()(predictions), 4)
        0.6931
    """

    name: ClassVar[str] = "accuracy.nll"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "nat"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    is_fast: ClassVar[bool] = True

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        return _mean(derived(predictions).nll)

    def terms(self, predictions: ClassificationPredictions) -> Terms:
        """Return the negative log-likelihood of each image, (N, 1)."""
        return Terms(values=derived(predictions).nll[:, None], kind="mean")


@component
class Brier:
    """Mean squared distance between softmax and true class, summed over classes.

    Zero for a certain and correct prediction, 2 for a certain and wrong one.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: plain number in [0, 2], lower is better. Undefined (nan) for N = 0.
    Differences: the binary form (one class only) and the mean over classes are smaller by the
        factors 2 and C.
    Reference: Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((1, 2), dtype=np.float32),
        ...     target=np.array([1]),
        ...     index=np.arange(1),
        ... )
        >>> Brier()(predictions)
        0.5
    """

    name: ClassVar[str] = "accuracy.brier"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 2.0)
    is_fast: ClassVar[bool] = True

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        return _mean(derived(predictions).brier)

    def terms(self, predictions: ClassificationPredictions) -> Terms:
        """Return the Brier score of each image, (N, 1)."""
        return Terms(values=derived(predictions).brier[:, None], kind="mean")


@component
class TopBrier:
    """Mean squared distance between confidence and whether the prediction is right.

    The Brier score of the one event "the predicted class is the true one": zero for a certain and
    correct prediction, 1 for a certain and wrong one. The decompositions of `murphy` and `corp`
    split this number.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: plain number in [0, 1], lower is better. Undefined (nan) for N = 0.
    Differences: ``accuracy.brier`` sums over all classes and looks at the probability of each.
    Reference: Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.zeros((1, 2), dtype=np.float32),
        ...     target=np.array([1]),
        ...     index=np.arange(1),
        ... )
        >>> TopBrier()(predictions)
        0.25
    """

    name: ClassVar[str] = "accuracy.brier_top"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "ratio"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        return _mean(_squares(predictions))

    def terms(self, predictions: ClassificationPredictions) -> Terms:
        """Return the squared distance of each image, (N, 1)."""
        return Terms(values=_squares(predictions)[:, None], kind="mean")


@component
class WorstClass:
    """Smallest share of the images of a class that are classified correctly.

    Classes without images have no recall and do not count. The smallest of many shares is low by
    chance alone, the more so the fewer images a class has: compare it between networks that saw
    the same images.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], higher is better. Undefined for N = 0. The caveat names the worst
        class and the classes without images.
    Reference: Sagawa et al. 2020, arXiv:1911.08731 (worst-group accuracy).

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.array([[2, 0], [0, 1], [0, 1]], dtype=np.float32),
        ...     target=np.array([0, 0, 1]),
        ...     index=np.arange(3),
        ... )
        >>> WorstClass()(predictions)
        0.5
        >>> WorstClass().caveat(predictions)
        'worst class: 0 (2 images)'
    """

    name: ClassVar[str] = "accuracy.worst_class"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.HIGHER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        count_C, right_C = _by_class(predictions)
        if not count_C.any():
            return NO_IMAGES
        return float((right_C / np.maximum(count_C, 1))[count_C > 0].min())

    def caveat(self, predictions: ClassificationPredictions) -> str:
        """Return which class it is, and which classes have no images."""
        count_C, right_C = _by_class(predictions)
        if not count_C.any():
            return ""
        recall_C = np.where(count_C > 0, right_C / np.maximum(count_C, 1), 2.0)
        worst = int(recall_C.argmin())
        images = f"{int(count_C[worst])} image{'s' if count_C[worst] != 1 else ''}"
        missing = without_images(predictions)
        return f"worst class: {worst} ({images})" + (f"; {missing}" if missing else "")

    def terms(self, predictions: ClassificationPredictions) -> None:
        """A smallest share is no mean over images: there are no terms."""


def without_images(predictions: ClassificationPredictions) -> str:
    """Return a sentence such as ``classes 3, 7 of 10 have no images``, empty where all have some.

    More than six are counted and the first six named.
    """
    count_C = np.bincount(predictions.target, minlength=predictions.logits.shape[1])
    missing = np.flatnonzero(count_C == 0).tolist()
    if not missing:
        return ""
    if len(missing) == 1:
        return f"class {missing[0]} of {len(count_C)} has no images"
    named = ", ".join(str(k) for k in missing[:6])
    if len(missing) > 6:
        return f"{len(missing)} of {len(count_C)} classes have no images ({named}, ...)"
    return f"classes {named} of {len(count_C)} have no images"


def _by_class(
    predictions: ClassificationPredictions,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many images each class has and how many of them are right, both (C,)."""
    num_classes = predictions.logits.shape[1]
    count_C = np.bincount(predictions.target, minlength=num_classes).astype(np.int64)
    right_C = np.bincount(predictions.target, derived(predictions).correct, minlength=num_classes)
    return count_C, np.asarray(right_C, dtype=np.float64)


def _squares(predictions: ClassificationPredictions) -> NDArray[np.float64]:
    values = derived(predictions)
    return np.asarray((values.confidence - values.correct) ** 2)
