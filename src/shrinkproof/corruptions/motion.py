"""Blur of the camera's movement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import MOTION_BLUR
from shrinkproof.corruptions.draws import bits, unit
from shrinkproof.corruptions.presets import constant
from shrinkproof.protocols import Draws
from shrinkproof.registry import component

SIXTEEN_BIT: Final = 0.5 / 257
"""What rounding to 16 bit adds before a value is cut to 8 bit, grey levels."""

_DIRECT: Final = 130
"""Cells of a kernel from which OpenCV takes the detour over a Fourier transform."""

_NEGLIGIBLE: Final = 1e-9
"""Weights below this are left out: together they are far below the rounding of float32."""

_Kernel = tuple[NDArray[np.float32], int, int]

_NEAR: Final = 1e-4
"""How far float32 may put a whole number of grey levels beside itself."""


@component
class MotionBlur:
    """Streaks of half a Gaussian in one direction, as of a camera that moves.

    See `streak`: every pixel becomes the weighted mean of the pixels from itself outwards along a
    ray. The mean is rounded to 16 bit and then cut to 8, as ImageMagick does; the preset
    ``imagecorruptions`` truncates at once.

    Input: images (N, H, W, 3) uint8; draws ``angle`` (N,) float64, degrees in [-45, 45): 0 is to
        the right, positive is downwards.
    Output: images (N, H, W, 3) uint8.
    Differences: given the angles, ImageMagick 6.9.11 (16 bit) differs by one grey level on 0.003 %
        of the values or less, and imagecorruptions 1.1.2 with its preset on 0.05 % or less; its
        rounding on areas of one color is kept.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261; Michaelis et al. 2019,
        arXiv:1907.07484.
    """

    name: ClassVar[str] = "motion_blur"
    family: ClassVar[str] = "blur"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the angle of each image's streaks."""
        del shape
        constant(MOTION_BLUR, preset, severity)
        words = bits(streams, angle=(np.uint64, ()))["angle"]
        return {"angle": -45 + 90 * unit(words >> np.uint64(11) << np.uint64(11))}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the blurred images."""
        radius, sigma = constant(MOTION_BLUR, preset, severity)
        if preset != "imagecorruptions":
            blurred = streak(images, radius, sigma, draws["angle"], add=SIXTEEN_BIT)
            return blurred.astype(np.uint8)
        blurred = streak(images, radius, sigma, draws["angle"], add=_NEAR, cut=True)
        weights = _weights(radius, sigma)
        result = blurred.astype(np.uint8)
        kept = _kept(*_offsets(radius, draws["angle"], len(weights)), images.shape[1:3])
        for count in set(kept.tolist()):
            _settle(result, blurred, np.flatnonzero(kept == count), weights[:count])
        return result


def streak(
    images: NDArray[Any],
    radius: int,
    sigma: float,
    angles: NDArray[np.float64],
    *,
    add: float = 0.0,
    cut: bool = False,
) -> NDArray[np.float32]:
    """Return each image smeared along a ray of its own, same shape, float32.

    The result at a pixel is sum_i w_i x(p + d_i) + ``add`` for i = 0 ... 2 * radius, with weights
    w_i proportional to exp(-i**2 / (2 * sigma**2)) of sum 1 and d_i the point at distance i in
    direction of the angle, rounded to whole pixels (halves down). The edge is repeated.

    Args:
        images: (N, H, W) or (N, H, W, 3), uint8 or float32.
        radius: half the length of the ray, pixels.
        sigma: standard deviation of the Gaussian, pixels.
        angles: (N,) in degrees, 0 is to the right, positive is downwards.
        add: added to every value.
        cut: leave out all beyond the first d_i as long as the image is high or wide, without
            scaling the weights to sum 1 again; the quirk of imagecorruptions.
    """
    weights = _weights(radius, sigma)
    weights = weights[weights >= _NEGLIGIBLE]
    down, right = _offsets(radius, angles, len(weights))
    taps = np.broadcast_to(weights, down.shape)
    if cut:
        kept = _kept(down, right, images.shape[1:3])
        taps = np.where(np.arange(len(weights)) < kept[:, None], taps, 0)
    smeared = np.empty(images.shape, dtype=np.float32)
    sources = images.astype(np.float32, copy=False)
    for number, kernels in _kernels(taps, down, right):
        _smear(sources[number], smeared[number], kernels, len(weights), add)
    return smeared


def _weights(radius: int, sigma: float) -> NDArray[np.float64]:
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    normalized: NDArray[np.float64] = weights / weights.sum()
    return normalized


def _offsets(
    radius: int, angles: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how far down and right each step of the rays is, (N, count) each."""
    turn = np.deg2rad(angles)[:, None]
    down, right = (2 * radius + 1) * np.sin(turn), (2 * radius + 1) * np.cos(turn)
    length = np.hypot(down, right)
    steps = np.arange(count)
    return (
        np.ceil(steps * down / length - 0.5).astype(np.int64),
        np.ceil(steps * right / length - 0.5).astype(np.int64),
    )


def _kept(
    down: NDArray[np.int64], right: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return how many steps of each ray come before one as long as the image, (N,)."""
    inside = (np.abs(down) < shape[0]) & (np.abs(right) < shape[1])
    kept: NDArray[np.int64] = np.logical_and.accumulate(inside, axis=1).sum(axis=1)
    return kept


def _kernels(
    weights: NDArray[np.float64], down: NDArray[np.int64], right: NDArray[np.int64]
) -> Iterator[tuple[int, list[_Kernel]]]:
    """Yield the number of each image with its ray in the fewest pieces of about equal length.

    Each piece is a kernel small enough for the direct way, down and right of the pixel by so much.
    """
    count = weights.shape[1]
    waiting = np.arange(len(weights))
    pieces = 0
    while waiting.size:
        pieces += 1
        piece = np.arange(count) * pieces // count
        first = np.searchsorted(piece, np.arange(pieces))
        last = np.append(first[1:], count) - 1
        y, x = down[waiting], right[waiting]
        height = np.abs(y[:, last] - y[:, first]) + 1
        width = np.abs(x[:, last] - x[:, first]) + 1
        small = (height * width < _DIRECT).all(axis=1)
        if small.any():
            chosen = waiting[small]
            y, x, height, width = y[small], x[small], height[small], width[small]
            top = np.minimum(y[:, first], y[:, last])
            left = np.minimum(x[:, first], x[:, last])
            end = np.cumsum(height * width).reshape(height.shape)
            start = end - height * width
            cells = (start - top * width - left)[:, piece] + y * width[:, piece] + x
            values = np.bincount(cells.ravel(), weights[chosen].ravel(), minlength=end[-1, -1])
            flat = values.astype(np.float32)
            columns = zip(*(part.tolist() for part in (start, end, width, top, left)), strict=True)
            for number, parts in zip(chosen.tolist(), columns, strict=True):
                yield (
                    number,
                    [
                        (flat[begin:stop].reshape(-1, across), up, over)
                        for begin, stop, across, up, over in zip(*parts, strict=True)
                    ],
                )
        waiting = waiting[~small]


def _smear(
    image: NDArray[np.float32],
    result: NDArray[np.float32],
    kernels: list[_Kernel],
    reach: int,
    add: float,
) -> None:
    """Write one smeared image."""
    (kernel, top, left), *others = kernels
    cv2.filter2D(
        image,
        -1,
        kernel,
        dst=result,
        anchor=(-left, -top),
        delta=add,
        borderType=cv2.BORDER_REPLICATE,
    )
    if not others:
        return
    padded = cv2.copyMakeBorder(image, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    height, width = image.shape[:2]
    for kernel, top, left in others:
        rows, columns = kernel.shape
        seen = padded[
            reach + top : reach + top + height + rows - 1,
            reach + left : reach + left + width + columns - 1,
        ]
        part = cv2.filter2D(seen, -1, kernel, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
        cv2.add(result, part[:height, :width], dst=result)


def _settle(
    result: NDArray[np.uint8],
    values: NDArray[np.float32],
    which: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> None:
    """Truncate the values of imagecorruptions that are near a whole number as it does.

    Where an area has one color, float64 sums of its weights end a little below a whole number for
    some colors and the reference truncates them to one less; so does a ray that was cut short by
    next to nothing.

    Args:
        result: truncated values, (N, H, W, 3); changed.
        values: the same plus `_NEAR`, not truncated.
        which: images with these weights.
        weights: of the steps that are not cut off.
    """
    colors = np.arange(256)
    levels = np.zeros(256)
    for weight in weights:
        levels += weight * colors
    flat = np.where(np.abs(levels - colors) < _NEAR, levels, colors).astype(np.uint8)
    for image, exact in zip(which.tolist(), values[which], strict=True):
        found = result[image].reshape(-1)
        near = np.flatnonzero(exact.reshape(-1) - found < 2 * _NEAR)
        found[near] = flat[found[near]]
