"""What all classification metrics need from the softmax, computed once per set of predictions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.binning import (
    BinMeans,
    Binning,
    bin_means,
    equal_width,
    tied,
    upper_edges,
)
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined

# Shape suffixes: N images, C classes, K classes of a block, P images of one class.

T = TypeVar("T")

Of = Literal["top", "classes"]
"""Whose probability is looked at: the predicted class alone, or every class against the rest."""

NO_IMAGES: Final = Undefined("there are no images")
"""What metrics return that have no value for nothing."""

_BLOCK: Final = 1 << 21
"""Numbers that are in double precision at the same time: 16 MiB."""


@dataclass(frozen=True, eq=False)
class Derived:
    """Per-image quantities of one set of predictions, all (N,) float64.

    Attributes:
        correct: 1 where the class with the largest logit is the true one, else 0; the lowest class
            wins a tie.
        confidence: largest softmax probability.
        nll: negative log-likelihood of the true class, in nat.
        brier: squared distance of the softmax to the true class, summed over classes, 0 to 2.
    """

    correct: NDArray[np.float64]
    confidence: NDArray[np.float64]
    nll: NDArray[np.float64]
    brier: NDArray[np.float64]
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Positions of the images by ascending confidence, (N,) int64; ties as they stand."""
        return np.argsort(tied(self.confidence), kind="stable")

    @cached_property
    def ascending(self) -> NDArray[np.float64]:
        """Confidence in ascending order, ties exactly equal, (N,)."""
        return tied(self.confidence)[self.order]

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` returns, which is called only once for each key."""
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    def bin_of(self, binning: Binning, bins: int) -> NDArray[np.int64]:
        """Return the bin of each image, (N,); bins of equal mass are numbered without gaps."""
        if binning == "equal-width":
            return self.keep((binning, bins), lambda: equal_width(self.confidence, bins))
        return self.keep((binning, bins), lambda: self._equal_mass(bins))

    def binned(self, binning: Binning, bins: int) -> BinMeans:
        """Return the means of each bin that holds images."""
        return bin_means(self.bin_of(binning, bins), self.confidence, self.correct)

    def _equal_mass(self, bins: int) -> NDArray[np.int64]:
        upper = upper_edges(self.ascending, bins)
        return np.searchsorted(upper, tied(self.confidence), side="left").astype(np.int64)


_KNOWN: WeakKeyDictionary[ClassificationPredictions, Derived] = WeakKeyDictionary()


def derived(predictions: ClassificationPredictions) -> Derived:
    """Return the per-image quantities; kept as long as the predictions themselves live.

    Predictions are frozen values: their arrays must not be changed after the first metric.
    """
    known = _KNOWN.get(predictions)
    if known is None:
        known = _KNOWN[predictions] = _derive(predictions)
    return known


def events(
    predictions: ClassificationPredictions, of: Of
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Yield probabilities of events and where these came true.

    Args:
        predictions: one condition.
        of: ``top`` is the one event "the prediction is right", ``classes`` are the C events "the
            image is of class k".

    Yields:
        The probability of the event for each image, (N,), and the positions of the images for
        which it came true, (P,).
    """
    if of == "top":
        values = derived(predictions)
        yield values.confidence, np.flatnonzero(values.correct)
        return
    num_classes = predictions.logits.shape[1]
    by_class = np.argsort(predictions.target, kind="stable")
    ends = np.cumsum(np.bincount(predictions.target, minlength=num_classes))[:-1]
    positions = np.split(by_class, ends)
    for prob_N in _class_probabilities(predictions):
        yield prob_N, positions.pop(0)


def _class_probabilities(predictions: ClassificationPredictions) -> Iterator[NDArray[np.float64]]:
    """Yield the softmax of each class, (N,); only some classes are in memory at a time."""
    count, num_classes = predictions.logits.shape
    peak_N = predictions.logits.max(axis=1, initial=-np.inf).astype(np.float64)
    # The largest probability is one over the sum of exp(logit - peak): the softmax needs no more.
    inverse_N = derived(predictions).confidence
    width = max(1, _BLOCK // max(1, count))
    for first in range(0, num_classes, width):
        block = predictions.logits[:, first : first + width].T
        prob_KN = block.astype(np.float64, order="C")
        prob_KN -= peak_N
        np.exp(prob_KN, out=prob_KN)
        prob_KN *= inverse_N
        yield from prob_KN


def _derive(predictions: ClassificationPredictions) -> Derived:
    count, num_classes = predictions.logits.shape
    values_4N = np.empty((4, count))
    rows = max(1, _BLOCK // max(1, num_classes))
    for start in range(0, count, rows):
        part = predictions.take(np.arange(start, min(start + rows, count)))
        values_4N[:, start : start + rows] = _of_each_image(part)
    return Derived(*values_4N)


def _of_each_image(predictions: ClassificationPredictions) -> tuple[NDArray[np.float64], ...]:
    """Return correct, confidence, nll and brier, each (N,)."""
    log_prob_NC = predictions.log_prob()
    rows = np.arange(len(predictions))
    log_true_N = log_prob_NC[rows, predictions.target]
    prob_NC = np.exp(log_prob_NC, out=log_prob_NC)
    true_N = prob_NC[rows, predictions.target]
    others_N = np.einsum("nc,nc->n", prob_NC, prob_NC) - true_N**2
    return (
        (predictions.prediction() == predictions.target).astype(np.float64),
        np.clip(prob_NC.max(axis=1, initial=0.0), 0.0, 1.0),
        np.maximum(-log_true_N, 0.0),
        np.clip(np.maximum(others_N, 0.0) + (1.0 - true_N) ** 2, 0.0, 2.0),
    )
