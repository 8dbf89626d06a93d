"""How far the scores of detections are from their precision: D-ECE.

Localization-aware errors stand in `localization`, what perfectly calibrated detectors would show in
`null`, and corrections of the scores in `calibrators`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.metrics.binning import Bins
from shrinkproof.metrics.detection.counted import (
    Counted,
    Overlap,
    Score,
    counted,
    nothing,
    protocol,
)
from shrinkproof.metrics.detection.gapped import GapError
from shrinkproof.metrics.detection.gaps import Gaps, in_cells
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.registry import component

# Shape suffixes: N images, m detections that count, R resampled data sets.

Of = Literal["confidence", "position", "size", "all"]
"""What detections are binned by: the score alone, or also where in the image or how large."""

BoxBins = Annotated[int, pydantic.Field(ge=1, le=100, json_schema_extra={"unit": "count"})]
"""Number of bins of each property of a box."""

_COLUMNS: Final[dict[str, tuple[int, ...]]] = {
    "confidence": (),
    "position": (0, 1),
    "size": (2, 3),
    "all": (0, 1, 2, 3),
}
"""Which of center x, center y, width and height each kind of binning looks at."""


@component
class DetectionCalibrationError(GapError):
    """Mean gap between score and precision over bins of the detections (D-ECE).

    Detections are sorted into equal-width bins by their score and, if asked, by the relative center
    (x / image width, y / image height) and the relative width and height of their box. Each bin
    adds its share of the detections times the absolute difference between its mean score and its
    precision, the share of detections that found an object. A bin [l, r) includes its lower edge,
    the last one both. By falling score each detection takes the free object of its class with the
    largest IoU; what lies on a crowd region and found no object does not count.

    Only detections with at least ``score`` count. A detector returns hundreds of boxes with scores
    near 0 that are almost all wrong, as they claim; without the threshold they outnumber all others
    and the value says little but how many of them there are. The value is biased upward, the
    more the fewer detections and the more bins there are (see the null level).

    Input: DetectionPredictions of N images with objects.
    Output: fraction in [0, 1], lower is better. Undefined where no detection counts.
    Differences: netcal, whose edges these are, has 10 bins in every dimension unless told.
        ``uq-detr`` spreads its bins between the lowest and the highest score.
    Reference: Kueppers et al. 2020, arXiv:2004.13546.

    Example:
        >>> from shrinkproof.predictions import Objects
        >>> truth = Objects(
        ...     boxes=np.array([[0.0, 0.0, 10.0, 10.0]]),
        ...     label=np.array([0]),
        ...     offsets=np.array([0, 1]),
        ...     crowd=np.array([False]),
        ...     area=np.array([100.0]),
        ...     sizes=np.array([[20, 20]]),
        ... )
        >>> predictions = DetectionPredictions(
        ...     boxes=np.array([[0, 0, 10, 10], [10, 10, 20, 20]], dtype=np.float32),
        ...     score=np.array([0.75, 0.5], dtype=np.float32),
        ...     label=np.array([0, 0]),
        ...     offsets=np.array([0, 2]),
        ...     objects=truth,
        ...     index=np.arange(1),
        ...     num_classes=1,
        ... )
        >>> DetectionCalibrationError(bins=2)(predictions)
        0.125

    Attributes:
        iou: smallest IoU of a detection that found an object.
        score: smallest score that counts.
        bins: number of bins of the score, between 0 and 1.
        box_bins: number of bins of each property of a box.
        of: ``confidence`` bins by the score alone, ``position`` also by the center, ``size`` also
            by width and height, ``all`` by everything.
    """

    name: ClassVar[str] = "detection.d_ece"
    version: ClassVar[int] = 1

    iou: Overlap = 0.5
    score: Score = 0.3
    bins: Bins = 25
    box_bins: BoxBins = 5
    of: Of = "confidence"

    def caveat(self, predictions: DetectionPredictions) -> str:  # noqa: ARG002
        """Return the protocol of the number."""
        also = {"confidence": "", "position": " and position", "size": " and size"}
        by = also.get(self.of, ", position and size")
        return f"bins of score{by}; {protocol(iou=self.iou, score=self.score)}"

    def gaps(self, predictions: DetectionPredictions) -> Gaps | Undefined:
        """Return score minus correctness of each detection in its bin, or why there is none."""
        found = counted(predictions, iou=self.iou, score=self.score)
        if not len(found):
            return nothing(predictions, self.score)
        return in_cells(
            found.image,
            np.zeros_like(found.image),
            self._bin(predictions, found),
            found.score - found.right,
            images=len(predictions),
        )

    def _bin(self, predictions: DetectionPredictions, found: Counted) -> NDArray[np.int64]:
        """Return the bin of each detection over all dimensions, (m,)."""
        bin_m = _lower_edge_bin(found.score, self.bins)
        for values_m in _box_properties(predictions, found, _COLUMNS[self.of]):
            bin_m = bin_m * self.box_bins + _lower_edge_bin(values_m, self.box_bins)
        return bin_m


def _lower_edge_bin(values_m: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the bin of each value between 0 and 1; lower edges included, as netcal does."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.clip(np.searchsorted(edges, values_m, side="right") - 1, 0, bins - 1)


def _box_properties(
    predictions: DetectionPredictions, found: Counted, columns: tuple[int, ...]
) -> Iterator[NDArray[np.float64]]:
    """Yield center x, center y, width and height relative to the image, those asked for, (m,)."""
    if not columns:
        return
    box_m4 = predictions.boxes[found.row].astype(np.float64)
    size_m2 = predictions.objects.sizes[found.image][:, ::-1].astype(np.float64)
    center_m2 = (box_m4[:, :2] + box_m4[:, 2:]) / 2
    for column in columns:
        axis = column % 2
        if column < 2:
            yield center_m2[:, axis] / size_m2[:, axis]
        else:
            yield (box_m4[:, 2 + axis] - box_m4[:, axis]) / size_m2[:, axis]
