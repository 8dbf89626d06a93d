"""Checksums of stored images: what they are, and what a file beside them says they must be."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shrinkproof.errors import DataError
from shrinkproof.stored.manifest import MANIFEST, read_manifest

_LISTS: Final = {"SHA256SUMS": "sha256", "MD5SUMS": "md5"}
_LINE: Final = re.compile(r"([0-9a-fA-F]{32}|[0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
_PART: Final = 256
"""Files that a thread reads in a row."""
_CLUTTER: Final = ("Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Checksums:
    """What the files of a set must be, by a file beside them.

    Attributes:
        place: the file that says so; empty where there is none.
        algorithm: ``sha256`` or ``md5``.
        values: name relative to the folder of the set -> hex digits; of a folder, those of
            `hash_tree`.
    """

    place: str = ""
    algorithm: str = "sha256"
    values: Mapping[str, str] = field(default_factory=dict)

    def verify(self, folder: Path, name: str) -> None:
        """Check one file, or a folder of class folders, where something is said about it.

        Raises:
            DataError: it is not what it must be.
        """
        path = folder / name
        if name in self.values:
            found = hash_tree(path) if path.is_dir() else hash_file(path, self.algorithm)
            self._compare(path, name, found)
        elif path.is_dir():
            for part in (f"{name}/{file}" for file in list_tree(path)):
                if part in self.values:
                    self._compare(folder / part, part, hash_file(folder / part, self.algorithm))

    def _compare(self, path: Path, name: str, found: str) -> None:
        if found != self.values[name].lower():
            raise DataError(
                f"{path}: its {self.algorithm} must be {self.values[name][:16]}... as {self.place} "
                f"says, got {found[:16]}...; it is damaged or of another set: copy it again"
            )


def read_checksums(folder: Path) -> Checksums:
    """Return what ``manifest.json`` (ours), ``SHA256SUMS`` or ``MD5SUMS`` says; empty without.

    Raises:
        DataError: a line is no checksum.
        StoreError: the manifest is damaged.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        return Checksums(MANIFEST, "sha256", manifest["files"])
    for place, algorithm in _LISTS.items():
        if (folder / place).is_file():
            return Checksums(place, algorithm, dict(_lines(folder / place)))
    return Checksums()


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise DataError(
                f"{path}, line {number}: must be a checksum and a file name, got {line[:60]!r}"
            )
        yield found[2], found[1]


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum of a file in hex digits; known files are not read again."""
    stat = path.stat()
    return _hash_file(str(path), algorithm, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _hash_file(path: str, algorithm: str, size: int, changed: int) -> str:
    del size, changed  # they say whether the file is still the known one
    return _digest(path, algorithm)


def _digest(path: str, algorithm: str = "sha256") -> str:
    with open(path, "rb") as file:  # noqa: PTH123 - half the time of Path.open on small files
        return hashlib.file_digest(file, algorithm).hexdigest()


def list_tree(folder: Path) -> list[str]:
    """Return the files in class folders, ``class/file``, in the order of their names.

    Hidden files, ``Thumbs.db`` and ``desktop.ini`` are passed over.
    """
    return [name for name, _, _ in _entries(folder)]


def _entries(folder: Path) -> list[tuple[str, int, int]]:
    """Return (name, size, time of change) of each file."""
    found = []
    with os.scandir(folder) as classes:
        for place in classes:
            if not _is_content(place) or not place.is_dir():
                continue
            with os.scandir(place) as files:
                for file in files:
                    if _is_content(file):
                        stat = file.stat()
                        name = f"{place.name}/{file.name}"
                        found.append((name, stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def _is_content(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.name not in _CLUTTER


def hash_tree(folder: Path) -> str:
    """Return the SHA-256 of the sorted listing of a folder of class folders, in hex digits.

    The listing has one line for each file, its SHA-256, two spaces and ``class/file``, as
    ``sha256sum`` writes it. A known folder whose files have kept size and time is not read again.
    """
    entries = _entries(folder)
    signature = hashlib.sha256(repr(entries).encode()).hexdigest()
    return _hash_tree(str(folder), signature)


@functools.lru_cache(maxsize=1024)
def _hash_tree(folder: str, signature: str) -> str:
    del signature  # it says whether the folder is still the known one
    names = list_tree(Path(folder))
    parts = [names[start : start + _PART] for start in range(0, len(names), _PART)]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        lines = pool.map(lambda part: "".join(_line(folder, name) for name in part), parts)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _line(folder: str, name: str) -> str:
    return f"{_digest(f'{folder}/{name}')}  {name}\n"
