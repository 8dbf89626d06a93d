"""The one way to corrupt images: checked input, per-image random streams, bounded memory."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.jpeg import recompress
from shrinkproof.corruptions.presets import STORED_QUALITY, check_jpeg85, check_preset
from shrinkproof.errors import DataError, PluginError
from shrinkproof.randomness import Streams
from shrinkproof.records import Condition

_SMALLEST: Final = 16
_BLOCK: Final = 2**18
"""Values treated at once: few enough for float64 copies to stay in the processor's cache."""


def corrupt_batch(
    images: NDArray[np.uint8],
    condition: Condition,
    *,
    preset: str,
    seed: int,
    index: NDArray[np.int64],
    frost_dir: Path | None = None,
    jpeg85: bool = False,
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
        frost_dir: folder with the original frost photos; without it frost is procedural.
        jpeg85: write and read each corrupted image as JPEG of quality 85, as the published sets
            that are stored as JPEG files were.

    Raises:
        UnknownNameError: the corruption or the preset is not known.
        UsageError: ``jpeg85`` does not belong to the preset.
        DataError: images or index are not of that form.
        PluginError: a corruption returned something else than such images.
    """
    check_images(images)
    if condition.is_clean:
        return images
    check_preset(preset)
    if jpeg85:
        check_jpeg85(preset)
    corruption = create(condition.corruption, frost_dir)
    check_index(index, len(images))
    streams = streams_of(condition, preset=preset, seed=seed, index=index)
    shape = (images.shape[1], images.shape[2])
    _keep_freed_memory()
    result = np.empty(images.shape, dtype=np.uint8)
    size = max(1, _BLOCK // max(1, images[:1].size))
    for start in range(0, len(images), size):
        block = slice(start, start + size)
        draws = corruption.draw(streams.part(block), shape, condition.severity, preset)
        clean = np.ascontiguousarray(images[block])
        corrupted = corruption.apply(clean, condition.severity, preset, draws)
        _check_result(corrupted, clean, condition)
        result[block] = recompress(corrupted, STORED_QUALITY) if jpeg85 else corrupted
    return result


def streams_of(
    condition: Condition, *, preset: str, seed: int, index: NDArray[np.int64]
) -> Streams:
    """Return the random streams of images under a condition, whoever applies it."""
    return Streams((seed, "corruption", condition.corruption, condition.severity, preset), index)


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library keep freed blocks of a few megabytes for the next array.

    glibc raises its threshold for that to the largest block that was ever freed, up to 32 MiB.
    Otherwise every block of images pays for fresh pages, up to a third of the time of fog at 32
    pixels. No page of this one is touched.
    """
    np.empty(30_000_000, dtype=np.uint8)


def create(name: str, frost_dir: Path | None = None) -> Any:
    """Return a corruption by name; frost with the photos of a folder, if one is given.

    Raises:
        UnknownNameError: the corruption is not known.
        DataError: the folder does not hold the photos.
    """
    photos = {"photos": str(frost_dir)} if name == "frost" and frost_dir is not None else {}
    return CORRUPTIONS.create(name, photos)


def check_images(images: NDArray[Any]) -> None:
    """Check that images are RGB of 8 bits and large enough.

    Raises:
        DataError: they are not (N, H, W, 3) uint8, or have fewer than 16 x 16 pixels.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise DataError(
            f"images to corrupt must be (N, H, W, 3) uint8, got {images.shape} {images.dtype}"
        )
    if min(images.shape[1:3]) < _SMALLEST:
        raise DataError(
            f"images to corrupt must have at least {_SMALLEST} x {_SMALLEST} pixels, got "
            f"{images.shape[1]} x {images.shape[2]}"
        )


def check_index(index: NDArray[Any], count: int) -> None:
    """Check that each image has an index of its own data set.

    Raises:
        DataError: there is not one whole number per image, or one is negative.
    """
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
