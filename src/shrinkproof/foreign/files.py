"""Files of predictions made elsewhere: npz or Parquet with image ids, logits, hashes and times."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError, UsageError

_TOLERANCE: Final = 1e-3
"""By how much the probabilities of an image may miss 1: half precision and 8 bits do."""

_NAMES: Final = "index, logits, and where known sha256, latency_seconds, condition, split"


@dataclass(frozen=True, slots=True, eq=False)
class PredictionFile:
    """What a file of predictions holds.

    Attributes:
        path: the file.
        index: (N,) int64, id of each image.
        logits: (N, C) float64, as written; they may be probabilities.
        sha256: (N,) hash of each image; None where the file has none.
        seconds: (N,) time of each inference; None where the file has none.
        condition: which condition; empty where the file does not say.
        split: which split; empty where the file does not say.
    """

    path: Path
    index: NDArray[np.int64]
    logits: NDArray[np.float64]
    sha256: NDArray[np.str_] | None = None
    seconds: NDArray[np.float64] | None = None
    condition: str = ""
    split: str = ""

    @property
    def are_probabilities(self) -> bool:
        """True where every row looks like a softmax: 0 to 1, sum 1."""
        values_NC = self.logits
        if not values_NC.size or values_NC.min() < 0 or values_NC.max() > 1:
            return False
        return bool((np.abs(values_NC.sum(axis=1) - 1) <= _TOLERANCE).all())


def read_predictions_file(path: Path) -> PredictionFile:
    """Return the content of a file of predictions, its shapes checked.

    Raises:
        UsageError: it holds boxes, or is of an unknown kind.
        DataError: it cannot be read, a part is missing, or a part is of a wrong shape.
    """
    kind = path.suffix.lower()
    if kind == ".json":
        raise UsageError(
            f"{path}: boxes in COCO JSON cannot be imported, only logits as .npz or .parquet; "
            "measure an exported detector as a model 'onnx:FILE' of the study instead"
        )
    if kind not in (".npz", ".parquet"):
        raise UsageError(f"{path}: predictions must be .npz or .parquet, got {path.suffix!r}")
    if not path.is_file():
        raise DataError(f"{path}: cannot be read (no such file)")
    parts = _npz(path) if kind == ".npz" else _parquet(path)
    return _checked(path, parts)


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as npz ({error})") from error


def _parquet(path: Path) -> dict[str, NDArray[Any]]:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error})") from error
    found = {name: frame[name] for name in frame.columns if name != "logits"}
    numbered = [name for name in frame.columns if name.startswith("logit_")]
    parts = {name: column.to_numpy() for name, column in found.items() if name not in numbered}
    if "logits" in frame.columns:
        rows = frame["logits"].to_list()
        if len({-1 if row is None else len(row) for row in rows}) > 1:
            raise DataError(f"{path}: every list of logits must be of the same length")
        parts["logits"] = np.array(rows)
    elif numbered:
        ordered = sorted(numbered, key=lambda name: (len(name), name))
        parts["logits"] = frame.select(ordered).to_numpy()
    return parts


def _checked(path: Path, parts: Mapping[str, NDArray[Any]]) -> PredictionFile:
    if "boxes" in parts and "logits" not in parts:
        raise UsageError(
            f"{path}: boxes cannot be imported, only logits; measure an exported detector as a "
            "model 'onnx:FILE' of the study instead"
        )
    for name in ("index", "logits"):
        if name not in parts:
            raise DataError(
                f"{path}: must hold {name}, got {', '.join(parts) or 'nothing'}; a file of "
                f"predictions has {_NAMES}"
            )
    index, logits = parts["index"], parts["logits"]
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise DataError(
            f"{path}: index must be (N,) integers, got {index.shape} {index.dtype}; they are the "
            "index of the kit's manifest"
        )
    if logits.ndim != 2 or logits.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: logits must be (N, classes) numbers, got {logits.shape} {logits.dtype}"
        )
    hashes, seconds = parts.get("sha256"), parts.get("latency_seconds")
    for name, values in (("logits", logits), ("sha256", hashes), ("latency_seconds", seconds)):
        if values is not None and len(np.atleast_1d(values)) != len(index):
            raise DataError(
                f"{path}: {name} must have one row per index ({len(index)}), got {values.shape}"
            )
    return PredictionFile(
        path,
        index.astype(np.int64),
        logits.astype(np.float64),
        None if hashes is None else _texts(hashes),
        None if seconds is None else _seconds(path, seconds),
        _single(path, parts, "condition"),
        _single(path, parts, "split"),
    )


def _texts(values: NDArray[Any]) -> NDArray[np.str_]:
    if values.dtype.kind == "S":
        return np.char.decode(values, "ascii")
    return values.astype(str)


def _seconds(path: Path, values: NDArray[Any]) -> NDArray[np.float64]:
    if values.dtype.kind not in "iuf" or not (np.isfinite(values) & (values > 0)).all():
        raise DataError(f"{path}: latency_seconds must be finite numbers above 0, got others")
    return values.astype(np.float64)


def _single(path: Path, parts: Mapping[str, NDArray[Any]], name: str) -> str:
    """Return the one value of a part that is the same for all images; empty where it is absent."""
    if name not in parts:
        return ""
    values = np.unique(np.atleast_1d(parts[name]).astype(str))
    if len(values) != 1:
        raise DataError(f"{path}: {name} must be the same for all images, got {len(values)} values")
    return str(values[0])
