"""What the world does to images: one class per corruption."""

from __future__ import annotations

from typing import Final

from shrinkproof.registry import Registry

CORRUPTIONS: Final = Registry(
    "corruption",
    "shrinkproof.corruptions",
    {
        "contrast": "shrinkproof.corruptions.digital:Contrast",
        "defocus_blur": "shrinkproof.corruptions.blur:DefocusBlur",
        "fog": "shrinkproof.corruptions.weather:Fog",
        "gaussian_noise": "shrinkproof.corruptions.noise:GaussianNoise",
        "jpeg_compression": "shrinkproof.corruptions.digital:JpegCompression",
    },
)
