"""Bins of the reliability diagrams, from stored predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from shrinkproof.metrics.calibration import ReliabilityBins, reliability
from shrinkproof.metrics.detection.calibration import DetectionCalibrationError
from shrinkproof.metrics.detection.counted import counted
from shrinkproof.metrics.names import bare_name
from shrinkproof.metrics.spelling import metric_of
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.records import Condition

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

# Shape suffixes: B bins, m detections that count.

BINS: Final = 15
"""Bins of the diagrams of classifiers, as many as the default calibration error has."""

Diagram = tuple[str, Literal["clean", "corrupted"]]
"""Label of the candidate, and which images."""


def diagrams(results: Results) -> Iterator[tuple[Diagram, ReliabilityBins]]:
    """Yield the bins of every candidate on clean images, and on all corrupted ones together."""
    judge = _judge(results)
    cells: dict[tuple[str, bool], dict[Condition, str]] = {}
    for shard in results.shards.values():
        cell = shard.cell
        if (cell.evaluator, cell.form, cell.split) == ("scores", results.form, results.printing):
            group = cells.setdefault((cell.candidate, cell.condition.is_clean), {})
            group[cell.condition] = cell.key
    for (candidate, is_clean), keys in cells.items():
        pooled = judge(_stored(results, keys))
        if len(pooled.count):
            kind: Literal["clean", "corrupted"] = "clean" if is_clean else "corrupted"
            yield (results.by_key[candidate].label, kind), pooled


def _judge(results: Results) -> Callable[[Iterator[Any]], ReliabilityBins]:
    """Return what makes bins of predictions; boxes are judged as the study's D-ECE does."""
    if results.spec.task != "detection":
        return partial(reliability, bins=BINS)
    name = DetectionCalibrationError.name
    spelled = next((metric for metric in results.metrics if bare_name(metric) == name), name)
    return partial(box_reliability, metric_of(spelled))


def _stored(results: Results, keys: Mapping[Condition, str]) -> Iterator[Any]:
    """Yield predictions one condition at a time: all together may not fit into memory."""
    for condition in sorted(keys):
        found = results.store.read_predictions(keys[condition])
        if found is not None:
            yield found


def box_reliability(
    metric: DetectionCalibrationError, predictions: Iterable[DetectionPredictions]
) -> ReliabilityBins:
    """Return score and precision of detections over equal-width bins of the score.

    Several conditions are pooled as if they were one. ``accuracy`` of a bin is its precision, and
    its edges are closed below, as those of the metric; bins without detections are left out.

    Args:
        metric: says which detections count, which of them are right, and how many bins there are.
        predictions: one or more conditions.
    """
    edges_B = np.linspace(0.0, 1.0, metric.bins + 1)
    sums_3B = np.zeros((3, metric.bins))
    for one in predictions:
        found = counted(one, iou=metric.iou, score=metric.score)
        place_m = np.searchsorted(edges_B, found.score, side="right") - 1
        bin_m = np.clip(place_m, 0, metric.bins - 1)
        for row, weights_m in enumerate((None, found.score, found.right.astype(np.float64))):
            sums_3B[row] += np.bincount(bin_m, weights_m, minlength=metric.bins)
    filled = np.flatnonzero(sums_3B[0])
    count_B, score_B, right_B = sums_3B[:, filled]
    return ReliabilityBins(
        low=edges_B[filled],
        high=edges_B[filled + 1],
        count=count_B.astype(np.int64),
        confidence=score_B / count_B,
        accuracy=right_B / count_B,
    )
