"""What a model reference gives: a module with everything needed to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.detecting import Detector
from shrinkproof.errors import DataError
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import nn

Scale = Annotated[float, pydantic.Field(gt=0)]
Side = Annotated[int, pydantic.Field(ge=1)]


@component
class Preprocess:
    """From uint8 pixels to network input: ``(pixel / 255 - mean) / std`` per channel.

    Attributes:
        mean: mean of each channel, on the scale 0 to 1.
        std: standard deviation of each channel, on the scale 0 to 1; above 0.
        size: (H, W) that images are resized to, by OpenCV's bilinear interpolation of uint8
            pixels; None leaves them as they are.
        keep_ratio: resize both sides by one factor, so that the image fits, and fill up with the
            mean color, zero after normalization, at the right and at the bottom; otherwise each
            side is stretched.
    """

    mean: Annotated[tuple[float, float, float], pydantic.Field(strict=False)] = (0.0, 0.0, 0.0)
    std: Annotated[tuple[Scale, Scale, Scale], pydantic.Field(strict=False)] = (1.0, 1.0, 1.0)
    size: Annotated[tuple[Side, Side], pydantic.Field(strict=False)] | None = None
    keep_ratio: bool = False

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, 3, H, W) float32 from (N, H, W, 3) uint8.

        Raises:
            DataError: the images are not (N, H, W, 3) uint8.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise DataError(f"images must be (N, H, W, 3) uint8, got {images.shape} {images.dtype}")
        tall, wide = images.shape[1:3] if self.size is None else self._inner(images.shape[1:3])
        images = self._resized(images)
        levels = np.arange(256, dtype=np.float64)[:, None] / 255.0
        table_LC = ((levels - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32)
        inputs = np.empty((len(images), 3, *images.shape[1:3]), dtype=np.float32)
        for channel in range(3):
            np.take(table_LC[:, channel], images[..., channel], out=inputs[:, channel])
        inputs[:, :, tall:] = 0
        inputs[:, :, :, wide:] = 0
        return inputs

    def factors(self, shape: tuple[int, int]) -> tuple[float, float]:
        """Return by how much height and width of an image (H, W) are multiplied."""
        if self.size is None:
            return 1.0, 1.0
        tall, wide = self._inner(shape)
        return tall / shape[0], wide / shape[1]

    def to_image(self, boxes: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return boxes (m, 4) of the network's input in pixels of the image (H, W)."""
        tall, wide = self.factors(shape)
        return np.asarray(boxes / np.array([wide, tall, wide, tall]), dtype=np.float32)

    def to_input(self, boxes: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return boxes (m, 4) of an image (H, W) in pixels of the network's input."""
        tall, wide = self.factors(shape)
        return np.asarray(boxes * np.array([wide, tall, wide, tall]), dtype=np.float32)

    def _inner(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return height and width of the resized image, without what is filled up."""
        assert self.size is not None, "only resized images have an inner size"
        if not self.keep_ratio:
            return self.size
        factor = min(self.size[0] / shape[0], self.size[1] / shape[1])
        return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))

    def _resized(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        shape = (images.shape[1], images.shape[2])
        if self.size is None or shape == self.size:
            return images
        import cv2

        tall, wide = self._inner(shape)
        found = np.zeros((len(images), *self.size, 3), dtype=np.uint8)
        for image, place in zip(images, found, strict=True):
            place[:tall, :wide] = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A module with everything needed to use it.

    Attributes:
        module: the network, in evaluation mode, float32, on the CPU.
        preprocess: from uint8 images to its input.
        input_shape: (C, H, W) of one input.
        num_classes: number of logits, or of classes of objects where the network is a detector.
        fingerprint: identity of weights, architecture and preprocessing.
        seen: data references or split names it was trained on; None where nobody said, which
            counts as having seen everything.
    """

    module: nn.Module
    preprocess: Preprocess
    input_shape: tuple[int, int, int]
    num_classes: int
    fingerprint: str
    seen: tuple[str, ...] | None

    @property
    def detector(self) -> Detector | None:
        """The network as a detector; None where it gives one row of logits for each image."""
        return self.module if isinstance(self.module, Detector) else None
