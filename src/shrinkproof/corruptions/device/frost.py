"""Twin of frost."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shrinkproof.corruptions.constants import FROST
from shrinkproof.corruptions.device.exact import table
from shrinkproof.corruptions.frost import Layers, layers_of, scaled_layer
from shrinkproof.corruptions.presets import constant


def frost(
    images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor], *, photos: str = ""
) -> Tensor:
    """Return the images behind frost.

    Args:
        images: (N, H, W, 3) uint8.
        severity: 1 to 5.
        preset: whose constants to use.
        draws: as in the numpy class.
        photos: folder with the original photos; empty for the procedural layers.
    """
    clear, cover = constant(FROST, preset, severity)
    height, width = shape = (images.shape[1], images.shape[2])
    layers = _layers(layers_of(photos), shape, preset, images.device)
    photo = draws["photo"]
    corner = (draws["corner"] * layers.room[photo]).to(torch.int64)
    rows = corner[:, :1] + torch.arange(height, device=images.device)
    columns = corner[:, 1:] + torch.arange(width, device=images.device)
    first = layers.start[photo, None] + rows * layers.width[photo, None]
    pieces = layers.pixels[first[:, :, None] + columns[:, None, :]]
    mixed = images.to(torch.float64).mul_(clear).add_(pieces.to(torch.float64).mul_(cover))
    return mixed.clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The five scaled layers in one line of pixels.

    Attributes:
        pixels: (P, 3) uint8, layer after layer, row after row.
        start: (5,) int64, where each layer begins.
        width: (5,) int64, pixels per row.
        room: (5, 2) float64, by how many rows and columns a layer exceeds the image.
    """

    pixels: Tensor
    start: Tensor
    width: Tensor
    room: Tensor


@functools.lru_cache(maxsize=8)
def _layers(frost: Layers, shape: tuple[int, int], preset: str, device: torch.device) -> _Sheet:
    scaled = [scaled_layer(frost, n, shape, preset) for n in range(len(frost.layers))]
    sizes = np.array([layer.shape[:2] for layer in scaled])
    ends = np.cumsum(sizes.prod(axis=1))
    return _Sheet(
        table(np.concatenate([layer.reshape(-1, 3) for layer in scaled]), device),
        table(ends - sizes.prod(axis=1), device),
        table(sizes[:, 1], device),
        table((sizes - shape).astype(np.float64), device),
    )
