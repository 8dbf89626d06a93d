"""Image files in class folders, decoded when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import locate, require
from shrinkproof.errors import DataError
from shrinkproof.registry import component

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION: Final = 0x0112
"""EXIF tag of how a camera was held: 1 upright, 2 to 8 otherwise."""

_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes with at most 8 bits per channel; deeper ones would be clipped on conversion."""


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
        classes, paths, target = _list(folder)
        shape, hashes = _scan(paths, preparation)
        images = Files(folder, paths, preparation, shape)
        return ImageSet(
            source=f"imagefolder:{rest}",
            images=images,
            shape=shape,
            target=np.array(target, dtype=np.int64),
            classes=classes,
            index=np.arange(len(paths), dtype=np.int64),
            hashes=np.array(hashes, dtype="U16"),
            preparation=str(preparation) or "files",
            files=np.array(images.files, dtype=np.str_),
        )


class Files:
    """Image files, decoded on each access.

    Args:
        folder: what file names are relative to.
        paths: the files, in order.
        preparation: what is done to each decoded image.
        shape: (H, W) of every prepared image.
    """

    def __init__(
        self,
        folder: Path,
        paths: list[Path],
        preparation: Preparation,
        shape: tuple[int, int],
    ) -> None:
        self.files: tuple[str, ...] = tuple(p.relative_to(folder).as_posix() for p in paths)
        """Name of each file, relative to the folder, with forward slashes."""
        self._paths = paths
        self._preparation = preparation
        self._shape = shape

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at the given positions, (n, H, W, 3) uint8.

        Raises:
            DataError: a file cannot be decoded or has changed its size.
        """
        chosen = np.asarray(positions).tolist()
        images = np.empty((len(chosen), *self._shape, 3), dtype=np.uint8)
        for row, position in enumerate(chosen):
            image = decode(self._paths[position], self._preparation)
            if image.shape[:2] != self._shape:
                raise DataError(
                    f"{self._paths[position]}: must be {self._shape[0]} x {self._shape[1]} pixels "
                    f"as when it was listed, got {image.shape[0]} x {image.shape[1]}"
                )
            images[row] = image
        return images


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


def _visible(folder: Path) -> list[Path]:
    return sorted(
        (
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.name not in ("Thumbs.db", "desktop.ini")
        ),
        key=lambda path: path.name,
    )


def _list(folder: Path) -> tuple[tuple[str, ...], list[Path], list[int]]:
    if not folder.is_dir():
        raise DataError(
            f"imagefolder: {folder} must be a folder of class folders, but there is no such folder"
        )
    folders = [path for path in _visible(folder) if path.is_dir()]
    if not folders:
        raise DataError(f"imagefolder: {folder} must have one folder per class, got none")
    paths: list[Path] = []
    target: list[int] = []
    for label, place in enumerate(folders):
        files = _visible(place)
        if not files:
            raise DataError(
                f"imagefolder: class folder {place} must hold at least 1 image; fill or remove it"
            )
        paths += files
        target += [label] * len(files)
    return tuple(place.name for place in folders), paths, target


def _scan(paths: list[Path], preparation: Preparation) -> tuple[tuple[int, int], list[str]]:
    """Return the one (H, W) of all prepared images and the hash of each file."""
    first: tuple[int, int] | None = None
    hashes: list[str] = []
    for path in paths:
        width, height, content_hash = header(path)
        _check_crop(path, preparation, width, height)
        shape = preparation.shape(width, height)
        first = first or shape
        if shape != first:
            raise DataError(
                f"imagefolder: all images must have one size; {paths[0]} gives {first[0]} x "
                f"{first[1]} (height x width), {path} gives {shape[0]} x {shape[1]}; add for "
                f"example '?resize=256&crop=224' to the reference"
            )
        hashes.append(content_hash)
    if first is None:
        raise DataError("imagefolder: there must be at least 1 image, got none")
    return first, hashes


def header(path: Path) -> tuple[int, int, str]:
    """Return width and height of an image file in pixels, and 16 hex digits of its SHA-256.

    Raises:
        DataError: the file is no image, or has more than 8 bits per channel.
    """
    with _opened(path) as image:
        width, height = image.size
        mode = image.mode
    if mode not in _MODES:
        raise DataError(
            f"{path}: must have at most 8 bits per channel, got Pillow mode {mode!r}; convert it"
        )
    return width, height, hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def is_turned(path: Path) -> bool:
    """Return whether EXIF says that a photo must be turned or mirrored to be looked at.

    Raises:
        DataError: the file is no image.
    """
    with _opened(path) as image:
        # Other formats are decoded to the end in search of it.
        if image.format not in ("JPEG", "MPO", "TIFF", "WEBP"):
            return False
        return image.getexif().get(_ORIENTATION, 1) in range(2, 9)


def _check_crop(path: Path, preparation: Preparation, width: int, height: int) -> None:
    width, height = preparation.size(width, height)
    if preparation.crop > min(width, height):
        raise DataError(
            f"{path}: crop must fit into the image ({height} x {width} pixels), got "
            f"{preparation.crop}; add 'resize'"
        )


def _opened(path: Path) -> Image:
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error}); repair it or remove it"
        ) from error


def decode(path: Path, preparation: Preparation = AS_IT_IS) -> NDArray[np.uint8]:
    """Return the pixels of an image file as RGB, (H, W, 3) uint8.

    Args:
        path: the file.
        preparation: what is done to the decoded image.

    Raises:
        DataError: the file is missing, damaged or no image.
    """
    from PIL import Image

    with _opened(path) as image:
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
