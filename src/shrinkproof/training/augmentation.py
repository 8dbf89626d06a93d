"""Random changes of training images: whole uint8 batches, drawn from a given generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UnknownNameError, UsageError

# Shape suffixes: N images, H height, W width, 3 channels.

Batch = NDArray[np.uint8]
PADDING: Final = 4
"""Pixels of zero padding of a random crop: the CIFAR recipe (He et al. 2016, arXiv:1512.03385)."""


def random_crop(images: Batch, rng: np.random.Generator, *, padding: int = PADDING) -> Batch:
    """Return crops of the original size from the zero-padded images.

    Args:
        images: (N, H, W, 3) uint8.
        rng: where the offsets come from, each uniform on 0 to ``2 * padding``.
        padding: pixels of zeros on each side, >= 0.

    Raises:
        UsageError: the padding is negative.
    """
    if padding < 0:
        raise UsageError(f"random crop: padding must be at least 0, got {padding}")
    count, height, width = images.shape[:3]
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    top_N, left_N = rng.integers(0, 2 * padding + 1, size=(2, count))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    crops_N3HW = windows[np.arange(count), top_N, left_N]
    return np.ascontiguousarray(crops_N3HW.transpose(0, 2, 3, 1))


def random_flip(images: Batch, rng: np.random.Generator) -> Batch:
    """Return the images, each mirrored left to right with probability one half."""
    flipped = images.copy()
    chosen_N = rng.random(len(images)) < 0.5
    flipped[chosen_N] = images[chosen_N, :, ::-1]
    return flipped


AUGMENTATIONS: Final[dict[str, Callable[[Batch, np.random.Generator], Batch]]] = {
    "crop": random_crop,
    "flip": random_flip,
}


def augmentation(
    names: tuple[str, ...], rng: np.random.Generator
) -> Callable[[Batch], Batch] | None:
    """Return the augmentations in the given order as one function; None for no names.

    Args:
        names: of ``crop`` and ``flip``.
        rng: consumed batch after batch, so the order of the batches matters.

    Raises:
        UnknownNameError: a name is not an augmentation.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise UnknownNameError("augmentation", name, AUGMENTATIONS)
    if not names:
        return None

    def augment(images: Batch) -> Batch:
        for name in names:
            images = AUGMENTATIONS[name](images, rng)
        return images

    return augment
