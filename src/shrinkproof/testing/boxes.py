"""Detections that are small, deterministic, and behave like real ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shrinkproof.predictions import DetectionPredictions, Objects
from shrinkproof.predictions.objects import rows_of
from shrinkproof.randomness import stream

# Shape suffixes: N images, M detections, G objects.

_SIDE = 200
"""Height and width of the images in pixels."""


def tiny_detections(count: int = 24, classes: int = 3, seed: int = 0) -> DetectionPredictions:
    """Return detections of a model that finds most objects, and invents some.

    Objects of all three sizes of COCO, some of them crowd regions; images without objects, and
    without detections, are among them.

    Args:
        count: number of images, N.
        classes: number of classes.
        seed: of the draws.
    """
    draws = stream("tiny detections", count, classes, seed)
    objects = _objects(draws, count, classes)
    per_image = draws.integers(0, 4, count)
    false = np.repeat(np.arange(count), per_image)
    is_seen = draws.random(len(objects.label)) < 0.8
    image = np.concatenate([objects.image[is_seen], false])
    near = objects.boxes[is_seen] + draws.normal(0, 2, (int(is_seen.sum()), 4))
    boxes = np.concatenate([near, _corners(draws, len(false))])
    label = np.concatenate([objects.label[is_seen], draws.integers(0, classes, len(false))])
    score = np.concatenate(
        [draws.uniform(0.3, 1, int(is_seen.sum())), draws.uniform(0, 0.6, len(false))]
    )
    boxes = np.clip(boxes, 0, _SIDE)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    order = np.lexsort((-score, image))
    order = order[has_area[order]]
    return DetectionPredictions(
        boxes=boxes[order].astype(np.float32),
        score=score[order].astype(np.float32),
        label=label[order].astype(np.int64),
        offsets=_offsets(np.bincount(image[order], minlength=count)),
        objects=objects,
        index=np.arange(count, dtype=np.int64),
        num_classes=classes,
    )


def _objects(draws: np.random.Generator, count: int, classes: int) -> Objects:
    per_image = draws.integers(0, 5, count)
    total = int(per_image.sum())
    boxes = _corners(draws, total)
    return Objects(
        boxes=boxes,
        label=draws.integers(0, classes, total).astype(np.int64),
        offsets=_offsets(per_image),
        crowd=draws.random(total) < 0.1,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        sizes=np.full((count, 2), _SIDE, dtype=np.int64),
    )


def _corners(draws: np.random.Generator, count: int) -> NDArray[np.float64]:
    corner = draws.uniform(0, _SIDE / 4, (count, 2))
    return np.concatenate([corner, corner + draws.uniform(8, _SIDE * 0.7, (count, 2))], axis=1)


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def altered(
    predictions: DetectionPredictions,
    *,
    keep: NDArray[np.bool_] | None = None,
    score: NDArray[np.float32] | None = None,
    crowd: NDArray[np.bool_] | None = None,
    without_objects: bool = False,
) -> DetectionPredictions:
    """Return the same detections with something missing or changed.

    Args:
        predictions: the detections.
        keep: (M,) which detections stay; None for all.
        score: (M,) other scores, falling within each image.
        crowd: (G,) other crowd flags.
        without_objects: whether the images have no objects.
    """
    objects = predictions.objects
    objects = Objects(
        boxes=objects.boxes,
        label=objects.label,
        offsets=objects.offsets,
        crowd=objects.crowd if crowd is None else crowd,
        area=objects.area,
        sizes=objects.sizes,
    )
    if without_objects:
        objects = _emptied(objects)
    keep_M = np.ones(len(predictions.score), dtype=bool) if keep is None else keep
    counts = np.bincount(predictions.image[keep_M], minlength=len(predictions))
    return DetectionPredictions(
        boxes=predictions.boxes[keep_M],
        score=(predictions.score if score is None else score)[keep_M],
        label=predictions.label[keep_M],
        offsets=_offsets(counts),
        objects=objects,
        index=predictions.index,
        num_classes=predictions.num_classes,
    )


def _emptied(objects: Objects) -> Objects:
    rows, _ = rows_of(objects.offsets, np.arange(0, dtype=np.int64))
    return Objects(
        boxes=objects.boxes[rows],
        label=objects.label[rows],
        offsets=np.zeros_like(objects.offsets),
        crowd=objects.crowd[rows],
        area=objects.area[rows],
        sizes=objects.sizes,
    )
