"""What a model reference gives: a module with everything needed to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import nn

Scale = Annotated[float, pydantic.Field(gt=0)]


@component
class Preprocess:
    """From uint8 pixels to network input: ``(pixel / 255 - mean) / std`` per channel.

    Attributes:
        mean: mean of each channel, on the scale 0 to 1.
        std: standard deviation of each channel, on the scale 0 to 1; above 0.
    """

    mean: Annotated[tuple[float, float, float], pydantic.Field(strict=False)] = (0.0, 0.0, 0.0)
    std: Annotated[tuple[Scale, Scale, Scale], pydantic.Field(strict=False)] = (1.0, 1.0, 1.0)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, 3, H, W) float32 from (N, H, W, 3) uint8.

        Raises:
            DataError: the images are not (N, H, W, 3) uint8.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise DataError(f"images must be (N, H, W, 3) uint8, got {images.shape} {images.dtype}")
        levels = np.arange(256, dtype=np.float64)[:, None] / 255.0
        table_LC = ((levels - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32)
        inputs = np.empty((len(images), 3, *images.shape[1:3]), dtype=np.float32)
        for channel in range(3):
            np.take(table_LC[:, channel], images[..., channel], out=inputs[:, channel])
        return inputs


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A module with everything needed to use it.

    Attributes:
        module: the network, in evaluation mode, float32, on the CPU.
        preprocess: from uint8 images to its input.
        input_shape: (C, H, W) of one input.
        num_classes: number of logits.
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
