"""Noise of the sensor."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import (
    GAUSSIAN_NOISE,
    IMPULSE_NOISE,
    SHOT_NOISE,
    SPECKLE_NOISE,
)
from shrinkproof.corruptions.draws import bits, lookup, normal
from shrinkproof.corruptions.presets import check_preset, constant
from shrinkproof.protocols import Draws
from shrinkproof.registry import component

_BLOCK: Final = 2**15
"""Values treated at once: as float64 they stay in the processor's second cache."""


class _NormalDraws:
    """A corruption that draws a standard normal number per value."""

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the standard normal noise of each image."""
        check_preset(preset)
        del severity
        return {"noise": normal(bits(streams, noise=(np.uint16, (*shape, 3)))["noise"])}


@component
class GaussianNoise(_NormalDraws):
    """Normal noise on every pixel and channel, as in poor light.

    x + sigma * z on the scale 0 to 1, z standard normal and independent, clipped, then truncated
    (not rounded) to uint8, which darkens by half a level.

    Input: images (N, H, W, 3) uint8; draws ``noise`` (N, H, W, 3) float, standard normal.
    Output: images (N, H, W, 3) uint8.
    Differences: none from the reference, given its draws. Our own draws have a
        distribution function within 1e-5 of the normal one and end at 4.4.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "gaussian_noise"
    family: ClassVar[str] = "noise"
    version: ClassVar[int] = 2

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the noisy images."""
        sigma = constant(GAUSSIAN_NOISE, preset, severity)
        result = np.empty(images.size, dtype=np.uint8)
        flat, noise = images.reshape(-1), draws["noise"].reshape(-1)
        for block in _blocks(images.size):
            noisy = noise[block].astype(np.float64)
            noisy *= sigma
            noisy += _unit_levels(flat[block])
            result[block] = _stored(noisy)
        return result.reshape(images.shape)


@component
class SpeckleNoise(_NormalDraws):
    """Normal noise in proportion to each value, as of coherent light.

    x + x * sigma * z on the scale 0 to 1, z standard normal and independent, clipped, then
    truncated to uint8.

    Input: images (N, H, W, 3) uint8; draws ``noise`` (N, H, W, 3) float, standard normal.
    Output: images (N, H, W, 3) uint8. Black stays black.
    Differences: none from the reference, given its draws. Our own draws have a
        distribution function within 1e-5 of the normal one and end at 4.4.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "speckle_noise"
    family: ClassVar[str] = "noise"
    version: ClassVar[int] = 1

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the noisy images."""
        sigma = constant(SPECKLE_NOISE, preset, severity)
        result = np.empty(images.size, dtype=np.uint8)
        flat, noise = images.reshape(-1), draws["noise"].reshape(-1)
        for block in _blocks(images.size):
            clean = _unit_levels(flat[block])
            noisy = noise[block].astype(np.float64)
            noisy *= sigma
            noisy *= clean
            noisy += clean
            result[block] = _stored(noisy)
        return result.reshape(images.shape)


@component
class ShotNoise:
    """Noise of counting photons, as in poor light.

    Poisson(x * c) / c on the scale 0 to 1, independent per pixel and channel, with c photons at
    full brightness; clipped, then truncated to uint8. The number of photons is the smallest whose
    distribution function reaches (u + 1/2) / 65,536, u uniform.

    Input: images (N, H, W, 3) uint8; draws ``uniform`` (N, H, W, 3) uint16.
    Output: images (N, H, W, 3) uint8. Black stays black.
    Differences: each count comes from 16 random bits, so its distribution function is nowhere
        more than 2**-17 from that of Poisson, and counts beyond are not drawn.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "shot_noise"
    family: ClassVar[str] = "noise"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the uniform numbers behind the counts."""
        constant(SHOT_NOISE, preset, severity)
        return bits(streams, uniform=(np.uint16, (*shape, 3)))

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the noisy images."""
        cells, rows = _shot_cells(constant(SHOT_NOISE, preset, severity))
        result = np.empty(images.size, dtype=np.uint8)
        flat, uniform = images.reshape(-1), draws["uniform"].reshape(-1)
        for block in _blocks(images.size):
            # Which cell: the level and the upper half of the uniform number. The lower half
            # says where in the cell.
            at = flat[block].astype(np.uint16)
            at <<= 8
            at |= uniform[block] >> 8
            lower = uniform[block].astype(np.uint8)
            cell = lookup(cells, at)
            noisy = (lower >= (cell >> 16).astype(np.uint8)).view(np.uint8)
            np.negative(noisy, out=noisy)
            noisy &= (cell >> 8).astype(np.uint8)
            noisy ^= cell.astype(np.uint8)
            rare = np.flatnonzero(cell < 0)
            noisy[rare] = rows[cell[rare] & 0xFFFF, lower[rare]]
            result[block] = noisy
        return result.reshape(images.shape)


@component
class ImpulseNoise:
    """Salt and pepper on single values, as of broken pixels.

    Each value of each channel is hit with probability p; half of the hit ones become 0, the
    others 255.

    Input: images (N, H, W, 3) uint8; draws ``uniform`` (N, H, W, 3) uint32: the lowest p/2 of
        their range make 0, the next p/2 make 255.
    Output: images (N, H, W, 3) uint8.
    Differences: none in distribution but for probabilities rounded to 2**-32.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "impulse_noise"
    family: ClassVar[str] = "noise"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the uniform numbers that decide which values are hit."""
        constant(IMPULSE_NOISE, preset, severity)
        return bits(streams, uniform=(np.uint32, (*shape, 3)))

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images with the hit values."""
        share = constant(IMPULSE_NOISE, preset, severity)
        uniform = draws["uniform"]
        # With all bits set where hit, "or" makes 255; with none set where black, "and" makes 0.
        hit = (uniform < round(share * 2**32)).view(np.uint8)
        result = np.negative(hit, out=hit)
        result |= images
        not_black = (uniform >= round(share / 2 * 2**32)).view(np.uint8)
        result &= np.negative(not_black, out=not_black)
        return result


def shot_table(photons: float) -> NDArray[np.uint8]:
    """Return what a value becomes under shot noise, (256, 65536) uint8.

    Args:
        photons: expected count at full brightness.

    Returns:
        The result for each level of the clean value (rows) and each 16-bit uniform number
        (columns); no row ever falls. 16 MiB, made anew at each call.
    """
    from scipy.special import pdtr

    most = int(photons + 6 * photons**0.5 + 20)
    counts = np.arange(most + 1)
    means = np.arange(256)[:, None] / 255.0 * photons
    # The first number whose count is larger: count k belongs to (u + 1/2) / 65536 <= CDF(k).
    ends = np.floor(pdtr(counts, means) * 2**16 + 0.5).astype(np.int64)
    ends[:, -1] = 2**16
    lengths = np.diff(ends, axis=1, prepend=0)
    values = (np.clip(counts / photons, 0, 1) * 255).astype(np.uint8)
    return np.repeat(np.tile(values, 256), lengths.reshape(-1)).reshape(256, 2**16)


@functools.lru_cache(maxsize=8)
def _shot_cells(photons: float) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the table of shot noise without its repetitions: 0.5 MB, so it stays in the cache.

    Returns:
        First, per cell of 256 neighboring entries, four bytes from the lowest: the first value of
        the cell, the bits in which the last differs, where that one begins (0: the whole cell),
        and 0. Where a cell has more than two values, a negative number instead, whose lower 16
        bits say which row of the second array holds the whole cell.
    """
    cells = shot_table(photons).reshape(2**16, 256)
    first, last = cells[:, 0].astype(np.int32), cells[:, -1].astype(np.int32)
    begins = (cells != cells[:, -1:]).sum(axis=1, dtype=np.int32)
    rare = begins > (cells == cells[:, :1]).sum(axis=1, dtype=np.int32)
    packed = first | (first ^ last) << 8 | begins << 16
    packed[rare] = np.arange(np.count_nonzero(rare), dtype=np.int32) | -(2**31)
    return packed, cells[rare]


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK):
        yield slice(start, start + _BLOCK)


def _unit_levels(levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return levels / 255, three times as fast."""
    found: NDArray[Any] = cv2.LUT(levels, _UNIT_LEVELS)
    return found.reshape(levels.shape)


_UNIT_LEVELS: Final = np.arange(256) / 255.0


def _stored(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip values to [0, 1] and scale them to [0, 255], in place."""
    np.clip(values, 0, 1, out=values)
    values *= 255
    return values
