"""The step of a two-stage detector that chooses proposals, as one operator of fixed shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from shrinkproof.models.box_decoding import without_duplicates

SMALLEST: Final = 1e-3
"""A proposal with a shorter side is none, pixels (as in torchvision)."""

LARGEST_GROWTH: Final = math.log(1000.0 / 16)
"""Largest logarithm of the factor by which a side grows (as in torchvision)."""


@torch.library.custom_op("shrinkproof::propose", mutates_args=())
def propose(
    objectness: Tensor,
    deltas: Tensor,
    cells: Sequence[float],
    grids: Sequence[int],
    size: Sequence[int],
    before: int,
    count: int,
    overlap: float,
    least: float,
) -> Tensor:
    """Return the best boxes of a region proposal network (Ren et al. 2015, arXiv:1506.01497).

    The ``before`` best anchors of each level are moved by their deltas and cut at the border of
    the image; empty ones go, non-maximum suppression works within each level, and the best of all
    levels stay. Equal objectness is taken in the order of the anchors. No gradient passes.

    Args:
        objectness: (n, A) logits.
        deltas: (n, A, 4) shifts of the center, and logarithms of the growth.
        cells: x1, y1, x2, y2 of the anchors around one position, level after level.
        grids: height, width and anchors per position of each level.
        size: height and width of the image, pixels.
        before: most boxes of a level before suppression.
        count: boxes of an image, P.
        overlap: intersection over union above which the weaker box goes.
        least: lowest objectness of a proposal, a logit.

    Returns:
        (n, P, 4) x1, y1, x2, y2, best first; zeros behind where there are fewer.
    """
    found = objectness.new_zeros((len(objectness), count, 4))
    levels = [part.to(objectness) for part in anchors_of(cells, grids, size)]
    lengths = [len(part) for part in levels]
    for place, scores, moves in zip(found, objectness, deltas, strict=True):
        boxes, values = [], []
        for part, own, shift in zip(
            levels, scores.split(lengths), moves.split(lengths), strict=True
        ):
            order = torch.sort(own, descending=True, stable=True).indices[:before]
            box, value = _moved(part[order], shift[order], size), own[order]
            sides = box[:, 2:] - box[:, :2]
            keep = (sides >= SMALLEST).all(dim=1) & (value >= least)
            box, value = box[keep], value[keep]
            kept = _survivors(box, value, overlap, count)
            boxes.append(box[kept])
            values.append(value[kept])
        best = torch.sort(torch.cat(values), descending=True, stable=True).indices[:count]
        place[: len(best)] = torch.cat(boxes)[best]
    return found


def _survivors(boxes: Tensor, values: Tensor, overlap: float, largest: int) -> Tensor:
    """Return the positions of what is left of boxes (m, 4) after suppression, best first."""
    kept = without_duplicates(
        boxes.cpu().numpy(),
        values.cpu().numpy(),
        np.zeros(len(boxes), dtype=np.int64),
        overlap=overlap,
        largest=largest,
    )
    return torch.from_numpy(kept).to(boxes.device)


@propose.register_fake
def _shape(objectness: Tensor, deltas: Tensor, *settings: Any) -> Tensor:  # noqa: ARG001
    return objectness.new_empty((objectness.shape[0], settings[4], 4))


def anchors_of(cells: Sequence[float], grids: Sequence[int], size: Sequence[int]) -> list[Tensor]:
    """Return the anchors of each level, (h * w * a, 4) x1, y1, x2, y2, row after row."""
    found, start = [], 0
    for tall, wide, count in zip(grids[0::3], grids[1::3], grids[2::3], strict=True):
        base = torch.tensor(cells[start : start + 4 * count]).reshape(1, 1, count, 4)
        down, across = _shifts(tall, wide, size)
        found.append((base + across + down).reshape(-1, 4))
        start += 4 * count
    return found


def _shifts(tall: int, wide: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return how far each row (h, 1, 1, 4) and column (1, w, 1, 4) of a level moves a box."""
    rows = torch.arange(tall, dtype=torch.float32) * (size[0] // tall)
    columns = torch.arange(wide, dtype=torch.float32) * (size[1] // wide)
    down = rows[:, None] * torch.tensor([0.0, 1.0, 0.0, 1.0])
    across = columns[:, None] * torch.tensor([1.0, 0.0, 1.0, 0.0])
    return down[:, None, None], across[None, :, None]


def _moved(boxes: Tensor, deltas: Tensor, size: Sequence[int]) -> Tensor:
    """Return boxes (m, 4) moved by deltas (m, 4) and cut at the border of the image."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centers = boxes[:, :2] + 0.5 * sides + deltas[:, :2] * sides
    halves = 0.5 * (torch.exp(deltas[:, 2:].clamp(max=LARGEST_GROWTH)) * sides)
    limits = boxes.new_tensor([size[1], size[0]])
    corners = [torch.minimum(c.clamp(min=0), limits) for c in (centers - halves, centers + halves)]
    return torch.cat(corners, dim=1)
