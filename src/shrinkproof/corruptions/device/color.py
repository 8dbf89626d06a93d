"""Twins of what light and the sensor's curve do to color."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from shrinkproof.corruptions.constants import BRIGHTNESS, CONTRAST, SATURATE
from shrinkproof.corruptions.device.exact import divided, levels, unit
from shrinkproof.corruptions.presets import constant


def brightness(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images with more light."""
    del draws
    hue, saturation, value = _hsv(unit(images))
    value = (value + constant(BRIGHTNESS, preset, severity)).clamp_(0, 1)
    return levels(_rgb(hue, saturation, value))


def saturate(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images with other saturation."""
    del draws
    factor, offset = constant(SATURATE, preset, severity)
    hue, saturation, value = _hsv(unit(images))
    saturation = saturation.mul_(factor).add_(offset).clamp_(0, 1)
    return levels(_rgb(hue, saturation, value))


def contrast(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the flattened images."""
    del draws
    factor = constant(CONTRAST, preset, severity)
    sums = images.sum(dim=(1, 2), keepdim=True, dtype=torch.int64).to(torch.float64)
    mean = divided(divided(sums, images.shape[1] * images.shape[2]), 255.0)
    return levels((unit(images) - mean).mul_(factor).add_(mean))


def _hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    red, green, blue = rgb.unbind(-1)
    value = rgb.amax(-1)
    spread = value - rgb.amin(-1)
    gray = spread == 0
    zero = torch.zeros_like(value)
    saturation = torch.where(gray, zero, spread / value)
    hue = torch.where(red == value, (green - blue) / spread, zero)
    hue = torch.where(green == value, (blue - red).div_(spread).add_(2), hue)
    hue = torch.where(blue == value, (red - green).div_(spread).add_(4), hue)
    hue = torch.where(gray, zero, torch.remainder(divided(hue, 6.0), 1.0))
    return hue, saturation, value


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    scaled = hue * 6
    sector = scaled.floor()
    rest = scaled.sub_(sector)
    low = (1 - saturation).mul_(value)
    falling = (1 - rest * saturation).mul_(value)
    rising = (1 - (1 - rest).mul_(saturation)).mul_(value)
    choices = torch.stack((value, falling, low, rising), dim=-1)
    order = torch.tensor(
        [[0, 3, 2], [1, 0, 2], [2, 0, 3], [2, 1, 0], [3, 2, 0], [0, 2, 1]], device=hue.device
    )
    return choices.gather(-1, order[sector.to(torch.int64).remainder_(6)])
