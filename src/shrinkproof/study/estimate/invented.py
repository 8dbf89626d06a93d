"""Invented answers about real images: what metrics cost depends on their number alone."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Objects,
    Predictions,
)
from shrinkproof.randomness import stream

# Shape suffixes: N images, C classes, m detections of an image.

_ADVANTAGE: Final = 4.0
"""By how much the logit of the true class is larger: about 90 % of ten classes are right."""

_FALSE: Final = 8
"""Boxes of each image that hold nothing."""


def invented(images: ImageSet) -> Predictions:
    """Return predictions of all images that nobody has made.

    Raises:
        DataError: the images have neither one class each nor annotated boxes.
    """
    draws = stream("estimate")
    if isinstance(images.target, Objects):
        return _boxes(images, images.target, draws)
    logits_NC = draws.standard_normal((len(images), len(images.classes)), dtype=np.float32)
    logits_NC[np.arange(len(images)), images.labels] += _ADVANTAGE
    return ClassificationPredictions(
        logits_NC, images.labels, images.index, images.groups, images.slices
    )


def _boxes(images: ImageSet, objects: Objects, draws: np.random.Generator) -> DetectionPredictions:
    boxes, label, counts = [], [], []
    for position in range(len(images)):
        found = objects[np.array([position])]
        height, width = found.sizes[0]
        more = _drawn(draws, float(height), float(width))
        boxes.append(np.concatenate([found.boxes, more]).astype(np.float32))
        label.append(
            np.concatenate([found.label, draws.integers(0, len(images.classes), len(more))])
        )
        counts.append(len(boxes[-1]))
    score = [np.sort(draws.random(count, dtype=np.float32))[::-1] for count in counts]
    return DetectionPredictions(
        boxes=np.concatenate(boxes),
        score=np.concatenate(score),
        label=np.concatenate(label).astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        objects=objects,
        index=images.index,
        num_classes=len(images.classes),
        groups=images.groups,
        slices=images.slices,
    )


def _drawn(draws: np.random.Generator, height: float, width: float) -> NDArray[np.float64]:
    """Return boxes somewhere in an image, (m, 4)."""
    low_m = draws.random((_FALSE, 2)) * 0.7
    size_m = 0.1 + draws.random((_FALSE, 2)) * 0.2
    sides = np.array([width, height])
    return np.concatenate([low_m * sides, (low_m + size_m) * sides], axis=1)
