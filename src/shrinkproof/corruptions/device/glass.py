"""Twin of glass blur."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from shrinkproof.corruptions.constants import GLASS_BLUR
from shrinkproof.corruptions.device.blur import gaussian
from shrinkproof.corruptions.device.exact import levels, table, unit
from shrinkproof.corruptions.presets import constant


def glass_blur(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images as through frosted glass."""
    sigma, reach, passes = constant(GLASS_BLUR, preset, severity)
    count, height, width, channels = images.shape
    blurred = levels(gaussian(unit(images), sigma)).reshape(count, height * width, channels)
    for k in range(passes):
        source = _source(draws["shift"][:, k], (height, width), reach)
        blurred = blurred.gather(1, source[..., None].expand(-1, -1, channels))
    return levels(gaussian(unit(blurred.reshape(images.shape)), sigma))


def _source(shift: Tensor, shape: tuple[int, int], reach: int) -> Tensor:
    """Return from which pixel each pixel comes after one pass, (N, H * W) int64.

    A scanned pixel takes the present value of its partner: the partner's own source if the scan
    has been there, else the partner's first value. Following these links in steps of doubling
    length ends when every link points to a first value.
    """
    scan, turn = _scan(shape, reach, shift.device)
    cells = shape[0] * shape[1]
    dx, dy = shift.to(torch.int64).unbind(-1)
    partner = scan + dy * shape[1] + dx
    done = turn[partner] < turn[scan]
    first_values = torch.arange(cells, 2 * cells, device=shift.device)
    links = first_values.repeat(len(shift), 2)
    links[:, scan] = torch.where(done, partner, partner + cells)
    if reach == 1:
        return links[:, :cells] - cells
    now = links[:, :cells]
    while True:
        after = links.gather(1, now)
        if torch.equal(after, now):
            return now - cells
        now.copy_(after)


@functools.lru_cache(maxsize=16)
def _scan(shape: tuple[int, int], reach: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the scanned pixels in order, (K,), and the turn of every pixel, (H * W,)."""
    height, width = shape
    rows = np.arange(height - reach, reach, -1)
    columns = np.arange(width - reach, reach, -1)
    scan = (rows[:, None] * width + columns).ravel()
    turn = np.full(height * width, len(scan), dtype=np.int64)
    turn[scan] = np.arange(len(scan))
    return table(scan, device), table(turn, device)
