"""Which detections a calibration error counts, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.metrics.detection.matching import MOST, match
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Undefined

# Shape suffixes: m detections that count.

Overlap = Annotated[float, pydantic.Field(ge=0, le=1, json_schema_extra={"unit": "fraction"})]
"""Smallest IoU at which a detection has found an object; 0 for any overlap above 0."""

Score = Annotated[float, pydantic.Field(ge=0, le=1, json_schema_extra={"unit": "fraction"})]
"""Smallest score of the detections that count."""


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Detections that count, and what became of them.

    Attributes:
        row: (m,) row in the predictions, rising.
        image: (m,) position of the image.
        label: (m,) detected class.
        score: (m,) float64.
        overlap: (m,) float64, IoU with the object that was found; 0 where none was.
        right: (m,) bool, whether an object was found.
    """

    row: NDArray[np.int64]
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    overlap: NDArray[np.float64]
    right: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.row)


def counted(predictions: DetectionPredictions, *, iou: float, score: float) -> Counted:
    """Return the detections that count.

    Those with at least the score, except what is neither right nor wrong, see `matching`. By
    falling score each takes the free object of its class with the largest IoU, if that reaches
    ``iou``: so detections below the score change nothing for those above it.

    Args:
        predictions: one condition.
        iou: smallest IoU; 0 for any overlap above 0.
        score: smallest score.
    """
    found = match(predictions, iou=iou)
    row = np.flatnonzero((predictions.score >= score) & ~found.ignored)
    right = found.right[row]
    return Counted(
        row=row,
        image=predictions.image[row],
        label=predictions.label[row],
        score=predictions.score[row].astype(np.float64),
        overlap=np.where(right, found.iou[row], 0.0),
        right=right,
    )


def nothing(predictions: DetectionPredictions, score: float) -> Undefined:
    """Return why there is no number where no detection counts."""
    if not len(predictions):
        return Undefined("there are no images")
    return Undefined(f"no detection with a score of at least {score:g} counts")


def reason_of(*found: object) -> str:
    """Return why the first of some numbers that are undefined is so; empty where none is."""
    return next((each.reason for each in found if isinstance(each, Undefined)), "")


def protocol(*, iou: float, score: float) -> str:
    """Return how detections are judged, for readers."""
    needs = f"IoU >= {iou:g}" if iou else "any overlap"
    return (
        f"{needs}, each object taken once by falling score within its class; scores >= {score:g}, "
        f"at most {MOST} detections per class and image; detections on crowd regions left out"
    )
