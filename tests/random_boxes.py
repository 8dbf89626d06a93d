"""Random objects, and detections of some of them: crowds, empty images and ties included."""

from __future__ import annotations

import numpy as np

from shrinkproof.predictions import DetectionPredictions, Objects


def random_boxes(
    seed: int,
    *,
    images: int = 12,
    classes: int = 4,
    detections: int = 30,
    objects: int = 10,
    grid: float = 0.0,
    crowd: float = 0.1,
) -> DetectionPredictions:
    """Return detections of which about half find an object; the last class has no objects.

    Args:
        seed: of the draws.
        images: number of images; some have no object, some no detection.
        classes: number of classes.
        detections: most detections of an image.
        objects: most objects of an image.
        grid: pixels between possible corners, 0 for any; with a grid scores are often equal, too.
        crowd: share of the objects that are crowd regions.
    """
    draws = np.random.default_rng(seed)
    own = _offsets(draws.integers(0, objects + 1, images))
    corner = draws.uniform(0, 300, (own[-1], 2))
    side = draws.uniform(4, 150, (own[-1], 2))
    true = _on_grid(np.concatenate([corner, corner + side], axis=1), grid)
    truth = Objects(
        boxes=true,
        label=draws.integers(0, max(1, classes - 1), own[-1]),
        offsets=own,
        crowd=draws.random(own[-1]) < crowd,
        area=(true[:, 2:] - true[:, :2]).prod(axis=1) * draws.uniform(0.7, 1, own[-1]),
        sizes=np.full((images, 2), 500),
    )
    found = _offsets(draws.integers(0, detections + 1, images))
    image = np.repeat(np.arange(images), np.diff(found))
    return _detections(draws, truth, image, found, classes=classes, grid=grid)


def _detections(
    draws: np.random.Generator,
    truth: Objects,
    image: np.ndarray,
    offsets: np.ndarray,
    *,
    classes: int,
    grid: float,
) -> DetectionPredictions:
    count = len(image)
    corner = draws.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corner, corner + draws.uniform(4, 150, (count, 2))], axis=1)
    label = draws.integers(0, classes, count)
    per_image = np.diff(truth.offsets)[image]
    aims = np.flatnonzero((per_image > 0) & (draws.random(count) < 0.6))
    at = truth.offsets[image[aims]] + (draws.random(len(aims)) * per_image[aims]).astype(int)
    boxes[aims] = truth.boxes[at] + draws.normal(0, 6, (len(aims), 4))
    label[aims] = np.where(draws.random(len(aims)) < 0.85, truth.label[at], label[aims])
    score = draws.random(count)
    if grid:
        score = np.round(score * 20) / 20
    order = np.lexsort((-score, image))
    return DetectionPredictions(
        boxes=_on_grid(boxes, grid)[order].astype(np.float32),
        score=score[order].astype(np.float32),
        label=label[order],
        offsets=offsets,
        objects=truth,
        index=np.arange(len(truth)),
        num_classes=classes,
    )


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


def _on_grid(boxes: np.ndarray, grid: float) -> np.ndarray:
    """Return boxes with positive sides, with corners on a grid if there is one."""
    placed = np.round(boxes / grid) * grid if grid else boxes.copy()
    placed[:, 2:] = np.maximum(placed[:, 2:], placed[:, :2] + (grid or 1))
    return placed
