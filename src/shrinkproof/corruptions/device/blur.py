"""Twins of the blurs that are one fixed kernel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from shrinkproof.corruptions.blur import disk_kernel
from shrinkproof.corruptions.constants import DEFOCUS_BLUR, GAUSSIAN_BLUR
from shrinkproof.corruptions.device.exact import levels, picked, table, unit
from shrinkproof.corruptions.gaussian import gaussian_kernel
from shrinkproof.corruptions.presets import constant

_DIRECT = 5
"""Up to this width a kernel is applied tap by tap, a wider one by Fourier transform."""


def defocus_blur(images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]) -> Tensor:
    """Return the images out of focus."""
    del draws
    kernel = disk_kernel(*constant(DEFOCUS_BLUR, preset, severity)).astype(np.float64)
    sharp = unit(images)
    blurred = _by_taps(sharp, kernel) if len(kernel) <= _DIRECT else _by_fourier(sharp, kernel)
    return levels(blurred)


def gaussian_blur(
    images: Tensor, severity: int, preset: str, draws: Mapping[str, Tensor]
) -> Tensor:
    """Return the images blurred by a Gaussian."""
    del draws
    return levels(gaussian(unit(images), constant(GAUSSIAN_BLUR, preset, severity)))


def gaussian(values: Tensor, sigma: float) -> Tensor:
    """Return values smoothed along height and width, edge repeated, same shape and type.

    The sums run in float64 and in the order of ``scipy.ndimage``, and float32 is rounded after
    each axis as there, so the result is bit-equal.

    Args:
        values: (N, H, W, C) float64 or float32.
        sigma: standard deviation in pixels; the kernel is cut at 4 of them.
    """
    weights = gaussian_kernel(sigma).tolist()
    for dim in (1, 2):
        values = _correlated(values.to(torch.float64), weights, dim).to(values.dtype)
    return values


def _correlated(values: Tensor, weights: list[float], dim: int) -> Tensor:
    reach = len(weights) // 2
    size = values.shape[dim]
    padded = picked(values, dim, np.clip(np.arange(-reach, size + reach), 0, size - 1))
    total = values * weights[reach]
    for k in range(reach):
        pair = padded.narrow(dim, k, size) + padded.narrow(dim, 2 * reach - k, size)
        total += pair.mul_(weights[k])
    return total


def _mirrored(values: Tensor, reach: int) -> Tensor:
    for dim in (1, 2):
        index = np.pad(np.arange(values.shape[dim]), reach, mode="reflect")
        values = picked(values, dim, index)
    return values


def _by_taps(sharp: Tensor, kernel: NDArray[np.float64]) -> Tensor:
    height, width = sharp.shape[1:3]
    padded = _mirrored(sharp, len(kernel) // 2)
    total = torch.zeros_like(sharp)
    for y, x in np.argwhere(kernel).tolist():
        total += padded[:, y : y + height, x : x + width] * float(kernel[y, x])
    return total


def _by_fourier(sharp: Tensor, kernel: NDArray[np.float64]) -> Tensor:
    height, width = sharp.shape[1:3]
    padded = _mirrored(sharp, len(kernel) // 2).permute(0, 3, 1, 2)
    size = (next_fast_len(padded.shape[2], real=True), next_fast_len(padded.shape[3], real=True))
    gains = torch.fft.rfft2(table(kernel, sharp.device), s=size).conj()
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(padded, s=size) * gains, s=size)
    return blurred[:, :, :height, :width].permute(0, 2, 3, 1).contiguous()
