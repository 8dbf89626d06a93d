"""Average precision and average recall: the twelve numbers of the COCO evaluation as metrics."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.detection.coco import COCO_IOUS, coco_numbers, in_size
from shrinkproof.metrics.detection.matching import MOST
from shrinkproof.metrics.detection.precision import ap_replicates, ar_replicates, one_left_out
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.registry import component
from shrinkproof.statistics import Replicated

_SIDES: Final = {
    "all": "",
    "small": " of at most 32 x 32 pixels",
    "medium": " of 32 x 32 to 96 x 96 pixels",
    "large": " of at least 96 x 96 pixels",
}


class _CocoNumber:
    """What the twelve numbers have in common."""

    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.HIGHER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False
    task: ClassVar[str] = "detection"

    name: ClassVar[str]
    ious: ClassVar[tuple[float, ...]] = COCO_IOUS
    most: ClassVar[int] = MOST
    size: ClassVar[str] = "all"
    is_recall: ClassVar[bool] = False

    def __call__(self, predictions: DetectionPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return Undefined("there are no images")
        if not _positive(predictions, self.size).any():
            return Undefined(f"there are no objects{_SIDES[self.size]}")
        return coco_numbers(predictions)[self.name.removeprefix("detection.")]

    def terms(self, predictions: DetectionPredictions) -> None:
        """Neither precision nor recall is a mean over images: there are no terms."""

    def replicated(
        self, predictions: DetectionPredictions, weights: NDArray[np.float32]
    ) -> Replicated | Undefined:
        """Return the value, and what it is on resampled data sets, moved around the value.

        Precision that may only fall picks up noise: the fewer different images, the higher it is
        on average. Resampled data sets hold fewer different images than the data set itself, so
        their values are too high by as much in the mean, which is taken away. Percentiles then tell
        between which values the number lies on as many other images.

        Args:
            predictions: one condition.
            weights: (R, N) how often each image stands in each data set.

        Raises:
            UsageError: ``weights`` is about another number of images.
        """
        value = self(predictions)
        if isinstance(value, Undefined):
            return value
        values = self._values(predictions, weights)
        left_out = self._values(predictions, one_left_out(predictions))
        is_there = ~np.isnan(values)
        if is_there.any():
            values = np.clip(values + (value - values[is_there].mean()), 0.0, 1.0)
        return Replicated(value, values, left_out)

    def _values(
        self, predictions: DetectionPredictions, weights: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return the number on data sets of weighted images, (R,)."""
        if self.is_recall:
            return ar_replicates(predictions, weights, most=self.most, size=self.size)
        return ap_replicates(predictions, weights, ious=self.ious, size=self.size)

    def caveat(self, predictions: DetectionPredictions) -> str:
        """Return how detections are judged, and how many classes cannot count."""
        iou = f"IoU {self.ious[0]:.2f}"
        if len(self.ious) > 1:
            iou += f" to {self.ious[-1]:.2f}, mean of {len(self.ious)}"
        detections = f"{self.most} detection{'s' if self.most > 1 else ''}"
        return (
            f"{iou}; COCO matching by falling score; no score threshold; at most {detections} per "
            f"class and image; crowd regions ignored{self._without(predictions)}"
        )

    def _without(self, predictions: DetectionPredictions) -> str:
        count = predictions.num_classes
        rows = _positive(predictions, self.size)
        missing = count - len(np.unique(predictions.objects.label[rows]))
        if not missing:
            return ""
        have = "has" if missing == 1 else "have"
        return f"; {missing} of {count} classes {have} no objects{_SIDES[self.size]}, left out"


def _positive(predictions: DetectionPredictions, size: str) -> NDArray[Any]:
    """Return which objects can be found and belong to a size class, (G,)."""
    objects = predictions.objects
    return ~objects.crowd & in_size(objects.area, size)


@component
class AveragePrecision(_CocoNumber):
    """Area under the precision-recall curve, mean over ten IoU thresholds (COCO AP).

    By falling score each detection takes the free object of its class that it overlaps most, if the
    intersection over union reaches the threshold. Over all detections of a class, precision as a
    function of recall is made to fall and read at the recalls 0, 0.01, ... 1. Their mean is
    averaged over the classes that have objects and over the thresholds 0.50, 0.55, ... 0.95. Crowd
    regions are never missed, and detections that find nothing else in them do not count.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without images or objects.
    Differences: torchvision and Pascal VOC tools interpolate otherwise; pycocotools returns -1
        where it is undefined.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 8.0, 8.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([64.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AveragePrecision()(predictions), 6)
        0.3
    """

    name: ClassVar[str] = "detection.ap"


@component
class AveragePrecision50(_CocoNumber):
    """Area under the precision-recall curve at an IoU of 0.50, mean over the classes.

    Like ``detection.ap`` at this one threshold: boxes need not fit well.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without images or objects.
    Differences: Pascal VOC also asks for an IoU of 0.50, but takes the exact area, or 11 recalls,
        and treats difficult objects in its own way.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 8.0, 8.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([64.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AveragePrecision50()(predictions), 6)
        1.0
    """

    name: ClassVar[str] = "detection.ap50"
    ious: ClassVar[tuple[float, ...]] = (0.5,)


@component
class AveragePrecision75(_CocoNumber):
    """Area under the precision-recall curve at an IoU of 0.75, mean over the classes.

    Like ``detection.ap`` at this one threshold: boxes must fit well.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without images or objects.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 8.0, 8.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([64.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AveragePrecision75()(predictions), 6)
        0.0
    """

    name: ClassVar[str] = "detection.ap75"
    ious: ClassVar[tuple[float, ...]] = (0.75,)


@component
class AveragePrecisionSmall(_CocoNumber):
    """Average precision of the objects of at most 32 x 32 pixels.

    Like ``detection.ap``, for these objects alone: detections that find another object, and wrong
    ones of another size, do not count. The annotated area decides on an object's size, that of its
    mask where there is one.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without such objects.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 8.0, 8.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([64.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AveragePrecisionSmall()(predictions), 6)
        0.3
    """

    name: ClassVar[str] = "detection.ap_small"
    size: ClassVar[str] = "small"


@component
class AveragePrecisionMedium(_CocoNumber):
    """Average precision of the objects of 32 x 32 to 96 x 96 pixels.

    Like ``detection.ap``, for these objects alone: detections that find another object, and wrong
    ones of another size, do not count. The annotated area decides on an object's size, that of its
    mask where there is one.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without such objects.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 40.0, 40.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([1600.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AveragePrecisionMedium()(predictions), 6)
        0.9
    """

    name: ClassVar[str] = "detection.ap_medium"
    size: ClassVar[str] = "medium"


@component
class AveragePrecisionLarge(_CocoNumber):
    """Average precision of the objects of at least 96 x 96 pixels.

    Like ``detection.ap``, for these objects alone: detections that find another object, and wrong
    ones of another size, do not count. The annotated area decides on an object's size, that of its
    mask where there is one.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without such objects.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 97.0, 97.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([9409.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AveragePrecisionLarge()(predictions), 6)
        1.0
    """

    name: ClassVar[str] = "detection.ap_large"
    size: ClassVar[str] = "large"


@component
class AverageRecall1(_CocoNumber):
    """Share of the objects found by 1 detection of each class in an image.

    The mean over the classes that have objects and over the IoU thresholds 0.50, 0.55, ... 0.95,
    whatever the scores. Those with the highest scores in their image count.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without images or objects.
    Differences: the limit is for each class of an image, as in COCO, not for the whole image.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 8.0, 8.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([64.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AverageRecall1()(predictions), 6)
        0.3
    """

    name: ClassVar[str] = "detection.ar1"
    most: ClassVar[int] = 1
    is_recall: ClassVar[bool] = True


@component
class AverageRecall10(_CocoNumber):
    """Share of the objects found by 10 detections of each class in an image.

    The mean over the classes that have objects and over the IoU thresholds 0.50, 0.55, ... 0.95,
    whatever the scores. Those with the highest scores in their image count.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without images or objects.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 8.0, 8.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([64.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AverageRecall10()(predictions), 6)
        0.3
    """

    name: ClassVar[str] = "detection.ar10"
    most: ClassVar[int] = 10
    is_recall: ClassVar[bool] = True


@component
class AverageRecall100(_CocoNumber):
    """Share of the objects found by 100 detections of each class in an image.

    The mean over the classes that have objects and over the IoU thresholds 0.50, 0.55, ... 0.95,
    whatever the scores. Those with the highest scores in their image count.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without images or objects.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 8.0, 8.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([64.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AverageRecall100()(predictions), 6)
        0.3
    """

    name: ClassVar[str] = "detection.ar100"
    is_recall: ClassVar[bool] = True


@component
class AverageRecallSmall(_CocoNumber):
    """Share of the objects of at most 32 x 32 pixels that were found.

    Like ``detection.ar100``, for these objects alone. The annotated area decides on an object's
    size, that of its mask where there is one.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without such objects.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 8.0, 8.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([64.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AverageRecallSmall()(predictions), 6)
        0.3
    """

    name: ClassVar[str] = "detection.ar_small"
    size: ClassVar[str] = "small"
    is_recall: ClassVar[bool] = True


@component
class AverageRecallMedium(_CocoNumber):
    """Share of the objects of 32 x 32 to 96 x 96 pixels that were found.

    Like ``detection.ar100``, for these objects alone. The annotated area decides on an object's
    size, that of its mask where there is one.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without such objects.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 40.0, 40.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([1600.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AverageRecallMedium()(predictions), 6)
        0.9
    """

    name: ClassVar[str] = "detection.ar_medium"
    size: ClassVar[str] = "medium"
    is_recall: ClassVar[bool] = True


@component
class AverageRecallLarge(_CocoNumber):
    """Share of the objects of at least 96 x 96 pixels that were found.

    Like ``detection.ar100``, for these objects alone. The annotated area decides on an object's
    size, that of its mask where there is one.

    Input: boxes (M, 4) and score (M,) float32, label (M,) int64, and the objects of N images.
    Output: fraction in [0, 1], higher is better. Undefined without such objects.
    Reference: Lin et al. 2014, arXiv:1405.0312.

    Example:
        >>> from shrinkproof.predictions import DetectionPredictions, Objects
        >>> box, zero, ends = np.array([[0.0, 0.0, 97.0, 97.0]]), np.array([0]), np.array([0, 1])
        >>> objects = Objects(box, zero, ends, zero > 0, np.array([9409.0]), np.array([[500, 500]]))
        >>> boxes, score = (box + 1).astype(np.float32), np.array([0.9], dtype=np.float32)
        >>> predictions = DetectionPredictions(boxes, score, zero, ends, objects, zero, 1)
        >>> round(AverageRecallLarge()(predictions), 6)
        1.0
    """

    name: ClassVar[str] = "detection.ar_large"
    size: ClassVar[str] = "large"
    is_recall: ClassVar[bool] = True
