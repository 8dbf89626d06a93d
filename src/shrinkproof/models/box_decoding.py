"""From scored candidates to the boxes that stay: the best of each group, without duplicates."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError

BLOCK: Final = 256
"""Candidates that are compared at once; it does not change the result."""


def best_of_groups(
    score: NDArray[np.float32], group: NDArray[np.int64], largest: int
) -> NDArray[np.int64]:
    """Return the positions of the highest scores of each group, at most so many of each.

    Args:
        score: (m,) of all candidates.
        group: (m,) which group each belongs to, >= 0.
        largest: most candidates of one group; of equal scores the earlier ones are taken.

    Returns:
        Positions, by group and then by falling score.
    """
    order = np.lexsort((-score, group))
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(order)) - starts[group[order]]
    kept: NDArray[np.int64] = order[rank < largest]
    return kept


def without_duplicates(
    boxes: NDArray[np.float32],
    score: NDArray[np.float32],
    label: NDArray[np.int64],
    *,
    overlap: float,
    largest: int,
) -> NDArray[np.int64]:
    """Return the boxes that survive non-maximum suppression within their class, best first.

    Boxes are taken by falling score, equal ones in their given order; each removes the later ones
    of its class whose intersection over union with it is above ``overlap``. Boxes without area
    remove nothing and are removed by nothing.

    Args:
        boxes: (m, 4) ``x1, y1, x2, y2``.
        score: (m,) of each box.
        label: (m,) class of each box.
        overlap: 0 to 1.
        largest: how many boxes are kept at most, of all classes together.

    Returns:
        Positions of the boxes that stay, by falling score.
    """
    order = np.argsort(-score, kind="stable")
    boxes, label = boxes[order], label[order]
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, len(order), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(order)))
        removed = _removes(boxes, label, kept, block, overlap).any(axis=0)
        block = block[~removed]
        inner = _removes(boxes, label, block, block, overlap)
        alive = np.ones(len(block), dtype=bool)
        for i in np.flatnonzero(np.triu(inner, 1).any(axis=1)):
            if alive[i]:
                alive[i + 1 :] &= ~inner[i, i + 1 :]
        kept = np.concatenate([kept, block[alive]])
        if len(kept) >= largest:
            break
    return order[kept[:largest]]


def _removes(
    boxes: NDArray[np.float32],
    label: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    overlap: float,
) -> NDArray[np.bool_]:
    """Return whether each of the first boxes removes each of the second ones."""
    one, two = boxes[first][:, None], boxes[second][None]
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    union = area[first][:, None] + area[second][None] - shared
    # In place of a division, so that two boxes without area are no special case.
    found: NDArray[np.bool_] = (shared > overlap * union.astype(np.float64)) & (shared > 0)
    found &= label[first][:, None] == label[second][None]
    return found


def check_outputs(outputs: NDArray[np.float32], shape: tuple[int, ...], what: str) -> None:
    """Check that a network's output has one shape for each image, and finite numbers only.

    Args:
        outputs: (n, ...) of n images.
        shape: the numbers of one image.
        what: name of the network, for messages.

    Raises:
        DataError: it has not.
    """
    if outputs.shape[1:] != shape or not outputs.ndim:
        raise DataError(
            f"{what}: outputs must be (n, {', '.join(map(str, shape))}), got {outputs.shape}; give "
            "images of the size that the detector was loaded for"
        )
    if not np.isfinite(outputs).all():
        bad = ~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
        raise DataError(
            f"{what}: outputs must be finite, got NaN or infinity in {int(bad.sum())} of "
            f"{len(outputs)} images; the network is numerically broken"
        )
