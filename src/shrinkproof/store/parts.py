"""What candidates said of some of the images of a cell, until all of them are there."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from shrinkproof.atomic import explained, readable
from shrinkproof.errors import StoreError
from shrinkproof.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Predictions,
)
from shrinkproof.predictions.joining import join_boxes
from shrinkproof.store.predictions import (
    box_columns,
    boxes_of,
    logit_columns,
    logits_of,
    read_columns,
    write_columns,
    write_logits,
    write_predictions,
)

_MADE: Final = "made"


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive images of a split.

    Attributes:
        index: which part, from 0.
        parts: how many there are.
        start: position of its first image in the split.
        stop: position after its last one.
        count: images of the split.
    """

    index: int
    parts: int
    start: int
    stop: int
    count: int

    def __str__(self) -> str:
        """Return which part it is, for readers."""
        return f"part {self.index + 1}/{self.parts}"


class _GoneError(Exception):
    """A part is not there, or not any more."""


class Parts:
    """The parts of one cell: a folder with a file for each, named by its images.

    Parts of another division of the same images have other names and are never mixed with these.

    Args:
        folder: of the cell.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, part: Part, found: Predictions, made: Mapping[str, Any]) -> None:
        """Store one part, whole or not at all.

        Args:
            part: which images.
            found: what was said of them.
            made: how, in plain JSON values.

        Raises:
            StoreError: it cannot be written.
        """
        if isinstance(found, ClassificationPredictions):
            columns = logit_columns(found, part.count)
        else:
            columns = box_columns(found)
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_columns(self._file(part), {**columns, _MADE: np.array(json.dumps(made))})

    def has(self, part: Part) -> bool:
        """Return whether a part is stored to the end; it is not read."""
        return zipfile.is_zipfile(self._file(part))

    def join(self, parts: Sequence[Part], target: Path) -> list[Any] | None:
        """Write the predictions of a cell from its parts, which stay.

        Of logits, one part is in memory at a time.

        Args:
            parts: all of them, in order.
            target: where the predictions go.

        Returns:
            How each was made; None where a part is missing.

        Raises:
            StoreError: a part is damaged, and removed, or nothing can be written.
        """
        try:
            return self._join(parts, target)
        except _GoneError:
            return None

    def _join(self, parts: Sequence[Part], target: Path) -> list[Any]:
        made: list[Any] = []
        each = self._each(parts, made)
        first = next(each)
        if isinstance(first, DetectionPredictions):
            boxes = [first, *(p for p in each if isinstance(p, DetectionPredictions))]
            write_predictions(target, join_boxes(boxes))
            return made
        logits = (p for p in chain([first], each) if isinstance(p, ClassificationPredictions))
        write_logits(target, logits, parts[-1].count, first.logits.shape[1])
        return made

    def forget(self) -> None:
        """Remove all parts, also those of another division."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _each(self, parts: Sequence[Part], made: list[Any]) -> Iterator[Predictions]:
        """Yield the predictions of each part; how it was made is added to a list."""
        for part in parts:
            try:
                with readable(self._file(part)):
                    columns = read_columns(self._file(part)) or {}
            except FileNotFoundError as error:
                raise _GoneError from error
            found = logits_of(columns) if "logits" in columns else boxes_of(columns)
            if found is None or _MADE not in columns or len(found) != part.stop - part.start:
                self._file(part).unlink(missing_ok=True)
                raise StoreError(
                    f"{self._file(part)} was damaged and is removed; run the same command again to "
                    "predict its images"
                )
            made.append(json.loads(str(columns[_MADE])))
            yield found

    def _file(self, part: Part) -> Path:
        return self.folder / f"{part.start}-{part.stop}.npz"
