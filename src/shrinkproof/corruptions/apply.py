"""The one way to corrupt images: checked input, per-image random streams, bounded memory."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.presets import check_preset
from shrinkproof.errors import DataError, PluginError
from shrinkproof.randomness import Streams
from shrinkproof.records import Condition

_SMALLEST: Final = 16
_BLOCK: Final = 2**18
"""Values treated at once: few enough for float64 copies to stay in the processor's cache."""


def corrupt(
    images: NDArray[np.uint8],
    condition: Condition,
    *,
    preset: str,
    seed: int,
    index: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Return the images under a condition, (N, H, W, 3) uint8; unchanged if it is clean.

    Randomness depends only on seed, corruption, severity, preset and the index of each image, so
    batch size, order and subset cannot change a pixel.

    Args:
        images: (N, H, W, 3) uint8, at least 16 x 16 pixels.
        condition: which corruption at which severity.
        preset: whose constants to use; never guessed from the image size.
        seed: seed of the study.
        index: (N,) index of each image in its data set, not negative.

    Raises:
        UnknownNameError: the corruption or the preset is not known.
        DataError: images or index are not of that form.
        PluginError: a corruption returned something else than such images.
    """
    _check_images(images)
    if condition.is_clean:
        return images
    corruption = CORRUPTIONS.create(condition.corruption)
    check_preset(preset)
    _check_index(index, len(images))
    parts = (seed, "corruption", condition.corruption, condition.severity, preset)
    shape = (images.shape[1], images.shape[2])
    images = np.ascontiguousarray(images)
    result = np.empty_like(images)
    size = max(1, _BLOCK // max(1, images[:1].size))
    for start in range(0, len(images), size):
        block = slice(start, start + size)
        draws = corruption.draw(Streams(parts, index[block]), shape, condition.severity, preset)
        corrupted = corruption.apply(images[block], condition.severity, preset, draws)
        _check_result(corrupted, images[block], condition)
        result[block] = corrupted
    return result


def _check_images(images: NDArray[Any]) -> None:
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise DataError(
            f"images to corrupt must be (N, H, W, 3) uint8, got {images.shape} {images.dtype}"
        )
    if min(images.shape[1:3]) < _SMALLEST:
        raise DataError(
            f"images to corrupt must have at least {_SMALLEST} x {_SMALLEST} pixels, got "
            f"{images.shape[1]} x {images.shape[2]}"
        )


def _check_index(index: NDArray[Any], count: int) -> None:
    if index.shape != (count,) or index.dtype.kind not in "iu":
        raise DataError(
            f"index must be one whole number per image ({count},), got {index.shape} {index.dtype}"
        )
    if count and index.min() < 0:
        raise DataError(f"index must not be negative, got {index.min()}")


def _check_result(corrupted: Any, images: NDArray[np.uint8], condition: Condition) -> None:
    shape = getattr(corrupted, "shape", None)
    dtype = getattr(corrupted, "dtype", None)
    if shape != images.shape or dtype != np.uint8:
        raise PluginError(
            f"corruption {condition.corruption!r} of {CORRUPTIONS.origin(condition.corruption)} "
            f"must return {images.shape} uint8, got {shape} {dtype}"
        )
