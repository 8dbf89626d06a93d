"""Drops of water or mud on the lens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import SPATTER
from shrinkproof.corruptions.draws import bits, normal
from shrinkproof.corruptions.gaussian import gaussian_filter
from shrinkproof.corruptions.presets import constant
from shrinkproof.protocols import Draws
from shrinkproof.registry import component

_WATER: Final = np.array([175, 238, 238]) / 255
_MUD: Final = np.array([63, 42, 20]) / 255
"""Red, green and blue."""

_EMBOSS: Final = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float32)


@component
class Spatter:
    """Drops of water or mud on the lens.

    A layer of liquid is mean + sigma * z, smoothed by a Gaussian, and 0 below a threshold.

    Water (severity 1 to 3) shines at the rims of its drops: the layer times the embossed distance
    from the rims, scaled to a largest value of the intensity, is a weight m, and x + m * turquoise
    on the scale 0 to 1 is clipped, then truncated to uint8. Mud (4 and 5) covers: with m where
    the layer is not 0, smoothed by a second Gaussian, and 0 below 0.8, the result is
    (1 - m) * x + m * brown.

    Input: images (N, H, W, 3) uint8; draws ``layer`` (N, H, W) floating point, standard normal.
    Output: images (N, H, W, 3) uint8. Where no liquid passes the threshold the image stays as it
        is; the reference divides by 0 there.
    Differences: none from the reference, given its draws: bit-equal in 1,900 images of 32 and 224
        pixels, all presets and severities.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "spatter"
    family: ClassVar[str] = "weather"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the standard normal numbers behind each layer of liquid."""
        constant(SPATTER, preset, severity)
        return {"layer": normal(bits(streams, layer=(np.uint16, shape))["layer"])}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images with drops on them."""
        mean, sigma, reach, threshold, last, is_mud = constant(SPATTER, preset, severity)
        layer = draws["layer"] * np.float64(sigma)
        layer += mean
        layer = gaussian_filter(layer, reach, border="nearest")
        if is_mud:
            # This variant of the reference adds mud in float64, the others in float32.
            exact = np.float64 if preset == "imagecorruptions" else np.float32
            cover = _cover(layer > threshold, last)
            return _laid_over(images, cover, _MUD.astype(exact), opaque=True)
        layer *= layer >= threshold
        layer *= 255
        # A height above 1 wraps around, as in the reference.
        shine = _shine(layer.astype(np.int32).astype(np.uint8), last)
        return _laid_over(images, shine, _WATER.astype(np.float32), opaque=False)


def _shine(liquid: NDArray[np.uint8], intensity: float) -> NDArray[np.float32]:
    """Return how much water shines, (N, H, W) float32, at most the intensity.

    Args:
        liquid: height of the water, (N, H, W) uint8.
        intensity: largest value of each image.
    """
    shine = np.empty(liquid.shape, dtype=np.float32)
    for height, target in zip(liquid, shine, strict=True):
        rims = cv2.bitwise_not(cv2.Canny(height, 50, 150))
        distance = np.minimum(cv2.distanceTransform(rims, cv2.DIST_L2, 5), 20)
        depth: Any = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
        relief = cv2.blur(cv2.filter2D(depth, cv2.CV_8U, _EMBOSS), (3, 3))
        np.multiply(height, relief, out=target, dtype=np.float32)
    largest = shine.max(axis=(1, 2), keepdims=True)
    shine /= np.where(largest > 0, largest, 1)
    shine *= np.float32(intensity)
    return shine


def _cover(mud: NDArray[np.bool_], reach: float) -> NDArray[np.float32]:
    """Return how much mud covers, (N, H, W) float32 from 0 to 1: smoothed, and nothing below 0.8.

    Args:
        mud: where there is mud, (N, H, W).
        reach: standard deviation of the smoothing, pixels.
    """
    cover = gaussian_filter(mud.astype(np.float64), (reach, 0), border="nearest")
    # Like the reference: float64 sums, but float32 between rows and columns.
    cover = cover.astype(np.float32).astype(np.float64)
    smooth = gaussian_filter(cover, (0, reach), border="nearest").astype(np.float32)
    smooth[smooth < 0.8] = 0
    return smooth


def _laid_over(
    images: NDArray[np.uint8], cover: NDArray[np.float32], color: NDArray[Any], *, opaque: bool
) -> NDArray[np.uint8]:
    """Return images with a color added where there is any cover, truncated to uint8.

    Args:
        images: (N, H, W, 3).
        cover: weight of the color, (N, H, W).
        color: red, green and blue, on the scale 0 to 1; its type is that of the sum.
        opaque: whether the cover hides as much of the image.
    """
    result = images.copy()
    places = np.flatnonzero(cover != 0)
    weight = cover.reshape(-1)[places]
    for channel, shade in enumerate(color):
        plane = result.reshape(-1)[channel::3]
        seen = plane[places] / np.float32(255)
        if opaque:
            seen *= 1 - weight
        plane[places] = np.minimum(seen + weight * shade, 1) * 255
    return result
