"""Blur and shuffle of patterned glass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.blur import SmoothedLevels
from shrinkproof.corruptions.constants import GLASS_BLUR
from shrinkproof.corruptions.draws import bits
from shrinkproof.corruptions.presets import constant
from shrinkproof.protocols import Draws
from shrinkproof.registry import component

_PIXELS: Final = 2**17
"""Pixels whose sources are traced at once."""


@component
class GlassBlur:
    """Blur, shuffle within a few pixels, and blur again, as of patterned glass.

    1. Gaussian blur, truncated to uint8, as in `GaussianBlur`.
    2. In each pass, from row H - d up to row d + 1 and in each row from column W - d to column
       d + 1, pixel (h, w) becomes a copy of pixel (h + dy, w + dx), dx and dy in [-d, d - 1].
    3. The same blur again, clipped, truncated to uint8.

    The reference means to swap the two pixels, but swaps two views of one array, which copies.

    Input: images (N, H, W, 3) uint8; draws ``shift`` (N, passes, K, 2) int8 in [-d, d - 1], K
        the positions of a pass in the order of the scan, last axis (dx, dy).
    Output: images (N, H, W, 3) uint8.
    Differences: none in the shuffle; those of `GaussianBlur` in the blurs.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    """

    name: ClassVar[str] = "glass_blur"
    family: ClassVar[str] = "blur"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the shift of each scanned position.

        Shifts come from 8 random bits, or from 16 where 2 * d does not divide 256: then the
        probability of a shift is off by less than 2**-15.
        """
        _, reach, passes = constant(GLASS_BLUR, preset, severity)
        positions = (shape[0] - 2 * reach) * (shape[1] - 2 * reach)
        if 256 % (2 * reach):
            wanted = (np.uint16, (passes, positions, 2))
            scaled = np.multiply(bits(streams, shift=wanted)["shift"], 2 * reach, dtype=np.uint32)
            return {"shift": (scaled >> 16).astype(np.int8) - np.int8(reach)}
        words = bits(streams, shift=(np.uint8, (passes, positions, 2)))["shift"]
        return {"shift": (words // np.uint8(128 // reach)).view(np.int8) - np.int8(reach)}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images behind glass."""
        sigma, reach, passes = constant(GLASS_BLUR, preset, severity)
        count, height, width = images.shape[:3]
        blur = SmoothedLevels(sigma, (height, width))
        result = np.array(images, order="C")
        size = max(1, _PIXELS // (height * width))
        for start in range(0, count, size):
            block = result[start : start + size]
            for image in block:
                blur(image, image)
            # One 32-bit word per pixel: a copy of a pixel is a copy of a number.
            words = cv2.cvtColor(block.reshape(-1, width, 3), cv2.COLOR_RGB2RGBA).view(np.uint32)
            for number in range(passes):
                shift = draws["shift"][start : start + size, number]
                words = np.take(words, sources(shift, reach, (height, width)))
            bytes_ = words.view(np.uint8).reshape(-1, width, 4)
            cv2.cvtColor(bytes_, cv2.COLOR_RGBA2RGB, dst=block.reshape(-1, width, 3))
            for image in block:
                blur(image, image)
        return result


def sources(shift: NDArray[np.int8], reach: int, shape: tuple[int, int]) -> NDArray[np.intp]:
    """Return where each pixel's value comes from in one pass, (N, H, W) int64.

    Values index the N * H * W pixels. A pixel that copies from further on in memory copies what
    the scan, which runs backwards, has already put there; one that copies from further back gets
    an original. So sources are followed as long as they lead forwards, all pixels at once, fewer
    each time. With d = 1 no shift leads forwards.

    Args:
        shift: shifts in the order of the scan, (N, K, 2), last axis (dx, dy).
        reach: d, the largest shift.
        shape: (H, W) in pixels.
    """
    count, (height, width) = len(shift), shape
    copied = np.arange(count * height * width).reshape(count, height, width)
    rows, columns = height - 2 * reach, width - 2 * reach
    offset = shift[..., 1].astype(np.int32)
    offset *= width
    offset += shift[..., 0]
    scanned = np.s_[:, reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
    copied[scanned] += offset.reshape(count, rows, columns)[:, ::-1, ::-1]
    if reach == 1:
        return copied
    direct = copied.ravel()
    found = direct.copy()
    at = np.flatnonzero(direct > np.arange(direct.size))
    source = direct[at]
    while at.size:
        further = direct[source]
        found[at] = further
        ahead = further > source
        at, source = at[ahead], further[ahead]
    return found.reshape(count, height, width)
