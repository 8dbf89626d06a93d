"""Stored images in folders of files, as ImageNet-C is published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imagefolder import decode_all
from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError, suggestions
from shrinkproof.records import SEVERITIES, Condition
from shrinkproof.stored.checksums import hash_tree, list_tree, read_checksums
from shrinkproof.stored.notes import notes_of

_FEW: Final = 3
"""Missing files that a message names."""


class StoredTrees:
    """Folders ``corruption/severity/class/file``, or the same inside folders of groups.

    Images are paired by the name of their file in its class folder, whatever its suffix; they are
    decoded as they are and must have the size of the clean ones.

    Args:
        reference: what the user wrote.
        folder: where the files are.
    """

    layout: ClassVar[str] = "folders CORRUPTION/SEVERITY/CLASS of image files, or groups of them"

    def __init__(self, reference: str, folder: Path) -> None:
        self.reference = reference
        self.folder = folder
        self._listed: tuple[Condition, dict[str, str]] | None = None

    @cached_property
    def _places(self) -> dict[str, str]:
        """Corruption -> its folder, relative to the folder of the set."""
        outer = _folders(self.folder)
        groups = [path for path in outer if not _has_severities(path)]
        found: dict[str, str] = {}
        for path in sorted([*outer, *(inner for group in groups for inner in _folders(group))]):
            if not _has_severities(path):
                continue
            place = path.relative_to(self.folder).as_posix()
            if path.name in found:
                raise DataError(
                    f"{self.reference}: each corruption may be there once, but {path.name} is in "
                    f"{found[path.name]} and in {place} of {self.folder}; remove one"
                )
            found[path.name] = place
        return found

    def conditions(self) -> tuple[Condition, ...]:
        """Return the conditions that the set has; files are not read.

        Raises:
            DataError: a corruption is there twice.
        """
        return tuple(
            Condition(name, severity)
            for name, place in sorted(self._places.items())
            for severity in SEVERITIES
            if name != "clean" and (self.folder / place / str(severity)).is_dir()
        )

    def check(self, images: ImageSet, conditions: Sequence[Condition]) -> tuple[str, ...]:
        """Check that the set shows these images under these conditions; return notes.

        The size of every image is checked when it is read, that of the first one now.

        Raises:
            DataError: a condition or files are missing, do not fit, or have another checksum.
            StoreError: the manifest of the set is damaged.
        """
        wanted = [condition for condition in dict.fromkeys(conditions) if not condition.is_clean]
        checksums = read_checksums(self.folder)
        names = self._names(images)
        for condition in wanted:
            there = self._files(condition)
            missing = [name for name in names if name not in there]
            if missing:
                few = ", ".join(missing[:_FEW]) + (", ..." if len(missing) > _FEW else "")
                raise DataError(
                    f"{self.reference}: {self._place(condition)} must have a file for each of the "
                    f"{len(names)} images of {images.source}, but {len(missing)} are missing: {few}"
                )
            self.read(images, condition, np.arange(min(1, len(images)), dtype=np.int64))
        for condition in wanted:
            checksums.verify(self.folder, self._name(condition))
        return notes_of(self.reference, self.folder, checksums)

    def identity(self, condition: Condition) -> str:
        """Return the checksum of the listing of all files of the condition with their checksums.

        Raises:
            DataError: the set does not have the condition.
        """
        return f"sha256:{hash_tree(self._place(condition))[:16]}"

    def read(
        self, images: ImageSet, condition: Condition, positions: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Return images under a condition, (n, H, W, 3) uint8.

        Raises:
            DataError: a file is missing, damaged or of another size.
        """
        if condition.is_clean:
            return images.images[positions]
        there = self._files(condition)
        place = self._place(condition)
        paths = []
        for name in self._names(images.take(positions)):
            if name not in there:
                raise DataError(
                    f"{self.reference}: {place} must have a file {name}, but it is missing"
                )
            paths.append(place / there[name])
        return decode_all(
            paths,
            images.one_shape,
            rule=f"as the images of {images.source}",
            advice="stored images are not resized: prepare the clean ones as the set was made",
        )

    def _name(self, condition: Condition) -> str:
        """Return the folder of a condition, relative to the folder of the set."""
        corruption, severity = condition.corruption, condition.severity
        if corruption not in self._places:
            alike = suggestions(corruption, self._places)
            known = ", ".join(sorted(self._places))
            raise DataError(
                f"{self.reference} has no folder {corruption} in {self.folder}; "
                + (f"did you mean {' or '.join(alike)}?" if alike else f"it has {known}")
            )
        name = f"{self._places[corruption]}/{severity}"
        place = self.folder / name
        if not place.is_dir():
            raise DataError(
                f"{self.reference} has no severity {severity} of {corruption}: {place} is missing"
            )
        return name

    def _place(self, condition: Condition) -> Path:
        return self.folder / self._name(condition)

    def _files(self, condition: Condition) -> dict[str, str]:
        """Return name without suffix -> name, of the last condition that was asked for."""
        if self._listed is None or self._listed[0] != condition:
            place = self._place(condition)
            names = list_tree(place)
            found = {without_suffix(name): name for name in names}
            _check_different(list(map(without_suffix, names)), str(place))
            self._listed = (condition, found)
        return self._listed[1]

    def _names(self, images: ImageSet) -> list[str]:
        if images.files is None:
            raise DataError(
                f"{self.reference} is paired with clean images by the names of their files, but "
                f"{images.source} has none; use 'imagefolder:PATH'"
            )
        names = [without_suffix(str(name)) for name in images.files.tolist()]
        _check_different(names, images.source)
        return names


def without_suffix(name: str) -> str:
    """Return a file name without its last suffix, ``a/b.JPEG`` -> ``a/b``."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)


def _check_different(names: list[str], place: str) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(
            f"{place}: names of files must differ without their suffixes, but {twice} is there "
            f"twice; rename one"
        )


def _folders(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]


def _has_severities(folder: Path) -> bool:
    return any((folder / str(severity)).is_dir() for severity in SEVERITIES)
