"""Twin of spatter where it is mud; water stays on the host."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from shrinkproof.corruptions.constants import SPATTER
from shrinkproof.corruptions.device.blur import gaussian
from shrinkproof.corruptions.device.exact import levels, unit
from shrinkproof.corruptions.presets import constant

_MUD = (63 / 255, 42 / 255, 20 / 255)
_THIN = 0.8
"""Cover below which there is no mud."""


def is_mud(severity: int, preset: str) -> bool:
    """Return whether the spatter of a severity is mud, not water."""
    return constant(SPATTER, preset, severity)[5] == 1


def mud(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images spattered with mud; the severity must be one of mud."""
    loc, scale, sigma, threshold, blur, _ = constant(SPATTER, preset, severity)
    layer = (draws["layer"].to(torch.float64) * scale).add_(loc)[..., None]
    wet = gaussian(layer, sigma) > threshold
    # Cover and image are float32 in the reference, the color is float64.
    cover = gaussian(wet.to(torch.float32), blur)
    cover = cover.masked_fill_(cover < _THIN, 0.0)
    clear = unit(images).to(torch.float32).mul_(1 - cover).to(torch.float64)
    color = torch.tensor(_MUD, dtype=torch.float64, device=images.device)
    return levels(clear.add_(cover.to(torch.float64) * color))
