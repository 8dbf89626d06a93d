"""Blur of the optics."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import DEFOCUS_BLUR, GAUSSIAN_BLUR
from shrinkproof.corruptions.drawless import Drawless
from shrinkproof.corruptions.gaussian import gaussian_kernel
from shrinkproof.corruptions.presets import constant
from shrinkproof.registry import component


@component
class DefocusBlur(Drawless):
    """Blur by a smoothed disk, as of a lens out of focus.

    Each channel is correlated with `disk_kernel`, borders reflected without repeating the edge,
    on the scale 0 to 1, clipped, then truncated to uint8.

    Input: images (N, H, W, 3) uint8; no draws.
    Output: images (N, H, W, 3) uint8.
    Differences: float64 sums on the scale 0 to 255; bit-equal to outputs of the reference at 32
        and 224 pixels.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "defocus_blur"
    family: ClassVar[str] = "blur"
    version: ClassVar[int] = 2

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
        images = np.ascontiguousarray(images)
        result = np.empty_like(images)
        blurred = np.empty(images.shape[1:], dtype=np.float64)
        for source, target in zip(images, result, strict=True):
            cv2.filter2D(source, cv2.CV_64F, kernel, dst=blurred)
            # The Fourier transform behind large kernels can leave -1e-13 on black.
            np.clip(blurred, 0, 255, out=blurred)
            np.copyto(target, blurred, casting="unsafe")
        return result


@component
class GaussianBlur(Drawless):
    """Blur by a Gaussian, as of a soft lens.

    Each channel is smoothed by a Gaussian cut at 4 standard deviations, borders repeated, on the
    scale 0 to 1, clipped, then truncated to uint8.

    Input: images (N, H, W, 3) uint8; no draws.
    Output: images (N, H, W, 3) uint8.
    Differences: the order of the float64 sums. A plain area, where the reference may lose a level
        to the rounding of its sums, loses the same; elsewhere a sum within 1e-14 of a whole level
        may fall on the other side. Bit-equal to outputs of the reference at 32 and 224 pixels.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "gaussian_blur"
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
        images = np.ascontiguousarray(images)
        result = np.empty_like(images)
        blur = SmoothedLevels(constant(GAUSSIAN_BLUR, preset, severity), images.shape[1:3])
        for source, target in zip(images, result, strict=True):
            blur(source, target)
        return result


class SmoothedLevels:
    """The Gaussian blur of uint8 images, truncated to uint8 again, one image at a time.

    Args:
        sigma: standard deviation in pixels, not negative.
        shape: (H, W) of the images.
    """

    def __init__(self, sigma: float, shape: tuple[int, int]) -> None:
        self._weights = gaussian_kernel(sigma)
        self._levels, self._plain = _levels(sigma)
        self._sharp = np.empty((*shape, 3), dtype=np.float64)
        self._blurred = np.empty_like(self._sharp)

    def __call__(self, source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        """Write the blurred (H, W, 3) ``source`` into ``target``, which may be the same array."""
        if len(self._weights) == 1:
            cv2.LUT(source, self._plain, dst=target)
            return
        cv2.LUT(source, self._levels, dst=self._sharp)
        cv2.sepFilter2D(
            self._sharp,
            -1,
            self._weights,
            self._weights,
            dst=self._blurred,
            borderType=cv2.BORDER_REPLICATE,
        )
        np.copyto(target, self._blurred, casting="unsafe")


@functools.lru_cache(maxsize=64)
def _levels(sigma: float) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return what stands for each level before the blur, and the level that a plain area gets.

    The weights sum to 1 only up to rounding, so in the reference a plain area may come out one
    level darker. Its sum, center first, then pairs of neighbors from the outside in, is repeated
    here once per level. Moving the level by 1 in 10**14 then makes a sum of any order fall on the
    same side of the whole number.
    """
    weights = gaussian_kernel(sigma)
    reach = len(weights) // 2
    values = np.arange(256) / 255.0
    for _ in ("rows", "columns"):
        total = values * weights[reach]
        for weight in weights[:reach]:
            total += (values + values) * weight
        values = total
    plain = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    levels = np.arange(256, dtype=np.float64)
    levels *= np.where(plain == levels, 1 + 1e-14, 1 - 1e-14)
    return levels, plain


@functools.lru_cache(maxsize=64)
def disk_kernel(radius: float, smoothing: float) -> NDArray[np.float32]:
    """Return the normalized disk, smoothed against aliasing, (K, K) float32, K odd, read-only.

    The disk is drawn on a 17 x 17 grid (radius up to 8) or on one of 2 * radius + 1 and smoothed
    by a 3 x 3 or 5 x 5 Gaussian. Two quirks of the reference are kept: a radius below 1 leaves a
    single pixel, and a disk that touches the edge of its grid sums to 1.013 instead of 1, because
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
    smooth = cv2.GaussianBlur(disk, ksize=size, sigmaX=smoothing)
    reach = int(np.abs(np.argwhere(smooth) - half).max())
    cut = slice(half - reach, half + reach + 1)
    kernel = np.ascontiguousarray(smooth[cut, cut], dtype=np.float32)
    kernel.flags.writeable = False
    return kernel
