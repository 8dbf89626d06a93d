"""Twin of fog."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from shrinkproof.corruptions.constants import FOG
from shrinkproof.corruptions.device.exact import levels, unit
from shrinkproof.corruptions.presets import constant


def fog(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images in fog."""
    strength, decay = constant(FOG, preset, severity)
    height, width = images.shape[1:3]
    layer = plasma(draws["uniform"], decay)[:, :height, :width, None]
    foggy = unit(images)
    largest = foggy.amax(dim=(1, 2, 3), keepdim=True)
    foggy += strength * layer
    foggy *= largest
    foggy /= largest + strength
    return levels(foggy)


def plasma(uniform: Tensor, decay: float) -> Tensor:
    """Return plasma fractals in [0, 1], (N, M, M) float64, as `shrinkproof.corruptions.fog` does.

    Args:
        uniform: numbers in [0, 1), (N, M * M - 1) float64, M a power of two.
        decay: divisor of the roughness per step.
    """
    count, cells = uniform.shape
    side = round((cells + 1) ** 0.5)
    maps = torch.zeros((count, side, side), dtype=torch.float64, device=uniform.device)
    step, roughness, used = side, 100.0, 0
    while step >= 2:
        half, per_map = step // 2, side // step
        noise = uniform[:, used : used + 3 * per_map**2].reshape(count, 3, per_map, per_map)
        noise = (noise * (2 * roughness)).sub_(roughness).mul_(roughness)
        used += 3 * per_map**2

        corners = maps[:, ::step, ::step]
        sums = corners + corners.roll(-1, 1)
        sums = sums + sums.roll(-1, 2)
        maps[:, half::step, half::step] = sums.div_(4).add_(noise[:, 0])

        centers = maps[:, half::step, half::step]
        across = (centers + centers.roll(1, 1)).add_(corners + corners.roll(-1, 2))
        down = (centers + centers.roll(1, 2)).add_(corners + corners.roll(-1, 1))
        maps[:, ::step, half::step] = across.div_(4).add_(noise[:, 1])
        maps[:, half::step, ::step] = down.div_(4).add_(noise[:, 2])

        step, roughness = half, roughness / decay
    maps -= maps.amin(dim=(1, 2), keepdim=True)
    maps /= maps.amax(dim=(1, 2), keepdim=True)
    return maps
