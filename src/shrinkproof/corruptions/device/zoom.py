"""Twin of zoom blur, and the zoom of layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from shrinkproof.corruptions.constants import ZOOM_BLUR
from shrinkproof.corruptions.device.exact import divided, levels, table, unit
from shrinkproof.corruptions.presets import constant
from shrinkproof.corruptions.zoom import zoom_factors


def zoom_blur(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images as seen while moving towards them."""
    del draws
    height, width = images.shape[1:3]
    factors = zoom_factors(*constant(ZOOM_BLUR, preset, severity))
    # The reference zooms in float64, but keeps the image, the layers and their sum in float32.
    sharp = unit(images).to(torch.float32).permute(0, 3, 1, 2).contiguous()
    exact = sharp.to(torch.float64)
    total = torch.zeros_like(sharp)
    for factor in factors:
        layer = zoomed(exact, factor, centered=preset != "imagecorruptions")
        total += layer[..., :height, :width].to(torch.float32)
    blurred = levels(divided(sharp.add_(total), len(factors) + 1))
    return blurred.permute(0, 2, 3, 1).contiguous()


def zoomed(values: Tensor, factor: float, *, centered: bool) -> Tensor:
    """Return the middle of images enlarged, (..., H, W) or more float64.

    Args:
        values: (..., H, W) float64.
        factor: at least 1.
        centered: cut the result around its center to the size of the images; otherwise it may be
            some pixels larger than they are.
    """
    down = _operator(values.shape[-2], factor, centered, values.device)
    across = _operator(values.shape[-1], factor, centered, values.device)
    return down @ values @ across.T


@functools.lru_cache(maxsize=128)
def _operator(size: int, factor: float, centered: bool, device: torch.device) -> Tensor:  # noqa: FBT001
    """Return the zoom of one axis as a matrix, (size or more, size) float64."""
    crop = math.ceil(size / factor)
    top = (size - crop) // 2
    enlarged = ndimage.zoom(np.eye(crop), (factor, 1), order=1)
    if centered:
        start = (len(enlarged) - size) // 2
        enlarged = enlarged[start : start + size]
    matrix = np.zeros((len(enlarged), size))
    matrix[:, top : top + crop] = enlarged
    return table(matrix, device)
