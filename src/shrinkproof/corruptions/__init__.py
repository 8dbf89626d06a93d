"""What the world does to images: one class per corruption."""

from __future__ import annotations

from typing import Final

from shrinkproof.registry import Registry

CORRUPTIONS: Final = Registry(
    "corruption",
    "shrinkproof.corruptions",
    {
        "brightness": "shrinkproof.corruptions.color:Brightness",
        "contrast": "shrinkproof.corruptions.color:Contrast",
        "defocus_blur": "shrinkproof.corruptions.blur:DefocusBlur",
        "elastic_transform": "shrinkproof.corruptions.elastic:ElasticTransform",
        "fog": "shrinkproof.corruptions.fog:Fog",
        "frost": "shrinkproof.corruptions.frost:Frost",
        "gaussian_blur": "shrinkproof.corruptions.blur:GaussianBlur",
        "gaussian_noise": "shrinkproof.corruptions.noise:GaussianNoise",
        "glass_blur": "shrinkproof.corruptions.glass:GlassBlur",
        "impulse_noise": "shrinkproof.corruptions.noise:ImpulseNoise",
        "jpeg_compression": "shrinkproof.corruptions.jpeg:JpegCompression",
        "motion_blur": "shrinkproof.corruptions.motion:MotionBlur",
        "pixelate": "shrinkproof.corruptions.pixelate:Pixelate",
        "saturate": "shrinkproof.corruptions.color:Saturate",
        "shot_noise": "shrinkproof.corruptions.noise:ShotNoise",
        "snow": "shrinkproof.corruptions.snow:Snow",
        "spatter": "shrinkproof.corruptions.spatter:Spatter",
        "speckle_noise": "shrinkproof.corruptions.noise:SpeckleNoise",
        "zoom_blur": "shrinkproof.corruptions.zoom:ZoomBlur",
    },
)
