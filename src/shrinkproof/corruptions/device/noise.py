"""Twins of the noises."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from shrinkproof.corruptions.constants import (
    GAUSSIAN_NOISE,
    IMPULSE_NOISE,
    SHOT_NOISE,
    SPECKLE_NOISE,
)
from shrinkproof.corruptions.device.exact import levels, table, unit
from shrinkproof.corruptions.noise import shot_table
from shrinkproof.corruptions.presets import constant


def gaussian_noise(
    images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]
) -> Tensor:
    """Return the noisy images."""
    noise = draws["noise"].to(torch.float64) * constant(GAUSSIAN_NOISE, preset, severity)
    return levels(noise.add_(unit(images)))


def speckle_noise(
    images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]
) -> Tensor:
    """Return the images with noise in proportion to each value."""
    clean = unit(images)
    noise = draws["noise"].to(torch.float64) * constant(SPECKLE_NOISE, preset, severity)
    return levels(noise.mul_(clean).add_(clean))


def shot_noise(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images as counted photons."""
    counts = _shot_table(constant(SHOT_NOISE, preset, severity), images.device)
    cell = images.to(torch.int32).bitwise_left_shift_(16).add_(draws["uniform"].to(torch.int32))
    return counts[cell]


def impulse_noise(
    images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]
) -> Tensor:
    """Return the images with the hit values."""
    share = constant(IMPULSE_NOISE, preset, severity)
    uniform = draws["uniform"].to(torch.int64)
    hit = images.masked_fill(uniform < round(share * 2**32), 255)
    return hit.masked_fill_(uniform < round(share / 2 * 2**32), 0)


@functools.lru_cache(maxsize=8)
def _shot_table(photons: float, device: torch.device) -> Tensor:
    """Return the table of the numpy class as one line of 16 MiB."""
    return table(shot_table(photons).reshape(-1), device)
