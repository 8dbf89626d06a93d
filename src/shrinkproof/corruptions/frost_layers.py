"""Frost on a window, drawn by rules: the layers behind frost where no photos are given.

The layers have the sizes, mean colors and contrast of the photos published with the common
corruptions, and nothing else of them. Integer images, drawing with coordinates of 1/16 pixel, and
float64 operations that IEEE 754 rounds exactly keep their bits the same everywhere.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.randomness import stream

LAYERS_VERSION: Final = 1
"""Raised when a pixel of the procedural layers changes."""

_FRACTION: Final = 4
"""Bits behind the binary point of the coordinates that OpenCV draws with."""

_NEUTRAL: Final = (-12, 0, 12)
_WHITE: Final = (-6, -1, 7)
"""Red, green and blue of ice against its gray level."""


@functools.cache
def procedural_layers() -> tuple[NDArray[np.uint8], ...]:
    """Return the five layers, each (H, W, 3) uint8 RGB, read-only.

    A blue sheet with wrinkles, two dense covers of white crystals, splinters on a pane with
    streaks, and bright feathers on a dark pane; made once per process, in about 0.3 s.
    """
    layers = (
        _sheet(_random(0), (600, 900)),
        _cover(_random(1), (315, 560)),
        _cover(_random(2), (315, 560)),
        _splinters(_random(3), (350, 527)),
        _feathers(_random(4), (495, 660)),
    )
    for layer in layers:
        layer.flags.writeable = False
    return layers


def _random(layer: int) -> np.random.Generator:
    return stream("frost layer", LAYERS_VERSION, layer)


def _sheet(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    light, tint = _clouds(random, shape, 256), _clouds(random, shape, 256)
    bent = []
    for axis, position in enumerate(np.indices(shape)):
        moved = position + 160 * (_clouds(random, shape, 128, 0.5) - 0.5)
        bent.append(np.clip(moved, 0, shape[axis] - 1).astype(np.intp))
    height = _clouds(random, shape, 128)[tuple(bent)]
    gray = 80 * light + 40 * _clouds(random, shape, 16, 0.8)
    for contour in (0.3, 0.42, 0.5, 0.58, 0.7):
        # A wrinkle: a bright slope and the shadow beside it.
        gray += 26 * np.maximum(0, 1 - 60 * np.abs(height - contour))
        gray -= 26 * np.maximum(0, 1 - 60 * np.abs(height - contour - 0.02))
    gray = _leveled(gray, 131, 18)
    return _clipped(np.stack([gray - 11 - 81 * tint, gray + 18, gray + 10 + 50 * tint], axis=-1))


def _cover(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    canvas = np.full(shape, 190, dtype=np.uint8)
    turn = _clouds(random, shape, 128, 0.3)
    _draw_blades(random, canvas, turn, count=5200, length=60, width=6, shades=(165, 235))
    veil = 0.6 * np.clip(2 * _clouds(random, shape, 64, 0.5) - 0.6, 0, 1)
    gray = cv2.GaussianBlur(canvas, (3, 3), 0) * (1 - veil) + 215 * veil
    gray += 80 * _clouds(random, shape, 256, 0.5) + 40 * _clouds(random, shape, 16, 0.8)
    return _tinted(_leveled(gray - 60, 207, 22), _WHITE)


def _splinters(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    turn = _clouds(random, shape, 64, 0.4)
    small = _clipped(95 + 110 * _clouds(random, shape, 8, 0.9))
    _draw_blades(random, small, turn, count=1500, length=16, width=5, shades=(90, 230))
    large = small.copy()
    _draw_blades(random, large, turn, count=700, length=34, width=9, shades=(95, 245))
    streaks = 0.85 + 0.3 * _clouds(random, shape, 8, 0.9)[:1]
    share = np.clip(8 * _clouds(random, shape, 64, 0.5) - 4.4, 0, 1)
    gray = small * streaks * (1 - share) + large * share
    top = np.maximum(0, 1 - np.arange(shape[0]) / (0.35 * shape[0]))
    gray += 50 * top[:, None] + 50 * (_clouds(random, shape, 256) - 0.5)
    return _tinted(_leveled(gray, 152, 29), _NEUTRAL)


def _feathers(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    canvas = _clipped(40 + 70 * _clouds(random, shape, 256, 0.5))
    for shade in range(80, 230, 15):
        # What lies deeper is darker.
        canvas = (canvas * 0.93).astype(np.uint8)
        for length, count in ((17, 220), (35, 100), (58, 50)):
            _draw_feathers(random, canvas, count=count, length=length, shade=shade)
    rows, columns = np.indices(shape)
    distance = np.sqrt((columns - 0.95 * shape[1]) ** 2 + (1.2 * rows) ** 2)
    glow = np.maximum(0, 1 - distance / (0.8 * shape[1]))
    haze = np.maximum(0, _clouds(random, shape, 256) - 0.55)
    gray = canvas * (0.75 + 0.5 * glow) + 60 * glow + 140 * haze
    return _tinted(_leveled(gray, 123, 43), _NEUTRAL)


def _clouds(
    random: np.random.Generator, shape: tuple[int, int], cell: int, gain: float = 0.45
) -> NDArray[np.float64]:
    """Return fractal noise from 0 to 1.

    Args:
        random: source of the noise.
        shape: height and width.
        cell: size of the largest clouds in pixels, a power of two.
        gain: amplitude of each size against that of twice the size.
    """
    size = 2 ** (max(shape) - 1).bit_length()
    side, amplitude = size // cell, 1.0
    field = random.integers(0, 2**16, (side, side)).astype(np.uint16)
    while side < size:
        side, amplitude = 2 * side, amplitude * gain
        finer: NDArray[Any] = np.asarray(_enlarged(field, side), dtype=np.float64)
        if amplitude > 0.01:
            noise = random.integers(0, 2**16, (side, side))
            finer = (finer + amplitude * noise) / (1 + amplitude)
        field = finer.astype(np.uint16)
    field = field[: shape[0], : shape[1]]
    low, high = int(field.min()), int(field.max())
    return (field.astype(np.float64) - low) / (high - low)


def _enlarged(field: NDArray[np.uint16], side: int) -> NDArray[np.uint16]:
    # Unlike the ordinary bilinear interpolation this one promises the same bits everywhere.
    larger: Any = cv2.resize(field, (side, side), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(larger, dtype=np.uint16)


def _draw_blades(
    random: np.random.Generator,
    canvas: NDArray[np.uint8],
    turn: NDArray[np.float64],
    *,
    count: int,
    length: float,
    width: float,
    shades: tuple[int, int],
) -> None:
    """Draw crystals as narrow rhombs with a bright and a dark half.

    Args:
        random: source of places, sizes and shades.
        canvas: where to draw, (H, W).
        turn: preferred direction at each place, in half turns times four, (H, W).
        count: number of crystals.
        length: typical length in pixels; the longest have 1.45 times as much.
        width: typical width in pixels.
        shades: darkest and brightest gray level.
    """
    center = random.random((count, 2)) * canvas.shape[::-1]
    column, row = center.astype(np.intp).T
    angle = 720 * turn[row, column] + 110 * (random.random(count) - 0.5)
    angle += 60 * (random.random(count) < 0.3)
    along = _direction(angle) * (length * (0.25 + 1.2 * random.random(count) ** 2) / 2)[:, None]
    across = _direction(angle + 90) * (width * (0.4 + random.random(count)) / 2)[:, None]
    middle = shades[0] + (shades[1] - shades[0]) * random.random(count)
    relief = random.integers(8, 30, count)
    points = (center - along, center + along, center + across, center - across)
    corners = _fixed(np.stack(points, axis=1))
    shade = np.stack([middle + relief, middle - relief], axis=1).clip(0, 255).astype(int)
    for rhomb, (bright, dark) in zip(corners, shade.tolist(), strict=True):
        cv2.fillConvexPoly(canvas, rhomb[[0, 1, 2]], bright, cv2.LINE_AA, _FRACTION)
        cv2.fillConvexPoly(canvas, rhomb[[0, 1, 3]], dark, cv2.LINE_AA, _FRACTION)


def _draw_feathers(
    random: np.random.Generator,
    canvas: NDArray[np.uint8],
    *,
    count: int,
    length: float,
    shade: int,
) -> None:
    """Draw bent stems with branches at about 60 degrees on both sides, shorter towards the tip."""
    joints = max(5, round(length / 2.8))
    way = np.arange(1, joints + 1) / (joints + 1)
    root = random.random((count, 1, 2)) * canvas.shape[::-1]
    angle = 360 * random.random((count, 1)) + 60 * (random.random((count, 1)) - 0.5) * way
    size = length * (0.7 + 0.6 * random.random((count, 1)))
    stem = root + np.cumsum(_direction(angle) * (size / joints)[..., None], axis=1)
    _draw_lines(canvas, stem, shade)
    for side in (-1, 1):
        turned = angle + side * (48 + 14 * random.random((count, 1)))
        branch = size * (0.2 + 0.25 * random.random((count, 1))) * (1 - way)
        branch = branch * np.minimum(1, 0.3 + 3 * way) * (0.4 + random.random((count, joints)))
        ends = np.stack([stem, stem + _direction(turned) * branch[..., None]], axis=2)
        _draw_lines(canvas, ends.reshape(-1, 2, 2), round(0.85 * shade))


def _draw_lines(canvas: NDArray[np.uint8], lines: NDArray[np.float64], shade: int) -> None:
    paths = list(_fixed(lines))
    cv2.polylines(canvas, paths, isClosed=False, color=shade, lineType=cv2.LINE_AA, shift=_FRACTION)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(points * 2**_FRACTION).astype(np.int32)


def _direction(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _leveled(gray: NDArray[np.float64], mean: float, deviation: float) -> NDArray[np.float64]:
    """Return an image with a given mean and standard deviation, before clipping."""
    levels = _clipped(gray).astype(np.int64)
    # Sums of whole numbers do not depend on their order.
    own = int(levels.sum()) / levels.size
    variance = int((levels**2).sum()) / levels.size - own**2
    return (gray - own) * (deviation / math.sqrt(variance)) + mean


def _tinted(gray: NDArray[np.float64], tint: tuple[int, int, int]) -> NDArray[np.uint8]:
    return _clipped(gray[..., None] + np.array(tint))


def _clipped(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(values, 0, 255).astype(np.uint8)
