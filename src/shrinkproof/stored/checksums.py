"""Checksums of stored images: what they are, and what a file beside them says they must be."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shrinkproof.data.imagefolder import is_content
from shrinkproof.data.known_files import State, is_settled, recall, remember, state_of
from shrinkproof.errors import DataError
from shrinkproof.stored.manifest import MANIFEST, read_manifest

_LISTS: Final = {"SHA256SUMS": "sha256", "MD5SUMS": "md5"}
_LINE: Final = re.compile(r"([0-9a-fA-F]{32}|[0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
_PART: Final = 256
"""Files that a thread reads in a row."""
_LARGE: Final = 2**26
"""Bytes of a file that is worth remembering for later processes."""
_MANY: Final = 256
"""Files of a folder that is worth remembering for later processes."""


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
    """Return the checksum of a file in hex digits; known files are not read again.

    This process knows all files it has read, later processes the large ones: see
    `shrinkproof.data.known_files` for how long.
    """
    return _hash_file(str(path), algorithm, state_of(path.stat()))


@functools.lru_cache(maxsize=1024)
def _hash_file(path: str, algorithm: str, state: State) -> str:
    if state.size < _LARGE:
        return _digest(path, algorithm)
    return _known(algorithm, path, repr(state), state.changed, lambda: _digest(path, algorithm))


def _known(kind: str, path: str, signature: str, changed: int, read: Callable[[], str]) -> str:
    """Return what an earlier process read under the same signature, or read it now.

    Args:
        kind: what is read.
        path: the file or folder.
        signature: changes whenever a file does.
        changed: latest `State.changed` of the files.
        read: reads them.
    """
    known = recall(kind, Path(path))
    if known.get("signature") == signature:
        return str(known["digest"])
    began = time.time_ns()
    digest = read()
    if is_settled(changed, began):
        remember(kind, Path(path), {"signature": signature, "digest": digest})
    return digest


def _digest(path: str, algorithm: str = "sha256") -> str:
    with open(path, "rb") as file:  # noqa: PTH123 - half the time of Path.open on small files
        return hashlib.file_digest(file, algorithm).hexdigest()


def list_tree(folder: Path) -> list[str]:
    """Return the files in class folders, ``class/file``, in the order of their names.

    Hidden files, ``Thumbs.db`` and ``desktop.ini`` are passed over.
    """
    return [name for name, _ in _entries(folder)]


def _entries(folder: Path) -> list[tuple[str, State]]:
    """Return name and state of each file."""
    found = []
    with os.scandir(folder) as classes:
        for place in classes:
            if not is_content(place.name) or not place.is_dir():
                continue
            with os.scandir(place) as files:
                found += [
                    (f"{place.name}/{file.name}", state_of(file.stat()))
                    for file in files
                    if is_content(file.name)
                ]
    return sorted(found)


def hash_tree(folder: Path) -> str:
    """Return the SHA-256 of the sorted listing of a folder of class folders, in hex digits.

    The listing has one line for each file, its SHA-256, two spaces and ``class/file``, as
    ``sha256sum`` writes it. A known folder whose files have kept size and times is not read again,
    a large one not by later processes either.
    """
    entries = _entries(folder)
    signature = hashlib.sha256(repr(entries).encode()).hexdigest()
    changed = max((state.changed for _, state in entries), default=0)
    return _hash_tree(str(folder), signature, len(entries), changed)


@functools.lru_cache(maxsize=1024)
def _hash_tree(folder: str, signature: str, count: int, changed: int) -> str:
    if count < _MANY:
        return _read_tree(folder)
    return _known("tree", folder, signature, changed, lambda: _read_tree(folder))


def _read_tree(folder: str) -> str:
    names = list_tree(Path(folder))
    parts = [names[start : start + _PART] for start in range(0, len(names), _PART)]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        lines = pool.map(lambda part: "".join(_line(folder, name) for name in part), parts)
        return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def _line(folder: str, name: str) -> str:
    return f"{_digest(f'{folder}/{name}')}  {name}\n"
