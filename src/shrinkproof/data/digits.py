"""Handwritten digits that come with scikit-learn: real images without a download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.errors import DataError
from shrinkproof.registry import component

_SIZE: Final = 8
_SCALE: Final = 4
_DENOMINATOR: Final = 1024
"""Common denominator of the cubic weights at eighths of a pixel: 2 * 8**3."""


@component
class Digits:
    """1,797 handwritten digits as 32 x 32 RGB images, ten classes.

    Source: the UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin and Kaynak
    1998), as `sklearn.datasets.load_digits` returns it: 8 x 8 pixels of 0 to 16. Upscaled four
    times by cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = -1/2, edges
    repeated) in integer arithmetic, so every machine makes the same bytes.
    """

    name: ClassVar[str] = "digits"
    version: ClassVar[int] = 1

    def load(self, rest: str, roots: Mapping[str, Path]) -> ImageSet:
        """Return the images in the order of scikit-learn.

        Raises:
            DataError: the reference has something after ``digits``.
        """
        del roots  # the images come with scikit-learn
        if rest:
            raise DataError(f"data reference 'digits' has no parts, got 'digits:{rest}'")
        from sklearn.datasets import load_digits

        found = load_digits()
        images = upscale(found.images.astype(np.int64))
        return ImageSet(
            source=self.name,
            images=images,
            shape=(images.shape[1], images.shape[2]),
            target=found.target.astype(np.int64),
            classes=tuple(str(digit) for digit in range(10)),
            index=np.arange(len(images), dtype=np.int64),
            hashes=hash_pixels(images),
            preset="cifar",
        )


def upscale(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return (N, 32, 32, 3) uint8 from (N, 8, 8) levels 0 to 16, which become 0 to 255."""
    weights_LS = _cubic_weights()
    scaled = weights_LS @ images @ weights_LS.T
    unit = 16 * _DENOMINATOR**2
    gray = np.clip((2 * 255 * scaled + unit) // (2 * unit), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(gray[..., None], 3, axis=-1))


def _cubic_weights() -> NDArray[np.int64]:
    """Return the (32, 8) interpolation matrix times `_DENOMINATOR`."""
    large = _SIZE * _SCALE
    weights = np.zeros((large, _SIZE), dtype=np.int64)
    for row in range(large):
        # Pixel centers: (row + 1/2) / 4 - 1/2, counted in eighths of a small pixel.
        eighths = 2 * row + 1 - _SCALE
        first, t = divmod(eighths, 8)
        taps = (
            -(t**3) + 16 * t**2 - 64 * t,
            3 * t**3 - 40 * t**2 + 1024,
            -3 * t**3 + 32 * t**2 + 64 * t,
            t**3 - 8 * t**2,
        )
        for offset, tap in zip(range(-1, 3), taps, strict=True):
            weights[row, min(max(first + offset, 0), _SIZE - 1)] += tap
    return weights
