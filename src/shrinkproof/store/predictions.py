"""Predictions of one cell on disk: logits with their samples, or boxes with what is true."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.atomic import explained, replace_file, sync_folder
from shrinkproof.errors import DataError, StoreError
from shrinkproof.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Objects,
    Predictions,
)
from shrinkproof.predictions.half import decode, encode, is_large, rounded, row_type

LOGITS: Final = "logits.npy"
BOXES: Final = "boxes.npz"

_SAMPLES: Final = "samples.parquet"
_SLICE: Final = "slice."
_DETECTED: Final = ("boxes", "score", "label", "offsets", "index")
_TRUE: Final = ("boxes", "label", "offsets", "crowd", "area", "sizes")
_OBJECTS: Final = "objects."
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, None)
"""Numbers of a full disk's errors; NumPy's own error has none."""


_DAMAGE: Final = (EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, DataError)
"""What reading a damaged file may raise."""


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Write the predictions of a cell, each file whole or not at all.

    Logits go to ``logits.npy``, in half precision where they are many, and what belongs to each
    image to ``samples.parquet``; boxes and the annotated objects to ``boxes.npz``.

    Raises:
        StoreError: they cannot be written; nothing half is left.
    """
    if isinstance(predictions, ClassificationPredictions):
        write_logits(folder, [predictions], *predictions.logits.shape)
        return
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_columns(folder / BOXES, box_columns(predictions))
    _sync(folder)


def write_logits(
    folder: Path, parts: Iterable[ClassificationPredictions], count: int, num_classes: int
) -> None:
    """Write logits that come in parts, one of which is in memory at a time.

    Args:
        folder: of the cell; made where it is missing.
        parts: consecutive images.
        count: images in all parts.
        num_classes: logits of an image.

    Raises:
        StoreError: they cannot be written; nothing half is left.
    """
    import polars as pl

    is_half = is_large(count, num_classes)
    kind = row_type(num_classes) if is_half else np.dtype(("<f4", (num_classes,)))
    frames = []

    def write(file: Any) -> None:
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, kind))
        shape = (count,) if is_half else (count, num_classes)
        np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
        for part in parts:
            stored = rounded(part, count)
            rows = encode(stored.logits) if is_half else stored.logits
            file.write(np.ascontiguousarray(rows).data)
            frames.append(_samples(stored))

    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _told(count * kind.itemsize):
        replace_file(folder / LOGITS, write)
        content = io.BytesIO()  # polars' own errors would not say that a disk is full
        pl.concat(frames).write_parquet(content)
        replace_file(folder / _SAMPLES, lambda f: f.write(content.getbuffer()))
    _sync(folder)


def _sync(folder: Path) -> None:
    """Let the name of a cell's folder survive a power failure."""
    with explained(folder):
        sync_folder(folder.parent)


def write_columns(path: Path, columns: Mapping[str, Any]) -> None:
    """Write named arrays into one file, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    with _told(sum(np.asarray(values).nbytes for values in columns.values())):
        replace_file(path, lambda f: np.savez(f, **columns))


@contextlib.contextmanager
def _told(size: int) -> Iterator[None]:
    """Say how many bytes are needed where a disk is full."""
    try:
        yield
    except StoreError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _FULL:
            raise
        raise StoreError(f"{error} It needs {size / 1e6:,.1f} MB.") from cause


def has_predictions(folder: Path) -> bool:
    """Return whether there are predictions; nothing is read."""
    return any((folder / name).is_file() for name in (LOGITS, BOXES))


def has_whole_predictions(folder: Path) -> bool:
    """Return whether there are predictions and none of their files is cut off.

    Only sizes and ends of files are looked at, so that this is fast however many images there are.
    """
    import polars as pl

    if (folder / BOXES).is_file():
        return zipfile.is_zipfile(folder / BOXES)
    try:
        logits = np.load(folder / LOGITS, mmap_mode="r", allow_pickle=False)
        count = pl.scan_parquet(folder / _SAMPLES).select(pl.len()).collect().item()
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return False
    return bool(count == len(logits))


def is_rounded(folder: Path) -> bool:
    """Return whether there are logits in half precision; only the head of the file is read."""
    try:
        logits = np.load(folder / LOGITS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    return logits.dtype.names is not None


def read_predictions(folder: Path) -> Predictions | None:
    """Return what was written, or None where it is missing or damaged."""
    try:
        if (folder / BOXES).is_file():
            return boxes_of(read_columns(folder / BOXES) or {})
        return _read_logits(folder)
    except OSError:
        return None


def read_columns(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return named arrays from a file, or None where it is damaged.

    Raises:
        OSError: it is missing or cannot be read.
    """
    try:
        # Opened here, because a damaged file would stay open otherwise.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _DAMAGE:
        return None


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
        if len(samples) != len(logits):
            return None
        return ClassificationPredictions(
            logits=_single(logits),
            target=samples["target"].to_numpy(),
            index=samples["index"].to_numpy(),
            groups=samples["group"].to_numpy().astype(str) if "group" in samples.columns else None,
            slices={
                name.removeprefix(_SLICE): samples[name].to_numpy().astype(str)
                for name in samples.columns
                if name.startswith(_SLICE)
            },
        )
    except (*_DAMAGE, pl.exceptions.PolarsError):
        return None


def _single(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return stored logits in single precision; those that are stored so are not copied."""
    return np.asarray(stored) if stored.dtype.names is None else decode(stored)


def logit_columns(predictions: ClassificationPredictions, count: int) -> dict[str, Any]:
    """Return predictions as named arrays, the logits as they are stored in a cell of many images.

    Args:
        predictions: of some images of the cell.
        count: all images of the cell.
    """
    logits = predictions.logits
    is_half = is_large(count, logits.shape[1])
    columns: dict[str, Any] = {
        "logits": encode(logits) if is_half else logits,
        "target": predictions.target,
        "index": predictions.index,
    }
    return columns | _marks(predictions)


def logits_of(columns: Mapping[str, NDArray[Any]]) -> ClassificationPredictions | None:
    """Return the predictions that `logit_columns` spelled, or None where they are damaged."""
    try:
        return ClassificationPredictions(
            logits=_single(columns["logits"]),
            target=columns["target"],
            index=columns["index"],
            groups=columns.get("group"),
            slices=_slices(columns),
        )
    except _DAMAGE:
        return None


def box_columns(predictions: DetectionPredictions) -> dict[str, Any]:
    """Return predictions of boxes as named arrays."""
    columns: dict[str, Any] = {
        "about": np.array(json.dumps({"num_classes": predictions.num_classes}))
    }
    columns |= {name: getattr(predictions, name) for name in _DETECTED}
    columns |= {_OBJECTS + name: getattr(predictions.objects, name) for name in _TRUE}
    return columns | _marks(predictions)


def boxes_of(columns: Mapping[str, NDArray[Any]]) -> DetectionPredictions | None:
    """Return the predictions that `box_columns` spelled, or None where they are damaged."""
    try:
        about = json.loads(str(columns["about"]))
        return DetectionPredictions(
            **{name: columns[name] for name in _DETECTED},
            objects=Objects(**{name: columns[_OBJECTS + name] for name in _TRUE}),
            num_classes=about["num_classes"],
            groups=columns.get("group"),
            slices=_slices(columns),
        )
    except _DAMAGE:
        return None


def _marks(predictions: Predictions) -> dict[str, NDArray[np.str_]]:
    """Return groups and slices as named arrays."""
    groups = {} if predictions.groups is None else {"group": predictions.groups.astype(str)}
    return groups | {_SLICE + name: v.astype(str) for name, v in predictions.slices.items()}


def _slices(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.str_]]:
    return {
        name.removeprefix(_SLICE): values
        for name, values in columns.items()
        if name.startswith(_SLICE)
    }
