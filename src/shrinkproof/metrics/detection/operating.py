"""What a detector misses and what it invents at a fixed score threshold.

Average precision looks at all thresholds; who deploys a detector uses one. It is chosen once, on
clean images of the uncompressed network that judge nothing, and then holds for all candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.detection.coco import in_size
from shrinkproof.metrics.detection.matching import MOST, match
from shrinkproof.metrics.detection.names import SIZES
from shrinkproof.metrics.detection.rates import Rate
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Undefined

# Shape suffixes: N images, M detections, G objects.


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The score threshold at which a detector is judged.

    Attributes:
        threshold: detections with at least this score count.
        f1: harmonic mean of precision and recall there, the highest of all thresholds.
        precision: share of the detections that are right.
        recall: share of the objects that are found.
        iou: smallest overlap of a right detection.
    """

    threshold: float
    f1: float
    precision: float
    recall: float
    iou: float

    @property
    def protocol(self) -> str:
        """How boxes are judged at this point, for readers."""
        return (
            f"score >= {self.threshold:.3g}, IoU >= {self.iou:g}; COCO matching by falling score; "
            f"at most {MOST} detections per class and image; crowd regions ignored"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Missed:
    """Shares of the objects that no detection found.

    Attributes:
        overall: among all objects.
        by_class: among the objects of each class, in the order of the classes.
        by_size: among the ``small``, ``medium`` and ``large`` objects of COCO; an object of exactly
            32 x 32 or 96 x 96 pixels belongs to two of them.
    """

    overall: Rate
    by_class: tuple[Rate, ...]
    by_size: Mapping[str, Rate]


def operating_point(
    predictions: DetectionPredictions, iou: float = 0.5
) -> OperatingPoint | Undefined:
    """Return the score threshold with the highest F1 over all classes, or why there is none.

    F1 is 2 TP / (2 TP + FP + FN), over the boxes of all classes together. Of several thresholds
    that reach the highest value, the highest one is taken. Detections in crowd regions do not count
    either way.

    Args:
        predictions: clean images that judge nothing, of the uncompressed network.
        iou: smallest overlap of a right detection, 0 to 1.

    Reference: van Rijsbergen 1979, "Information Retrieval" (F measure).
    """
    count = int((~predictions.objects.crowd).sum())
    if not count:
        return Undefined("a score threshold is chosen by the objects, and there are none")
    matching = match(predictions, iou)
    rows = np.flatnonzero(~matching.ignored)
    rows = rows[np.argsort(-predictions.score[rows], kind="stable")]
    right = np.cumsum(matching.right[rows])
    if not len(rows) or not right[-1]:
        return Undefined(f"a score threshold needs right detections, and none has an IoU of {iou}")
    # F1 of all detections down to each one; within equal scores only the last one is a threshold.
    f1 = 2 * right / (np.arange(1, len(rows) + 1) + count)
    score = predictions.score[rows]
    f1[:-1][score[:-1] == score[1:]] = -1.0
    best = int(np.argmax(f1))
    return OperatingPoint(
        threshold=float(score[best]),
        f1=float(f1[best]),
        precision=float(right[best] / (best + 1)),
        recall=float(right[best] / count),
        iou=iou,
    )


def missed(predictions: DetectionPredictions, threshold: float, iou: float = 0.5) -> Missed:
    """Return which share of the objects no detection found, 0 to 1, lower is better.

    An object is found by a detection of its class with at least the score and the overlap, each
    detection one object (`matching`). Crowd regions cannot be missed.

    Args:
        predictions: one condition.
        threshold: smallest score of the detections that count, 0 to 1.
        iou: smallest overlap, 0 to 1.
    """
    objects, matching = predictions.objects, match(predictions, iou)
    counts_M = matching.right & (predictions.score >= threshold)
    is_missed_G = ~objects.crowd
    is_missed_G[matching.object_row[counts_M]] = False
    image_G = objects.image

    def among(chosen_G: NDArray[np.bool_], what: str) -> Rate:
        whole_G = chosen_G & ~objects.crowd
        return Rate(
            part=per_image(image_G[whole_G & is_missed_G], len(objects)),
            whole=per_image(image_G[whole_G], len(objects)),
            nothing=f"there are no {what}",
        )

    return Missed(
        overall=among(np.ones(len(image_G), dtype=bool), "objects"),
        by_class=tuple(
            among(objects.label == k, "objects of this class")
            for k in range(predictions.num_classes)
        ),
        by_size={size: among(in_size(objects.area, size), f"{size} objects") for size in SIZES},
    )


def false_per_image(predictions: DetectionPredictions, threshold: float, iou: float = 0.5) -> Rate:
    """Return the number of wrong detections per image, 0 or more, lower is better.

    A detection is wrong that found no object of its class which is still free and overlaps enough,
    and that lies in no crowd region (`matching`).

    Args:
        predictions: one condition.
        threshold: smallest score of the detections that count, 0 to 1.
        iou: smallest overlap of a right detection, 0 to 1.
    """
    counts_M = match(predictions, iou).wrong & (predictions.score >= threshold)
    return Rate(
        part=per_image(predictions.image[counts_M], len(predictions)),
        whole=np.ones(len(predictions)),
        nothing="there are no images",
        is_share=False,
    )


def per_image(image: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return how often each of ``count`` images stands in a list, (N,) float64."""
    return np.bincount(image, minlength=count).astype(np.float64)
