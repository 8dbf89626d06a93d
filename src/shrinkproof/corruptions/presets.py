"""Presets: whose constants corrupt an image; and named sets of corruptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from shrinkproof.corruptions.constants import Table
from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.records import STANDARD_15

V = TypeVar("V")

PRESETS: Final[Mapping[str, int | None]] = {
    "cifar": 32,
    "tiny": 64,
    "imagenet": 224,
    "inception": 299,
    "imagecorruptions": None,
}
"""Each preset with the side, in pixels, of the images it was made for; None is any size."""

_CONSTANTS_OF: Final[Mapping[str, str]] = {"imagecorruptions": "imagenet"}
"""Where a preset without a row of its own in a table takes its constants from."""

STORED_AS_JPEG: Final = ("tiny", "imagenet", "inception")
"""Presets whose published sets are JPEG files of quality 85 rather than arrays."""

STORED_QUALITY: Final = 85
"""Quality of their files."""

_EXTRA: Final = ("speckle_noise", "gaussian_blur", "spatter", "saturate")

SETS: Final[Mapping[str, tuple[str, ...]]] = {
    "common-corruptions": STANDARD_15,
    "extra-corruptions": _EXTRA,
    "all-corruptions": (*STANDARD_15, *_EXTRA),
    "quick-five": ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression"),
}
"""Named sets of corruptions that a study file may use. The mean corruption error is defined over
``common-corruptions``; Hendrycks and Dietterich keep the four extra ones for validation."""


def constant(table: Table[V], preset: str, severity: int) -> V:
    """Return the constant of a preset at a severity.

    Raises:
        UnknownNameError: there is no such preset.
        UsageError: the severity is not 1 to 5.
    """
    check_preset(preset)
    if not 1 <= severity <= 5:
        raise UsageError(f"severity must be 1 to 5, got {severity}")
    row = table[preset] if preset in table else table[_CONSTANTS_OF[preset]]
    return row[severity - 1]


def check_preset(preset: str) -> None:
    """Check the name of a preset.

    Raises:
        UnknownNameError: there is no such preset.
    """
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)


def check_jpeg85(preset: str) -> None:
    """Check that a preset belongs to a published set that is stored as JPEG files.

    Raises:
        UsageError: it does not.
    """
    if preset not in STORED_AS_JPEG:
        raise UsageError(
            f"jpeg85 must go with one of the presets {', '.join(STORED_AS_JPEG)}, whose published "
            f"sets are JPEG files of quality 85, got {preset!r}; leave jpeg85 out"
        )


def preset_warning(preset: str, shape: tuple[int, int] | None) -> str:
    """Return what a reader must know if a preset was made for another image size.

    Empty if it fits. Constants are never chosen by image size: the study says which.

    Args:
        preset: name of the preset.
        shape: (H, W) of the images in pixels; None where they differ in size.

    Raises:
        UnknownNameError: there is no such preset.
    """
    check_preset(preset)
    side = PRESETS[preset]
    if side is None or shape == (side, side):
        return ""
    found = "several sizes" if shape is None else f"{shape[0]} x {shape[1]}"
    return (
        f"corruption preset {preset!r} was made for {side} x {side} pixels, the images have "
        f"{found}: severities are not comparable with published ones"
    )
