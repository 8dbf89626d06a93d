"""Noise of the sensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.presets import GAUSSIAN_NOISE, constant
from shrinkproof.protocols import Draws
from shrinkproof.registry import component


@component
class GaussianNoise:
    """Normal noise on every pixel and channel, as in poor light.

    x + sigma * z on the scale 0 to 1, z standard normal and independent, clipped, then truncated
    (not rounded) to uint8, which darkens by half a level.

    Input: images (N, H, W, 3) uint8; draws ``noise`` (N, H, W, 3) float64, standard normal.
    Output: images (N, H, W, 3) uint8.
    Differences: none from the reference, given its draws.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "gaussian_noise"
    family: ClassVar[str] = "noise"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the standard normal noise of each image."""
        constant(GAUSSIAN_NOISE, preset, severity)
        noise = np.empty((len(streams), *shape, 3), dtype=np.float64)
        for image, generator in zip(noise, streams.each(), strict=True):
            generator.standard_normal(out=image)
        return {"noise": noise}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the noisy images."""
        noisy = draws["noise"] * constant(GAUSSIAN_NOISE, preset, severity)
        noisy += images / 255.0
        np.clip(noisy, 0, 1, out=noisy)
        noisy *= 255
        return noisy.astype(np.uint8)
