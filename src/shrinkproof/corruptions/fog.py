"""Weather between the camera and the scene."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import FOG, FOG_MAP
from shrinkproof.corruptions.draws import bits, unit
from shrinkproof.corruptions.presets import constant
from shrinkproof.protocols import Draws
from shrinkproof.registry import component

_BLOCK: Final = 2**15
"""Values mixed at once: as float64 they stay in the processor's second cache."""


@component
class Fog:
    """A layer of plasma fractal over the image, as of fog or haze.

    (x + s * p) * m / (m + s) on the scale 0 to 1 with strength s, plasma p in [0, 1], one value
    for all channels, and m the largest value of the image; truncated to uint8.

    The plasma is drawn on a map of the preset's size; for a larger image, on the next power of
    two that covers it, as the preset ``imagecorruptions`` does for every size. The image takes the
    upper left corner of the map.

    Input: images (N, H, W, 3) uint8; draws ``uniform`` (N, M * M - 1) float64 in [0, 1), M the
        side of the map.
    Output: images (N, H, W, 3) uint8. An all-black image stays black.
    Differences: none from the reference, given its draws, where the image fits the preset's map,
        but for the last bits of float64; the reference knows no larger images. Our own draws are
        multiples of 2**-32.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261; Michaelis et al. 2019,
        arXiv:1907.07484.
    """

    name: ClassVar[str] = "fog"
    family: ClassVar[str] = "weather"
    version: ClassVar[int] = 2

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the uniform numbers behind each image's plasma."""
        constant(FOG, preset, severity)
        side = FOG_MAP[preset]
        while side < max(shape):
            side *= 2
        return {"uniform": unit(bits(streams, uniform=(np.uint32, (side * side - 1,)))["uniform"])}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images in fog."""
        strength, decay = constant(FOG, preset, severity)
        count, height, width, channels = images.shape
        layer = np.ascontiguousarray(plasma(draws["uniform"], decay)[:, :height, :width])
        flat = images.reshape(count, height * width * channels)
        largest = flat.max(axis=1, initial=0) / 255.0
        damping = (largest / (largest + strength))[:, None]
        result = np.empty_like(images)
        for block in _blocks(images.shape):
            part = images[block]
            foggy = part.reshape(len(part), -1).astype(np.float64)
            foggy *= damping[block[0]]
            fog = layer[block].reshape(len(part), -1) * (255 * strength * damping[block[0]])
            for channel in range(3):
                foggy.reshape(-1, 3)[:, channel] += fog.reshape(-1)
            result[block] = foggy.reshape(part.shape)
        # Where the plasma is 0 or 1 the result may be a whole number, so that its last bit
        # decides: there the operations come in the order of the reference.
        at = np.flatnonzero((layer == 0) | (layer == 1))
        top = largest[at // (height * width), None]
        values = images.reshape(-1, 3)[at] / 255.0 + strength * layer.reshape(-1, 1)[at]
        result.reshape(-1, 3)[at] = np.clip(values * top / (top + strength), 0, 1) * 255
        return result


def plasma(uniform: NDArray[np.float64], decay: float) -> NDArray[np.float64]:
    """Return plasma fractals in [0, 1] by the diamond-square algorithm, (N, M, M) float64.

    1. Start from one corner at 0 on a map that wraps around, and a roughness of 100.
    2. Squares: the center of each square is the mean of its corners plus noise.
    3. Diamonds: the middle of each edge is the mean of its four neighbors plus noise.
    4. Halve the step, divide the roughness by ``decay``, repeat from 2 until every cell is set.
    5. Shift and scale each map to [0, 1].

    The noise is roughness * U(-roughness, roughness): its amplitude falls with the square of the
    roughness. This is the reference's own rule, kept because it makes the look of the fog. As the
    last step undoes any scale, each round here counts in units of its own noise, U(-1/2, 1/2).

    Args:
        uniform: numbers in [0, 1), (N, M * M - 1), M a power of two, in the order of use:
            squares, diamonds on horizontal edges, diamonds on vertical edges, per step.
        decay: divisor of the roughness per step.
    """
    count, cells = uniform.shape
    # The images come last: every other axis can then be shifted in long, contiguous runs.
    noise = np.empty((cells, count), dtype=np.float64)
    np.subtract(uniform.T, 0.5, out=noise)
    corners = np.zeros((1, 1, count), dtype=np.float64)
    used = 0
    while used < cells:
        size = len(corners)
        squares, right, below = noise[used : used + 3 * size**2].reshape(3, size, size, count)
        used += 3 * size**2
        finer = np.empty((2 * size, 2 * size, count), dtype=np.float64)
        finer[::2, ::2] = corners
        corners *= 0.25
        rows = _plus_next_row(corners)
        centers = _plus_next_column(rows)
        centers += squares
        finer[1::2, 1::2] = centers
        centers *= 0.25
        across = _plus_previous_row(centers)
        across += _plus_next_column(corners)
        across += right
        finer[::2, 1::2] = across
        down = _plus_previous_column(centers)
        down += rows
        down += below
        finer[1::2, ::2] = down
        corners = finer
        if used < cells:
            corners *= decay**2
    maps = corners.reshape(cells + 1, count)
    maps -= maps.min(axis=0)
    maps /= maps.max(axis=0)
    return np.ascontiguousarray(corners.transpose(2, 0, 1))


def _plus_next_row(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each value plus the one below it, around the edge."""
    sums = np.empty_like(values)
    np.add(values[:-1], values[1:], out=sums[:-1])
    np.add(values[-1], values[0], out=sums[-1])
    return sums


def _plus_previous_row(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each value plus the one above it, around the edge."""
    sums = np.empty_like(values)
    np.add(values[1:], values[:-1], out=sums[1:])
    np.add(values[0], values[-1], out=sums[0])
    return sums


def _plus_next_column(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each value plus the one to its right, around the edge."""
    sums = np.empty_like(values)
    flat, step = values.reshape(-1), values.shape[2]
    np.add(flat[: flat.size - step], flat[step:], out=sums.reshape(-1)[: flat.size - step])
    np.add(values[:, -1], values[:, 0], out=sums[:, -1])
    return sums


def _plus_previous_column(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each value plus the one to its left, around the edge."""
    sums = np.empty_like(values)
    flat, step = values.reshape(-1), values.shape[2]
    np.add(flat[step:], flat[: flat.size - step], out=sums.reshape(-1)[step:])
    np.add(values[:, 0], values[:, -1], out=sums[:, 0])
    return sums


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Yield groups of whole images, or groups of rows where one image is a block or more."""
    count, height, width, channels = shape
    images = max(1, _BLOCK // (height * width * channels))
    rows = height if images > 1 else max(1, _BLOCK // (width * channels))
    for image in range(0, count, images):
        for row in range(0, height, rows):
            yield slice(image, image + images), slice(row, row + rows)
