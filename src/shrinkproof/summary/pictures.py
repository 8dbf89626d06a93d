"""Small pictures for the page: an image, and a heat map laid over it, as PNG in base64."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Shape suffixes: H, W of a picture; h, w of a map.

_FOR: Final = np.array([255.0, 110.0, 0.0])
_AGAINST: Final = np.array([0.0, 110.0, 255.0])
_STRONGEST: Final = 0.8
"""Opacity of the largest value of a map."""

_COLORS: Final = 64


def picture_of(image_HW3: NDArray[np.uint8]) -> str:
    """Return an image as PNG in base64, with 64 colors."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image_HW3).quantize(_COLORS).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def overlay_of(image_HW3: NDArray[np.uint8], map_hw: NDArray[np.float32]) -> str:
    """Return a map over its gray image: orange for the class, blue against it.

    The largest absolute value of the map has the full color, so pictures compare shapes only.
    """
    from PIL import Image

    height, width = image_HW3.shape[:2]
    largest = float(np.abs(map_hw).max()) or 1.0
    scaled = Image.fromarray((map_hw / largest).astype(np.float32))
    heat_HW1 = np.asarray(scaled.resize((width, height), Image.Resampling.BILINEAR))[..., None]
    gray_HW1 = image_HW3.astype(np.float64).mean(axis=2, keepdims=True)
    color_HW3 = np.where(heat_HW1 >= 0, _FOR, _AGAINST)
    opacity_HW1 = _STRONGEST * np.abs(heat_HW1)
    mixed_HW3 = gray_HW1 * (1 - opacity_HW1) + color_HW3 * opacity_HW1
    return picture_of(np.clip(np.rint(mixed_HW3), 0, 255).astype(np.uint8))
