"""Constants of the common corruptions, severity 1 to 5, per preset; and named sets of them.

The values are those of the generator scripts published with Hendrycks and Dietterich 2019,
arXiv:1903.12261 (hendrycks/robustness): CIFAR-10-C, Tiny-ImageNet-C, ImageNet-C, and its variant
for Inception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from shrinkproof.errors import UnknownNameError, UsageError

V = TypeVar("V")

Table = Mapping[str, tuple[V, V, V, V, V]]
"""Preset -> the constants of severity 1 to 5."""

PRESETS: Final[Mapping[str, int]] = {"cifar": 32, "tiny": 64, "imagenet": 224, "inception": 299}
"""Each preset with the side, in pixels, of the images it was made for."""

SETS: Final[Mapping[str, tuple[str, ...]]] = {
    "quick-five": ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression"),
}
"""Named sets of corruptions that a study file may use."""

GAUSSIAN_NOISE: Final[Table[float]] = {
    "cifar": (0.04, 0.06, 0.08, 0.09, 0.10),
    "tiny": (0.04, 0.08, 0.12, 0.15, 0.18),
    "imagenet": (0.08, 0.12, 0.18, 0.26, 0.38),
    "inception": (0.09, 0.13, 0.19, 0.27, 0.40),
}
"""Standard deviation on the scale 0 to 1."""

DEFOCUS_BLUR: Final[Table[tuple[float, float]]] = {
    "cifar": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "tiny": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
    "imagenet": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "inception": ((4, 0.1), (5, 0.5), (7, 0.5), (10, 0.5), (12, 0.5)),
}
"""Radius of the disk and standard deviation of its smoothing, pixels."""

FOG: Final[Table[tuple[float, float]]] = {
    "cifar": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "tiny": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
    "imagenet": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "inception": ((1.5, 2), (2, 2), (2.5, 1.8), (2.5, 1.6), (3, 1.5)),
}
"""Strength on the scale 0 to 1, and by how much the roughness falls at each halving."""

FOG_MAP: Final[Mapping[str, int]] = {"cifar": 32, "tiny": 64, "imagenet": 256, "inception": 512}
"""Side of the fog map, pixels; a power of two."""

CONTRAST: Final[Table[float]] = {
    "cifar": (0.75, 0.5, 0.4, 0.3, 0.15),
    "tiny": (0.4, 0.3, 0.2, 0.1, 0.05),
    "imagenet": (0.4, 0.3, 0.2, 0.1, 0.05),
    "inception": (0.4, 0.3, 0.2, 0.1, 0.05),
}
"""Factor on the distance from the mean of each channel."""

JPEG_COMPRESSION: Final[Table[int]] = {
    "cifar": (80, 65, 58, 50, 40),
    "tiny": (65, 58, 50, 40, 25),
    "imagenet": (25, 18, 15, 10, 7),
    "inception": (23, 16, 13, 8, 5),
}
"""Quality, 1 to 100."""


def constant(table: Table[V], preset: str, severity: int) -> V:
    """Return the constant of a preset at a severity.

    Raises:
        UnknownNameError: there is no such preset.
        UsageError: the severity is not 1 to 5.
    """
    check_preset(preset)
    if not 1 <= severity <= 5:
        raise UsageError(f"severity must be 1 to 5, got {severity}")
    return table[preset][severity - 1]


def check_preset(preset: str) -> None:
    """Check the name of a preset.

    Raises:
        UnknownNameError: there is no such preset.
    """
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)


def preset_warning(preset: str, shape: tuple[int, int]) -> str:
    """Return what a reader must know if a preset was made for another image size.

    Empty if it fits. Constants are never chosen by image size: the study says which.

    Args:
        preset: name of the preset.
        shape: (H, W) of the images in pixels.

    Raises:
        UnknownNameError: there is no such preset.
    """
    check_preset(preset)
    side = PRESETS[preset]
    if shape == (side, side):
        return ""
    return (
        f"corruption preset {preset!r} was made for {side} x {side} pixels, the images have "
        f"{shape[0]} x {shape[1]}: severities are not comparable with published ones"
    )
