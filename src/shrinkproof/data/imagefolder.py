"""Image files in class folders, decoded when they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.headers import check_unchanged, headers, opened
from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import locate, require
from shrinkproof.environment import usable_cores
from shrinkproof.errors import DataError
from shrinkproof.registry import component

_FEW: Final = 4
"""Files that a thread decodes at least."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to a decoded image: short side to ``resize`` pixels, then a center crop.

    Attributes:
        resize: length of the short side in pixels, 0 for no resizing.
        crop: side of the square in the center in pixels, 0 for no cropping.
    """

    resize: int = 0
    crop: int = 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) after resizing; the long side is rounded down."""
        if not self.resize:
            return width, height
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """Return (H, W) of the prepared image."""
        width, height = self.size(width, height)
        return (self.crop, self.crop) if self.crop else (height, width)

    def __str__(self) -> str:
        """Return the spelling of the reference, ``resize=256&crop=224``."""
        parts = (("resize", self.resize), ("crop", self.crop))
        return "&".join(f"{name}={value}" for name, value in parts if value)


AS_IT_IS: Final = Preparation()
"""Neither resized nor cropped."""


@component
class ImageFolder:
    """Image files in one folder per class.

    Reference ``imagefolder:PATH`` or ``imagefolder:PATH?resize=256&crop=224``; a relative path
    starts from the folder of the study file. Classes are the sub-folders and images their files,
    both in the order of their names. Hidden files, ``Thumbs.db`` and ``desktop.ini`` and files
    beside the class folders are not images and are passed over; every other file must be one.

    Pixels: RGB by Pillow, without regard to EXIF orientation; bilinear resizing with antialiasing
    to the given short side; center crop as torchvision does it. Without both options all files
    must have one size. Hashes are those of the files.
    """

    name: ClassVar[str] = "imagefolder"
    version: ClassVar[int] = 1

    def present(self, rest: str, roots: Mapping[str, Path]) -> None:
        """Check that the folder exists.

        Raises:
            DataError: it does not.
        """
        require(locate(rest.partition("?")[0], roots))

    def load(self, rest: str, roots: Mapping[str, Path]) -> ImageSet:
        """Return the images; headers are read now, pixels later.

        Raises:
            DataError: the folder or its files are missing, unreadable or of different sizes.
        """
        text, _, query = rest.partition("?")
        preparation = _preparation(rest, query)
        if not text:
            raise DataError("data reference must be 'imagefolder:PATH', got no path")
        folder = locate(text, roots)
        classes, names, target = _list(folder)
        shape, hashes = _scan(folder, names, preparation)
        images = Files(folder, names, preparation, shape, hashes)
        return ImageSet(
            source=f"imagefolder:{rest}",
            images=images,
            shape=shape,
            target=np.array(target, dtype=np.int64),
            classes=classes,
            index=np.arange(len(names), dtype=np.int64),
            hashes=np.array(hashes, dtype="U16"),
            preparation=str(preparation) or "files",
            files=np.array(images.files, dtype=np.str_),
        )


class Files:
    """Image files, decoded on each access, by several threads.

    Args:
        folder: what file names are relative to.
        names: of the files, in order, with forward slashes.
        preparation: what is done to each decoded image.
        shape: (H, W) of every prepared image.
        hashes: 16 hex digits of SHA-256 over each file when it was listed; a file that is another
            one by now is refused.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        preparation: Preparation,
        shape: tuple[int, int],
        hashes: Sequence[str],
    ) -> None:
        self.files: tuple[str, ...] = tuple(names)
        """Name of each file, relative to the folder, with forward slashes."""
        self._folder = folder
        self._preparation = preparation
        self._shape = shape
        self._hashes = hashes

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at the given positions, (n, H, W, 3) uint8.

        Raises:
            DataError: a file cannot be decoded or is not the one that was listed.
        """
        chosen = np.asarray(positions).tolist()
        paths = [self._folder / self.files[each] for each in chosen]
        hashes = [self._hashes[each] for each in chosen]
        return decode_all(paths, self._shape, self._preparation, hashes=hashes)


def _preparation(rest: str, query: str) -> Preparation:
    options: dict[str, int] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in ("resize", "crop"):
            raise DataError(f"imagefolder:{rest}: options are resize and crop, got {name!r}")
        if not value.isdecimal() or int(value) < 1 or name in options:
            raise DataError(
                f"imagefolder:{rest}: {name} must be a number of pixels, once, got {value!r}"
            )
        options[name] = int(value)
    found = Preparation(**options)
    if found.resize and found.crop > found.resize:
        raise DataError(
            f"imagefolder:{rest}: crop must be at most resize ({found.resize}), got {found.crop}"
        )
    return found


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if is_content(entry.name)]
    return sorted(found, key=lambda entry: entry.name)


def is_content(name: str) -> bool:
    """Return whether a file or folder is neither hidden nor left there by a file browser."""
    return not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini")


def _list(folder: Path) -> tuple[tuple[str, ...], list[str], list[int]]:
    if not folder.is_dir():
        raise DataError(
            f"imagefolder: {folder} must be a folder of class folders, but there is no such folder"
        )
    classes = [entry.name for entry in _visible(folder) if entry.is_dir()]
    if not classes:
        raise DataError(f"imagefolder: {folder} must have one folder per class, got none")
    names: list[str] = []
    target: list[int] = []
    for label, place in enumerate(classes):
        files = [f"{place}/{entry.name}" for entry in _visible(folder / place)]
        if not files:
            raise DataError(
                f"imagefolder: class folder {folder / place} must hold at least 1 image; fill or "
                "remove it"
            )
        names += files
        target += [label] * len(files)
    return tuple(classes), names, target


def _scan(
    folder: Path, names: list[str], preparation: Preparation
) -> tuple[tuple[int, int], list[str]]:
    """Return the one (H, W) of all prepared images and the hash of each file."""
    first: tuple[int, int] | None = None
    hashes: list[str] = []
    for name, header in zip(names, headers(folder, names), strict=True):
        _check_crop(folder / name, preparation, header.width, header.height)
        shape = preparation.shape(header.width, header.height)
        first = first or shape
        if shape != first:
            raise DataError(
                f"imagefolder: all images must have one size; {folder / names[0]} gives {first[0]} "
                f"x {first[1]} (height x width), {folder / name} gives {shape[0]} x {shape[1]}; "
                "add for example '?resize=256&crop=224' to the reference"
            )
        hashes.append(header.content_hash)
    if first is None:
        raise DataError("imagefolder: there must be at least 1 image, got none")
    return first, hashes


def _check_crop(path: Path, preparation: Preparation, width: int, height: int) -> None:
    width, height = preparation.size(width, height)
    if preparation.crop > min(width, height):
        raise DataError(
            f"{path}: crop must fit into the image ({height} x {width} pixels), got "
            f"{preparation.crop}; add 'resize'"
        )


def decode_all(
    paths: Sequence[Path],
    shape: tuple[int, int],
    preparation: Preparation = AS_IT_IS,
    *,
    rule: str = "as when it was listed",
    advice: str = "",
    hashes: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """Return the pixels of image files of one size as RGB, (n, H, W, 3) uint8.

    Threads decode as many files at once as there are processors; Pillow lets them.

    Args:
        paths: the files.
        shape: (H, W) that every prepared image must have.
        preparation: what is done to each decoded image.
        rule: why they must have that shape, for the message.
        advice: what to do about another one, for the message.
        hashes: 16 hex digits of SHA-256 that each file must have; none are not looked at.

    Raises:
        DataError: a file is missing, damaged, no image, of another size or not the one that was
            listed; of several, the first.
    """
    images = np.empty((len(paths), *shape, 3), dtype=np.uint8)

    def fill(rows: Sequence[int]) -> None:
        for row in rows:
            image = decode(paths[row], preparation)
            if image.shape[:2] != shape:
                raise DataError(
                    f"{paths[row]}: must be {shape[0]} x {shape[1]} pixels {rule}, got "
                    f"{image.shape[0]} x {image.shape[1]}{advice and '; '}{advice}"
                )
            if hashes:
                check_unchanged(paths[row], hashes[row])
            images[row] = image

    every = range(len(paths))
    size = max(_FEW, -(-len(paths) // usable_cores()))
    parts = [every[start : start + size] for start in every[::size]]
    if len(parts) < 2:
        fill(every)
        return images
    with ThreadPoolExecutor(len(parts)) as pool:
        for _ in pool.map(fill, parts):
            pass
    return images


def decode(path: Path, preparation: Preparation = AS_IT_IS) -> NDArray[np.uint8]:
    """Return the pixels of an image file as RGB, (H, W, 3) uint8.

    Args:
        path: the file.
        preparation: what is done to the decoded image.

    Raises:
        DataError: the file is missing, damaged or no image.
    """
    from PIL import Image

    with opened(path) as image:
        try:
            rgb = image.convert("RGB")
        except (OSError, ValueError, SyntaxError, IndexError, EOFError) as error:
            raise DataError(
                f"{path}: the image breaks off or is damaged ({error}); repair it or remove it"
            ) from error
    size = preparation.size(*rgb.size)
    if size != rgb.size:
        rgb = rgb.resize(size, Image.Resampling.BILINEAR)
    if preparation.crop:
        left, top = (round((side - preparation.crop) / 2) for side in size)
        rgb = rgb.crop((left, top, left + preparation.crop, top + preparation.crop))
    return np.asarray(rgb, dtype=np.uint8)
