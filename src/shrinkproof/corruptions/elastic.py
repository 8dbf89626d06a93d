"""Bending of the image, as of a rubber sheet."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import ELASTIC_TRANSFORM
from shrinkproof.corruptions.draws import bits
from shrinkproof.corruptions.gaussian import gaussian_filter
from shrinkproof.corruptions.presets import check_preset, constant
from shrinkproof.corruptions.sampling import sampled, warped
from shrinkproof.protocols import Draws
from shrinkproof.registry import component

_RULE_OF_IMAGECORRUPTIONS: Final = (0.05, 0.065, 0.085, 0.1, 0.12)
"""Strength of the preset ``imagecorruptions`` for severity 1 to 5, before the factor 250."""


@component
class ElasticTransform:
    """Image stretched and bent by smooth random shifts.

    1. The affine map that moves three points around the center by jitter * U(-1, 1), sampled
       bilinearly, borders reflected without repeating the edge.
    2. Shifts dx, dy = alpha * (Gaussian of U(-1, 1) per pixel, cut at 3 standard deviations,
       borders reflected): pixel (y, x) becomes the bilinear sample at (y + dy, x + dx), borders
       reflected with the edge repeated.
    3. Clipped to 0 to 1, then truncated to uint8.

    The preset ``imagecorruptions`` leaves step 1 out, smooths by 1 % of height and width, and
    scales the shifts with the height; see `displacement_rule`.

    Input: images (N, H, W, 3) uint8; draws ``jitter`` (N, 3, 2) and ``field`` (N, 2, H, W), first
        dx, then dy, both float32 in (-1, 1).
    Output: images (N, H, W, 3) uint8.
    Differences: shifts and positions in float32: 1 level in at most 0.006 % of the values of a
        photo at 224 pixels, given the draws, against OpenCV 5 and scipy. With OpenCV 4 the
        reference rounds positions of step 1 to 1/32 pixel; this never does.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261; for ``imagecorruptions``, Michaelis
        et al. 2019, arXiv:1907.07484.
    """

    name: ClassVar[str] = "elastic_transform"
    family: ClassVar[str] = "digital"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the jitter of three points and the raw shifts, also where a preset uses none.

        Both take 2**16 values, evenly spaced and symmetric around 0.
        """
        constant(ELASTIC_TRANSFORM, preset, severity)
        words = bits(streams, jitter=(np.uint16, (3, 2)), field=(np.uint16, (2, *shape)))
        return {name: _symmetric(values) for name, values in words.items()}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the bent images."""
        count, height, width = images.shape[:3]
        alpha, sigma, jitter = displacement_rule(severity, preset, (height, width))
        images = np.ascontiguousarray(images)
        result = np.empty_like(images)
        grid = _grid(height, width)
        for number in range(count):
            sheet = np.asarray(cv2.LUT(images[number], _levels()), np.float32)
            if jitter:
                matrix = affine(draws["jitter"][number] * jitter, (height, width))
                sheet = warped(sheet, matrix, cv2.BORDER_REFLECT_101)
            if alpha:
                field = gaussian_filter(
                    draws["field"][number], sigma, border="reflect", truncate=3.0
                )
                field *= alpha
                at = np.add(grid, field, dtype=np.float32, casting="same_kind")
                sheet = sampled(sheet, at[0], at[1], cv2.BORDER_REFLECT)
            # A sample lies between its pixels, up to rounding: there is nothing to clip.
            np.multiply(sheet, np.float32(255), out=sheet)
            np.copyto(result[number], sheet, casting="unsafe")
        return result


def displacement_rule(
    severity: int, preset: str, shape: tuple[int, int]
) -> tuple[float, tuple[float, float], float]:
    """Return strength, standard deviations of rows and columns, and affine jitter, in pixels.

    Args:
        severity: 1 to 5.
        preset: whose constants; those of ``imagecorruptions`` depend on the shape.
        shape: (H, W) in pixels.

    Raises:
        UnknownNameError: there is no such preset.
        UsageError: the severity is not 1 to 5.
    """
    check_preset(preset)
    alpha, sigma, jitter = constant(ELASTIC_TRANSFORM, preset, severity)
    if preset != "imagecorruptions":
        return alpha, (sigma, sigma), jitter
    height, width = shape
    largest = 0.005 * height
    strength = 250 * _RULE_OF_IMAGECORRUPTIONS[severity - 1]
    return strength * largest, (0.01 * height, 0.01 * width), 0.0


def affine(moves: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the affine map that moves three points around the center, (2, 3) float64.

    Args:
        moves: by how much each point moves, (3, 2), pixels.
        shape: (H, W) of the image; the points lie a third of the shorter side off its center.
    """
    center = np.array(shape, dtype=np.float32) // 2
    third = min(shape) // 3
    points = np.array(
        [center + third, [center[0] + third, center[1] - third], center - third],
        dtype=np.float32,
    )
    moved = points + np.asarray(moves, dtype=np.float32)
    return np.asarray(cv2.getAffineTransform(points, moved), dtype=np.float64)


def _symmetric(values: NDArray[np.uint16]) -> NDArray[np.float32]:
    numbers = values.astype(np.float32)
    numbers *= np.float32(2**-15)
    numbers += np.float32(2**-16 - 1)
    return numbers


@functools.lru_cache(maxsize=8)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """Return the position of each pixel, (2, H, W) float32, first x, then y, read-only."""
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    grid.flags.writeable = False
    return grid


@functools.cache
def _levels() -> NDArray[np.float32]:
    return np.arange(256, dtype=np.float32) / np.float32(255)
