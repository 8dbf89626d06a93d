"""Join columns from a CSV file to images: groups that stay whole, slices to report by."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import locate
from shrinkproof.errors import DataError

if TYPE_CHECKING:
    from shrinkproof.data.splits import DataRef


def attach(images: ImageSet, ref: DataRef, roots: Mapping[str, Path]) -> ImageSet:
    """Return the images with the groups and slices that a reference asks for.

    Columns come from the metadata file and from the source itself; a metadata column wins. An
    unnamed group leaves the source's own groups, and unnamed slices leave its own slices.

    Raises:
        DataError: a column is missing, or the file does not have exactly one row per image.
    """
    columns = {**images.columns, **images.slices}
    if ref.metadata:
        columns.update(_read(images, locate(ref.metadata, roots)))
    slices = {name: _column(columns, name, ref) for name in ref.slices} or images.slices
    groups = _column(columns, ref.group, ref) if ref.group else images.groups
    return replace(images, groups=groups, slices=slices)


def _column(columns: Mapping[str, NDArray[np.str_]], name: str, ref: DataRef) -> NDArray[np.str_]:
    if name not in columns:
        raise DataError(
            f"{ref.metadata or ref.use}: no column {name!r}; it has "
            f"{', '.join(sorted(columns)) or 'none'}"
            + ("" if ref.metadata else "; name a CSV file under 'metadata'")
        )
    return columns[name]


def _read(images: ImageSet, path: Path) -> dict[str, NDArray[np.str_]]:
    """Return every column of the file in the order of the images, empty cells included."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"metadata {path}: cannot be read as CSV: {error}") from error
    key = _key(header, path)
    at = header.index(key)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(
                f"metadata {path}, row {number}: must have {len(header)} cells as the header, "
                f"got {len(row)}"
            )
    row_of = {row[at]: row for row in rows}
    if len(row_of) != len(rows):
        raise DataError(
            f"metadata {path}: each {key} may appear once, got {len(rows)} rows for "
            f"{len(row_of)} different values"
        )
    wanted = _names(images, key, path)
    missing = [name for name in wanted if name not in row_of]
    if missing:
        raise DataError(
            f"metadata {path}: must have one row per image of {images.source}, but "
            f"{len(missing)} of {len(wanted)} have none, the first is {key} {missing[0]}"
        )
    return {
        name: np.array([row_of[k][i] for k in wanted], dtype=np.str_)
        for i, name in enumerate(header)
        if name != key
    }


def _key(header: Sequence[str], path: Path) -> str:
    if len(set(header)) != len(header):
        raise DataError(f"metadata {path}: column names must differ, got {', '.join(header)}")
    for key in ("file", "index"):
        if key in header:
            return key
    raise DataError(
        f"metadata {path}: must have a column 'index' or 'file', got {', '.join(header) or 'none'}"
    )


def _names(images: ImageSet, key: str, path: Path) -> list[str]:
    if key == "index":
        return [str(i) for i in images.index.tolist()]
    files = getattr(images.images, "files", None)
    if files is None:
        raise DataError(
            f"metadata {path}: images of {images.source} have no file names; use a column "
            f"'index' (their position in the source, from 0) instead of 'file'"
        )
    return list(files)
