"""Overlap of boxes: intersection over union, and the variant of crowd regions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.predictions import DetectionPredictions

# Shape suffixes: A and B boxes of two lists, P pairs.

_BLOCK: Final = 1 << 20
"""Pairs that are computed at the same time."""


def areas(boxes_A4: NDArray[Any]) -> NDArray[np.float64]:
    """Return the area of each box in square pixels, (A,) float64.

    Args:
        boxes_A4: (A, 4) ``x1, y1, x2, y2``.
    """
    sides_A2 = boxes_A4[:, 2:].astype(np.float64) - boxes_A4[:, :2]
    return np.asarray(sides_A2[:, 0] * sides_A2[:, 1])


def paired_iou(
    boxes_P4: NDArray[Any],
    others_P4: NDArray[Any],
    crowd_P: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the overlap of each box with the other one of its pair, (P,) float64, 0 to 1.

    The overlap is the area of the intersection over that of the union. Where the other box is a
    crowd region, it is the share of the first box inside that region, as in COCO: a region of many
    objects is larger than any of them. Boxes that only touch overlap by 0.

    Args:
        boxes_P4: (P, 4) ``x1, y1, x2, y2``, each of positive area.
        others_P4: (P, 4), likewise.
        crowd_P: (P,) True where the other box is a crowd region; None for nowhere.
    """
    a_P4, b_P4 = boxes_P4.astype(np.float64, copy=False), others_P4.astype(np.float64, copy=False)
    # Column by column: short rows of four numbers are slow to reduce.
    width_P = np.minimum(a_P4[:, 2], b_P4[:, 2]) - np.maximum(a_P4[:, 0], b_P4[:, 0])
    height_P = np.minimum(a_P4[:, 3], b_P4[:, 3]) - np.maximum(a_P4[:, 1], b_P4[:, 1])
    inside_P = np.maximum(width_P, 0.0) * np.maximum(height_P, 0.0)
    own_P = areas(a_P4)
    whole_P = own_P + areas(b_P4) - inside_P
    return np.asarray(
        inside_P / (whole_P if crowd_P is None else np.where(crowd_P, own_P, whole_P))
    )


def pairwise_iou(
    boxes_A4: NDArray[Any],
    others_B4: NDArray[Any],
    crowd_B: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the overlap of every box of one list with every box of another, (A, B) float64.

    Args:
        boxes_A4: (A, 4) ``x1, y1, x2, y2``, each of positive area.
        others_B4: (B, 4), likewise.
        crowd_B: (B,) True where the other box is a crowd region (`paired_iou`); None for nowhere.
    """
    count, others = len(boxes_A4), len(others_B4)
    overlap_AB = np.zeros((count, others))
    rows = max(1, _BLOCK // max(1, others))
    for start in range(0, count if others else 0, rows):
        part_A4 = boxes_A4[start : start + rows]
        overlap_AB[start : start + rows] = paired_iou(
            np.repeat(part_A4, others, axis=0),
            np.tile(others_B4, (len(part_A4), 1)),
            None if crowd_B is None else np.tile(crowd_B, len(part_A4)),
        ).reshape(len(part_A4), others)
    return overlap_AB


def overlapping_rows(
    boxes_A4: NDArray[Any],
    group_A: NDArray[np.int64],
    others_B4: NDArray[Any],
    group_B: NDArray[np.int64],
    crowd_B: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return all pairs of boxes of two lists that are in the same group and overlap.

    Args:
        boxes_A4: (A, 4) ``x1, y1, x2, y2``, each of positive area.
        group_A: (A,) group of each box, an image for example.
        others_B4: (B, 4), likewise.
        group_B: (B,) group of each of the others.
        crowd_B: (B,) True where the other box is a crowd region (`paired_iou`); None for nowhere.

    Returns:
        Row of the box, row of the other one, and their overlap, above 0, (P,) each; rows rise, and
        for equal rows the others' rows rise.
    """
    order_B = np.argsort(group_B, kind="stable")
    sorted_B = group_B[order_B]
    start_A = np.searchsorted(sorted_B, group_A)
    count_A = np.searchsorted(sorted_B, group_A, side="right") - start_A
    none = np.zeros(0, dtype=np.int64)
    found = [(none, none, np.zeros(0))]
    for block in _blocks(count_A):
        counts = count_A[block]
        row = np.repeat(np.arange(block.start, block.stop), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        other = order_B[np.arange(len(row)) - before + np.repeat(start_A[block], counts)]
        crowd = None if crowd_B is None else crowd_B[other]
        overlap = paired_iou(boxes_A4[row], others_B4[other], crowd)
        is_touching = overlap > 0
        found.append((row[is_touching], other[is_touching], overlap[is_touching]))
    rows, others, overlaps = zip(*found, strict=True)
    return np.concatenate(rows), np.concatenate(others), np.concatenate(overlaps)


def _blocks(count_A: NDArray[np.int64]) -> list[slice]:
    """Return runs of boxes that have together about as many pairs as are computed at a time."""
    block_A = np.cumsum(count_A) // _BLOCK
    ends = [0, *(np.flatnonzero(np.diff(block_A)) + 1).tolist(), len(count_A)]
    return [slice(start, end) for start, end in pairwise(ends) if end > start]


def has_counterpart(
    one: DetectionPredictions, other: DetectionPredictions, iou: float
) -> NDArray[np.bool_]:
    """Return which detections have one of their class in the same image of another set, (M,) bool.

    Args:
        one: M detections.
        other: detections in the same images, in the same order, of any score.
        iou: smallest intersection over union, above 0.
    """
    rows_P, _, overlap_P = overlapping_rows(
        one.boxes, groups_of(one), other.boxes, groups_of(other)
    )
    found_M = np.zeros(len(one.score), dtype=bool)
    found_M[rows_P[overlap_P >= iou]] = True
    return found_M


def groups_of(predictions: DetectionPredictions) -> NDArray[np.int64]:
    """Return a number for the image and class of each detection, (M,) int64."""
    return np.asarray(predictions.image * predictions.num_classes + predictions.label)
