"""Open set: where models come from, one class per scheme of model references."""

from __future__ import annotations

from typing import Final

from shrinkproof.registry import Registry

MODELS: Final = Registry(
    "model source",
    "shrinkproof.models",
    {
        "checkpoint": "shrinkproof.models.checkpoint:Checkpoint",
        "cifar": "shrinkproof.models.cifar_source:Cifar",
        "detector": "shrinkproof.models.detector_source:SmallDetectors",
        "foreign": "shrinkproof.models.foreign:Foreign",
        "import": "shrinkproof.models.importing:Import",
        "onnx": "shrinkproof.models.onnx_source:Onnx",
        "timm": "shrinkproof.models.timm_source:Timm",
        "torchvision": "shrinkproof.models.torchvision_source:Torchvision",
        "upsampled": "shrinkproof.models.upsampled_source:Upsampled",
    },
)
