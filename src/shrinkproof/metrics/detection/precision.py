"""Average precision and recall on resampled data sets: the COCO numbers with weighted images.

An image of weight two counts like two copies of it, one of weight zero like none. With weights of
one the numbers are those of `coco`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.metrics.detection.boxes import areas
from shrinkproof.metrics.detection.coco import COCO_IOUS, in_size
from shrinkproof.metrics.detection.matching import MOST, chosen, kept, overlapping
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.statistics.replicated import left_out_weights

# Shape suffixes: N images, M detections, G objects, C classes, T IoU thresholds, R resampled data
# sets, K right detections of one class, n of them at a time.

T = TypeVar("T")

_LEVELS: Final = 101
"""Recalls 0, 0.01, ... 1 at which precision is read."""

_IS_LATE: Final = np.linspace(0.0, 1.0, _LEVELS) > np.arange(_LEVELS) / 100
"""Where COCO's recall level is above k / 100 by rounding, so that a recall of k / 100 misses it."""

_BLOCK: Final = 1 << 15
"""Numbers that are in work at the same time, so that they stay in the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """What became of the detections for objects of one size.

    Attributes:
        right: (T, M) True where a detection found an object of that size.
        counted: (T, M) True where it is right or wrong.
        positive: (G,) True for the objects of that size that are no crowd regions.
        order: (M,) rows by class, then by falling score.
        place: (M,) how many detections of its image and class come before each detection.
    """

    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    positive: NDArray[np.bool_]
    order: NDArray[np.int64]
    place: NDArray[np.int64]


def ap_replicates(
    predictions: DetectionPredictions,
    weights: NDArray[np.float32],
    *,
    ious: Sequence[float] = COCO_IOUS,
    size: str = "all",
) -> NDArray[np.float64]:
    """Return the average precision on resampled data sets, (R,) float64.

    It is the mean over IoU thresholds and over the classes that have objects on a resampled data
    set; NaN where no class has any. Equal scores stand in the order of the images.

    Args:
        predictions: one condition.
        weights: (R, N) how often each image stands in each data set, whole numbers.
        ious: thresholds among those of COCO, 0.50, 0.55, ... 0.95.
        size: ``all``, ``small``, ``medium`` or ``large``.

    Raises:
        UsageError: ``weights`` is about another number of images.
    """
    levels = [_level(iou) for iou in ious]

    def at(level: int) -> NDArray[np.float64]:
        return _kept(
            predictions,
            weights,
            ("ap", size, level),
            lambda: _ap_at(predictions, weights, size, level),
        )

    return np.asarray(np.mean([at(level) for level in levels], axis=0))


def ar_replicates(
    predictions: DetectionPredictions,
    weights: NDArray[np.float32],
    *,
    most: int = MOST,
    size: str = "all",
) -> NDArray[np.float64]:
    """Return the average recall on resampled data sets, (R,) float64.

    It is the mean over the ten IoU thresholds and over the classes that have objects on a resampled
    data set; NaN where no class has any.

    Args:
        predictions: one condition.
        weights: (R, N) how often each image stands in each data set, whole numbers.
        most: detections of each class in an image that count, at most 100.
        size: ``all``, ``small``, ``medium`` or ``large``.

    Raises:
        UsageError: ``weights`` is about another number of images.
    """
    judged, positive_CR = _judged(predictions, size), _positive(predictions, weights, size)
    found_M = (judged.right & (judged.place < most)).sum(axis=0)
    rows = np.flatnonzero(found_M)
    found_CR = _per_class(
        predictions, predictions.label[rows], predictions.image[rows], found_M[rows], weights
    )
    recall_CR = _share(found_CR / len(COCO_IOUS), positive_CR)
    return _class_mean(recall_CR)


def one_left_out(predictions: DetectionPredictions) -> NDArray[np.float32]:
    """Return the weights of data sets without one image each, kept like a matching, (B, N)."""
    return kept(predictions, "left out", lambda: left_out_weights(len(predictions)))


def _level(iou: float) -> int:
    found = np.flatnonzero(np.isclose(COCO_IOUS, iou, rtol=0, atol=1e-9))
    if not len(found):
        raise UsageError(f"average precision: iou must be one of {COCO_IOUS}, got {iou}")
    return int(found[0])


def _kept(
    predictions: DetectionPredictions,
    weights: NDArray[np.float32],
    key: tuple[str | int, ...],
    make: Callable[[], T],
) -> T:
    """Return what ``make`` returns, called once for these weights.

    Of all weights only the last ones are known, and those of `one_left_out`.
    """
    slot = "left out" if weights is one_left_out(predictions) else "resampled"
    known: dict[str, Any] = kept(predictions, ("replicates", slot), dict)
    if "weights" not in known or known["weights"]() is not weights:
        known.clear()
        known.update(weights=ref(weights), found={})
    found: dict[tuple[str | int, ...], T] = known["found"]
    if key not in found:
        found[key] = make()
    return found[key]


def _judged(predictions: DetectionPredictions, size: str) -> _Judged:
    return kept(predictions, ("judged", size), lambda: _judge(predictions, size))


def _judge(predictions: DetectionPredictions, size: str) -> _Judged:
    """As in COCO, objects of other sizes are taken last, and whoever takes them is ignored."""
    objects, pairs = predictions.objects, overlapping(predictions)
    avoided_G = objects.crowd | ~in_size(objects.area, size)
    chosen_TM = chosen(predictions, COCO_IOUS, avoided=avoided_G)
    is_taken_TM = chosen_TM >= 0
    is_avoided_TM = np.zeros_like(is_taken_TM)
    is_avoided_TM[is_taken_TM] = avoided_G[pairs.object_row[chosen_TM[is_taken_TM]]]
    of_size_M = in_size(areas(predictions.boxes), size)
    return _Judged(
        right=is_taken_TM & ~is_avoided_TM,
        counted=~is_avoided_TM & (is_taken_TM | of_size_M) & (pairs.place < MOST),
        positive=~avoided_G,
        order=np.lexsort((-predictions.score, predictions.label)),
        place=pairs.place,
    )


def _positive(
    predictions: DetectionPredictions, weights: NDArray[np.float32], size: str
) -> NDArray[np.float64]:
    """Return the number of objects of each class on each data set, (C, R)."""
    if weights.shape[1] != len(predictions):
        raise UsageError(
            "bootstrap: weights and predictions must be about the same images, got "
            f"{weights.shape[1]} and {len(predictions)}"
        )
    objects = predictions.objects
    rows = np.flatnonzero(_judged(predictions, size).positive)
    return _kept(
        predictions,
        weights,
        ("positive", size),
        lambda: _per_class(
            predictions, objects.label[rows], objects.image[rows], np.ones(len(rows)), weights
        ),
    )


def _per_class(
    predictions: DetectionPredictions,
    label: NDArray[np.int64],
    image: NDArray[np.int64],
    count: NDArray[Any],
    weights: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return weighted counts of each class on each data set, (C, R)."""
    from scipy.sparse import csr_matrix

    shape = (predictions.num_classes, len(predictions))
    counts_CN = csr_matrix((count.astype(np.float64), (label, image)), shape=shape)
    return np.asarray(counts_CN @ _by_image(predictions, weights))


def _by_image(
    predictions: DetectionPredictions, weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the weights with one row per image, (N, R); double, as counts must stay exact."""
    return _kept(
        predictions,
        weights,
        ("by image",),
        lambda: np.ascontiguousarray(weights.T, dtype=np.float64),
    )


def _share(part_CR: NDArray[np.float64], whole_CR: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratio; NaN where there is no whole."""
    share_CR = np.full(part_CR.shape, np.nan)
    np.divide(part_CR, whole_CR, out=share_CR, where=whole_CR > 0)
    return share_CR


def _class_mean(values_CR: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the classes that have a value, (R,); NaN where none has."""
    is_there_CR = ~np.isnan(values_CR)
    total_R = np.where(is_there_CR, values_CR, 0.0).sum(axis=0)
    return _share(total_R, is_there_CR.sum(axis=0).astype(np.float64))


def _ap_at(
    predictions: DetectionPredictions, weights: NDArray[np.float32], size: str, level: int
) -> NDArray[np.float64]:
    """Return the average precision at one IoU threshold, mean over classes, (R,)."""
    judged, positive_CR = _judged(predictions, size), _positive(predictions, weights, size)
    weights_NR = _by_image(predictions, weights)
    image_M = predictions.image
    values_CR = np.full(positive_CR.shape, np.nan)
    order = judged.order[judged.counted[level][judged.order]]
    ends = np.searchsorted(predictions.label[order], np.arange(predictions.num_classes + 1))
    for k in np.flatnonzero(positive_CR.any(axis=1)).tolist():
        rows = order[ends[k] : ends[k + 1]]
        ap_R = _ap_of_class(image_M[rows], judged.right[level][rows], positive_CR[k], weights_NR)
        values_CR[k] = np.where(positive_CR[k] > 0, ap_R, np.nan)
    return _class_mean(values_CR)


def _ap_of_class(
    image: NDArray[np.int64],
    is_right: NDArray[np.bool_],
    positive_R: NDArray[np.float64],
    weights_NR: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the average precision of one class on each data set, (R,).

    Precision only counts where recall rises, at right detections. From the last one to the first:

    1. Count right and all detections down to each right one.
    2. Their ratio is the precision; the highest one so far is that at this recall or a higher one.
    3. It holds for all recall levels that this detection reaches first.

    Args:
        image: image of each detection of the class by falling score.
        is_right: whether it found an object.
        positive_R: (R,) number of objects.
        weights_NR: (N, R) how often each image stands in each data set.
    """
    from scipy.sparse import csr_matrix

    right_K = np.flatnonzero(is_right)
    if not len(right_K):
        return np.zeros(len(positive_R))
    image = image[: right_K[-1] + 1]
    passed_KN = csr_matrix(
        (np.ones(len(image)), image, np.concatenate([[0], right_K + 1])),
        shape=(len(right_K), len(weights_NR)),
    )
    all_R = passed_KN.sum(axis=0).A1 @ weights_NR
    right_R = np.bincount(image[right_K], minlength=len(weights_NR)) @ weights_NR
    best_R, total_R = np.zeros(len(positive_R)), np.zeros(len(positive_R))
    for block in _backwards(len(right_K), max(1, _BLOCK // len(positive_R))):
        all_nR = _counts(all_R, passed_KN[block] @ weights_NR)
        right_nR = _counts(right_R, weights_NR[image[right_K[block]]])
        reached_nR = _reached(right_nR, positive_R)
        precision_nR = right_nR[1:] / np.maximum(all_nR[1:], 1.0)
        best_R = _highest_after(precision_nR, best_R)
        total_R += np.einsum("nr,nr->r", precision_nR, reached_nR[1:] - reached_nR[:-1])
        all_R, right_R = all_nR[0], right_nR[0]
    # The recall level 0 is reached by the first detection of all.
    return np.asarray((total_R + best_R) / _LEVELS)


def _backwards(count: int, rows: int) -> Iterator[slice]:
    for end in range(count, 0, -rows):
        yield slice(max(0, end - rows), end)


def _counts(last_R: NDArray[np.float64], added_nR: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return counts before the first row and after each row, (n + 1, R), from the last count."""
    counts = np.empty((len(added_nR) + 1, len(last_R)))
    counts[-1] = last_R
    # Row by row: numpy's cumulative sum takes five times as long.
    for row in range(len(added_nR) - 1, -1, -1):
        np.subtract(counts[row + 1], added_nR[row], out=counts[row])
    return counts


def _highest_after(
    precision_nR: NDArray[np.float64], best_R: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Replace each row by the highest value in it or after it; return the first row."""
    for row in precision_nR[::-1]:
        best_R = np.maximum(row, best_R, out=row)
    return best_R.copy()


def _reached(right_nR: NDArray[np.float64], positive_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many of COCO's recall levels above 0 are reached, (n, R)."""
    percent_nR = right_nR * 100.0
    percent_nR /= np.maximum(positive_R, 1.0)
    reached_nR = np.floor(percent_nR)
    # Few recalls are whole percents: look those up alone.
    whole = np.flatnonzero(percent_nR == reached_nR)
    level = reached_nR.reshape(-1)
    level[whole] -= _IS_LATE[np.minimum(level[whole], 100.0).astype(np.int64)]
    return reached_nR
