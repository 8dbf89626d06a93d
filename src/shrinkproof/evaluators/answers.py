"""What a candidate says about the images of a scene, collected batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.detecting import Detections, Detector
from shrinkproof.errors import ModelError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.predictions import ClassificationPredictions, DetectionPredictions, Predictions

# Shape suffixes: N images of the scene, n images of a batch, m detections.

Positions = NDArray[np.int64]


class Answers(Protocol):
    """Collects the outputs of one candidate and makes predictions of them."""

    def add(
        self, positions: Positions, outputs: NDArray[np.float32], shape: tuple[int, int]
    ) -> None:
        """Take the outputs (n, ...) for images (H, W) at some positions of the scene.

        Raises:
            ModelError: the outputs are not what such a candidate must give.
        """
        ...

    def predictions(self) -> Predictions:
        """Return the predictions of all images.

        Raises:
            DataError: they are broken.
        """
        ...


class LogitAnswers:
    """The logits of a classifier.

    Args:
        images: what it looks at.
        num_classes: number of logits.
    """

    def __init__(self, images: ImageSet, num_classes: int) -> None:
        self.images = images
        self.logits_NC = np.empty((len(images), num_classes), dtype=np.float32)

    def add(
        self,
        positions: Positions,
        outputs: NDArray[np.float32],
        shape: tuple[int, int],  # noqa: ARG002 - a class has no place in the image
    ) -> None:
        """Take the logits of a batch."""
        expected = (len(positions), self.logits_NC.shape[1])
        if outputs.shape != expected:
            raise ModelError(
                f"logits must be {expected} (images, classes), got {outputs.shape}; does the "
                "network have as many outputs as the data have classes?"
            )
        self.logits_NC[positions] = outputs

    def predictions(self) -> ClassificationPredictions:
        """Return logits and truth of all images."""
        images = self.images
        return ClassificationPredictions(
            self.logits_NC, images.labels, images.index, images.groups, images.slices
        )


@dataclass(eq=False)
class BoxAnswers:
    """The boxes of a detector, in pixels of the images as they were annotated.

    Boxes are clipped to the image; what is left without area is dropped.

    Attributes:
        images: what it looks at.
        detector: makes boxes of outputs.
        preprocess: knows how images were resized.
    """

    images: ImageSet
    detector: Detector
    preprocess: Preprocess
    found: dict[int, Detections] = field(default_factory=dict)

    def add(
        self, positions: Positions, outputs: NDArray[np.float32], shape: tuple[int, int]
    ) -> None:
        """Take the outputs of a batch and choose the boxes."""
        for position, found in zip(
            positions.tolist(), decoded(self.detector, outputs, len(positions)), strict=True
        ):
            self.found[position] = in_image(found, self.preprocess, shape)

    def predictions(self) -> DetectionPredictions:
        """Return boxes and truth of all images."""
        ordered = [self.found[position] for position in range(len(self.images))]
        counts = [len(each.score) for each in ordered]
        return DetectionPredictions(
            boxes=np.concatenate([np.empty((0, 4)), *(d.boxes for d in ordered)]).astype(
                np.float32
            ),
            score=np.concatenate([np.empty(0), *(d.score for d in ordered)]).astype(np.float32),
            label=np.concatenate([np.empty(0), *(d.label for d in ordered)]).astype(np.int64),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            objects=self.images.objects,
            index=self.images.index,
            num_classes=len(self.images.classes),
            groups=self.images.groups,
            slices=self.images.slices,
        )


def decoded(detector: Detector, outputs: NDArray[np.float32], count: int) -> list[Detections]:
    """Return what was found in each image of a batch, checked.

    A number that is not finite is an error: a threshold would drop its box without a word, and the
    detector would only look as if it had found less.

    Raises:
        ModelError: the outputs are not finite or not one for each image, or the rule gives
            something else than boxes with scores and classes.
    """
    if outputs.ndim < 1 or len(outputs) != count:
        raise ModelError(
            f"outputs must be one for each image ({count}, ...), got shape {outputs.shape}"
        )
    bad = int(outputs.size - np.isfinite(outputs).sum())
    if bad:
        raise ModelError(
            f"outputs must be finite, got NaN or infinity in {bad} of {outputs.size} numbers; the "
            "model is numerically broken for these images"
        )
    found = list(detector.decode(outputs))
    if len(found) != count:
        raise ModelError(
            f"decode must return one Detections for each image, {count}, got {len(found)}"
        )
    for each in found:
        _check(each)
    return found


def _check(found: Detections) -> None:
    count = len(found.score)
    shapes = {"boxes": (count, 4), "score": (count,), "label": (count,)}
    for name, shape in shapes.items():
        if getattr(found, name).shape != shape:
            raise ModelError(
                f"decode: {name} must have shape {shape}, got {getattr(found, name).shape}"
            )
    if count and not np.issubdtype(found.label.dtype, np.integer):
        raise ModelError(f"decode: label must hold integers, got {found.label.dtype}")
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.score).all()):
        raise ModelError("decode: boxes and scores must be finite, got NaN or infinity")


def in_image(found: Detections, preprocess: Preprocess, shape: tuple[int, int]) -> Detections:
    """Return detections in pixels of an image (H, W), inside it, by falling score.

    Ties stand as the detector gave them.
    """
    boxes = preprocess.to_image(found.boxes, shape)
    height, width = shape
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32))
    score = np.asarray(found.score, dtype=np.float32)
    has_area = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    order = np.argsort(-score, kind="stable")
    order = order[has_area[order]]
    return Detections(
        boxes=boxes[order],
        score=score[order],
        label=np.asarray(found.label, dtype=np.int64)[order],
        place=None if found.place is None else found.place[order],
    )
