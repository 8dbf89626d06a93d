"""Calibration errors of every class that perfectly calibrated models would show.

Labels are drawn from the softmax: each image has one, so the classes are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.binning import equal_width, tied, upper_edges
from shrinkproof.metrics.calibrated import drawn_labels
from shrinkproof.metrics.derived import events
from shrinkproof.metrics.null_rows import FEW
from shrinkproof.predictions import ClassificationPredictions

# Shape suffixes: N images, C classes, B bins, K = C * B, R replicates, n images of one block.


@dataclass(frozen=True, slots=True, eq=False)
class _ClassBins:
    """Bins of the probabilities of each class.

    Attributes:
        bin_of: (N, C) bin of each image for each class; the last bin is for what does not count.
        count: (C, B) images in each bin.
        prob: (C, B) sum of the probabilities in each bin.
    """

    bin_of: NDArray[Any]
    count: NDArray[np.int64]
    prob: NDArray[np.float64]


_Cut = Callable[[Any, NDArray[np.float64]], NDArray[np.int64]]
_Sum = Callable[[_ClassBins, NDArray[np.float64]], float]


def _fixed(metric: Any, prob_N: NDArray[np.float64]) -> NDArray[np.int64]:
    return equal_width(prob_N, metric.bins)


def _adaptive(metric: Any, prob_N: NDArray[np.float64]) -> NDArray[np.int64]:
    tied_N = tied(prob_N)
    counts_N = tied_N >= metric.threshold
    sorted_M = np.sort(tied_N[counts_N])
    if not len(sorted_M):
        return np.full(len(prob_N), metric.ranges)
    upper_B = upper_edges(sorted_M, metric.ranges)
    return np.where(counts_N, np.searchsorted(upper_B, tied_N), metric.ranges)


def _mean_absolute(bins: _ClassBins, gap_CB: NDArray[np.float64]) -> float:
    size_C = bins.count.sum(axis=1)
    some = size_C > 0
    return float((np.abs(gap_CB).sum(axis=1)[some] / size_C[some]).mean())


def _mean_square(bins: _ClassBins, gap_CB: NDArray[np.float64]) -> float:
    filled = bins.count > 0
    return float((gap_CB[filled] ** 2 / bins.count[filled]).sum() / bins.count[0].sum())


@dataclass(frozen=True, slots=True)
class _OfClasses:
    """How a metric follows from bins of every class.

    Attributes:
        cut: metric and probabilities of a class -> bin of each image.
        bins: metric -> number of bins.
        total: bins and sums of probability minus truth -> value.
    """

    cut: _Cut
    bins: Callable[[Any], int]
    total: _Sum


_KINDS: Final[Mapping[str, _OfClasses]] = {
    "calibration.classwise_ece": _OfClasses(_fixed, lambda metric: metric.bins, _mean_absolute),
    "calibration.ace": _OfClasses(_adaptive, lambda metric: metric.ranges, _mean_absolute),
    "calibration.murphy_reliability": _OfClasses(_fixed, lambda metric: metric.bins, _mean_square),
}

CLASSES: Final = frozenset(_KINDS)
"""Metrics of every class that have a null level."""


def class_values(
    predictions: ClassificationPredictions,
    metrics: Mapping[str, Any],
    *,
    replicates: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Return each metric of each simulated model, key -> (R,).

    Args:
        predictions: one condition with at least one image.
        metrics: any key -> metric, each of them in `CLASSES`.
        replicates: number of simulated models; at most `FEW` are made.
        seed: seed of the study.
    """
    replicates = min(replicates, FEW)
    count = len(predictions)
    bins = {key: _class_bins(predictions, metric) for key, metric in metrics.items()}
    cells = {key: np.empty((replicates, count), dtype=np.int32) for key in metrics}
    start = 0
    for part_n, label_nR in drawn_labels(predictions, replicates=replicates, seed=seed):
        for key, found in bins.items():
            bin_nR = np.take_along_axis(found.bin_of[part_n], label_nR, axis=1)
            slots = found.count.shape[1] + 1
            cells[key][:, start : start + len(part_n)] = (label_nR * slots + bin_nR).T
        start += len(part_n)
    return {
        key: np.array([_value(metrics[key], bins[key], cell_N) for cell_N in cells[key]])
        for key in metrics
    }


def _class_bins(predictions: ClassificationPredictions, metric: Any) -> _ClassBins:
    kind = _KINDS[metric.name]
    slots = kind.bins(metric) + 1
    num_classes = predictions.logits.shape[1]
    bin_of = np.empty(predictions.logits.shape, dtype=np.uint8 if slots <= 256 else np.uint16)
    count_CB = np.zeros((num_classes, slots), dtype=np.int64)
    prob_CB = np.zeros((num_classes, slots))
    for k, (prob_N, _) in enumerate(events(predictions, "classes")):
        bin_N = kind.cut(metric, prob_N)
        bin_of[:, k] = bin_N
        count_CB[k] = np.bincount(bin_N, minlength=slots)
        prob_CB[k] = np.bincount(bin_N, prob_N, minlength=slots)
    return _ClassBins(bin_of, count_CB[:, :-1], prob_CB[:, :-1])


def _value(metric: Any, bins: _ClassBins, cell_N: NDArray[np.int32]) -> float:
    num_classes, filled = bins.count.shape
    size = num_classes * (filled + 1)
    hits_CB = np.bincount(cell_N, minlength=size).reshape(num_classes, filled + 1)[:, :-1]
    return _KINDS[metric.name].total(bins, bins.prob - hits_CB)
