"""Compress a CNN after training and prove what that did to it.

Everything public is listed in ``__all__`` and loaded on first use, so that importing the package
costs no torch and no numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from shrinkproof.compression import CompressedModel, compress
    from shrinkproof.compression.sensitivity import LayerSensitivity, sensitivity
    from shrinkproof.compressors.cluster import Clustering
    from shrinkproof.compressors.finetune import FineTuning
    from shrinkproof.compressors.fold import Fold
    from shrinkproof.compressors.quantize import StaticQuantization
    from shrinkproof.compressors.recalibrate import Recalibration
    from shrinkproof.compressors.recipe import Recipe
    from shrinkproof.compressors.weights import WeightPruning
    from shrinkproof.corruptions.anyimage import PresetWarning, corrupt
    from shrinkproof.corruptions.dataset import CorruptedDataset
    from shrinkproof.data.imageset import ImageSet
    from shrinkproof.detecting import Detections, Detector
    from shrinkproof.errors import (
        CompressionError,
        DataError,
        EngineError,
        ExportError,
        MissingExtraError,
        ModelError,
        PluginError,
        ShrinkproofError,
        SpecError,
        StoreError,
        UnknownNameError,
        UnsupportedLayerError,
        UsageError,
    )
    from shrinkproof.models.loaded import LoadedModel, Preprocess
    from shrinkproof.models.reference import ModelSpec, load_model
    from shrinkproof.predictions import ClassificationPredictions, DetectionPredictions, Objects
    from shrinkproof.protocols import Context
    from shrinkproof.records import Candidate, Cell, Change, Condition, Record
    from shrinkproof.results.reading import Results
    from shrinkproof.study import Study

_PLACES: Final = {
    "Candidate": "shrinkproof.records",
    "Cell": "shrinkproof.records",
    "Change": "shrinkproof.records",
    "ClassificationPredictions": "shrinkproof.predictions",
    "Clustering": "shrinkproof.compressors.cluster",
    "CompressedModel": "shrinkproof.compression",
    "CompressionError": "shrinkproof.errors",
    "Condition": "shrinkproof.records",
    "Context": "shrinkproof.protocols",
    "CorruptedDataset": "shrinkproof.corruptions.dataset",
    "DataError": "shrinkproof.errors",
    "DetectionPredictions": "shrinkproof.predictions",
    "Detections": "shrinkproof.detecting",
    "Detector": "shrinkproof.detecting",
    "EngineError": "shrinkproof.errors",
    "ExportError": "shrinkproof.errors",
    "FineTuning": "shrinkproof.compressors.finetune",
    "Fold": "shrinkproof.compressors.fold",
    "ImageSet": "shrinkproof.data.imageset",
    "LayerSensitivity": "shrinkproof.compression.sensitivity",
    "LoadedModel": "shrinkproof.models.loaded",
    "MissingExtraError": "shrinkproof.errors",
    "ModelError": "shrinkproof.errors",
    "ModelSpec": "shrinkproof.models.reference",
    "Objects": "shrinkproof.predictions",
    "PluginError": "shrinkproof.errors",
    "Preprocess": "shrinkproof.models.loaded",
    "PresetWarning": "shrinkproof.corruptions.anyimage",
    "Recalibration": "shrinkproof.compressors.recalibrate",
    "Recipe": "shrinkproof.compressors.recipe",
    "Record": "shrinkproof.records",
    "Results": "shrinkproof.results.reading",
    "ShrinkproofError": "shrinkproof.errors",
    "SpecError": "shrinkproof.errors",
    "StaticQuantization": "shrinkproof.compressors.quantize",
    "StoreError": "shrinkproof.errors",
    "Study": "shrinkproof.study",
    "UnknownNameError": "shrinkproof.errors",
    "UnsupportedLayerError": "shrinkproof.errors",
    "UsageError": "shrinkproof.errors",
    "WeightPruning": "shrinkproof.compressors.weights",
    "compress": "shrinkproof.compression",
    "corrupt": "shrinkproof.corruptions.anyimage",
    "load_model": "shrinkproof.models.reference",
    "sensitivity": "shrinkproof.compression.sensitivity",
}

__all__ = [
    "Candidate",
    "Cell",
    "Change",
    "ClassificationPredictions",
    "Clustering",
    "CompressedModel",
    "CompressionError",
    "Condition",
    "Context",
    "CorruptedDataset",
    "DataError",
    "DetectionPredictions",
    "Detections",
    "Detector",
    "EngineError",
    "ExportError",
    "FineTuning",
    "Fold",
    "ImageSet",
    "LayerSensitivity",
    "LoadedModel",
    "MissingExtraError",
    "ModelError",
    "ModelSpec",
    "Objects",
    "PluginError",
    "Preprocess",
    "PresetWarning",
    "Recalibration",
    "Recipe",
    "Record",
    "Results",
    "ShrinkproofError",
    "SpecError",
    "StaticQuantization",
    "StoreError",
    "Study",
    "UnknownNameError",
    "UnsupportedLayerError",
    "UsageError",
    "WeightPruning",
    "compress",
    "corrupt",
    "load_model",
    "sensitivity",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
