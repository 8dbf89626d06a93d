"""Weather between the camera and the scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.presets import FOG, FOG_MAP, constant
from shrinkproof.protocols import Draws
from shrinkproof.registry import component


@component
class Fog:
    """A layer of plasma fractal over the image, as of fog or haze.

    (x + s * p) * m / (m + s) on the scale 0 to 1 with strength s, plasma p in [0, 1], one value
    for all channels, and m the largest value of the image; clipped, then truncated to uint8.

    The plasma is drawn on a map of the preset's size; for a larger image, on the next power of
    two that covers it. The image takes the upper left corner of the map.

    Input: images (N, H, W, 3) uint8; draws ``uniform`` (N, M * M - 1) float64 in [0, 1), M the
        side of the map.
    Output: images (N, H, W, 3) uint8. An all-black image stays black.
    Differences: none from the reference, given its draws, where the image fits the preset's map;
        the reference knows no larger images.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "fog"
    family: ClassVar[str] = "weather"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the uniform numbers behind each image's plasma."""
        constant(FOG, preset, severity)
        side = FOG_MAP[preset]
        while side < max(shape):
            side *= 2
        uniform = np.empty((len(streams), side * side - 1), dtype=np.float64)
        for row, generator in zip(uniform, streams.each(), strict=True):
            generator.random(out=row)
        return {"uniform": uniform}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images in fog."""
        strength, decay = constant(FOG, preset, severity)
        height, width = images.shape[1:3]
        layer = plasma(draws["uniform"], decay)[:, :height, :width, None]
        largest = images.max(axis=(1, 2, 3), keepdims=True) / 255.0
        foggy = images / 255.0
        foggy += strength * layer
        foggy *= largest
        foggy /= largest + strength
        np.clip(foggy, 0, 1, out=foggy)
        foggy *= 255
        return foggy.astype(np.uint8)


def plasma(uniform: NDArray[np.float64], decay: float) -> NDArray[np.float64]:
    """Return plasma fractals in [0, 1] by the diamond-square algorithm, (N, M, M) float64.

    1. Start from one corner at 0 on a map that wraps around, and a roughness of 100.
    2. Squares: the center of each square is the mean of its corners plus noise.
    3. Diamonds: the middle of each edge is the mean of its four neighbors plus noise.
    4. Halve the step, divide the roughness by ``decay``, repeat from 2 until every cell is set.
    5. Shift and scale each map to [0, 1].

    The noise is roughness * U(-roughness, roughness): its amplitude falls with the square of the
    roughness. This is the reference's own rule, kept because it makes the look of the fog.

    Args:
        uniform: numbers in [0, 1), (N, M * M - 1), M a power of two, in the order of use:
            squares, diamonds on horizontal edges, diamonds on vertical edges, per step.
        decay: divisor of the roughness per step.
    """
    count, cells = uniform.shape
    side = round((cells + 1) ** 0.5)
    maps = np.zeros((count, side, side), dtype=np.float64)
    step, roughness, used = side, 100.0, 0
    while step >= 2:
        half, per_map = step // 2, side // step
        noise = uniform[:, used : used + 3 * per_map**2].reshape(count, 3, per_map, per_map)
        noise = roughness * (-roughness + 2 * roughness * noise)
        used += 3 * per_map**2

        corners = maps[:, ::step, ::step]
        sums = corners + np.roll(corners, -1, axis=1)
        sums += np.roll(sums, -1, axis=2)
        maps[:, half::step, half::step] = sums / 4 + noise[:, 0]

        centers = maps[:, half::step, half::step]
        across = (centers + np.roll(centers, 1, axis=1)) + (corners + np.roll(corners, -1, axis=2))
        down = (centers + np.roll(centers, 1, axis=2)) + (corners + np.roll(corners, -1, axis=1))
        maps[:, ::step, half::step] = across / 4 + noise[:, 1]
        maps[:, half::step, ::step] = down / 4 + noise[:, 2]

        step, roughness = half, roughness / decay
    maps -= maps.min(axis=(1, 2), keepdims=True)
    maps /= maps.max(axis=(1, 2), keepdims=True)
    return maps
