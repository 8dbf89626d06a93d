"""What showing fewer pixels does."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import PIXELATE
from shrinkproof.corruptions.drawless import Drawless
from shrinkproof.corruptions.presets import constant
from shrinkproof.registry import component

_FRACTION_BITS: Final = 22
"""Bits after the point in Pillow's weights for 8-bit images."""

Cells = tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]
"""For each number of samples that a mean takes: the results (n,) and their samples (taps, n)."""


@component
class Pixelate(Drawless):
    """Fewer, larger pixels, as of a small image blown up.

    The image is reduced to int(factor * W) x int(factor * H) pixels, each the mean of the pixels
    whose centers it covers, first along rows, then along columns, rounded to 8 bits each time.
    It is enlarged again by repeating the pixel whose area holds each center.

    Input: images (N, H, W, 3) uint8; no draws.
    Output: images (N, H, W, 3) uint8.
    Differences: none; bit-equal to Pillow's box filter. Pillow 13 alone reduces columns before
        rows where an image is more than twice as high as wide, which moves values by one level.
        The preset ``imagecorruptions`` enlarges as Pillow's nearest neighbor does, which adds up
        positions and so may choose the other pixel where a center lies on an edge.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261; Michaelis et al. 2019,
        arXiv:1907.07484.
    """

    name: ClassVar[str] = "pixelate"
    family: ClassVar[str] = "digital"
    version: ClassVar[int] = 1

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images with larger pixels."""
        del draws
        factor = constant(PIXELATE, preset, severity)
        count, height, width = images.shape[:3]
        if not count:
            return np.empty_like(images)
        small_height, small_width = int(height * factor), int(width * factor)
        enlarged = nearest if preset == "imagecorruptions" else box_enlarged
        # Pixels of four bytes move as one integer, and whole rows of them fastest: so the rows
        # of all images lie down as columns while they are reduced.
        rows = cv2.cvtColor(images.reshape(-1, width, 3), cv2.COLOR_RGB2RGBA)
        upright = cv2.transpose(rows.view(np.int32).reshape(-1, width))
        pixels = cv2.transpose(_reduced(np.asarray(upright, np.int32)[None], small_width)[0])
        pixels = _reduced(pixels.reshape(count, height, small_width), small_height)
        pixels = np.take(pixels.reshape(-1, small_width), enlarged(small_width, width), axis=1)
        rows = cv2.cvtColor(pixels[..., None].view(np.uint8), cv2.COLOR_RGBA2RGB)
        lines = np.asarray(rows, dtype=np.uint8).reshape(count, small_height, width * 3)
        return np.take(lines, enlarged(small_height, height), axis=1).reshape(images.shape)


def _reduced(pixels: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Return pixels of four bytes, reduced along axis 1, (A, B, C) to (A, size, C)."""
    result = np.empty((pixels.shape[0], size, pixels.shape[2]), dtype=np.int32)
    for cells, samples in box_cells(pixels.shape[1], size):
        parts = [np.take(pixels, at, axis=1).view(np.uint8) for at in samples]
        result[:, cells] = _mean(parts).view(np.int32)
    return result


def _mean(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the mean of 8-bit arrays with the rounding of Pillow."""
    count = len(parts)
    if count == 1:
        return parts[0]
    if count == 2:
        # The mean, rounded up, without leaving 8 bits.
        either = parts[0] | parts[1]
        either -= (parts[0] ^ parts[1]) >> 1
        return either
    total = parts[0].astype(np.uint16)
    for part in parts[1:]:
        total += part
    # Halves are rounded up, unless Pillow's fixed-point weight is less than 1 / count.
    weight = int(2**_FRACTION_BITS / count + 0.5)
    total += count // 2 if weight * count >= 2**_FRACTION_BITS else (count - 1) // 2
    total //= count
    return total.astype(np.uint8)


@functools.lru_cache(maxsize=64)
def box_cells(size: int, smaller: int) -> Cells:
    """Return which of ``size`` samples make up each of ``smaller`` means.

    A mean takes the samples whose centers lie in its share of the axis. Where a center lies on an
    end, the rounding of float64 decides, with the operations of Pillow.
    """
    scale = size / smaller
    centers = (np.arange(smaller) + 0.5) * scale
    first = (centers - scale / 2 + 0.5).astype(np.intp)
    last = np.minimum((centers + scale / 2 + 0.5).astype(np.intp), size) - 1
    # The rounding of both ends may let in a neighbor whose center lies outside.
    first += (first - centers + 0.5) / scale <= -0.5
    last -= (last - centers + 0.5) / scale > 0.5
    taps = last - first + 1
    found = []
    for count in np.unique(taps):
        cells = np.flatnonzero(taps == count)
        found.append((cells, first[cells] + np.arange(count)[:, None]))
    return tuple(found)


@functools.lru_cache(maxsize=64)
def box_enlarged(size: int, larger: int) -> NDArray[np.intp]:
    """Return which of ``size`` samples each of ``larger`` repeats, by the place of its center."""
    return ((np.arange(larger) + 0.5) * (size / larger)).astype(np.intp)


@functools.lru_cache(maxsize=64)
def nearest(size: int, larger: int) -> NDArray[np.intp]:
    """Return the same as ``box_enlarged``, with positions added up as Pillow's nearest does."""
    step = size / larger
    positions = np.full(larger, step)
    positions[0] = step / 2
    return np.minimum(np.cumsum(positions).astype(np.intp), size - 1)
