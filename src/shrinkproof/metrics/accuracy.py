"""Means over images: top-1 accuracy, negative log-likelihood, and the Brier score."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.derived import derived
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better
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

    def __call__(self, predictions: ClassificationPredictions) -> float:
        """Return the value; ``nan`` where it is undefined."""
        return _mean(derived(predictions).brier)

    def terms(self, predictions: ClassificationPredictions) -> Terms:
        """Return the Brier score of each image, (N, 1)."""
        return Terms(values=derived(predictions).brier[:, None], kind="mean")
