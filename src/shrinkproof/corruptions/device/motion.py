"""Twin of motion blur, and the streaks of snow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from shrinkproof.corruptions.constants import MOTION_BLUR
from shrinkproof.corruptions.device.exact import table
from shrinkproof.corruptions.motion import SIXTEEN_BIT
from shrinkproof.corruptions.presets import constant


def motion_blur(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images smeared along a ray."""
    radius, sigma = constant(MOTION_BLUR, preset, severity)
    cut = preset == "imagecorruptions"
    blurred = streak(images, radius, sigma, draws["angle"], cut=cut)
    if not cut:
        blurred += SIXTEEN_BIT
    return blurred.clamp_(0, 255).to(torch.uint8)


def streak(images: Tensor, radius: int, sigma: float, angles: Tensor, *, cut: bool) -> Tensor:
    """Return each image smeared along a ray of its own, (N, H, W, C) float64.

    See ``shrinkproof.corruptions.motion.streak``; here the sum runs in float64, tap by tap.

    Args:
        images: (N, H, W, C).
        radius: half the length of the ray, pixels.
        sigma: standard deviation of the Gaussian, pixels.
        angles: (N,) float64 in degrees, 0 is to the right, positive is downwards.
        cut: leave out all beyond the first tap that is as far off as the image is high or wide.
    """
    count, height, width, channels = images.shape
    weights, downs, rights = _taps(radius, sigma, angles)
    if cut:
        outside = (downs.abs() >= height) | (rights.abs() >= width)
        weights = weights.masked_fill(outside.cumsum(1) > 0, 0.0)
    flat = images.reshape(count, height * width, channels)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    total = torch.zeros(flat.shape, dtype=torch.float64, device=images.device)
    for tap in range(weights.shape[1]):
        y = (rows + downs[:, tap, None]).clamp_(0, height - 1)
        x = (columns + rights[:, tap, None]).clamp_(0, width - 1)
        source = (y[:, :, None] * width + x[:, None, :]).reshape(count, -1, 1)
        shifted = flat.gather(1, source.expand(-1, -1, channels)).to(torch.float64)
        total += shifted.mul_(weights[:, tap, None, None])
    return total.reshape(images.shape)


def _taps(radius: int, sigma: float, angles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, and how far down and right each is, (N, 2 * radius + 1) each."""
    length = 2 * radius + 1
    # The factor in front changes how the shares round, and with it areas of one color.
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    shares = table(weights / weights.sum(), angles.device)
    turn = torch.deg2rad(angles)[:, None]
    down, right = length * turn.sin(), length * turn.cos()
    distance = torch.hypot(down, right)
    steps = torch.arange(length, device=angles.device)
    return (
        shares.repeat(len(angles), 1),
        (steps * down / distance - 0.5).ceil().to(torch.int64),
        (steps * right / distance - 0.5).ceil().to(torch.int64),
    )
