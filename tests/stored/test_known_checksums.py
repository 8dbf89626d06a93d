"""Checksums that an earlier process has computed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from shrinkproof.data import known_files
from shrinkproof.stored import checksums
from shrinkproof.stored.checksums import hash_file, hash_tree


@pytest.fixture(autouse=True)
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read; all files count as old and as large."""
    monkeypatch.setenv("SHRINKPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "_LARGE", 1)
    monkeypatch.setattr(checksums, "_MANY", 1)
    monkeypatch.setattr(known_files, "_SETTLED", -(10**9))
    names: list[str] = []
    plain = checksums._digest

    def counting(path: str, algorithm: str = "sha256") -> str:
        names.append(Path(path).name)
        return plain(path, algorithm)

    monkeypatch.setattr(checksums, "_digest", counting)
    return names


def forget() -> None:
    """Do as a new process does."""
    checksums._hash_file.cache_clear()
    checksums._hash_tree.cache_clear()


def change(path: Path, content: bytes) -> None:
    """Write as many other bytes, and set back the time."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_large_file_is_read_by_one_process(tmp_path: Path, read: list[str]) -> None:
    file = tmp_path / "fog.npy"
    file.write_bytes(b"fog")
    for _ in range(3):
        forget()
        assert hash_file(file) == hashlib.sha256(b"fog").hexdigest()
    assert read == ["fog.npy"]
    assert hash_file(file, "md5") == hashlib.md5(b"fog", usedforsecurity=False).hexdigest()
    forget()
    change(file, b"mud")
    assert hash_file(file) == hashlib.sha256(b"mud").hexdigest()


def test_a_small_file_is_read_by_every_process(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_LARGE", 4)
    file = tmp_path / "fog.npy"
    file.write_bytes(b"fog")
    for _ in range(2):
        forget()
        hash_file(file)
    assert read == ["fog.npy"] * 2
    assert not (tmp_path / "cache").exists()


def test_a_folder_is_read_again_when_one_of_its_files_changes(
    tmp_path: Path, read: list[str]
) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(name.encode())
    first = hash_tree(tmp_path / "set")
    forget()
    assert hash_tree(tmp_path / "set") == first
    assert len(read) == 3
    forget()
    change(tmp_path / "set/b/1.jpg", b"b/0.jpg")
    second = hash_tree(tmp_path / "set")
    assert second != first
    assert len(read) == 6
    forget()
    (tmp_path / "set/b/1.jpg").rename(tmp_path / "set/b/3.jpg")
    assert hash_tree(tmp_path / "set") not in (first, second)


def test_files_of_the_last_seconds_are_not_remembered(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_files, "_SETTLED", 10**12)
    file = tmp_path / "fog.npy"
    file.write_bytes(b"fog")
    for _ in range(2):
        forget()
        hash_file(file)
    assert read == ["fog.npy"] * 2


def test_names_that_are_not_utf8_are_hashed_as_sha256sum_writes_them(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/set/a/caf\xe9.jpg"
    (tmp_path / "set" / "a").mkdir(parents=True)
    Path(os.fsdecode(name)).write_bytes(b"x")
    line = hashlib.sha256(b"x").hexdigest().encode() + b"  a/caf\xe9.jpg\n"
    assert hash_tree(tmp_path / "set") == hashlib.sha256(line).hexdigest()
