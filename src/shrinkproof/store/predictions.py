"""Predictions of one cell on disk: logits with their samples, or boxes with what is true."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.atomic import explained, replace_file
from shrinkproof.errors import DataError
from shrinkproof.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Objects,
    Predictions,
)

LOGITS: Final = "logits.npy"
BOXES: Final = "boxes.npz"

_SAMPLES: Final = "samples.parquet"
_SLICE: Final = "slice."
_DETECTED: Final = ("boxes", "score", "label", "offsets", "index")
_TRUE: Final = ("boxes", "label", "offsets", "crowd", "area", "sizes")
_OBJECTS: Final = "objects."


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Write the predictions of a cell, each file whole or not at all.

    Logits go to ``logits.npy`` and what belongs to each image to ``samples.parquet``; boxes and
    the annotated objects to ``boxes.npz``.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if isinstance(predictions, DetectionPredictions):
        columns = _box_columns(predictions)
        replace_file(folder / BOXES, lambda f: np.savez(f, **columns))
        return
    frame = _samples(predictions)
    logits = predictions.logits
    replace_file(folder / LOGITS, lambda f: np.save(f, logits))
    replace_file(folder / _SAMPLES, lambda f: frame.write_parquet(f))


def has_predictions(folder: Path) -> bool:
    """Return whether there are predictions; nothing is read."""
    return any((folder / name).is_file() for name in (LOGITS, BOXES))


def read_predictions(folder: Path) -> Predictions | None:
    """Return what was written, or None where it is missing or damaged."""
    if (folder / BOXES).is_file():
        return _read_boxes(folder / BOXES)
    return _read_logits(folder)


def _samples(predictions: ClassificationPredictions) -> Any:
    import polars as pl

    from shrinkproof.metrics.derived import derived

    values = derived(predictions)
    columns: dict[str, NDArray[Any]] = {
        "index": predictions.index,
        "target": predictions.target,
        "prediction": predictions.prediction(),
        "confidence": values.confidence,
        "nll": values.nll,
        "brier": values.brier,
    }
    if predictions.groups is not None:
        columns["group"] = predictions.groups
    columns.update({_SLICE + name: v for name, v in predictions.slices.items()})
    return pl.DataFrame(columns)


def _read_logits(folder: Path) -> ClassificationPredictions | None:
    import polars as pl

    try:
        logits = np.load(folder / LOGITS, mmap_mode="r", allow_pickle=False)
        samples = pl.read_parquet(folder / _SAMPLES)
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return None
    if len(samples) != len(logits):
        return None
    return ClassificationPredictions(
        logits=np.asarray(logits),
        target=samples["target"].to_numpy(),
        index=samples["index"].to_numpy(),
        groups=samples["group"].to_numpy().astype(str) if "group" in samples.columns else None,
        slices={
            name.removeprefix(_SLICE): samples[name].to_numpy().astype(str)
            for name in samples.columns
            if name.startswith(_SLICE)
        },
    )


def _box_columns(predictions: DetectionPredictions) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "about": np.array(json.dumps({"num_classes": predictions.num_classes}))
    }
    columns |= {name: getattr(predictions, name) for name in _DETECTED}
    columns |= {_OBJECTS + name: getattr(predictions.objects, name) for name in _TRUE}
    if predictions.groups is not None:
        columns["group"] = predictions.groups.astype(str)
    columns |= {_SLICE + name: v.astype(str) for name, v in predictions.slices.items()}
    return columns


def _read_boxes(path: Path) -> DetectionPredictions | None:
    try:
        # Opened here, because a damaged file would stay open otherwise.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        about = json.loads(str(columns["about"]))
        return DetectionPredictions(
            **{name: columns[name] for name in _DETECTED},
            objects=Objects(**{name: columns[_OBJECTS + name] for name in _TRUE}),
            num_classes=about["num_classes"],
            groups=columns.get("group"),
            slices={
                name.removeprefix(_SLICE): values
                for name, values in columns.items()
                if name.startswith(_SLICE)
            },
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, DataError):
        return None
