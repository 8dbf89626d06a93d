"""Images in the order of how sure the model is, ties together: what selective prediction needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.binning import tied
from shrinkproof.metrics.derived import derived
from shrinkproof.predictions import ClassificationPredictions

# Shape suffixes: N images, C classes, T tied runs of images.

Score = Literal["confidence", "margin", "entropy"]
"""How sure the model is: largest probability, its lead over the second, or minus the entropy."""

_PIECE: Final = 1 << 20
"""Probabilities held at a time while margins or entropies are computed."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """How many images each tied run holds, and how many of them are wrong; the surest first.

    Attributes:
        count: (T,) int64, images of each run, at least 1.
        wrong: (T,) int64, those of them that are classified wrongly.
    """

    count: NDArray[np.int64]
    wrong: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.int64]:
        """(T,) images of each run that are classified correctly."""
        return self.count - self.wrong

    def expected_wrong(self) -> NDArray[np.float64]:
        """Return the wrong answers among the n surest images for n = 1 to N, (N,).

        Within a run of ties the order is random; the value is the mean over all orders.
        """
        rate_T = self.wrong / self.count
        before_T = np.cumsum(self.wrong) - self.wrong
        start_T = np.cumsum(self.count) - self.count
        position_N = np.arange(1, int(self.count.sum()) + 1)
        inside_N = position_N - np.repeat(start_T, self.count)
        # Whole numbers plus one product each: no rounding error adds up over the images.
        return np.repeat(before_T, self.count) + inside_N * np.repeat(rate_T, self.count)


_KNOWN: WeakKeyDictionary[ClassificationPredictions, dict[Score, Ranking]] = WeakKeyDictionary()


def ranking(predictions: ClassificationPredictions, score: Score = "confidence") -> Ranking:
    """Return the images in tied runs, the surest first; kept as long as the predictions live."""
    known = _KNOWN.setdefault(predictions, {})
    if score not in known:
        known[score] = _rank(sureness(predictions, score), derived(predictions).correct)
    return known[score]


def sureness(predictions: ClassificationPredictions, score: Score) -> NDArray[np.float64]:
    """Return how sure the model is of its answer, (N,); larger is surer.

    All three come from the softmax in double precision: the largest probability, its lead over the
    second largest (the largest itself where there is one class only), or minus the entropy in nat.
    """
    if score == "confidence":
        return derived(predictions).confidence
    found = [_margin(p) if score == "margin" else _minus_entropy(p) for p in _pieces(predictions)]
    return np.concatenate(found) if found else np.zeros(0)


def _pieces(predictions: ClassificationPredictions) -> Iterator[NDArray[np.float64]]:
    """Yield logarithms of the softmax, (n, C), of few images at a time."""
    step = max(1, _PIECE // predictions.logits.shape[1])
    for start in range(0, len(predictions), step):
        stop = min(start + step, len(predictions))
        yield predictions.take(np.arange(start, stop)).log_prob()


def _margin(log_prob_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    if log_prob_NC.shape[1] == 1:
        return np.exp(log_prob_NC[:, 0])
    two_N2 = np.exp(np.partition(log_prob_NC, -2, axis=1)[:, -2:])
    return np.asarray(two_N2[:, 1] - two_N2[:, 0], dtype=np.float64)


def _minus_entropy(log_prob_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.einsum("nc,nc->n", np.exp(log_prob_NC), log_prob_NC)
    return found


def _rank(score_N: NDArray[np.float64], correct_N: NDArray[np.float64]) -> Ranking:
    # Rounding to +0.0 and -0.0 both would split a tie of zeros.
    tied_N = tied(score_N) + 0.0
    order_N = np.argsort(-tied_N)
    tied_N, wrong_N = tied_N[order_N], 1 - correct_N[order_N].astype(np.int64)
    first_T = np.flatnonzero(np.diff(tied_N, prepend=np.nan))
    if not len(first_T):
        return Ranking(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    return Ranking(
        count=np.diff(first_T, append=len(tied_N)).astype(np.int64),
        wrong=np.add.reduceat(wrong_N, first_T),
    )
