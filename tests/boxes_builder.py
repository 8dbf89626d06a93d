"""Small sets of annotated and detected boxes, spelled image by image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shrinkproof.predictions import DetectionPredictions, Objects

True_ = tuple[tuple[float, float, float, float], int]
"""Box and class of an object."""

Found = tuple[tuple[float, float, float, float], int, float]
"""Box, class and score of a detection."""


def objects_of(
    images: Sequence[Sequence[True_]],
    *,
    size: tuple[int, int] = (100, 100),
    crowd: Sequence[tuple[int, int]] = (),
) -> Objects:
    """Return the objects of some images.

    Args:
        images: the objects of each image.
        size: height and width of every image.
        crowd: image and place of the objects that are crowds.
    """
    flat = [each for image in images for each in image]
    counts = [len(image) for image in images]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    boxes = np.array([box for box, _ in flat], dtype=np.float64).reshape(-1, 4)
    is_crowd = np.zeros(len(flat), dtype=bool)
    for image, place in crowd:
        is_crowd[offsets[image] + place] = True
    return Objects(
        boxes=boxes,
        label=np.array([label for _, label in flat], dtype=np.int64),
        offsets=offsets,
        crowd=is_crowd,
        area=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        sizes=np.tile(np.array(size, dtype=np.int64), (len(images), 1)),
    )


def detections_of(
    images: Sequence[Sequence[Found]], objects: Objects, *, classes: int = 3
) -> DetectionPredictions:
    """Return the detections of some images; those of an image by falling score."""
    flat = [each for image in images for each in image]
    return DetectionPredictions(
        boxes=np.array([box for box, _, _ in flat], dtype=np.float32).reshape(-1, 4),
        score=np.array([score for _, _, score in flat], dtype=np.float32),
        label=np.array([label for _, label, _ in flat], dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum([len(image) for image in images])]).astype(np.int64),
        objects=objects,
        index=np.arange(len(images), dtype=np.int64),
        num_classes=classes,
    )
