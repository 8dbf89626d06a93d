"""What a camera and its file format do: lost contrast, compression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.drawless import Drawless
from shrinkproof.corruptions.presets import CONTRAST, JPEG_COMPRESSION, constant
from shrinkproof.errors import DataError
from shrinkproof.registry import component


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
class JpegCompression(Drawless):
    """Blocks and color bleeding of strong JPEG compression.

    Baseline JPEG with 4:2:0 chroma subsampling at the preset's quality, written and read again in
    memory.

    Input: images (N, H, W, 3) uint8; no draws.
    Output: images (N, H, W, 3) uint8.
    Differences: OpenCV's codec instead of Pillow's; bit-equal to outputs of the reference at 32
        and 224 pixels.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "jpeg_compression"
    family: ClassVar[str] = "digital"
    version: ClassVar[int] = 1

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images as they come back from their files.

        Raises:
            DataError: the codec refused an image.
        """
        del draws
        settings = [cv2.IMWRITE_JPEG_QUALITY, constant(JPEG_COMPRESSION, preset, severity)]
        # OpenCV's codec takes and gives BGR.
        reversed_channels = np.ascontiguousarray(images[..., ::-1])
        result = np.empty_like(reversed_channels)
        for source, target in zip(reversed_channels, result, strict=True):
            written, content = cv2.imencode(".jpg", source, settings)
            read = cv2.imdecode(content, cv2.IMREAD_COLOR) if written else None
            if read is None:
                raise DataError(
                    f"jpeg_compression: the codec must accept images of {source.shape[0]} x "
                    f"{source.shape[1]} pixels, but OpenCV refused one"
                )
            target[...] = read
        return np.ascontiguousarray(result[..., ::-1])
