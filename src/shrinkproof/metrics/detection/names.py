"""Names of the numbers about detected boxes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shrinkproof.metrics.naming import MetricName, alone, at_condition
from shrinkproof.protocols import Better

_HIGHER, _LOWER, _NONE = Better.HIGHER, Better.LOWER, Better.NONE

AP: Final = "detection.ap"
MPC: Final = "robustness.mpc"
RPC: Final = "robustness.rpc"
MPC_OF_BASELINE: Final = "robustness.mpc_of_baseline"
MISS_RATE: Final = "boxes.miss_rate"
FALSE_PER_IMAGE: Final = "boxes.false_per_image"
LOST: Final = "boxes.lost"
NEW: Final = "boxes.new"
FLIPPED: Final = "boxes.flipped"
THRESHOLD: Final = "boxes.threshold"
ISOTONIC: Final = "isotonic."
PLATT: Final = "platt."

SIZES: Final = ("small", "medium", "large")
"""Sizes of objects by their area: below 32 x 32 pixels, up to 96 x 96, and above, as in COCO."""

PRECISIONS: Final = (AP, "detection.ap50")
"""Average precisions that the mean over corruptions may be made of, as COCO and VOC ask."""


def precision_of(metrics: Iterable[str]) -> str:
    """Return the average precision that stands for how good a detector is.

    Args:
        metrics: what the study scores; the first of them that can, COCO's if there is none.
    """
    return next((name for name in metrics if name.partition("[")[0] in PRECISIONS), AP)


def _ap(name: str, summary: str) -> MetricName:
    return at_condition(f"detection.{name}", "fraction", _HIGHER, summary)


DETECTION_NAMES: Final = (
    _ap("ap", "average precision, mean over IoU 0.50 to 0.95 and the classes (COCO)"),
    _ap("ap50", "average precision at IoU 0.50, mean over the classes"),
    _ap("ap75", "average precision at IoU 0.75, mean over the classes"),
    _ap("ap_small", "average precision of objects below 32 x 32 pixels"),
    _ap("ap_medium", "average precision of objects from 32 x 32 to 96 x 96 pixels"),
    _ap("ap_large", "average precision of objects above 96 x 96 pixels"),
    _ap("ar1", "average recall with 1 detection per class and image"),
    _ap("ar10", "average recall with 10 detections per class and image"),
    _ap("ar100", "average recall with 100 detections per class and image"),
    _ap("ar_small", "average recall of objects below 32 x 32 pixels"),
    _ap("ar_medium", "average recall of objects from 32 x 32 to 96 x 96 pixels"),
    _ap("ar_large", "average recall of objects above 96 x 96 pixels"),
    at_condition("detection.d_ece", "fraction", _LOWER, "detection calibration error"),
    at_condition(
        "detection.laece", "fraction", _LOWER, "localization-aware calibration error, binned"
    ),
    at_condition(
        "detection.laace", "fraction", _LOWER, "localization-aware calibration error, per box"
    ),
    at_condition(
        MPC, "fraction", _HIGHER, "mean average precision under corruption, over all conditions"
    ),
    at_condition(
        RPC, "ratio", _HIGHER, "relative performance under corruption: mPC over the own clean AP"
    ),
    at_condition(MPC_OF_BASELINE, "ratio", _HIGHER, "mPC over the baseline's clean AP"),
    alone(
        THRESHOLD, "fraction", _NONE, "score above which boxes count, chosen on the select split"
    ),
    at_condition(
        MISS_RATE, "fraction", _LOWER, "share of the objects that were missed, at the threshold"
    ),
    at_condition(FALSE_PER_IMAGE, "ratio", _LOWER, "wrong detections per image, at the threshold"),
    at_condition(LOST, "fraction", _LOWER, "share of the baseline's right boxes that are gone"),
    at_condition(NEW, "ratio", _NONE, "boxes that the baseline did not have, per image"),
    at_condition(
        FLIPPED, "fraction", _LOWER, "share of the baseline's boxes found with another class"
    ),
)
"""All names that only detection has, in the order in which tables and reports show them."""
