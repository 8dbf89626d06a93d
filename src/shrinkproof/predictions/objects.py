"""The annotated objects of a set of images, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError

# Shape suffixes: N images, G objects.


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Objects:
    """The annotated boxes of N images, one after the other.

    Attributes:
        boxes: (G, 4) float64, ``x1, y1, x2, y2`` in pixels of the image as it was annotated; edges,
            so that a box has the width ``x2 - x1``.
        label: (G,) int64, class of each object, 0 to C - 1.
        offsets: (N + 1,) int64; the objects of image i are rows ``offsets[i]`` to
            ``offsets[i + 1]``.
        crowd: (G,) bool; True where the box stands for many objects that nobody told apart: it is
            never missed, and a detection inside it is neither right nor wrong.
        area: (G,) float64, area of the object in square pixels as annotated (of its mask where
            there is one), which decides whether it counts as small, medium or large.
        sizes: (N, 2) int64, height and width of each image in pixels.
    """

    boxes: NDArray[np.float64]
    label: NDArray[np.int64]
    offsets: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    sizes: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check shapes, finiteness and the order of the offsets.

        Raises:
            DataError: they are wrong.
        """
        count, images = len(self.label), len(self.sizes)
        expected = {
            "boxes": (count, 4),
            "label": (count,),
            "offsets": (images + 1,),
            "crowd": (count,),
            "area": (count,),
            "sizes": (images, 2),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise DataError(
                    f"objects: {name} must have shape {shape}, got {getattr(self, name).shape}"
                )
        steps = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != count or (steps < 0).any():
            raise DataError(
                f"objects: offsets must rise from 0 to {count}, got {self.offsets.tolist()[:8]}"
            )
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.area).all()):
            raise DataError("objects: boxes and areas must be finite, got NaN or infinity")
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        if count and sides.min() <= 0:
            row = int(np.argmax((sides <= 0).any(axis=1)))
            raise DataError(
                f"objects: boxes must have x2 > x1 and y2 > y1, got {self.boxes[row].tolist()}"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.sizes)

    @property
    def image(self) -> NDArray[np.int64]:
        """Position of the image of each object, (G,) int64."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def __getitem__(self, positions: NDArray[np.int64]) -> Objects:
        """Return the objects of the images at the given positions."""
        rows, offsets = rows_of(self.offsets, positions)
        return Objects(
            boxes=self.boxes[rows],
            label=self.label[rows],
            offsets=offsets,
            crowd=self.crowd[rows],
            area=self.area[rows],
            sizes=self.sizes[positions],
        )

    def tobytes(self) -> bytes:
        """Return everything as bytes, for a fingerprint."""
        columns = (self.boxes, self.label, self.offsets, self.crowd, self.area, self.sizes)
        return b"".join(np.ascontiguousarray(column).tobytes() for column in columns)


def rows_of(
    offsets: NDArray[np.int64], positions: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of some images in a flat array, and the offsets of these rows.

    Args:
        offsets: (N + 1,) where the rows of each image begin and end.
        positions: (n,) images, in any order, also several times.

    Returns:
        ``(rows (m,), offsets (n + 1,))``, both int64.
    """
    counts = np.diff(offsets)[positions]
    found = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    starts = np.repeat(offsets[:-1][positions] - found[:-1], counts)
    return starts + np.arange(found[-1], dtype=np.int64), found
