"""Random detections, and detectors whose scores are or are not their precision."""

from __future__ import annotations

import numpy as np

from shrinkproof.predictions import DetectionPredictions, Objects

SIZE = (240, 320)
"""Height and width of the images."""


def random_detections(
    seed: int,
    *,
    images: int = 40,
    objects: int = 6,
    extra: int = 6,
    classes: int = 3,
    crowds: float = 0.0,
) -> DetectionPredictions:
    """Return detections near objects, some with the wrong class, and others anywhere.

    Args:
        seed: what makes them random.
        images: number of images.
        objects: of each image; each has one detection that is near it.
        extra: other detections of each image.
        classes: number of classes.
        crowds: share of the objects that are crowds.
    """
    draws = np.random.default_rng(seed)
    truth = _boxes(draws, images * objects)
    label = draws.integers(0, classes, images * objects)
    near = truth + draws.normal(0, 6, truth.shape)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 4)
    near_label = np.where(draws.random(len(label)) < 0.85, label, (label + 1) % classes)
    boxes = np.concatenate(
        [near.reshape(images, objects, 4), _boxes(draws, images * extra).reshape(images, extra, 4)],
        axis=1,
    )
    found = np.concatenate(
        [near_label.reshape(images, objects), draws.integers(0, classes, (images, extra))], axis=1
    )
    score = np.concatenate(
        [draws.beta(3, 1.5, (images, objects)), draws.beta(1, 3, (images, extra))], axis=1
    )
    order = np.argsort(-score, axis=1, kind="stable")
    return DetectionPredictions(
        boxes=np.take_along_axis(boxes, order[..., None], 1).reshape(-1, 4).astype(np.float32),
        score=np.take_along_axis(score, order, 1).ravel().astype(np.float32),
        label=np.take_along_axis(found, order, 1).ravel(),
        offsets=np.arange(images + 1) * (objects + extra),
        objects=Objects(
            boxes=truth,
            label=label,
            offsets=np.arange(images + 1) * objects,
            crowd=draws.random(len(label)) < crowds,
            area=np.ones(len(label)),
            sizes=np.tile(np.array(SIZE), (images, 1)),
        ),
        index=np.arange(images),
        num_classes=classes,
    )


def claims(
    score: np.ndarray, right: np.ndarray, *, per_image: int = 10, classes: int = 1
) -> DetectionPredictions:
    """Return detections that are exactly right or wrong, several in each image.

    Args:
        score: (m,) score of each.
        right: (m,) bool, whether it lies exactly on an object of its class.
        per_image: detections of each image, a divisor of m.
        classes: detection k has class ``k % classes``.
    """
    count = len(score)
    label = np.arange(count) % classes
    place = np.arange(count) % per_image
    left = 30.0 * place
    boxes = np.stack([left, np.zeros(count), left + 20, np.full(count, 20.0)], axis=1)
    images = count // per_image
    order = np.lexsort((-score, np.arange(count) // per_image))
    per_object = right.reshape(images, per_image).sum(axis=1)
    return DetectionPredictions(
        boxes=boxes[order].astype(np.float32),
        score=score[order].astype(np.float32),
        label=label[order],
        offsets=np.arange(images + 1) * per_image,
        objects=Objects(
            boxes=boxes[right],
            label=label[right],
            offsets=np.concatenate([[0], np.cumsum(per_object)]),
            crowd=np.zeros(int(right.sum()), dtype=bool),
            area=np.full(int(right.sum()), 400.0),
            sizes=np.tile(np.array([40, 30 * per_image]), (images, 1)),
        ),
        index=np.arange(images),
        num_classes=classes,
    )


def _boxes(draws: np.random.Generator, count: int) -> np.ndarray:
    """Return boxes anywhere in the image, (count, 4)."""
    corner = draws.uniform(0, (SIZE[1] - 80, SIZE[0] - 80), (count, 2))
    return np.concatenate([corner, corner + draws.uniform(20, 80, (count, 2))], axis=1)
