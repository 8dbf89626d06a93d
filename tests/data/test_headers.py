from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.data import headers as module
from shrinkproof.data import known_files
from shrinkproof.data.headers import Header, headers
from shrinkproof.data.reading import load_images
from shrinkproof.errors import DataError


@pytest.fixture(autouse=True)
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read; all files count as old and as many."""
    monkeypatch.setenv("SHRINKPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_FEW", 1)
    monkeypatch.setattr(module, "_PART", 3)
    monkeypatch.setattr(known_files, "_SETTLED", -(10**9))
    names: list[str] = []
    plain = module._read

    def counting(path: Path, *, turns: bool) -> Header:
        names.append(path.name)
        return plain(path, turns=turns)

    monkeypatch.setattr(module, "_read", counting)
    return names


def save(path: Path, number: int, *, turned: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((20 + number, 30, 3), number, dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(8):
        save(tmp_path / f"set/{number}.jpg", number, turned=number == 3)
    return tmp_path / "set"


NAMES = [f"{number}.jpg" for number in range(8)]


def test_headers_come_in_order_and_a_second_time_without_reading(
    folder: Path, read: list[str]
) -> None:
    first = list(headers(folder, NAMES))
    assert [each.height for each in first] == list(range(20, 28))
    assert {each.width for each in first} == {30}
    digest = hashlib.sha256((folder / "5.jpg").read_bytes()).hexdigest()
    assert first[5].content_hash == digest[:16]
    assert sorted(read) == NAMES
    read.clear()
    assert list(headers(folder, NAMES)) == first
    assert list(headers(folder, ["6.jpg", "1.jpg"])) == [first[6], first[1]]
    assert read == []


def test_orientation_is_kept_apart_from_what_nobody_asked_it_for(
    folder: Path, read: list[str]
) -> None:
    assert not any(each.is_turned for each in headers(folder, NAMES))
    found = [each.is_turned for each in headers(folder, NAMES, turns=True)]
    assert found == [False] * 3 + [True] + [False] * 4
    assert len(read) == 16
    assert [each.is_turned for each in headers(folder, NAMES, turns=True)] == found
    assert len(read) == 16


def test_only_changed_and_new_files_are_read_again(folder: Path, read: list[str]) -> None:
    first = list(headers(folder, NAMES))
    read.clear()
    times = (folder / "2.jpg").stat()
    content = bytearray((folder / "2.jpg").read_bytes())
    content[-3] ^= 1
    (folder / "2.jpg").write_bytes(content)
    os.utime(folder / "2.jpg", ns=(times.st_atime_ns, times.st_mtime_ns))
    save(folder / "new.jpg", 9)
    (folder / "7.jpg").unlink()
    names = [*NAMES[:7], "new.jpg"]
    second = list(headers(folder, names))
    assert sorted(read) == ["2.jpg", "new.jpg"]
    assert second[2].content_hash == hashlib.sha256(content).hexdigest()[:16]
    assert second[:2] + second[3:7] == first[:2] + first[3:7]
    save(folder / "7.jpg", 1)
    read.clear()
    list(headers(folder, [*names, "7.jpg"]))
    assert read == ["7.jpg"]


def test_files_of_another_listing_stay_known(folder: Path, read: list[str]) -> None:
    list(headers(folder, NAMES[:4]))
    list(headers(folder, NAMES[4:]))
    list(headers(folder, NAMES))
    assert sorted(read) == NAMES


def test_files_that_changed_just_now_are_read_again(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_files, "_SETTLED", 10**12)
    list(headers(folder, NAMES))
    list(headers(folder, NAMES))
    assert len(read) == 16


def test_what_was_read_before_an_error_is_kept(folder: Path, read: list[str]) -> None:
    (folder / "5.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"5\.jpg: cannot be read as an image"):
        list(headers(folder, NAMES))
    save(folder / "5.jpg", 5)
    read.clear()
    list(headers(folder, NAMES))
    assert not {"0.jpg", "1.jpg", "2.jpg"} & set(read)
    (folder / "6.jpg").unlink()
    with pytest.raises(DataError, match=r"6\.jpg: cannot be read as an image .*No such file"):
        list(headers(folder, NAMES))


def test_a_known_image_folder_is_the_same_set(tmp_path: Path, read: list[str]) -> None:
    for number in range(6):
        save(tmp_path / f"set/{'ab'[number % 2]}/{number}.png", number)
    reference = "imagefolder:set?resize=16&crop=16"
    first = load_images(reference, {"study": tmp_path})
    read.clear()
    second = load_images(reference, {"study": tmp_path})
    assert read == []
    assert second.fingerprint == first.fingerprint
    other = load_images("imagefolder:set?resize=18&crop=16", {"study": tmp_path})
    assert read == []
    assert other.fingerprint != first.fingerprint
