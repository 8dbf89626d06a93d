"""Predictions of consecutive images, put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shrinkproof.predictions.detection import DetectionPredictions
from shrinkproof.predictions.objects import Objects

# Shape suffixes: N images.


def join_boxes(parts: Sequence[DetectionPredictions]) -> DetectionPredictions:
    """Return the detections of several sets of images as those of one, in the same order.

    Args:
        parts: at least one; groups and slices are the same columns in each.
    """
    first = parts[0]
    return DetectionPredictions(
        boxes=np.concatenate([part.boxes for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        offsets=_offsets([part.offsets for part in parts]),
        objects=_join_objects([part.objects for part in parts]),
        index=np.concatenate([part.index for part in parts]),
        num_classes=first.num_classes,
        groups=None
        if first.groups is None
        else np.concatenate([part.groups for part in parts if part.groups is not None]),
        slices={
            name: np.concatenate([part.slices[name] for part in parts]) for name in first.slices
        },
    )


def _join_objects(parts: Sequence[Objects]) -> Objects:
    return Objects(
        boxes=np.concatenate([part.boxes for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        offsets=_offsets([part.offsets for part in parts]),
        crowd=np.concatenate([part.crowd for part in parts]),
        area=np.concatenate([part.area for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
    )


def _offsets(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return where the rows of each image begin and end, (N + 1,), in all rows."""
    counts = np.concatenate([np.diff(part) for part in parts])
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
