"""Reading a feature pyramid inside boxes, with ordinary operators of fixed shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, fx

_ROUNDING: Final = 1e-6
"""What torchvision adds to the level of a box before it rounds down."""

_OUTSIDE: Final = -4.0
"""A place far outside of what is sampled, where everything is 0."""


@dataclass(frozen=True, slots=True)
class Pyramid:
    """RoIAlign of all levels at once.

    Each box reads the level of its size (Lin et al. 2017, arXiv:1612.03144, equation 1) at
    ``ratio`` x ``ratio`` points in each of ``side`` x ``side`` cells, bilinearly; a cell is the
    mean of its points (He et al. 2017, arXiv:1703.06870, section 3). Points outside of the level
    count as 0, as in torchvision's compiled operator. The levels lie below one another on one
    canvas, so that one operator reads whatever level, and no shape depends on how many boxes read
    which.

    Attributes:
        size: (H, W) of the image, pixels; each level halves it once more.
        lowest: how often the first level halves it.
        highest: how often the last level halves it.
        side: cells along a side of the result.
        ratio: points along a side of a cell.
        usual_side: side of the boxes, pixels, that read ``usual_level``.
        usual_level: as halvings.
    """

    size: tuple[int, int]
    lowest: int
    highest: int
    side: int
    ratio: int
    usual_side: float
    usual_level: int

    def read(self, features: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Return the features inside boxes, (n * P, channels, side, side).

        Args:
            features: (n, channels, h, w) of each level.
            boxes: (n, P, 4) x1, y1, x2, y2 in pixels of the image.
        """
        levels = list(features)[: self.highest - self.lowest + 1]
        whole = self.size[1] >> self.lowest
        widths = [self.size[1] >> level for level in range(self.lowest, self.highest + 1)]
        rows = [F.pad(part, (0, whole - own)) for part, own in zip(levels, widths, strict=True)]
        sides = [
            self.usual_side * 2.0 ** (level - self.usual_level - _ROUNDING)
            for level in range(self.lowest + 1, self.highest + 1)
        ]
        return _read(
            torch.cat(rows, dim=2), boxes, self.size, self.lowest, sides, self.side, self.ratio
        )


@fx.wrap
def _read(
    canvas: Tensor,
    boxes: Tensor,
    size: Sequence[int],
    lowest: int,
    sides: Sequence[float],
    side: int,
    ratio: int,
) -> Tensor:
    """Return the canvas inside boxes, (n * P, channels, side, side).

    One node of a traced graph: places are no activations, whose sums would be quantized.

    Args:
        canvas: (n, channels, h, w) all levels.
        boxes: (n, P, 4) in pixels of the image.
        size: (H, W) of the image.
        lowest: how often the first level halves it.
        sides: side of the smallest boxes that read each level behind the first.
        side: cells along a side of the result.
        ratio: points along a side of a cell.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    area = (x2 - x1) * (y2 - y1)
    scale = torch.full_like(area, 0.5**lowest)
    for least in sides:
        scale = torch.where(area >= least**2, 0.5 * scale, scale)
    tall, wide = size[0] * scale, size[1] * scale
    # Each level is half as tall as the one above it.
    top = 2 * ((size[0] >> lowest) - tall)
    height, width = size[0] >> lowest, size[1] >> lowest
    height = sum(height >> level for level in range(len(sides) + 1))
    columns = _places(x1 * scale, x2 * scale, wide, torch.zeros_like(top), width, side, ratio)
    rows = _places(y1 * scale, y2 * scale, tall, top, height, side, ratio)
    total = _sampled(canvas, columns[..., 0], rows[..., 0], side)
    for phase in range(1, ratio**2):
        column, row = columns[..., phase % ratio], rows[..., phase // ratio]
        total = total + _sampled(canvas, column, row, side)
    cells: Tensor = (total / ratio**2).unflatten(2, (-1, side))
    return cells.transpose(1, 2).flatten(0, 1)


def _places(
    first: Tensor,
    last: Tensor,
    length: Tensor,
    start: Tensor,
    whole: int,
    side: int,
    ratio: int,
) -> Tensor:
    """Return where the points lie along an axis of the canvas, -1 to 1, (n, P, side, ratio).

    Args:
        first: (n, P) where a box begins, on its level.
        last: (n, P) where it ends.
        length: (n, P) how long the level is.
        start: (n, P) where the level begins on the canvas.
        whole: how long the canvas is.
        side: cells.
        ratio: points of a cell.
    """
    steps = torch.arange(side * ratio, dtype=first.dtype, device=first.device) + 0.5
    stride = (last - first).clamp(min=1.0) / (side * ratio)
    places = first.unsqueeze(-1) + steps * stride.unsqueeze(-1)
    length = length.unsqueeze(-1)
    inside = torch.minimum(places.clamp(min=0.0), length - 1) + start.unsqueeze(-1)
    # -1 and 1 are the outer edges of the first and the last pixel.
    on_canvas = (2 * inside + 1) / whole - 1
    is_outside = (places < -1.0) | (places > length)
    found: Tensor = torch.where(is_outside, _OUTSIDE, on_canvas).unflatten(-1, (side, ratio))
    return found


def _sampled(canvas: Tensor, columns: Tensor, rows: Tensor, side: int) -> Tensor:
    """Return the canvas at one point of each cell, (n, channels, P * side, side)."""
    across = columns.unsqueeze(2).expand(-1, -1, side, -1)
    down = rows.unsqueeze(3).expand(-1, -1, -1, side)
    grid = torch.stack([across, down], dim=-1).flatten(1, 2)
    return F.grid_sample(canvas, grid, padding_mode="zeros", align_corners=False)
