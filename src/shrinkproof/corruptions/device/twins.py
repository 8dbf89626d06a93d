"""Which corruptions run on the device, and how far their pixels may be from the host's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import Tensor

from shrinkproof.corruptions.device.blur import defocus_blur, gaussian_blur
from shrinkproof.corruptions.device.color import brightness, contrast, saturate
from shrinkproof.corruptions.device.elastic import elastic_transform
from shrinkproof.corruptions.device.fog import fog
from shrinkproof.corruptions.device.frost import frost
from shrinkproof.corruptions.device.glass import glass_blur
from shrinkproof.corruptions.device.motion import motion_blur
from shrinkproof.corruptions.device.noise import (
    gaussian_noise,
    impulse_noise,
    shot_noise,
    speckle_noise,
)
from shrinkproof.corruptions.device.pixelate import pixelate
from shrinkproof.corruptions.device.snow import snow
from shrinkproof.corruptions.device.spatter import is_mud, mud
from shrinkproof.corruptions.device.zoom import zoom_blur

Twin = Callable[[Tensor, int, str, Mapping[str, Tensor]], Tensor]
"""``(images (N, H, W, 3) uint8, severity, preset, draws)`` to images of the same form, all on one
device; severity, preset and draws as in the numpy class."""

TWINS: Final[Mapping[str, Twin]] = {
    "brightness": brightness,
    "contrast": contrast,
    "defocus_blur": defocus_blur,
    "elastic_transform": elastic_transform,
    "fog": fog,
    "frost": frost,
    "gaussian_blur": gaussian_blur,
    "gaussian_noise": gaussian_noise,
    "glass_blur": glass_blur,
    "impulse_noise": impulse_noise,
    "motion_blur": motion_blur,
    "pixelate": pixelate,
    "saturate": saturate,
    "shot_noise": shot_noise,
    "snow": snow,
    "spatter": mud,
    "speckle_noise": speckle_noise,
    "zoom_blur": zoom_blur,
}
"""Corruption -> its twin. What is missing here, and ``spatter`` as water, runs on the host."""

TOLERANCE: Final[Mapping[str, tuple[int, float]]] = {
    "defocus_blur": (1, 1e-4),
    "elastic_transform": (1, 1e-2),
    "fog": (1, 1e-3),
    "gaussian_blur": (1, 1e-4),
    "glass_blur": (1, 1e-4),
    "motion_blur": (1, 1e-3),
    "snow": (1, 2e-3),
    "spatter": (1, 1e-3),
    "zoom_blur": (1, 1e-3),
}
"""Corruption -> by how many levels a value may differ from the host's, and which share of the
values may differ at all, for images of at least 32 x 32 pixels. The other twins, and all that runs
on the host, are bit-equal."""


def twin_of(corruption: Any, severity: int, preset: str) -> Twin | None:
    """Return what runs a corruption on the device, or None if it runs on the host.

    Args:
        corruption: a component, as ``shrinkproof.corruptions.apply.create`` returns it.
        severity: 1 to 5.
        preset: whose constants to use.
    """
    if corruption.name == "spatter" and not is_mud(severity, preset):
        return None
    if corruption.name == "frost":
        return functools.partial(frost, photos=corruption.photos)
    return TWINS.get(corruption.name)
