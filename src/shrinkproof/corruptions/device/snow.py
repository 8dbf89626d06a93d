"""Twin of snow."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from shrinkproof.corruptions.constants import SNOW
from shrinkproof.corruptions.device.exact import levels, unit
from shrinkproof.corruptions.device.motion import streak
from shrinkproof.corruptions.device.zoom import zoomed
from shrinkproof.corruptions.motion import SIXTEEN_BIT
from shrinkproof.corruptions.presets import constant


def snow(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images behind streaks of snow."""
    loc, scale, zoom, threshold, radius, sigma, mix = constant(SNOW, preset, severity)
    published = preset != "imagecorruptions"
    layer = (draws["layer"].to(torch.float64) * scale).add_(loc)
    layer = zoomed(layer, zoom, centered=published)
    layer = layer.masked_fill_(layer < threshold, 0.0).clamp_(0, 1)
    # The reference carries the layer through 8-bit files, imagecorruptions rounds it at the end.
    flakes = (layer.mul_(255).to(torch.uint8) if published else layer)[..., None]
    flakes = streak(flakes, radius, sigma, draws["angle"], cut=not published)
    flakes = (flakes.add_(SIXTEEN_BIT) if published else flakes.mul_(255).round_()).to(torch.uint8)
    flakes = unit(flakes[:, : images.shape[1], : images.shape[2]])

    # The image stays in float32 until the layer comes on it.
    clear = unit(images).to(torch.float32)
    red, green, blue = clear.split(1, dim=-1)
    gray = (red * 0.299).add_(green * 0.587).add_(blue * 0.114)
    white = torch.maximum(clear, gray.mul_(1.5).add_(0.5))
    whitened = (clear * mix).add_(white.mul_(1 - mix)).to(torch.float64)
    return levels(whitened.add_(flakes).add_(flakes.flip(1, 2)))
