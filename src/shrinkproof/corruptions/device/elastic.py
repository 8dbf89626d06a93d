"""Twin of elastic transform."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from shrinkproof.corruptions.device.exact import levels, table, unit
from shrinkproof.corruptions.elastic import displacement_rule
from shrinkproof.corruptions.gaussian import operator


def elastic_transform(
    images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]
) -> Tensor:
    """Return the bent images."""
    height, width = shape = (images.shape[1], images.shape[2])
    alpha, sigma, jitter = displacement_rule(severity, preset, shape)
    # The reference keeps images and shifts as float32 and interpolates in float64.
    sheet = unit(images).to(torch.float32).to(torch.float64)
    if jitter:
        sheet = _warped(sheet, draws["jitter"] * jitter)
    if alpha:
        shift = _smoothed(draws["field"].to(torch.float64), sigma).mul_(alpha)
        across, down = shift.to(torch.float32).to(torch.float64).unbind(1)
        rows, columns = _grid(height, width, images.device)
        sheet = _sampled(sheet, rows + down, columns + across, _mirrored_with_edge)
    return levels(sheet.to(torch.float32))


def _smoothed(field: Tensor, sigma: tuple[float, float]) -> Tensor:
    height, width = field.shape[-2:]
    down = _smoothing(height, sigma[0], field.device)
    across = _smoothing(width, sigma[1], field.device)
    return down @ field @ across.T


@functools.lru_cache(maxsize=32)
def _smoothing(size: int, sigma: float, device: torch.device) -> Tensor:
    return table(operator(size, sigma, 3.0, "reflect"), device)


def _warped(sheet: Tensor, moves: Tensor) -> Tensor:
    """Return images under the affine maps that move three points, same shape and type.

    Args:
        sheet: (N, H, W, C) float64.
        moves: (N, 3, 2), by how many pixels (x, y) each point moves.
    """
    height, width = sheet.shape[1:3]
    points, inverse = _points(height, width, sheet.device)
    moved = (points + moves.to(torch.float32)).to(torch.float64)
    # (x', y') = (x, y, 1) @ affine, and the way back from (x', y').
    affine = inverse @ moved
    (a, b), (c, d), (right, down) = (row.unbind(1) for row in affine[..., None, None].unbind(1))
    area = a * d - b * c
    rows, columns = _grid(height, width, sheet.device)
    x, y = columns - right, rows - down
    x, y = (d * x - c * y) / area, (a * y - b * x) / area
    return _sampled(sheet, y, x, _mirrored).to(torch.float32).to(torch.float64)


@functools.lru_cache(maxsize=16)
def _points(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the three points (x, y), (3, 2) float32, and the inverse of their (x, y, 1)."""
    # Rows and columns take each other's place here, which is the reference's own quirk.
    center = np.array([height // 2, width // 2], dtype=np.float32)
    reach = np.float32(min(height, width) // 3)
    points = np.stack((center + reach, center + np.array([reach, -reach]), center - reach))
    inverse = np.linalg.inv(np.column_stack((points, np.ones(3))).astype(np.float64))
    return table(points.astype(np.float32), device), table(inverse, device)


@functools.lru_cache(maxsize=16)
def _grid(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64)
    return table(rows[:, None], device), table(columns[None, :], device)


def _sampled(
    sheet: Tensor, rows: Tensor, columns: Tensor, border: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Return images at points between their pixels, bilinear, (N, H, W, C) float64."""
    count, height, width, channels = sheet.shape
    flat = sheet.flatten(1, 2)
    first_row, first_column = rows.floor(), columns.floor()
    down, across = rows - first_row, columns - first_column
    result = torch.zeros_like(flat)
    for step_down, row_weight in ((0, 1 - down), (1, down)):
        line = border(first_row.to(torch.int64) + step_down, height) * width
        for step_across, column_weight in ((0, 1 - across), (1, across)):
            cell = line + border(first_column.to(torch.int64) + step_across, width)
            corner = flat.gather(1, cell.reshape(count, -1, 1).expand(-1, -1, channels))
            result += corner.mul_((row_weight * column_weight).reshape(count, -1, 1))
    return result.reshape(sheet.shape)


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Return indices reflected at the outermost pixels, which are not repeated."""
    index = index.remainder(2 * size - 2)
    return torch.where(index < size, index, 2 * size - 2 - index)


def _mirrored_with_edge(index: Tensor, size: int) -> Tensor:
    """Return indices reflected at the edges, so that the outermost pixels are repeated."""
    index = index.remainder(2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)
