"""Image files with annotated boxes: what the readers of COCO and VOC annotations share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.headers import headers
from shrinkproof.data.imagefolder import decode_all
from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError
from shrinkproof.predictions import Objects

# Shape suffixes: N images, G objects.

_ROUNDING: Final = 0.01
"""Pixels by which rounding of the annotations alone may put an edge outside of the image."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An image as annotations list it.

    Attributes:
        name: of its file, relative to the folder of images.
        size: (H, W) in pixels; None where the annotations do not state it.
    """

    name: str
    size: tuple[int, int] | None


@dataclass(slots=True)
class Annotated:
    """Annotated boxes while they are read, one entry in each list per box.

    Attributes:
        image: position of its image.
        box: ``x1, y1, x2, y2``, edges in pixels.
        label: class, 0 to C - 1.
        crowd: whether it stands for objects that nobody told apart.
        area: in square pixels as annotated; None takes that of the box inside the image.
    """

    image: list[int] = field(default_factory=list)
    box: list[tuple[float, float, float, float]] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    area: list[float | None] = field(default_factory=list)

    def add(
        self,
        image: int,
        box: tuple[float, float, float, float],
        label: int,
        *,
        crowd: bool,
        area: float | None,
    ) -> None:
        """Note one box."""
        self.image.append(image)
        self.box.append(box)
        self.label.append(label)
        self.crowd.append(crowd)
        self.area.append(area)

    def objects(self, sizes: NDArray[np.int64]) -> tuple[Objects, tuple[str, ...]]:
        """Return the boxes inside their images, by image, and what was changed for that.

        Boxes that reach outside are clipped; those without area, before or after that, are left
        out. Boxes of one image stay in the order in which they were noted.

        Args:
            sizes: (N, 2) height and width of each image.
        """
        image = np.array(self.image, dtype=np.int64)
        given = np.array(self.box, dtype=np.float64).reshape(-1, 4)
        inside = np.clip(given, 0.0, np.tile(sizes[image][:, ::-1], 2))
        sides = inside[:, 2:] - inside[:, :2]
        keep = np.asarray((sides > 0).all(axis=1))
        clipped = int(((abs(inside - given) > _ROUNDING).any(axis=1) & keep).sum())
        total = len(self.label)
        left_out = total - int(keep.sum())
        stated = np.array([np.nan if area is None else area for area in self.area], dtype=float)
        area = np.where(np.isnan(stated), sides.prod(axis=1), stated)
        order = np.flatnonzero(keep)
        order = order[np.argsort(image[order], kind="stable")]
        counts = np.bincount(image[order], minlength=len(sizes))
        objects = Objects(
            boxes=inside[order],
            label=np.array(self.label, dtype=np.int64)[order],
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            crowd=np.array(self.crowd, dtype=np.bool_)[order],
            area=area[order],
            sizes=sizes,
        )
        notes = (
            (clipped, f"{clipped} of {total} boxes reach outside their image and are clipped"),
            (left_out, f"{left_out} of {total} boxes have no area in their image and are left out"),
        )
        return objects, tuple(text for count, text in notes if count)


class BoxedFiles:
    """Image files of any sizes, decoded on each access.

    Pixels are RGB by Pillow, without regard to EXIF orientation.

    Args:
        folder: what the names are relative to.
        files: name of each file.
        sizes: (N, 2) height and width of each image.
    """

    def __init__(self, folder: Path, files: Sequence[str], sizes: NDArray[np.int64]) -> None:
        self.files: tuple[str, ...] = tuple(files)
        """Name of each file, relative to the folder."""
        self._folder = folder
        self._sizes = sizes

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at the given positions, (n, H, W, 3) uint8.

        Raises:
            DataError: they differ in size, or a file cannot be decoded or has changed its size.
        """
        chosen = np.asarray(positions)
        sizes = self._sizes[chosen]
        if not len(chosen):
            return np.empty((0, 0, 0, 3), dtype=np.uint8)
        if (sizes != sizes[0]).any():
            raise DataError(
                f"{self._folder}: images read together must have one size, got "
                f"{_text(sizes[0])} and others; read them one by one"
            )
        paths = [self._folder / self.files[position] for position in chosen.tolist()]
        return decode_all(paths, (int(sizes[0, 0]), int(sizes[0, 1])))


def boxed_images(
    source: str,
    folder: Path,
    listed: Sequence[Listed],
    annotated: Annotated,
    classes: tuple[str, ...],
    *,
    columns: Mapping[str, NDArray[np.str_]] | None = None,
    notes: tuple[str, ...] = (),
) -> ImageSet:
    """Return image files with their boxes; headers are read now, pixels later.

    Args:
        source: the data reference.
        folder: where the image files are.
        listed: the images, in order.
        annotated: their boxes.
        classes: name of each class.
        columns: name -> (N,) value of each image.
        notes: what a reader must know about the annotations.

    Raises:
        DataError: a file is missing, listed twice, no image, or not of the annotated size.
    """
    sizes, hashes, turned = _scan(source, folder, listed)
    if turned:
        notes = (
            *notes,
            f"EXIF turns or mirrors {turned} of {len(listed)} images, which is not done here: "
            "their boxes must be annotated on the pixels as they are stored",
        )
    objects, changes = annotated.objects(sizes)
    alike = bool((sizes == sizes[0]).all())
    files = [each.name for each in listed]
    return ImageSet(
        source=source,
        images=BoxedFiles(folder, files, sizes),
        shape=(int(sizes[0, 0]), int(sizes[0, 1])) if alike else None,
        target=objects,
        classes=classes,
        index=np.arange(len(listed), dtype=np.int64),
        hashes=hashes,
        preset="imagecorruptions",
        preparation="files",
        files=np.array(files, dtype=np.str_),
        columns=columns or {},
        notes=(*notes, *changes),
    )


def settings_of(
    source: str, query: str, allowed: Sequence[str], *, several: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return the settings behind the question mark of a data reference, name -> values.

    Args:
        source: the data reference.
        query: what stands behind the question mark.
        allowed: the names that may stand there.
        several: those of them that may be repeated.

    Raises:
        DataError: a name is unknown, repeated, or has no value.
    """
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in allowed:
            raise DataError(f"{source}: settings must be of {', '.join(allowed)}, got {name!r}")
        if not value or (name in found and name not in several):
            raise DataError(f"{source}: {name} must have one value, once, got {value!r}")
        found.setdefault(name, []).append(value)
    return found


def _scan(
    source: str, folder: Path, listed: Sequence[Listed]
) -> tuple[NDArray[np.int64], NDArray[np.str_], int]:
    """Return (N, 2) height and width of the files, their hashes, and how many EXIF turns."""
    absent = [each.name for each in listed if not (folder / each.name).is_file()]
    if absent:
        raise DataError(
            f"{source}: every listed image must be a file in {folder}, but {len(absent)} of "
            f"{len(listed)} are missing, the first is {absent[0]}; copy them there"
        )
    counts = Counter(each.name for each in listed)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"{source}: every file must be listed once, with all of its boxes, but {len(twice)} "
            f"are listed several times, the first is {twice[0]}; join their entries"
        )
    sizes = np.empty((len(listed), 2), dtype=np.int64)
    hashes = np.empty(len(listed), dtype="U16")
    turned_files = 0
    found = headers(folder, [each.name for each in listed], turns=True)
    for row, (each, header) in enumerate(zip(listed, found, strict=True)):
        width, height = header.width, header.height
        hashes[row] = header.content_hash
        turned_files += header.is_turned
        if each.size not in (None, (height, width)):
            turned = each.size == (width, height)
            raise DataError(
                f"{folder / each.name}: must be {_text(each.size or ())} pixels (height x width) "
                f"as annotated, got {_text((height, width))}; "
                + (
                    "turn the file as it was when it was annotated (EXIF is not looked at)"
                    if turned
                    else "take the annotated files"
                )
            )
        sizes[row] = height, width
    return sizes, hashes, turned_files


def _text(shape: Sequence[int] | NDArray[np.int64]) -> str:
    return f"{shape[0]} x {shape[1]}"
