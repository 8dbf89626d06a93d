"""The twelve COCO numbers by faster-coco-eval, computed once per set of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.detection.boxes import areas
from shrinkproof.metrics.detection.matching import kept
from shrinkproof.predictions import DetectionPredictions

# Shape suffixes: M detections, G objects, X of either.

COCO_IOUS: Final[tuple[float, ...]] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""IoU thresholds whose mean is the average precision of COCO."""

SIZES: Final[Mapping[str, tuple[float, float]]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Smallest and largest area of each size class in square pixels, both included, as in COCO: an
object of exactly 32 x 32 pixels is small and medium."""

_ORDER: Final = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
"""Order in which COCO tools state their numbers."""


def in_size(area_X: NDArray[np.float64], size: str) -> NDArray[np.bool_]:
    """Return which boxes belong to a size class, (X,).

    Args:
        area_X: (X,) areas in square pixels.
        size: ``all``, ``small``, ``medium`` or ``large``.
    """
    low, high = SIZES[size]
    return np.asarray((area_X >= low) & (area_X <= high))


def coco_numbers(predictions: DetectionPredictions) -> Mapping[str, float]:
    """Return the twelve numbers of the COCO evaluation, kept as long as the predictions live.

    Returns:
        ``ap``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large``, ``ar1``, ``ar10``,
        ``ar100``, ``ar_small``, ``ar_medium`` and ``ar_large``, 0 to 1; -1 where there are no
        objects (of that size).

    Reference: Lin et al. 2014, arXiv:1405.0312; pycocotools, whose numbers faster-coco-eval
        reproduces.
    """
    return kept(predictions, "coco", lambda: _evaluate(predictions))


def _evaluate(predictions: DetectionPredictions) -> Mapping[str, float]:
    from faster_coco_eval import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    objects = predictions.objects
    shared = {
        "info": {},
        "images": [{"id": image} for image in range(1, len(predictions) + 1)],
        "categories": [{"id": k, "name": str(k)} for k in range(1, predictions.num_classes + 1)],
    }
    true = _annotations(objects.boxes, objects.image, objects.label, objects.area)
    for row, is_crowd in zip(true, objects.crowd.tolist(), strict=True):
        row["iscrowd"] = int(is_crowd)
    found = _annotations(
        predictions.boxes, predictions.image, predictions.label, areas(predictions.boxes)
    )
    for row, score in zip(found, predictions.score.tolist(), strict=True):
        row["score"] = score
    evaluation = COCOeval_faster(
        COCO({**shared, "annotations": true}, print_function=_silent),
        COCO({**shared, "annotations": found}, print_function=_silent),
        "bbox",
        print_function=_silent,
    )
    evaluation.run()
    return dict(zip(_ORDER, np.asarray(evaluation.stats, dtype=float).tolist(), strict=True))


def _annotations(
    boxes_X4: NDArray[Any],
    image_X: NDArray[np.int64],
    label_X: NDArray[np.int64],
    area_X: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Return rows as in a COCO file; identifiers count from 1, as 0 means none there."""
    corner_size_X4 = boxes_X4.astype(np.float64)
    corner_size_X4[:, 2:] -= corner_size_X4[:, :2]
    columns = zip(
        (image_X + 1).tolist(),
        (label_X + 1).tolist(),
        corner_size_X4.tolist(),
        area_X.tolist(),
        strict=True,
    )
    return [
        {"id": row, "image_id": image, "category_id": label, "bbox": box, "area": area}
        for row, (image, label, box, area) in enumerate(columns, 1)
    ]


def _silent(*_: object) -> None:
    """Swallow what the evaluation would print."""
