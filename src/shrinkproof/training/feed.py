"""Images of one split on their way to the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError, UsageError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.predictions import Objects
from shrinkproof.protocols import Target
from shrinkproof.training.augmentation import MovesBoxes

if TYPE_CHECKING:
    from torch import Tensor

Augment = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeed:
    """A split as batches of preprocessed tensors; uint8 until the last moment.

    Attributes:
        images: the labelled images.
        preprocess: from uint8 pixels to network input.
    """

    images: ImageSet
    preprocess: Preprocess

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def fingerprint(self) -> str:
        """Identity of what the batches hold: the images, their labels, the preprocessing."""
        return f"{self.images.fingerprint} {self.preprocess}"

    def batches(
        self,
        size: int,
        *,
        order: NDArray[np.int64] | None = None,
        augment: Augment | None = None,
    ) -> Iterator[tuple[Tensor, Target]]:
        """Yield ``(inputs (n, C, H, W) float32, target)``.

        The target is the class of each image, (n,) int64. Of images with objects it is a mapping
        for each: ``boxes`` (g, 4) float32 in pixels of the input and ``labels`` (g,) int64, without
        crowd regions; each image is augmented and resized by itself, so sizes may differ.

        Args:
            size: images of a batch, >= 1; the last one may be smaller.
            order: positions to read, in this order; all images in their own order if None.
            augment: changes the uint8 images (n, H, W, 3) before preprocessing; where images have
                objects it must be `MovesBoxes`.

        Raises:
            UsageError: the size is not positive, or the augmentation cannot move boxes.
            DataError: there are no images, ``order`` names one that does not exist, or images of
                several sizes are not resized.
        """
        import torch

        if size < 1:
            raise UsageError(f"{self.images.source}: batch size must be at least 1, got {size}")
        if order is None:
            order = np.arange(self.count, dtype=np.int64)
        if not len(order):
            raise DataError(f"{self.images.source}: must have at least one image, got none")
        if order.min() < 0 or order.max() >= self.count:
            raise DataError(
                f"{self.images.source}: positions must be 0 to {self.count - 1}, got "
                f"{order.min()} to {order.max()}"
            )
        for start in range(0, len(order), size):
            positions = order[start : start + size]
            if isinstance(self.images.target, Objects):
                yield self._with_boxes(positions, self.images.target, augment)
                continue
            pixels = self.images.images[positions]
            if augment is not None:
                pixels = augment(pixels)
            target = np.ascontiguousarray(self.images.labels[positions], dtype=np.int64)
            yield torch.from_numpy(self.preprocess(pixels)), torch.from_numpy(target)

    def _with_boxes(
        self, positions: NDArray[np.int64], objects: Objects, augment: Augment | None
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Return images, each resized by itself, and their objects in pixels of the input."""
        import torch

        if augment is not None and not isinstance(augment, MovesBoxes):
            raise UsageError(
                f"{self.images.source}: augment must have a method with_boxes(image, boxes), "
                "because the images have boxes, got none; use shrinkproof's augmentations"
            )
        inputs, target = [], []
        for position in positions[:, None]:
            (image,) = self.images.images[position]
            found = objects[position]
            boxes, label = found.boxes[~found.crowd], found.label[~found.crowd]
            if augment is not None:
                image, boxes, rows = augment.with_boxes(image, boxes)
                label = label[rows]
            inputs.append(self.preprocess(image[None]))
            edges = self._in_pixels_of(inputs[-1], boxes, image.shape)
            # Rounding to float32 may leave nothing of a sliver at the edge.
            solid = (edges[:, 2:] > edges[:, :2]).all(axis=1)
            kept = {"boxes": edges[solid], "labels": label[solid]}
            target.append({name: torch.from_numpy(values) for name, values in kept.items()})
        if len({each.shape for each in inputs}) > 1:
            raise DataError(
                f"{self.images.source}: images of a batch must have one size, got several; give "
                "the model's preprocessing a size"
            )
        return torch.from_numpy(np.concatenate(inputs)), target

    def _in_pixels_of(
        self, inputs: NDArray[np.float32], boxes: NDArray[np.float64], shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Return boxes of an image of a shape (H, W, 3) in pixels of the input, inside of it."""
        edges = self.preprocess.to_input(boxes, (shape[0], shape[1]))
        height, width = inputs.shape[2:]
        limits = np.array([width, height, width, height], dtype=np.float32)
        return np.clip(edges, np.float32(0), limits)
