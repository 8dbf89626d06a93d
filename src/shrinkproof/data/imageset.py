"""Labelled images in a fixed order: the value that every reader returns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.predictions import Objects

Truth = NDArray[np.int64] | Objects
"""What is true of each image: its class, (N,) int64, or its objects."""


class Images(Protocol):
    """Random access to uint8 images; an array in memory, a memory map, or files."""

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at the given positions, which have one size, (n, H, W, 3) uint8."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Labelled images in a fixed order.

    Attributes:
        source: the reference they were read from, for messages and tables.
        images: random access to (n, H, W, 3) uint8.
        shape: (H, W) of every image; None where images differ in size.
        target: (N,) int64, class of each image; or the objects of each image, for detection.
        classes: name of each class.
        index: (N,) int64, index of each image in its source; random streams depend on it.
        hashes: (N,) 16 hex digits of SHA-256 over the pixels (array sources) or the file
            (folder sources).
        groups: (N,) group of each image (drive, scene, patient), or None.
        slices: name -> (N,) value of each image.
        preset: corruption constants that fit these images, empty where only the study can know.
        preparation: how pixels are made from what is hashed (resize and crop of files), empty
            where the pixels themselves are hashed.
        files: (N,) name of each image's file relative to the folder they were read from, with
            forward slashes; None where the source has no file for each image.
        total: number of images in the source, which a subset remembers.
        columns: name -> (N,) value of each image; a data reference may name them as group or
            slices, otherwise nothing is measured by them.
        notes: what a reader must know about how the source was read, one sentence each.
    """

    source: str
    images: Images
    shape: tuple[int, int] | None
    target: Truth
    classes: tuple[str, ...]
    index: NDArray[np.int64]
    hashes: NDArray[np.str_]
    groups: NDArray[np.str_] | None = None
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    preset: str = ""
    preparation: str = ""
    files: NDArray[np.str_] | None = None
    total: int = 0
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that all columns have one length and the labels fit the classes.

        Raises:
            DataError: they do not.
        """
        count = len(self.target)
        columns = {"index": self.index, "hashes": self.hashes, **self.columns, **self.slices}
        optional = {"groups": self.groups, "files": self.files}
        columns.update({name: values for name, values in optional.items() if values is not None})
        for name, values in columns.items():
            if len(values) != count:
                raise DataError(
                    f"{self.source}: {name} must have one value per image ({count}), "
                    f"got {len(values)}"
                )
        label = self.target.label if isinstance(self.target, Objects) else self.target
        if len(label) and not (label.min() >= 0 and label.max() < len(self.classes)):
            raise DataError(
                f"{self.source}: labels must be 0 to {len(self.classes) - 1} "
                f"({len(self.classes)} classes), got {label.min()} to {label.max()}"
            )
        if self.shape is None and not isinstance(self.target, Objects):
            raise DataError(f"{self.source}: images must have one size, got several")
        object.__setattr__(self, "total", self.total or count)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.target)

    @property
    def fingerprint(self) -> str:
        """Identity of the data: order, pixels, labels, classes, groups and slices."""
        head = (self.classes, self.shape, sorted(self.slices), self.preparation)
        digest = hashlib.sha256(repr(head).encode())
        digest.update(np.ascontiguousarray(self.hashes.astype("S16")).tobytes())
        digest.update(self.target.tobytes())
        digest.update(self.index.tobytes())
        for values in [self.groups, *(self.slices[name] for name in sorted(self.slices))]:
            if values is not None:
                digest.update("\0".join(map(str, values)).encode())
        return digest.hexdigest()[:16]

    def take(self, positions: NDArray[np.int64]) -> ImageSet:
        """Return the images at the given positions; each keeps its index in the source."""
        return replace(
            self,
            images=Subset(self.images, positions),
            target=self.target[positions],
            index=self.index[positions],
            hashes=self.hashes[positions],
            groups=None if self.groups is None else self.groups[positions],
            files=None if self.files is None else self.files[positions],
            slices={name: values[positions] for name, values in self.slices.items()},
            columns={name: values[positions] for name, values in self.columns.items()},
        )

    @property
    def one_shape(self) -> tuple[int, int]:
        """(H, W) of every image.

        Raises:
            DataError: images differ in size.
        """
        if self.shape is None:
            raise DataError(f"{self.source}: images must have one size here, got several")
        return self.shape

    @property
    def pixels(self) -> int:
        """Height times width of an image, of the largest one where sizes differ."""
        if self.shape is not None:
            return self.shape[0] * self.shape[1]
        return int(self.objects.sizes.astype(np.int64).prod(axis=1).max(initial=1))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each image, (N,) int64.

        Raises:
            DataError: the images have objects instead.
        """
        if isinstance(self.target, Objects):
            raise DataError(
                f"{self.source}: each image must have one class, got images with objects; this "
                "belongs to task: detection"
            )
        return self.target

    @property
    def objects(self) -> Objects:
        """The objects of each image.

        Raises:
            DataError: the images have one class each instead.
        """
        if not isinstance(self.target, Objects):
            raise DataError(
                f"{self.source}: each image must have annotated boxes, got one class for each "
                "image; this belongs to task: classification"
            )
        return self.target

    def batches(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield ``(positions (n,), images (n, H, W, 3))`` in order, images of one size together.

        Images of another size begin a new batch, so that batches may be smaller than ``size``.
        """
        for start, stop in self.spans(size):
            positions = np.arange(start, stop, dtype=np.int64)
            yield positions, self.images[positions]

    def spans(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield where each batch begins and ends; nothing is read."""
        for start, stop in self._runs():
            for first in range(start, stop, size):
                yield first, min(first + size, stop)

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Yield where each run of images of one size begins and ends."""
        if not isinstance(self.target, Objects) or not len(self):
            yield 0, len(self)
            return
        changes = np.flatnonzero((np.diff(self.target.sizes, axis=0) != 0).any(axis=1)) + 1
        edges = [0, *changes.tolist(), len(self)]
        yield from pairwise(edges)


@dataclass(frozen=True, slots=True, eq=False)
class Subset:
    """Some of the images of another set, in a given order; nothing is copied until it is read."""

    images: Images
    positions: NDArray[np.int64]

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at the given positions of this subset."""
        return self.images[self.positions[positions]]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.positions)


def hash_pixels(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.str_]:
    """Return 16 hex digits of SHA-256 over the pixels of each image, (N,)."""
    return np.array(
        [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:16] for image in images],
        dtype="U16",
    )
