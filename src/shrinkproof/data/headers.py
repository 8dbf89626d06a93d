"""What is known of an image file before its pixels are decoded: size, hash, orientation."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shrinkproof.data.known_files import is_settled, recall, remember, state_of
from shrinkproof.environment import usable_cores
from shrinkproof.errors import DataError
from shrinkproof.records import Json

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION: Final = 0x0112
"""EXIF tag of how a camera was held: 1 upright, 2 to 8 otherwise."""

_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes with at most 8 bits per channel; deeper ones would be clipped on conversion."""

_FEW: Final = 256
"""Files that are read faster than it pays to remember them."""

_PART: Final = 64
"""Files that a thread reads in a row."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image file.

    Attributes:
        width: in pixels, as they are stored.
        height: in pixels, as they are stored.
        content_hash: 16 hex digits of SHA-256 over the file.
        is_turned: whether EXIF says that it must be turned or mirrored to be looked at; False where
            nobody asked.
    """

    width: int
    height: int
    content_hash: str
    is_turned: bool = False


def headers(folder: Path, names: Sequence[str], *, turns: bool = False) -> Iterator[Header]:
    """Yield the header of each file, in order; unchanged files of an earlier process are not read.

    Several threads read the others. See `shrinkproof.data.known_files` for where headers are kept
    and which files count as unchanged.

    Args:
        folder: where the files are.
        names: of the files, relative to the folder.
        turns: also find out whether EXIF turns the images.

    Raises:
        DataError: a file is no image, or has more than 8 bits per channel.
    """
    if len(names) < _FEW:
        yield from (_read(folder / name, turns=turns) for name in names)
        return
    yield from _Listing(folder, turns=turns).headers(names)


class _Listing:
    """The known files of a folder.

    Args:
        folder: where they are.
        turns: whether EXIF is looked at.
    """

    def __init__(self, folder: Path, *, turns: bool) -> None:
        self._folder = folder
        self._turns = turns
        self._kind = "turned-headers" if turns else "headers"
        self._known = recall(self._kind, folder)
        self._began = time.time_ns()
        self._found: Json = {}

    def headers(self, names: Sequence[str]) -> Iterator[Header]:
        """Yield the header of each file, and remember all that were read, even after an error."""
        parts = [names[start : start + _PART] for start in range(0, len(names), _PART)]
        try:
            with ThreadPoolExecutor(min(8, usable_cores())) as pool:
                for found in pool.map(self._part, parts):
                    yield from found
        finally:
            if self._found:
                kept = {name: each for name, each in self._known.items() if self._is_there(name)}
                remember(self._kind, self._folder, {**kept, **self._found})

    def _is_there(self, name: str) -> bool:
        return os.path.lexists(f"{self._folder}/{name}")

    def _part(self, names: Sequence[str]) -> list[Header]:
        return [self._header(name) for name in names]

    def _header(self, name: str) -> Header:
        path = f"{self._folder}/{name}"
        try:
            state = state_of(os.stat(path))  # noqa: PTH116 - half the time of Path.stat
        except OSError as error:
            raise _unreadable(Path(path), error) from error
        known = self._known.get(name)
        if known is not None and tuple(known[0]) == state:
            return Header(*known[1])
        header = _read(Path(path), turns=self._turns)
        if is_settled(state.changed, self._began):
            self._found[name] = [state, _values(header)]
        return header


def _values(header: Header) -> list[int | str | bool]:
    return [header.width, header.height, header.content_hash, header.is_turned]


def _read(path: Path, *, turns: bool) -> Header:
    with opened(path) as image:
        if image.mode not in _MODES:
            raise DataError(
                f"{path}: must have at most 8 bits per channel, got Pillow mode {image.mode!r}; "
                "convert it"
            )
        width, height = image.size
        is_turned = turns and _is_turned(image)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Header(width, height, digest[:16], is_turned)


def _is_turned(image: Image) -> bool:
    # Other formats are decoded to the end in search of it.
    if image.format not in ("JPEG", "MPO", "TIFF", "WEBP"):
        return False
    return image.getexif().get(_ORIENTATION, 1) in range(2, 9)


def opened(path: Path) -> Image:
    """Return an image file, opened and identified by Pillow; its pixels are not decoded.

    Raises:
        DataError: the file is missing, or no image.
    """
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def check_unchanged(path: Path, content_hash: str) -> None:
    """Refuse a file that is not the one that was listed.

    Args:
        path: the file.
        content_hash: 16 hex digits of SHA-256 over it when it was listed.

    Raises:
        DataError: it is missing or another one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if hashlib.sha256(content).hexdigest()[:16] != content_hash:
        raise DataError(
            f"{path}: must not change while a study runs, got other bytes than when it was listed; "
            "restore it, or run the study again to measure the images as they are now"
        )


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read as an image ({error}); repair it or remove it")
