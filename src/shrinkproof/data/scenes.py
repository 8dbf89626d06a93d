"""Scenes with several handwritten digits: textured background, clutter, digits, exact boxes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Shape suffixes: H height, W width of a scene; s side of a digit; 3 channels; g digits. All
# arithmetic is of integers, so that every machine makes the same bytes.

MOST: Final = 6
"""Largest number of digits in a scene."""

_SMALLEST, _LARGEST = 12, 48
"""Side of a digit's square in pixels."""

_EMPTY: Final = 10
"""One scene of so many has no digit."""

_INK: Final = 96
"""Level, 0 to 255, from which a pixel belongs to a digit."""

_CONTRAST: Final = 70
"""Mean difference of levels to what is behind a digit, below which its color is drawn apart."""

_TRIES: Final = 30
"""Places tried for a digit before it is left out."""

_SCALE: Final = 1024
"""Common denominator of interpolation weights."""

_CELLS: Final = ((2, 3, 4), (5, 7, 2), (11, 13, 1))
"""Rows and columns of the random grids that make up a texture, and the weight of each."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An image with digits.

    Attributes:
        pixels: (H, W, 3) uint8.
        boxes: (g, 4) int64 edges ``x1, y1, x2, y2`` of the ink of each digit.
        digits: (g,) int64, which of the given digits stands there.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.int64]
    digits: NDArray[np.int64]


def draw(digits: NDArray[np.uint8], shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Return a scene with up to six of the given digits, each used at most once.

    Boxes may overlap by at most a fifth of the smaller one; the later digit covers the earlier.

    Args:
        digits: (n, 32, 32) levels of ink, n >= 6.
        shape: (H, W) of the scene in pixels, each at least 48.
        rng: where all randomness comes from.
    """
    canvas = _background(shape, rng)
    _clutter(canvas, rng)
    count = 0 if rng.integers(_EMPTY) == 0 else int(rng.integers(1, MOST + 1))
    boxes: list[tuple[int, int, int, int]] = []
    used: list[int] = []
    for which in rng.permutation(len(digits))[:count].tolist():
        ink = _sized(digits[which], rng)
        place = _place(ink, shape, boxes, rng)
        if place is not None:
            top, left, box = place
            _paint(canvas, ink, top, left, rng)
            boxes.append(box)
            used.append(which)
    canvas += rng.integers(-5, 6, canvas.shape)
    return Scene(
        np.clip(canvas, 0, 255).astype(np.uint8),
        np.array(boxes, dtype=np.int64).reshape(-1, 4),
        np.array(used, dtype=np.int64),
    )


def _background(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a texture between two random colors, (H, W, 3)."""
    total = np.zeros(shape, dtype=np.int64)
    for rows, columns, weight in _CELLS:
        grid = rng.integers(0, 256, (rows, columns))
        smooth = _weights(rows, shape[0]) @ grid @ _weights(columns, shape[1]).T
        total += weight * smooth
    level_HW = total // (sum(weight for _, _, weight in _CELLS) * _SCALE**2)
    first, second = rng.integers(20, 236, (2, 3))
    return np.asarray(first + (second - first) * level_HW[..., None] // 255)


def _clutter(canvas: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Draw a few bars, which are no digits."""
    height, width = canvas.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    for _ in range(int(rng.integers(0, 4))):
        y, x, dy, dx = rng.integers((0, 0, -12, -12), (height, width, 13, 13)).tolist()
        length = dy * dy + dx * dx
        if length < 16:
            continue
        along = (rows - y) * dy + (columns - x) * dx
        across = (rows - y) * dx - (columns - x) * dy
        thickness = int(rng.integers(1, 3))
        inside = (abs(along) <= length) & (across**2 <= thickness**2 * length)
        canvas[inside] = rng.integers(0, 256, 3)


def _sized(digit: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a digit of a random size, (s, s) levels of ink 0 to 255."""
    side = int(rng.integers(_SMALLEST, _LARGEST + 1))
    weights = _weights(len(digit), side)
    return np.asarray(weights @ digit.astype(np.int64) @ weights.T // _SCALE**2)


def _place(
    ink: NDArray[np.int64],
    shape: tuple[int, int],
    boxes: list[tuple[int, int, int, int]],
    rng: np.random.Generator,
) -> tuple[int, int, tuple[int, int, int, int]] | None:
    """Return top, left and box of a place for a digit; None if there is no room."""
    rows, columns = (np.flatnonzero((ink >= _INK).any(axis=axis)).tolist() for axis in (1, 0))
    for _ in range(_TRIES):
        top = int(rng.integers(0, shape[0] - len(ink) + 1))
        left = int(rng.integers(0, shape[1] - len(ink) + 1))
        box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        if not any(_crowded(box, other) for other in boxes):
            return top, left, box
    return None


def _crowded(one: tuple[int, int, int, int], two: tuple[int, int, int, int]) -> bool:
    """Return whether two boxes share more than a fifth of the smaller one."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return width > 0 and height > 0 and 5 * width * height > min(areas)


def _paint(
    canvas: NDArray[np.int64],
    ink: NDArray[np.int64],
    top: int,
    left: int,
    rng: np.random.Generator,
) -> None:
    """Blend a digit into the canvas, in a color that stands out from what is behind it."""
    part = canvas[top : top + len(ink), left : left + len(ink)]
    behind = part.sum(axis=(0, 1)) // ink.size
    color = rng.integers(0, 256, 3)
    if abs(color - behind).sum() < 3 * _CONTRAST:
        color = np.where(behind < 128, 255 - color // 4, color // 4)
    part += (color - part) * ink[..., None] // 255


@cache
def _weights(few: int, many: int) -> NDArray[np.int64]:
    """Return the (many, few) matrix of linear interpolation times `_SCALE`, centers aligned."""
    weights = np.zeros((many, few), dtype=np.int64)
    for row in range(many):
        # The center of the row in units of the few, less one half, in parts of 2 * many.
        place = (2 * row + 1) * few - many
        first, part = divmod(place, 2 * many)
        share = part * _SCALE // (2 * many)
        weights[row, min(max(first, 0), few - 1)] += _SCALE - share
        weights[row, min(max(first + 1, 0), few - 1)] += share
    return weights
