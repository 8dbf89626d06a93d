"""Random changes of uint8 training images and of their boxes, drawn from a given generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UnknownNameError, UsageError

# Shape suffixes: N images, H height, W width, 3 channels, g and k boxes.

Batch = NDArray[np.uint8]
Boxes = NDArray[np.float64]
Rows = NDArray[np.int64]
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


def crop_with_boxes(
    image: Batch, boxes: Boxes, rng: np.random.Generator
) -> tuple[Batch, Boxes, Rows]:
    """Return a crop of the original size from the zero-padded image, and the boxes in it.

    The padding is an eighth of each side: as much as 4 pixels of 32.

    Args:
        image: (H, W, 3) uint8.
        boxes: (g, 4) float64 edges ``x1, y1, x2, y2`` in pixels of the image.
        rng: where the offsets come from.

    Returns:
        The image, the boxes (k, 4) clipped to it, and which of the given boxes they are, (k,).
        Boxes whose center is cut off are left out (Liu et al. 2016, arXiv:1512.02325).
    """
    height, width = image.shape[:2]
    tall, wide = height // 8, width // 8
    top, left = rng.integers((0, 0), (2 * tall + 1, 2 * wide + 1)).tolist()
    padded = np.pad(image, ((tall, tall), (wide, wide), (0, 0)))
    crop = np.ascontiguousarray(padded[top : top + height, left : left + width])
    moved = boxes + np.array([wide - left, tall - top] * 2, dtype=np.float64)
    size = np.array([width, height], dtype=np.float64)
    center = (moved[:, :2] + moved[:, 2:]) / 2
    rows = np.flatnonzero(((center > 0) & (center < size)).all(axis=1))
    return crop, np.clip(moved[rows], 0.0, np.tile(size, 2)), rows


def flip_with_boxes(
    image: Batch, boxes: Boxes, rng: np.random.Generator
) -> tuple[Batch, Boxes, Rows]:
    """Return an image and its boxes, mirrored left to right with probability one half."""
    rows = np.arange(len(boxes), dtype=np.int64)
    if rng.random() >= 0.5:
        return image, boxes, rows
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
    return np.ascontiguousarray(image[:, ::-1]), mirrored, rows


AUGMENTATIONS: Final[dict[str, Callable[[Batch, np.random.Generator], Batch]]] = {
    "crop": random_crop,
    "flip": random_flip,
}

_WITH_BOXES: Final = {"crop": crop_with_boxes, "flip": flip_with_boxes}


@runtime_checkable
class MovesBoxes(Protocol):
    """An augmentation that says where the objects of an image are afterwards."""

    def with_boxes(self, image: Batch, boxes: Boxes) -> tuple[Batch, Boxes, Rows]:
        """Return a changed image (H, W, 3), the boxes (k, 4) left in it, and which they are (k,).

        Args:
            image: (H, W, 3) uint8.
            boxes: (g, 4) float64 edges ``x1, y1, x2, y2`` in pixels of the image.
        """
        ...


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Some augmentations one after the other.

    Attributes:
        names: of ``crop`` and ``flip``, in the order in which they are applied.
        rng: consumed batch after batch, so the order of the batches matters.
    """

    names: tuple[str, ...]
    rng: np.random.Generator

    def __call__(self, images: Batch) -> Batch:
        """Return changed images (N, H, W, 3) uint8."""
        for name in self.names:
            images = AUGMENTATIONS[name](images, self.rng)
        return images

    def with_boxes(self, image: Batch, boxes: Boxes) -> tuple[Batch, Boxes, Rows]:
        """Return a changed image (H, W, 3), the boxes (k, 4) left in it, and which they are (k,).

        Args:
            image: (H, W, 3) uint8.
            boxes: (g, 4) float64 edges ``x1, y1, x2, y2`` in pixels of the image.
        """
        rows = np.arange(len(boxes), dtype=np.int64)
        for name in self.names:
            image, boxes, kept = _WITH_BOXES[name](image, boxes, self.rng)
            rows = rows[kept]
        return image, boxes, rows


def augmentation(names: tuple[str, ...], rng: np.random.Generator) -> Augmentation | None:
    """Return the augmentations in the given order; None for no names.

    Args:
        names: of ``crop`` and ``flip``.
        rng: consumed batch after batch, so the order of the batches matters.

    Raises:
        UnknownNameError: a name is not an augmentation.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise UnknownNameError("augmentation", name, AUGMENTATIONS)
    return Augmentation(names, rng) if names else None
