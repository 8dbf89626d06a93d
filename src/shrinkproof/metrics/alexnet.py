"""mCE as published for ImageNet-C, relative to AlexNet: only for what those values are about."""

from __future__ import annotations

from typing import Final

from shrinkproof.metrics.references import Reference, mce_terms
from shrinkproof.metrics.robustness import Errors, Quantity
from shrinkproof.protocols import Undefined

_IMAGENET_COUNT: Final = 50_000
"""Images of ImageNet's validation set, on which published mCE are measured."""

ALEXNET: Final = Reference(
    name="AlexNet",
    rates={
        "clean": 0.435,
        "gaussian_noise": 0.886428,
        "shot_noise": 0.894468,
        "impulse_noise": 0.922640,
        "defocus_blur": 0.819880,
        "glass_blur": 0.826268,
        "motion_blur": 0.785948,
        "zoom_blur": 0.798360,
        "snow": 0.866816,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "elastic_transform": 0.646056,
        "pixelate": 0.717840,
        "jpeg_compression": 0.606500,
    },
    note="its clean error is known to three digits",
)
"""AlexNet on ImageNet-C, mean over severities: the constants that published mCE are divided by.

Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261, and github.com/hendrycks/robustness.
"""


def mce_alexnet(
    errors: Errors,
    *,
    preset: str,
    has_frost_photos: bool,
    is_jpeg85: bool = False,
    count: int | None = None,
) -> Quantity:
    """Return ``robustness.mce_alexnet``, the mean corruption error as published for ImageNet-C.

    It exists only for what published values are about: the constants of ImageNet-C, the original
    photos of frost, all 15 corruptions and all severities.

    Args:
        errors: error of each image under each condition.
        preset: whose constants corrupted the images.
        has_frost_photos: True where frost was made with the original photos.
        is_jpeg85: True where the corrupted images were stored as JPEG of quality 85, as published.
        count: number of images behind rates that were measured elsewhere; None counts the errors.

    Raises:
        UsageError: lengths differ, or an error is not 0 to 1.
    """
    wrong = []
    if preset != "imagenet":
        wrong.append(f"the preset imagenet (got {preset})")
    if not has_frost_photos:
        wrong.append("the original photos of frost (got procedural frost)")
    if wrong:
        return Quantity(Undefined(f"mCE relative to AlexNet needs {' and '.join(wrong)}"))
    terms = mce_terms(errors, ALEXNET)
    if isinstance(terms, Undefined):
        return Quantity(terms)
    count = len(terms) if count is None else count
    caveats = [f"reference: AlexNet; {count:,} images"]
    if count != _IMAGENET_COUNT:
        caveats.append(f"published values are about the {_IMAGENET_COUNT:,} of the validation set")
    if not is_jpeg85:
        caveats.append("published values are about images stored as JPEG of quality 85")
    return Quantity(terms, "; ".join(caveats))
