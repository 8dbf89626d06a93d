"""Falling snow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import SNOW
from shrinkproof.corruptions.draws import bits, normal, unit
from shrinkproof.corruptions.motion import SIXTEEN_BIT, streak
from shrinkproof.corruptions.presets import constant
from shrinkproof.corruptions.zoom import zoom
from shrinkproof.protocols import Draws
from shrinkproof.registry import component


@component
class Snow:
    """Streaks of flakes over a whitened image.

    mix * x + (1 - mix) * max(x, 1.5 * gray(x) + 0.5) + s + s turned by 180 degrees on the scale 0
    to 1, clipped, then truncated to uint8. The flakes s: normal noise, zoomed, set to 0 below a
    threshold, clipped, truncated to 8 bit, smeared (see `streak`), and cut to 8 bit again. The
    preset ``imagecorruptions`` rounds to 8 bit once, after the smear, and only then cuts what
    the zoom made larger than the image, at the upper left.

    Input: images (N, H, W, 3) uint8; draws ``layer`` (N, H, W), standard normal, and ``angle``
        (N,) float64, degrees in [-135, -45): -90 is upwards, 0 would be to the right.
    Output: images (N, H, W, 3) uint8.
    Differences: given the draws, bit-equal to the reference with ImageMagick 6.9.11, and to
        imagecorruptions 1.1.2 with its preset, on every image compared.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261; Michaelis et al. 2019,
        arXiv:1907.07484.
    """

    name: ClassVar[str] = "snow"
    family: ClassVar[str] = "weather"
    version: ClassVar[int] = 1

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return the noise behind each image's flakes and the angle of their fall."""
        constant(SNOW, preset, severity)
        words = bits(streams, layer=(np.uint16, shape), angle=(np.uint64, ()))
        fall = unit(words["angle"] >> np.uint64(11) << np.uint64(11))
        return {"layer": normal(words["layer"]), "angle": -135 + 90 * fall}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images in snow."""
        if not len(images):
            return images.copy()
        *_, mix = constant(SNOW, preset, severity)
        flakes = _flakes(draws["layer"], draws["angle"], severity, preset)
        count, height, width = flakes.shape
        fallen = cv2.add(flakes, np.ascontiguousarray(flakes[:, ::-1, ::-1]))
        whitened = _whitened(images.reshape(count * height, width, 3), mix)
        cv2.add(whitened, cv2.merge(3 * [fallen.reshape(count * height, width)]), dst=whitened)
        return whitened.reshape(images.shape)


def _flakes(
    layer: NDArray[Any], angles: NDArray[np.float64], severity: int, preset: str
) -> NDArray[np.uint8]:
    """Return the smeared flakes, (N, H, W) uint8."""
    mean, deviation, factor, threshold, radius, sigma, _ = constant(SNOW, preset, severity)
    late = preset == "imagecorruptions"
    flakes: NDArray[np.floating[Any]] = layer * deviation
    flakes += mean
    if factor != 1:
        flakes = zoom(flakes, factor, "nothing" if late else "middle")
    flakes *= flakes >= threshold
    np.clip(flakes, 0, 1, out=flakes)
    flakes *= 255
    if late:
        smeared = streak(flakes, radius, sigma, angles, cut=True)
        smeared = smeared[:, : layer.shape[1], : layer.shape[2]]
        return np.rint(smeared).astype(np.uint8)
    smeared = streak(flakes.astype(np.uint8), radius, sigma, angles, add=SIXTEEN_BIT)
    return smeared.astype(np.uint8)


def _whitened(images: NDArray[np.uint8], mix: float) -> NDArray[np.uint8]:
    """Return a stack of images (H, W, 3) as they look in snow light, uint8.

    Each operation is rounded to float32, as in the reference: whole levels depend on it.
    """
    values = images.astype(np.float32)
    values /= 255
    white: NDArray[Any] = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)
    white *= 1.5
    white += 0.5
    whitest = np.maximum(values, white[..., None])
    whitest *= 1 - mix
    values *= mix
    values += whitest
    np.minimum(values, 1, out=values)
    return (values * 255.0).astype(np.uint8)
