"""Detected boxes and truth of one evaluated condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.predictions.objects import Objects, rows_of

# Shape suffixes: N images, M detections, G objects, C classes.


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class DetectionPredictions:
    """Detections and truth of one condition; detections of an image by falling score.

    Attributes:
        boxes: (M, 4) float32, ``x1, y1, x2, y2`` in pixels of the image as it was annotated, inside
            the image, with ``x2 > x1`` and ``y2 > y1``.
        score: (M,) float32, 0 to 1; falls within each image, ties stand as the model gave them.
        label: (M,) int64, detected class, 0 to C - 1.
        offsets: (N + 1,) int64; the detections of image i are rows ``offsets[i]`` to
            ``offsets[i + 1]``.
        objects: what is true of the N images.
        index: (N,) int64, index of each image in its data set.
        num_classes: number of classes, C.
        groups: (N,) group of each image (drive, scene, patient), or None where images are
            independent.
        slices: name -> (N,) value of each image.
    """

    boxes: NDArray[np.float32]
    score: NDArray[np.float32]
    label: NDArray[np.int64]
    offsets: NDArray[np.int64]
    objects: Objects
    index: NDArray[np.int64]
    num_classes: int
    groups: NDArray[np.str_] | None = None
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes, ranges, order and finiteness.

        Raises:
            DataError: shapes disagree, a label is out of range, or a number is not finite.
        """
        count, images = len(self.score), len(self.objects)
        expected = {
            "boxes": (count, 4),
            "label": (count,),
            "offsets": (images + 1,),
            "index": (images,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise DataError(
                    f"predictions: {name} must have shape {shape}, got {getattr(self, name).shape}"
                )
        for name, label in (("labels", self.label), ("labels of objects", self.objects.label)):
            if len(label) and not (label.min() >= 0 and label.max() < self.num_classes):
                raise DataError(
                    f"predictions: {name} must be 0 to {self.num_classes - 1}, got "
                    f"{label.min()} to {label.max()}; do the classes of data and model agree?"
                )
        self._check_detections()

    def _check_detections(self) -> None:
        finite = np.isfinite(self.score) & np.isfinite(self.boxes).all(axis=1)
        bad = int(len(finite) - finite.sum())
        if bad:
            raise DataError(
                f"predictions: boxes and scores must be finite, got NaN or infinity in {bad} of "
                f"{len(finite)} detections; the model is numerically broken for these images"
            )
        if not len(self.score):
            return
        if self.score.min() < 0 or self.score.max() > 1:
            raise DataError(
                "predictions: scores must be 0 to 1, got "
                f"{self.score.min():g} to {self.score.max():g}; give probabilities, not logits"
            )
        rises = np.diff(self.score) > 0
        starts = self.offsets[1:-1]
        rises[starts[(starts > 0) & (starts < len(self.score))] - 1] = False
        if rises.any():
            raise DataError("predictions: scores must fall within each image; sort them")
        if (self.boxes[:, 2:] <= self.boxes[:, :2]).any():
            raise DataError("predictions: boxes must have x2 > x1 and y2 > y1; drop the others")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.objects)

    @property
    def image(self) -> NDArray[np.int64]:
        """Position of the image of each detection, (M,) int64."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def take(self, positions: NDArray[np.int64]) -> DetectionPredictions:
        """Return the predictions of the images at the given positions."""
        rows, offsets = rows_of(self.offsets, positions)
        return DetectionPredictions(
            boxes=self.boxes[rows],
            score=self.score[rows],
            label=self.label[rows],
            offsets=offsets,
            objects=self.objects[positions],
            index=self.index[positions],
            num_classes=self.num_classes,
            groups=None if self.groups is None else self.groups[positions],
            slices={name: values[positions] for name, values in self.slices.items()},
        )

    def above(self, score: float) -> DetectionPredictions:
        """Return the predictions with only the detections of at least a score."""
        keep = self.score >= score
        counted = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
        return DetectionPredictions(
            boxes=self.boxes[keep],
            score=self.score[keep],
            label=self.label[keep],
            offsets=counted[self.offsets],
            objects=self.objects,
            index=self.index,
            num_classes=self.num_classes,
            groups=self.groups,
            slices=self.slices,
        )
