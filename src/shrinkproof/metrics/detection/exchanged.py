"""Which boxes compression took away, added, or gave another class, at a fixed score threshold.

Two detectors of the same average precision can find different objects. A lost right box is a new
miss for whoever deploys the compressed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.metrics.detection.boxes import overlapping_rows
from shrinkproof.metrics.detection.matching import match
from shrinkproof.metrics.detection.operating import per_image
from shrinkproof.metrics.detection.rates import Rate
from shrinkproof.predictions import DetectionPredictions

# Shape suffixes: N images, B detections of the baseline, D of the candidate, P pairs of both.


@dataclass(frozen=True, slots=True, eq=False)
class Exchanged:
    """What became of the baseline's boxes, and what the candidate added.

    Of each pair of lists below, the boxes that count are those above the threshold. Boxes in crowd
    regions are neither right nor wrong (`matching`).

    Attributes:
        baseline: detections of the uncompressed network.
        candidate: detections of the compressed one, on the same images.
        partner: (B,) int64 row of the candidate's box that lies where the baseline's does, -1 where
            there is none or where the box does not count.
        kept: (B,) True where the candidate has the box with the same class.
        flipped: (B,) True where it has the box with another class.
        lost: (B,) True where it has no such box.
        new: (D,) True for boxes of the candidate where the baseline has none.
        was_right: (B,) True for boxes of the baseline that count and found an object.
        was_wrong: (B,) True for those that count and found none.
        is_right: (D,) likewise for the candidate.
        is_wrong: (D,) likewise for the candidate.
    """

    baseline: DetectionPredictions
    candidate: DetectionPredictions
    partner: NDArray[np.int64]
    kept: NDArray[np.bool_]
    flipped: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    new: NDArray[np.bool_]
    was_right: NDArray[np.bool_]
    was_wrong: NDArray[np.bool_]
    is_right: NDArray[np.bool_]
    is_wrong: NDArray[np.bool_]

    def rates(self) -> Mapping[str, Rate]:
        """Return how many boxes were exchanged.

        * ``kept``, ``flipped``, ``gone``: shares of the baseline's boxes; they add up to 1.
        * ``lost``: share of the baseline's right boxes that are gone. A right box whose class
          flipped is not among them.
        * ``lost_wrong``: share of the baseline's wrong boxes that are gone, which is no loss.
        * ``new``, ``new_right``, ``new_wrong``: boxes per image that the baseline did not have,
          and how many of them are right or wrong.
        """
        counts_B = self.kept | self.flipped | self.lost
        shares = {
            "kept": (self.kept, counts_B, "no box of the baseline reaches the threshold"),
            "flipped": (self.flipped, counts_B, "no box of the baseline reaches the threshold"),
            "gone": (self.lost, counts_B, "no box of the baseline reaches the threshold"),
            "lost": (self.lost, self.was_right, "no box of the baseline is right"),
            "lost_wrong": (self.lost, self.was_wrong, "no box of the baseline is wrong"),
        }
        added = {
            "new": self.new,
            "new_right": self.new & self.is_right,
            "new_wrong": self.new & self.is_wrong,
        }
        image_B, image_D, count = self.baseline.image, self.candidate.image, len(self.baseline)
        rates = {
            name: Rate(
                part=per_image(image_B[part_B & whole_B], count),
                whole=per_image(image_B[whole_B], count),
                nothing=nothing,
            )
            for name, (part_B, whole_B, nothing) in shares.items()
        }
        rates |= {
            name: Rate(
                part=per_image(image_D[part_D], count),
                whole=np.ones(count),
                nothing="there are no images",
                is_share=False,
            )
            for name, part_D in added.items()
        }
        return rates


def exchanged(
    candidate: DetectionPredictions,
    baseline: DetectionPredictions,
    threshold: float,
    iou: float = 0.5,
) -> Exchanged:
    """Return which boxes both have, which the baseline alone has, and which the candidate alone.

    Boxes with at least the score are paired one to one within each image: first boxes of the same
    class, by falling overlap, then what is left, by falling overlap. So a box that is still there
    with its class is kept, whatever other classes the candidate sees in the same place. Equal
    overlaps are paired in the order of the boxes.

    Args:
        candidate: detections of the compressed network.
        baseline: detections of the uncompressed one, on the same images in the same order.
        threshold: smallest score of the boxes that count, the same for both, 0 to 1.
        iou: smallest overlap of two boxes that are one, and of a right box with its object.

    Raises:
        DataError: the images or their objects differ.
    """
    _check_same(candidate, baseline)
    counts_B, counts_D = baseline.score >= threshold, candidate.score >= threshold
    partner_B = _paired(baseline, candidate, counts_B, counts_D, iou)
    has_B = partner_B >= 0
    same_B = has_B.copy()
    same_B[has_B] = baseline.label[has_B] == candidate.label[partner_B[has_B]]
    is_new_D = counts_D.copy()
    is_new_D[partner_B[has_B]] = False
    was, now = match(baseline, iou), match(candidate, iou)
    return Exchanged(
        baseline=baseline,
        candidate=candidate,
        partner=partner_B,
        kept=same_B,
        flipped=has_B & ~same_B,
        lost=counts_B & ~has_B,
        new=is_new_D,
        was_right=was.right & counts_B,
        was_wrong=was.wrong & counts_B,
        is_right=now.right & counts_D,
        is_wrong=now.wrong & counts_D,
    )


def _check_same(candidate: DetectionPredictions, baseline: DetectionPredictions) -> None:
    if len(candidate) != len(baseline):
        raise DataError(
            "boxes: both must be about the same images, got "
            f"{len(candidate)} and {len(baseline)} images"
        )
    differs = np.flatnonzero(candidate.index != baseline.index)
    if len(differs):
        at = int(differs[0])
        raise DataError(
            "boxes: both must be about the same images, got index "
            f"{candidate.index[at]} and {baseline.index[at]} at position {at}"
        )
    if candidate.objects is baseline.objects:
        return
    if candidate.objects.tobytes() != baseline.objects.tobytes():
        raise DataError("boxes: both must be about the same objects, got other annotations")


def _paired(
    baseline: DetectionPredictions,
    candidate: DetectionPredictions,
    counts_B: NDArray[np.bool_],
    counts_D: NDArray[np.bool_],
    iou: float,
) -> NDArray[np.int64]:
    """Return the candidate's row for each box of the baseline, (B,); -1 for none."""
    rows_b, rows_d = np.flatnonzero(counts_B), np.flatnonzero(counts_D)
    found_b, found_d, overlap_P = overlapping_rows(
        baseline.boxes[rows_b],
        baseline.image[rows_b],
        candidate.boxes[rows_d],
        candidate.image[rows_d],
    )
    enough = overlap_P >= iou
    row_P, other_P = rows_b[found_b[enough]], rows_d[found_d[enough]]
    is_other_class_P = baseline.label[row_P] != candidate.label[other_P]
    order = np.lexsort((other_P, row_P, -overlap_P[enough], is_other_class_P))
    row_P, other_P = row_P[order], other_P[order]
    partner_B = np.full(len(counts_B), -1, dtype=np.int64)
    is_free_D = np.ones(len(counts_D), dtype=bool)
    # Pairs that come first for both of their boxes are what a loop over all pairs would choose.
    while len(row_P):
        is_first_P = _is_first(row_P) & _is_first(other_P)
        partner_B[row_P[is_first_P]] = other_P[is_first_P]
        is_free_D[other_P[is_first_P]] = False
        is_left_P = (partner_B[row_P] < 0) & is_free_D[other_P]
        row_P, other_P = row_P[is_left_P], other_P[is_left_P]
    return partner_B


def _is_first(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where each value stands for the first time."""
    is_first = np.zeros(len(values), dtype=bool)
    is_first[np.unique(values, return_index=True)[1]] = True
    return is_first
