"""What all classification metrics need from the softmax, computed once per set of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from shrinkproof.predictions import ClassificationPredictions

# Shape suffixes: N images, C classes.


@dataclass(frozen=True, slots=True, eq=False)
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


_KNOWN: WeakKeyDictionary[ClassificationPredictions, Derived] = WeakKeyDictionary()


def derived(predictions: ClassificationPredictions) -> Derived:
    """Return the per-image quantities; kept as long as the predictions themselves live.

    Predictions are frozen values: their arrays must not be changed after the first metric.
    """
    known = _KNOWN.get(predictions)
    if known is None:
        known = _KNOWN[predictions] = _derive(predictions)
    return known


def _derive(predictions: ClassificationPredictions) -> Derived:
    log_prob_NC = predictions.log_prob()
    rows = np.arange(len(predictions))
    log_true_N = log_prob_NC[rows, predictions.target]
    prob_NC = np.exp(log_prob_NC, out=log_prob_NC)
    true_N = prob_NC[rows, predictions.target]
    others_N = np.einsum("nc,nc->n", prob_NC, prob_NC) - true_N**2
    return Derived(
        correct=(predictions.prediction() == predictions.target).astype(np.float64),
        confidence=np.clip(prob_NC.max(axis=1, initial=0.0), 0.0, 1.0),
        nll=np.maximum(-log_true_N, 0.0),
        brier=np.clip(np.maximum(others_N, 0.0) + (1.0 - true_N) ** 2, 0.0, 2.0),
    )
