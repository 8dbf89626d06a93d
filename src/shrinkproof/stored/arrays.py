"""Stored images in arrays, one file per corruption, as CIFAR-10-C is published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError, suggestions
from shrinkproof.records import SEVERITIES, Condition
from shrinkproof.stored.checksums import hash_file, read_checksums
from shrinkproof.stored.notes import notes_of

LABELS: Final = "labels.npy"


class StoredArrays:
    """A folder with one array per corruption, and the labels.

    Each array is (5 n, H, W, 3) uint8: the n images of the clean set in their order at severity 1,
    then at severity 2, and so on. ``labels.npy`` has the labels five times, or once. Images are
    paired by their index in the clean set, which must have exactly n.

    Args:
        reference: what the user wrote.
        folder: where the files are.
    """

    layout: ClassVar[str] = "one .npy file per corruption"

    def __init__(self, reference: str, folder: Path) -> None:
        self.reference = reference
        self.folder = folder
        self._open: dict[str, NDArray[np.uint8]] = {}

    def conditions(self) -> tuple[Condition, ...]:
        """Return the conditions that the set has; files are not read."""
        return tuple(Condition(name, s) for name in self._corruptions() for s in SEVERITIES)

    def check(self, images: ImageSet, conditions: Sequence[Condition]) -> tuple[str, ...]:
        """Check that the set shows these images under these conditions; return notes.

        Raises:
            DataError: an array or the labels are missing, do not fit, or have another checksum.
            StoreError: the manifest of the set is damaged.
        """
        corruptions = list(dict.fromkeys(c.corruption for c in conditions if not c.is_clean))
        checksums = read_checksums(self.folder)
        for corruption in corruptions:
            self._fitting(images, corruption)
        self._check_labels(images)
        for name in (LABELS, *(f"{corruption}.npy" for corruption in corruptions)):
            checksums.verify(self.folder, name)
        return notes_of(self.reference, self.folder, checksums)

    def identity(self, condition: Condition) -> str:
        """Return the checksum of the array that has the condition.

        Raises:
            DataError: there is none.
        """
        return f"sha256:{hash_file(self._path(condition.corruption))[:16]}"

    def read(
        self, images: ImageSet, condition: Condition, positions: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Return images under a condition, (n, H, W, 3) uint8.

        Raises:
            DataError: the array is missing or does not fit the images.
        """
        if condition.is_clean:
            return images.images[positions]
        stored = self._fitting(images, condition.corruption)
        rows = (condition.severity - 1) * images.total + images.index[positions]
        return np.ascontiguousarray(stored[rows])

    def _corruptions(self) -> list[str]:
        return sorted(
            path.stem
            for path in self.folder.glob("*.npy")
            if path.name != LABELS and not path.name.startswith(".") and path.stem != "clean"
        )

    def _path(self, corruption: str) -> Path:
        path = self.folder / f"{corruption}.npy"
        if not path.is_file():
            known = self._corruptions()
            alike = suggestions(corruption, known)
            raise DataError(
                f"{self.reference} has no {path.name} in {self.folder}; "
                + (f"did you mean {' or '.join(alike)}?" if alike else f"it has {', '.join(known)}")
            )
        return path

    def _fitting(self, images: ImageSet, corruption: str) -> NDArray[np.uint8]:
        """Return the array of a corruption if it has the form that the clean images ask for."""
        if corruption not in self._open:
            self._open[corruption] = _load(self._path(corruption))
        stored = self._open[corruption]
        expected = (len(SEVERITIES) * images.total, *images.one_shape, 3)
        if stored.shape != expected or stored.dtype != np.uint8:
            raise DataError(
                f"{self._path(corruption)}: must be {expected} uint8, {len(SEVERITIES)} severities "
                f"of the {images.total} images of {images.source}, got {stored.shape} "
                f"{stored.dtype}; it was made from another set"
            )
        if len(images) and int(images.index.max()) >= images.total:
            raise DataError(
                f"{images.source}: the index of an image must be below {images.total} to find it "
                f"in {self.reference}, got {images.index.max()}"
            )
        return stored

    def _check_labels(self, images: ImageSet) -> None:
        path = self.folder / LABELS
        if not path.is_file():
            raise DataError(
                f"{self.reference} has no {LABELS} in {self.folder}, which proves that its images "
                f"are those of {images.source}; copy it there"
            )
        labels = _load(path)
        count = images.total
        if (
            labels.shape not in {(count,), (len(SEVERITIES) * count,)}
            or labels.dtype.kind not in "iu"
        ):
            raise DataError(
                f"{path}: must be {count} labels, or {len(SEVERITIES)} times as many, as "
                f"{images.source} has {count} images, got {labels.shape} {labels.dtype}"
            )
        found = np.asarray(labels).reshape(-1, count)[:, images.index].astype(np.int64)
        severity, position = np.nonzero(found != images.labels)
        if len(position):
            different = len(np.unique(position))
            first = int(position.min())
            other = int(found[severity[position.argmin()], first])
            raise DataError(
                f"{path}: labels must be those of {images.source}, but {different} of "
                f"{len(images)} differ; the first is image {images.index[first]}, where the set "
                f"says {other} and the clean images {images.labels[first]}: the stored set is in "
                f"another order or of another set"
            )


def _load(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: must be a complete .npy file of numbers ({error}); copy it again"
        ) from error
    return found
