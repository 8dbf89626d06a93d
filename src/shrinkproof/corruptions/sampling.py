"""Bilinear samples of an image at fractional positions, the same with OpenCV 4 and 5."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

_ROUNDS_POSITIONS: Final = int(cv2.__version__.split(".")[0]) < 5
"""OpenCV 4 rounds positions to 1/32 pixel before it interpolates."""


def warped(
    image: NDArray[np.float32], matrix: NDArray[np.float64], border: int
) -> NDArray[np.float32]:
    """Return an image moved by an affine map, (H, W, 3) float32.

    Args:
        image: (H, W, 3).
        matrix: from positions (x, y) in the image to those in the result, (2, 3).
        border: border mode of OpenCV.
    """
    height, width = image.shape[:2]
    if not _ROUNDS_POSITIONS:
        moved: Any = cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border
        )
        return np.asarray(moved, np.float32)
    back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
    x, y = np.arange(width), np.arange(height)[:, None]
    at = [(row[0] * x + row[1] * y + row[2]).astype(np.float32) for row in back]
    return _blended(image, at[0], at[1], border)


def sampled(
    image: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32], border: int
) -> NDArray[np.float32]:
    """Return the values of an image at positions, (H, W, 3) float32.

    Args:
        image: (H, W, 3).
        x: column of each sample, (H, W).
        y: row of each sample, (H, W).
        border: border mode of OpenCV.
    """
    if _ROUNDS_POSITIONS:
        return _blended(image, x, y, border)
    found: Any = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(found, np.float32)


def _blended(
    image: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32], border: int
) -> NDArray[np.float32]:
    """Interpolate between the four pixels around each position, which OpenCV 4 finds exactly."""
    left, top = np.floor(x), np.floor(y)
    across, down = (x - left)[..., None], (y - top)[..., None]

    def corner(right: int, below: int) -> NDArray[np.float32]:
        found: Any = cv2.remap(
            image, left + right, top + below, cv2.INTER_NEAREST, borderMode=border
        )
        return np.asarray(found, np.float32)

    upper, lower = corner(0, 0), corner(0, 1)
    upper += across * (corner(1, 0) - upper)
    lower += across * (corner(1, 1) - lower)
    upper += down * (lower - upper)
    return upper
