"""How corrupted images become files: one array per corruption, or folders of JPEG files."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from shrinkproof.atomic import explained
from shrinkproof.corruptions.jpeg import encoded
from shrinkproof.corruptions.presets import STORED_QUALITY
from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError, UsageError
from shrinkproof.records import SEVERITIES, Condition, Json
from shrinkproof.stored.checksums import hash_tree
from shrinkproof.stored.trees import without_suffix

_READ: Final = 2**24


@dataclass(frozen=True, slots=True)
class Piece:
    """What becomes visible at once: an array with all severities, or the folder of one condition.

    Attributes:
        name: name of the file or folder, relative to the folder of the set.
        conditions: what it holds.
    """

    name: str
    conditions: tuple[Condition, ...]


class Format(Protocol):
    """A way to store corrupted images. ``root`` is a folder in which pieces are made."""

    name: ClassVar[str]

    def as_json(self) -> Json:
        """Return plain JSON values: what a worker needs to make the same format."""
        ...

    def pieces(self, corruptions: Sequence[str], severities: Sequence[int]) -> tuple[Piece, ...]:
        """Return what a set consists of."""
        ...

    def size(self) -> int:
        """Return the bytes of a piece, 0 where nobody can know."""
        ...

    def allocate(self, root: Path, piece: Piece) -> None:
        """Make the place of a piece; what is there already stays."""
        ...

    def write(self, root: Path, condition: Condition, start: int, images: NDArray[np.uint8]) -> str:
        """Store images from position ``start`` on; return their checksum."""
        ...

    def read(self, root: Path, condition: Condition, start: int, stop: int) -> str:
        """Return the checksum of the images that are stored there; empty where some are missing."""
        ...

    def seal(self, root: Path, piece: Piece) -> str:
        """Bring a complete piece to the disk and return its checksum, 64 hex digits."""
        ...


@dataclass(frozen=True)
class ArrayFormat:
    """One ``.npy`` file per corruption, (5 n, H, W, 3) uint8, severity by severity.

    Attributes:
        shape: (n, H, W, 3) of the clean images.
    """

    shape: tuple[int, ...]
    name: ClassVar[str] = "cifar-c"

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return {"name": self.name, "shape": list(self.shape)}

    def pieces(self, corruptions: Sequence[str], severities: Sequence[int]) -> tuple[Piece, ...]:
        """Return one piece per corruption.

        Raises:
            UsageError: not all severities are asked for.
        """
        if tuple(severities) != SEVERITIES:
            raise UsageError(
                f"severities must be 1 to 5, since the arrays of {self.name} have all of them in "
                f"one file, got {', '.join(map(str, severities))}; a set of folders, which image "
                f"files become, may have fewer"
            )
        return tuple(
            Piece(f"{name}.npy", tuple(Condition(name, s) for s in SEVERITIES))
            for name in corruptions
        )

    def size(self) -> int:
        """Return the bytes of a piece."""
        return len(self._header) + len(SEVERITIES) * int(np.prod(self.shape))

    def allocate(self, root: Path, piece: Piece) -> None:
        """Reserve the space of the file, so that a full disk shows now."""
        path = root / piece.name
        with explained(path):
            path.touch()
            with path.open("r+b") as file:
                reserve(file.fileno(), self.size())
                file.write(self._header)

    def write(self, root: Path, condition: Condition, start: int, images: NDArray[np.uint8]) -> str:
        """Store images in their rows of the file."""
        content = np.ascontiguousarray(images).reshape(-1).data
        path = self._path(root, condition)
        with explained(path), path.open("r+b", buffering=0) as file:
            file.seek(self._offset(condition, start))
            done = 0
            while done < len(content):
                done += file.write(content[done:])
        return hashlib.sha256(content).hexdigest()

    def read(self, root: Path, condition: Condition, start: int, stop: int) -> str:
        """Return the checksum of rows of the file."""
        path = self._path(root, condition)
        left = (stop - start) * self._row
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                file.seek(self._offset(condition, start))
                while left and (content := file.read(min(left, _READ))):
                    digest.update(content)
                    left -= len(content)
        except FileNotFoundError:
            return ""
        return "" if left else digest.hexdigest()

    def seal(self, root: Path, piece: Piece) -> str:
        """Bring the file to the disk and return its SHA-256."""
        with explained(root / piece.name), (root / piece.name).open("r+b") as file:
            os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def _row(self) -> int:
        return int(np.prod(self.shape[1:]))

    @cached_property
    def _header(self) -> bytes:
        buffer = io.BytesIO()
        shape = (len(SEVERITIES) * self.shape[0], *self.shape[1:])
        header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, header)
        return buffer.getvalue()

    def _path(self, root: Path, condition: Condition) -> Path:
        return root / f"{condition.corruption}.npy"

    def _offset(self, condition: Condition, start: int) -> int:
        row = (condition.severity - 1) * self.shape[0] + start
        return len(self._header) + row * self._row


@dataclass(frozen=True)
class TreeFormat:
    """Folders ``corruption/severity/class`` of JPEG files.

    Attributes:
        names: ``class/file`` of each clean image, without suffix.
    """

    names: tuple[str, ...]
    name: ClassVar[str] = "imagenet-c"

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return {"name": self.name, "names": list(self.names)}

    def pieces(self, corruptions: Sequence[str], severities: Sequence[int]) -> tuple[Piece, ...]:
        """Return one piece per condition."""
        wanted = [Condition(name, severity) for name in corruptions for severity in severities]
        return tuple(Piece(f"{c.corruption}/{c.severity}", (c,)) for c in wanted)

    def size(self) -> int:
        """Return 0: what JPEG makes of images is not known before."""
        return 0

    def allocate(self, root: Path, piece: Piece) -> None:
        """Make the class folders."""
        with explained(root / piece.name):
            for label in dict.fromkeys(name.partition("/")[0] for name in self.names):
                (root / piece.name / label).mkdir(parents=True, exist_ok=True)

    def write(self, root: Path, condition: Condition, start: int, images: NDArray[np.uint8]) -> str:
        """Store each image in its file, completely or not at all."""
        place = self._place(root, condition)
        scratch = root / f".tmp-{uuid.uuid4().hex}"
        digest = hashlib.sha256()
        with explained(place):
            files = encoded(images, STORED_QUALITY)
            for name, file in zip(self.names[start:], files, strict=False):
                content = file.tobytes()
                scratch.write_bytes(content)
                scratch.rename(place / f"{name}.JPEG")
                digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    def read(self, root: Path, condition: Condition, start: int, stop: int) -> str:
        """Return the checksum of some files."""
        place = self._place(root, condition)
        digest = hashlib.sha256()
        for name in self.names[start:stop]:
            try:
                content = (place / f"{name}.JPEG").read_bytes()
            except FileNotFoundError:
                return ""
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    def seal(self, root: Path, piece: Piece) -> str:
        """Bring the files to the disk and return the checksum of their listing."""
        os.sync()  # one call for all of them; a call for each file would take longer than its image
        with explained(root / piece.name):
            return hash_tree(root / piece.name)

    def _place(self, root: Path, condition: Condition) -> Path:
        return root / condition.corruption / str(condition.severity)


def format_for(images: ImageSet) -> ArrayFormat | TreeFormat:
    """Return folders for images that come from files with names, and arrays for all others.

    Raises:
        DataError: two files differ in their suffix only.
    """
    if images.files is None:
        return ArrayFormat((len(images), *images.one_shape, 3))
    names = tuple(without_suffix(str(name)) for name in images.files.tolist())
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"{images.source}: files must differ without their suffixes, since all become "
            f"'.JPEG', but {twice} is there twice; rename one"
        )
    return TreeFormat(names)


def format_of(value: Json) -> ArrayFormat | TreeFormat:
    """Return the format that `as_json` described."""
    if value["name"] == ArrayFormat.name:
        return ArrayFormat(tuple(value["shape"]))
    return TreeFormat(tuple(value["names"]))


def reserve(handle: int, size: int) -> None:
    """Give an open file its size, and the space for it where the system can."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    os.ftruncate(handle, size)
