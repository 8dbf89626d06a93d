"""From an image to the network's input, and what its outputs mean, for ``preprocess.json``."""

from __future__ import annotations

from typing import Final

from shrinkproof.artifacts.export import INPUT, OUTPUT
from shrinkproof.detecting import Detector
from shrinkproof.export.source import Source
from shrinkproof.models.loaded import Preprocess
from shrinkproof.records import Json

_STRETCHED: Final = "each side is stretched"
_KEPT: Final = (
    "both sides are multiplied by one factor, so that the image fits, and the mean color (zero "
    "after normalization) fills up right and below"
)


def preprocessing(source: Source, use: str, threshold: float) -> Json:
    """Return how an image becomes an input, and what the outputs mean.

    Args:
        source: images and base network.
        use: reference of the base network.
        threshold: score from which on boxes of a detector count.
    """
    base = source.base
    how = base.preprocess
    found: Json = {
        "input": INPUT,
        "output": OUTPUT,
        "layout": "NCHW",
        "channels": "RGB",
        "dtype": "float32",
        "shape": list(base.input_shape),
        "range": [0, 255],
        "formula": "(pixel / 255 - mean) / std",
        "mean": list(how.mean),
        "std": list(how.std),
        "preparation": source.images.preparation,
        "classes": list(source.images.classes),
    }
    if how.size is not None:
        found["resize"] = _resize(how)
    if base.detector is not None:
        found |= _boxes(base.detector, use, threshold)
    return found


def _resize(how: Preprocess) -> Json:
    return {
        "size": list(how.size or ()),
        "keep_ratio": how.keep_ratio,
        "rule": f"OpenCV, bilinear, on uint8 pixels; {_KEPT if how.keep_ratio else _STRETCHED}",
    }


def _boxes(detector: Detector, use: str, threshold: float) -> Json:
    kind = type(detector)
    return {
        "outputs": "(n, ...) float32 before boxes are chosen; decode of the detector that the "
        "network was made from makes boxes of them",
        "decode": {
            "use": use,
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "rule": detector.rule,
            "threshold": threshold,
        },
        "boxes": "x1, y1, x2, y2 in pixels of the input; divided by the factors by which width "
        "and height of the image were multiplied, they are in pixels of the image; then they are "
        "clipped to it",
    }
