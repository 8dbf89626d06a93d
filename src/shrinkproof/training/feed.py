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

if TYPE_CHECKING:
    from torch import Tensor


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
        augment: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(inputs (n, C, H, W) float32, target (n,) int64)``.

        Args:
            size: images of a batch, >= 1; the last one may be smaller.
            order: positions to read, in this order; all images in their own order if None.
            augment: changes the uint8 images (n, H, W, 3) before preprocessing.

        Raises:
            UsageError: the size is not positive.
            DataError: there are no images, or ``order`` names one that does not exist.
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
            pixels = self.images.images[positions]
            if augment is not None:
                pixels = augment(pixels)
            target = np.ascontiguousarray(self.images.target[positions], dtype=np.int64)
            yield torch.from_numpy(self.preprocess(pixels)), torch.from_numpy(target)
