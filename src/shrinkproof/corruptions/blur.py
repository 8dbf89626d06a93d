"""Blur of the optics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.drawless import Drawless
from shrinkproof.corruptions.presets import DEFOCUS_BLUR, constant
from shrinkproof.registry import component


@component
class DefocusBlur(Drawless):
    """Blur by a smoothed disk, as of a lens out of focus.

    Each channel is correlated with `disk_kernel`, borders reflected without repeating the edge,
    on the scale 0 to 1, clipped, then truncated to uint8.

    Input: images (N, H, W, 3) uint8; no draws.
    Output: images (N, H, W, 3) uint8.
    Differences: bit-equal to outputs of the reference at 32 and 224 pixels.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "defocus_blur"
    family: ClassVar[str] = "blur"
    version: ClassVar[int] = 1

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the blurred images."""
        del draws
        kernel = disk_kernel(*constant(DEFOCUS_BLUR, preset, severity))
        sharp = np.ascontiguousarray(images) / 255.0
        blurred = np.empty_like(sharp)
        for source, result in zip(sharp, blurred, strict=True):
            cv2.filter2D(source, -1, kernel, dst=result)
        np.clip(blurred, 0, 1, out=blurred)
        blurred *= 255
        return blurred.astype(np.uint8)


def disk_kernel(radius: float, smoothing: float) -> NDArray[np.float32]:
    """Return the normalized disk, smoothed against aliasing, (K, K) float32, K odd.

    The disk is drawn on a 17 x 17 grid (radius up to 8) or on one of 2 * radius + 1 and smoothed
    by a 3 x 3 or 5 x 5 Gaussian. Two quirks of the reference are kept: a radius below 1 leaves a
    single pixel, and a disk that touches the edge of its grid sums to 1.01 instead of 1, because
    the smoothing reflects there. The empty rim is cut off, which changes no pixel.

    Args:
        radius: radius of the disk in pixels.
        smoothing: standard deviation of the Gaussian in pixels.
    """
    half, size = (8, (3, 3)) if radius <= 8 else (int(radius), (5, 5))
    steps = np.arange(-half, half + 1)
    inside = steps[:, None] ** 2 + steps[None, :] ** 2 <= radius**2
    disk = inside.astype(np.float32)
    disk /= disk.sum()
    kernel = cv2.GaussianBlur(disk, ksize=size, sigmaX=smoothing)
    reach = int(np.abs(np.argwhere(kernel) - half).max())
    cut = slice(half - reach, half + reach + 1)
    return np.ascontiguousarray(kernel[cut, cut], dtype=np.float32)
