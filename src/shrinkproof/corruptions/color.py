"""What light and the sensor's curve do to color."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import BRIGHTNESS, CONTRAST, SATURATE
from shrinkproof.corruptions.drawless import Drawless
from shrinkproof.corruptions.presets import constant
from shrinkproof.registry import component

T = TypeVar("T", np.uint8, np.float64)

_LEVELS: Final = np.arange(256) / 255.0
_BLOCK: Final = 2**15
"""Pixels treated at once: few enough for float64 copies to stay in the processor's cache."""

_FALLING: Final = np.pad([[-1.0, 1.0], [1.0, 0.0]], ((0, 0), (0, 254)))
"""By whether a channel falls with the hue: factor on the distance from the last sixth; addend."""


@component
class Contrast(Drawless):
    """Pixels drawn towards the mean of the image, as through a dirty window.

    (x - mean) * c + mean on the scale 0 to 1, mean per image and channel, clipped, then truncated
    to uint8. Every level maps to one level, so a table of 256 entries per image and channel holds
    the whole operation.

    Input: images (N, H, W, 3) uint8; no draws.
    Output: images (N, H, W, 3) uint8.
    Differences: the mean comes from an exact integer sum. Bit-equal to outputs of the reference
        at 32 and 224 pixels; a level that lands within 1e-15 of a whole number could differ by 1.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "contrast"
    family: ClassVar[str] = "digital"
    version: ClassVar[int] = 1

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the flattened images."""
        del draws
        factor = constant(CONTRAST, preset, severity)
        count, height, width, channels = images.shape
        # Summing whole rows first keeps the inner loop long: 20 times faster.
        rows = images.reshape(count, height, width * channels).sum(axis=1, dtype=np.uint32)
        sums_NC = rows.reshape(count, width, channels).sum(axis=1, dtype=np.int64)
        mean_NC1 = (sums_NC / (height * width) / 255.0)[..., None]
        levels_L = np.arange(256) / 255.0
        table_NCL = np.clip((levels_L - mean_NC1) * factor + mean_NC1, 0, 1) * 255
        table_NLC = np.ascontiguousarray(table_NCL.astype(np.uint8).transpose(0, 2, 1))
        result = np.empty_like(images)
        for source, table_LC, target in zip(images, table_NLC, result, strict=True):
            target[...] = cv2.LUT(np.ascontiguousarray(source), table_LC[None])
        return result


@component
class Brightness(Drawless):
    """More light: the value of HSV raised.

    RGB -> HSV, V' = clip(V + c, 0, 1), HSV -> RGB on the scale 0 to 1, then truncated to uint8.

    Input: images (N, H, W, 3) uint8; no draws.
    Output: images (N, H, W, 3) uint8.
    Differences: none: bit-equal to the reference for each of the 2**24 colors, every preset and
        severity.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "brightness"
    family: ClassVar[str] = "weather"
    version: ClassVar[int] = 1

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the brighter images."""
        del draws
        return _recolored(images, _Change(lift=constant(BRIGHTNESS, preset, severity)))


@component
class Saturate(Drawless):
    """Paler or stronger colors: the saturation of HSV changed.

    RGB -> HSV, S' = clip(S * a + b, 0, 1), HSV -> RGB on the scale 0 to 1, then truncated to
    uint8. Gray has hue 0, so an offset b > 0 tints it red: a quirk of the reference that is kept.

    Input: images (N, H, W, 3) uint8; no draws.
    Output: images (N, H, W, 3) uint8.
    Differences: none: bit-equal to the reference for each of the 2**24 colors, every preset and
        severity.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "saturate"
    family: ClassVar[str] = "digital"
    version: ClassVar[int] = 1

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images with changed saturation."""
        del draws
        factor, offset = constant(SATURATE, preset, severity)
        return _recolored(images, _Change(factor=factor, offset=offset))


@dataclass(frozen=True, slots=True)
class _Change:
    """V' = clip(V + lift, 0, 1), S' = clip(S * factor + offset, 0, 1)."""

    factor: float = 1.0
    offset: float = 0.0
    lift: float = 0.0


@dataclass(frozen=True, slots=True)
class _Tables:
    """What a change makes of pixels, by their largest and smallest channel.

    Attributes:
        high: by the largest: result of the largest channel, (256,) uint8.
        low: by largest and smallest: result of the smallest channel, (256, 256) uint8.
        value: by the largest: changed value, (256,) float64.
        range: by largest and smallest: their difference on the scale 0 to 1, or 1 where that is 0,
            (256, 256) float64.
        saturation: by largest and smallest: changed saturation, (256, 256) float64.
        unsure: by largest and middle: whether the result of the middle channel, which is then the
            one that ``low`` gives for a smallest channel of that level, may differ by rounding,
            (256, 256); None if the saturation changes, so that ``low`` does not hold for it.
    """

    high: NDArray[np.uint8]
    low: NDArray[np.uint8]
    value: NDArray[np.float64]
    range: NDArray[np.float64]
    saturation: NDArray[np.float64]
    unsure: NDArray[np.bool_] | None


@functools.lru_cache(maxsize=16)
def _tables(change: _Change) -> _Tables:
    largest, smallest = _LEVELS[:, None], _LEVELS
    # Entries with the smallest above the largest are never read.
    saturation = (largest - smallest) / np.maximum(largest, _LEVELS[1])
    saturation = np.clip(saturation * change.factor + change.offset, 0, 1)
    value = np.clip(_LEVELS + change.lift, 0, 1)
    low = 255 * np.clip(value[:, None] * (1 - saturation), 0, 1)
    # Not on the diagonal: there the middle channel is the largest one.
    unsure = (np.abs(low - np.rint(low)) < 1e-6) & (largest != smallest)
    return _Tables(
        high=(value * 255).astype(np.uint8),
        low=low.astype(np.uint8),
        value=value,
        range=np.where(largest == smallest, 1, largest - smallest),
        saturation=saturation,
        unsure=unsure if (change.factor, change.offset) == (1, 0) else None,
    )


def _recolored(images: NDArray[np.uint8], change: _Change) -> NDArray[np.uint8]:
    """Return images after a change in HSV, with the bits of scikit-image's round trip.

    The largest channel becomes V' and the smallest one V' * (1 - S'): both come from tables. Only
    the channel between them needs the hue.
    """
    tables = _tables(change)
    result = np.empty_like(images)
    pixels = images.shape[1] * images.shape[2]
    size = max(1, _BLOCK // pixels)
    for start in range(0, len(images), size):
        # OpenCV is slow with many short rows.
        part = np.ascontiguousarray(images[start : start + size]).reshape(-1, pixels, 3)
        planes: Any = _recolored_planes(cv2.split(part), tables)
        result[start : start + size] = cv2.merge(planes).reshape(-1, *images.shape[1:])
    return result


def _recolored_planes(planes: Any, tables: _Tables) -> list[NDArray[np.uint8]]:
    largest = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    smallest = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    pairs = largest.astype(np.uint16) * 256 + smallest
    high = _looked_up(tables.high, largest)
    low = tables.low.take(pairs)
    if tables.unsure is None:
        middle = _middle(planes, largest, pairs, tables)
    else:
        middle = _middle_of_same_saturation(planes, largest, pairs, tables, tables.unsure)
    # Gray has hue 0: red then counts as its largest channel, green and blue as its smallest.
    ends = [(low, smallest), (high, largest)]
    orders = (ends, ends[::-1], ends[::-1])
    return [_filled(middle, plane, order) for plane, order in zip(planes, orders, strict=True)]


def _filled(
    middle: NDArray[np.uint8],
    plane: NDArray[np.uint8],
    ends: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> NDArray[np.uint8]:
    """Return a channel: the result of each end where it is that end, the later one first."""
    result = middle.copy()
    for found, end in ends:
        cv2.copyTo(found, (plane == end).view(np.uint8), result)
    return result


def _middle_of_same_saturation(
    planes: Sequence[NDArray[np.uint8]],
    largest: NDArray[np.uint8],
    pairs: NDArray[np.uint16],
    tables: _Tables,
    unsure: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Return what `_middle` does if only the value of HSV changes, at half the time.

    All channels are then scaled alike, so one table holds for the middle and the smallest one.
    Only results that should be whole numbers need the hue.
    """
    red, green, blue = planes
    level = np.maximum(np.minimum(red, green), np.minimum(np.maximum(red, green), blue))
    keys = largest.astype(np.uint16) * 256 + level
    middle = tables.low.take(keys)
    places = np.flatnonzero(unsure.take(keys))
    if len(places):
        some = [array.reshape(1, -1)[:, places] for array in (*planes, largest)]
        middle.reshape(-1)[places] = _middle(
            some[:3], some[3], pairs.reshape(1, -1)[:, places], tables
        )
    return middle


def _middle(
    planes: Sequence[NDArray[np.uint8]],
    largest: NDArray[np.uint8],
    pairs: NDArray[np.uint16],
    tables: _Tables,
) -> NDArray[np.uint8]:
    """Return what becomes of the channel between the largest and the smallest.

    In float64 and operation by operation as scikit-image does it: where the result should be a
    whole number, truncation shows the last bit.
    """
    red, green, blue = planes
    # Hue in sixths of the circle: 0 + (g - b) / range, 2 + (b - r) / range or 4 + (r - g) / range.
    sixth, first, second = np.zeros_like(red), green.copy(), blue.copy()
    for at, plane, left, right in ((2, green, blue, red), (4, blue, red, green)):
        where = (plane == largest).view(np.uint8)
        cv2.copyTo(np.full_like(red, at), where, sixth)
        cv2.copyTo(left, where, first)
        cv2.copyTo(right, where, second)
    falling = (first < second).view(np.uint8)
    hue = _looked_up(_LEVELS, first)
    # One array for all that is needed once: new memory costs more than the arithmetic.
    other = _looked_up(_LEVELS, second)
    hue -= other
    hue /= tables.range.take(pairs, out=other, mode="clip")
    hue += sixth
    hue /= 6
    hue += np.less(hue, 0, out=other)
    hue *= 6
    hue -= np.floor(hue, out=other)
    # The distance f from the last sixth if the channel falls with the hue, otherwise 1 - f.
    hue *= _looked_up(_FALLING[0], falling, other)
    hue += _looked_up(_FALLING[1], falling, other)
    hue *= tables.saturation.take(pairs, out=other, mode="clip")
    np.subtract(1, hue, out=hue)
    hue *= _looked_up(tables.value, largest, other)
    hue *= 255
    return hue.astype(np.uint8)


def _looked_up(
    table: NDArray[T], index: NDArray[np.uint8], out: NDArray[T] | None = None
) -> NDArray[T]:
    found: Any = cv2.LUT(index, table, out)
    return np.asarray(found, dtype=table.dtype)
