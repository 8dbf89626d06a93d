"""From a reference to a stored set, ``cifar-c:PLACE`` or ``imagenet-c:PLACE``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import locate
from shrinkproof.errors import DataError, UnknownNameError
from shrinkproof.records import Condition
from shrinkproof.stored.arrays import StoredArrays
from shrinkproof.stored.trees import StoredTrees


class StoredSet(Protocol):
    """Corrupted images in files, made from the images of a clean set."""

    @property
    def reference(self) -> str:
        """What the user wrote, ``scheme:place``."""
        ...

    @property
    def folder(self) -> Path:
        """Where the files are."""
        ...

    def conditions(self) -> tuple[Condition, ...]:
        """Return the conditions that the set has, by name and severity; files are not read."""
        ...

    def check(self, images: ImageSet, conditions: Sequence[Condition]) -> tuple[str, ...]:
        """Check that the set shows these images under these conditions.

        Args:
            images: the clean images, or a subset of them.
            conditions: what will be read; the clean condition is passed over.

        Returns:
            What a reader must know, one sentence each.

        Raises:
            DataError: a corruption, severity or file is missing, has another size, number or type
                than the clean images ask for, other labels, or another checksum.
            StoreError: the manifest of the set is damaged.
        """
        ...

    def identity(self, condition: Condition) -> str:
        """Return the identity of the images of a condition, ``sha256:`` and 16 hex digits.

        The files are read the first time that a process asks, and again if size or time change.

        Raises:
            DataError: the set does not have the condition.
        """
        ...

    def read(
        self, images: ImageSet, condition: Condition, positions: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Return images under a condition, (n, H, W, 3) uint8; the clean ones if it is clean.

        Args:
            images: the clean images, or a subset of them.
            condition: which corruption at which severity.
            positions: (n,) which of the images.

        Raises:
            DataError: the set does not have them, or a file is damaged.
        """
        ...


_FORMATS: Final[Mapping[str, type[StoredArrays] | type[StoredTrees]]] = {
    "cifar-c": StoredArrays,
    "imagenet-c": StoredTrees,
}


def open_stored(reference: str, roots: Mapping[str, Path]) -> StoredSet:
    """Return the stored set of a reference; only names of files are read.

    Args:
        reference: ``cifar-c:PLACE`` (one array per corruption, as CIFAR-10-C is published) or
            ``imagenet-c:PLACE`` (folders of JPEG files, as ImageNet-C is); ``PLACE`` is the name
            of a root, or a path.
        roots: named places the user gave; relative paths start from ``study``.

    Raises:
        UnknownNameError: the format is not known.
        DataError: there is no such folder, or nothing of that format in it.
    """
    scheme, _, place = reference.partition(":")
    if scheme not in _FORMATS:
        raise UnknownNameError("format of a stored set", scheme, _FORMATS)
    if not place:
        raise DataError(
            f"stored set must be '{scheme}:PLACE' with a folder or the name of a root, got no place"
        )
    folder = Path(roots[place]) if place in roots else locate(place, roots)
    if not folder.is_dir():
        raise DataError(
            f"{reference}: {folder} must be the folder of the set, but there is no such folder; "
            f"correct the path, or write '{scheme}:NAME' and pass --root NAME=DIR"
        )
    found = _FORMATS[scheme](reference, folder)
    if not found.conditions():
        raise DataError(f"{reference}: {folder} must hold {found.layout}, got none")
    return found
