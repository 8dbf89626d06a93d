"""Which detections are right: the one matching of detections and objects that all metrics share.

The rule is that of COCO. In each image and class, detections take their turn by falling score, and
each takes the object it overlaps most among those that nobody took and that it overlaps enough. A
detection that finds none may lie in a crowd region; it is then ignored, neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.detection.boxes import groups_of, overlapping_rows
from shrinkproof.predictions import DetectionPredictions

# Shape suffixes: M detections, G objects, P pairs of them, T IoU thresholds.

T = TypeVar("T")

MOST: Final = 100
"""Detections of each class in an image that count, those with the highest scores, as in COCO."""

_ALMOST_ONE: Final = 1 - 1e-10
"""COCO takes an overlap of 1 for reached where rounding alone keeps it below."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Detections and objects of the same image and class whose boxes overlap.

    Attributes:
        detection: (P,) int64 row of the detection; rising.
        object_row: (P,) int64 row of the object.
        iou: (P,) float64, above 0; towards a crowd region the share of the detection inside it.
        place: (M,) int64, how many detections of its image and class come before each detection.
    """

    detection: NDArray[np.int64]
    object_row: NDArray[np.int64]
    iou: NDArray[np.float64]
    place: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """What became of each detection and each object at one IoU threshold.

    A detection that is neither right nor ignored is wrong.

    Attributes:
        right: (M,) True where the detection found an object.
        ignored: (M,) True where it is neither right nor wrong: it lies in a crowd region, or more
            detections of its class in the image than count have higher scores.
        object_row: (M,) int64 row of the object or crowd region of each detection, -1 for none.
        iou: (M,) float64, overlap of the detection with that one; 0 for none.
        found: (G,) True where a detection found the object; False for crowd regions, which nobody
            can miss.
    """

    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    object_row: NDArray[np.int64]
    iou: NDArray[np.float64]
    found: NDArray[np.bool_]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """True where a detection counts and found no object, (M,)."""
        return np.asarray(~(self.right | self.ignored))


_KNOWN: WeakKeyDictionary[DetectionPredictions, dict[Hashable, Any]] = WeakKeyDictionary()


def kept(predictions: DetectionPredictions, key: Hashable, make: Callable[[], T]) -> T:
    """Return what ``make`` returns, called once for each key as long as the predictions live.

    Predictions are frozen values: their arrays must not be changed after the first metric.
    """
    known = _KNOWN.setdefault(predictions, {})
    if key not in known:
        known[key] = make()
    found: T = known[key]
    return found


def match(
    predictions: DetectionPredictions,
    iou: float = 0.5,
    *,
    most: int = MOST,
    exclusive: bool = True,
) -> Matching:
    """Return which detections found an object, kept as long as the predictions live.

    Equal scores take their turns as they stand. Of objects that overlap equally much, the last one
    is taken, as in COCO.

    Args:
        predictions: one condition.
        iou: smallest overlap, 0 to 1; boxes must overlap by more than 0 in any case.
        most: detections of each class in an image that count, those with the highest scores.
        exclusive: True where an object can be found once (COCO); False where every detection takes
            the object of its class it overlaps most, whoever else took it.
    """

    def make() -> Matching:
        if exclusive:
            chosen_M = chosen(predictions, (iou,), most=most)[0]
        else:
            chosen_M = _best(predictions, iou, most)
        return _matching(predictions, chosen_M, most)

    return kept(predictions, ("match", iou, most, exclusive), make)


def chosen(
    predictions: DetectionPredictions,
    ious: Sequence[float],
    *,
    most: int = MOST,
    avoided: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Return which pair each detection takes at several IoU thresholds, (T, M); -1 for none.

    Args:
        predictions: one condition.
        ious: the thresholds.
        most: detections of each class in an image that count.
        avoided: (G,) True for objects that are only taken where no other one can be; None for the
            crowd regions alone. Crowd regions can be taken by many detections.
    """
    pairs, crowd_G = overlapping(predictions, most), predictions.objects.crowd
    least_T1 = np.minimum(np.asarray(ious, dtype=np.float64), _ALMOST_ONE)[:, None]
    rows = _by_turn(pairs, crowd_G if avoided is None else avoided, float(least_T1.min()))
    chosen_TM = np.full((len(ious), len(predictions.score)), -1, dtype=np.int64)
    taken_TG = np.zeros((len(ious), len(crowd_G)), dtype=bool)
    for turn in _runs(pairs.place[pairs.detection[rows]]):
        part = rows[turn]
        object_row = pairs.object_row[part]
        is_free_TP = (pairs.iou[part] >= least_T1) & ~taken_TG[:, object_row]
        # The first free pair of each detection is the one it likes best.
        position_TP = np.where(is_free_TP, np.arange(len(part)), len(part))
        first = _starts(pairs.detection[part])
        best = np.minimum.reduceat(position_TP, first, axis=1)
        level, detection = np.nonzero(best < len(part))
        pair = part[best[level, detection]]
        chosen_TM[level, pairs.detection[pair]] = pair
        taken_TG[level, pairs.object_row[pair]] = ~crowd_G[pairs.object_row[pair]]
    return chosen_TM


def overlapping(predictions: DetectionPredictions, most: int = MOST) -> Pairs:
    """Return the detections and objects of one class that overlap, kept like a matching."""
    return kept(predictions, ("overlapping", most), lambda: _overlapping(predictions, most))


def places(predictions: DetectionPredictions) -> NDArray[np.int64]:
    """Return how many detections of its image and class come before each detection, (M,) int64."""
    group_M = groups_of(predictions)
    order = np.argsort(group_M, kind="stable")
    sorted_M = group_M[order]
    place_M = np.empty(len(group_M), dtype=np.int64)
    place_M[order] = np.arange(len(group_M)) - np.searchsorted(sorted_M, sorted_M)
    return place_M


def _overlapping(predictions: DetectionPredictions, most: int) -> Pairs:
    objects, place_M = predictions.objects, places(predictions)
    counted = np.flatnonzero(place_M < most)
    detection, object_row, iou = overlapping_rows(
        predictions.boxes[counted],
        groups_of(predictions)[counted],
        objects.boxes,
        objects.image * predictions.num_classes + objects.label,
        objects.crowd,
    )
    return Pairs(counted[detection], object_row, iou, place_M)


def _starts(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the positions at which another value begins."""
    is_new = np.ones(len(values), dtype=bool)
    is_new[1:] = values[1:] != values[:-1]
    return np.flatnonzero(is_new)


def _runs(values: NDArray[Any]) -> list[slice]:
    """Return the slices in which neighboring values are equal."""
    ends = [*_starts(values).tolist(), len(values)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _by_turn(pairs: Pairs, avoided_G: NDArray[np.bool_], least: float) -> NDArray[np.int64]:
    """Return the pairs that overlap enough by turn, detection, and what the detection prefers."""
    rows = np.flatnonzero(pairs.iou >= least)
    detection, object_row = pairs.detection[rows], pairs.object_row[rows]
    order = np.lexsort(
        (
            -object_row,
            -pairs.iou[rows],
            avoided_G[object_row],
            detection,
            pairs.place[detection],
        )
    )
    return rows[order]


def _best(predictions: DetectionPredictions, iou: float, most: int) -> NDArray[np.int64]:
    """Return the pair each detection likes best, (M,); -1 for none."""
    pairs = overlapping(predictions, most)
    rows = _by_turn(pairs, predictions.objects.crowd, min(iou, _ALMOST_ONE))
    chosen_M = np.full(len(predictions.score), -1, dtype=np.int64)
    first = rows[_starts(pairs.detection[rows])]
    chosen_M[pairs.detection[first]] = first
    return chosen_M


def _matching(
    predictions: DetectionPredictions, chosen_M: NDArray[np.int64], most: int
) -> Matching:
    pairs, crowd_G = overlapping(predictions, most), predictions.objects.crowd
    matched = np.flatnonzero(chosen_M >= 0)
    taken = chosen_M[matched]
    object_row_M = np.full(len(chosen_M), -1, dtype=np.int64)
    object_row_M[matched] = pairs.object_row[taken]
    iou_M = np.zeros(len(chosen_M))
    iou_M[matched] = pairs.iou[taken]
    is_crowd = crowd_G[object_row_M[matched]]
    right_M = np.zeros(len(chosen_M), dtype=bool)
    right_M[matched] = ~is_crowd
    ignored_M = pairs.place >= most
    ignored_M[matched] |= is_crowd
    found_G = np.zeros(len(crowd_G), dtype=bool)
    found_G[object_row_M[right_M]] = True
    return Matching(right_M, ignored_M, object_row_M, iou_M, found_G)
