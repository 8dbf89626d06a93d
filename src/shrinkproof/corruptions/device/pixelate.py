"""Twin of pixelate."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shrinkproof.corruptions.constants import PIXELATE
from shrinkproof.corruptions.device.exact import picked, table
from shrinkproof.corruptions.presets import constant

_ONE = 2.0**22
"""A weight of 1 in the fixed-point numbers of Pillow's resampling."""


def pixelate(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images in larger pixels.

    Whole numbers below 2**53 held in float64: every product and sum is exact.
    """
    del draws
    height, width = images.shape[1:3]
    factor = constant(PIXELATE, preset, severity)
    rows, columns = int(height * factor), int(width * factor)
    small = images.to(torch.float64).permute(0, 3, 1, 2)
    # Pillow rounds to 8 bits after the rows and again after the columns.
    small = _rounded(small @ _averages(width, columns, images.device).T)
    small = _rounded(_averages(height, rows, images.device) @ small)
    large = small.to(torch.uint8).permute(0, 2, 3, 1)
    centers = _nearest if preset == "imagecorruptions" else _centers
    return picked(picked(large, 1, centers(rows, height)), 2, centers(columns, width))


def _rounded(sums: Tensor) -> Tensor:
    return sums.add_(_ONE / 2).mul_(1 / _ONE).floor_().clamp_(0, 255)


@functools.lru_cache(maxsize=64)
def _averages(size: int, cells: int, device: torch.device) -> Tensor:
    """Return the fixed-point weights of a line's averages, (cells, size) float64."""
    scale = size / cells
    reach = 0.5 * scale
    weights = np.zeros((cells, size))
    for cell in range(cells):
        center = (cell + 0.5) * scale
        first = max(0, int(center - reach + 0.5))
        last = min(size, int(center + reach + 0.5))
        distances = (np.arange(first, last) - center + 0.5) / scale
        inside = (distances > -0.5) & (distances <= 0.5)
        weights[cell, first:last] = np.floor(inside * (1 / inside.sum()) * _ONE + 0.5)
    return table(weights, device)


def _centers(cells: int, size: int) -> NDArray[np.int64]:
    """Return which cell the center of each pixel lies in, (size,), as Pillow's box filter does."""
    cell: NDArray[np.int64] = ((np.arange(size) + 0.5) * (cells / size)).astype(np.int64)
    return cell


def _nearest(cells: int, size: int) -> NDArray[np.int64]:
    """Return the same as Pillow's nearest neighbor does, which adds up step by step."""
    step = cells / size
    steps = np.full(size, step)
    steps[0] = step * 0.5
    cell: NDArray[np.int64] = np.cumsum(steps).astype(np.int64)
    return cell
