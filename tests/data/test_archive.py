from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.data import archive, arrays, known_files
from shrinkproof.data.archive import check_member, map_member
from shrinkproof.data.imageset import hash_pixels
from shrinkproof.data.reading import load_images
from shrinkproof.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 20, 24, 3), dtype=np.uint8)
TARGET = np.arange(7) % 3


@pytest.fixture(autouse=True)
def small_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHRINKPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archive, "LARGE", 1000)
    monkeypatch.setattr(arrays, "LARGE", 1000)
    monkeypatch.setattr(known_files, "_SETTLED", -(10**9))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "set.npz", target=TARGET, images=PIXELS)
    return tmp_path / "set.npz"


def test_a_stored_array_is_mapped_where_it_stands(file: Path) -> None:
    found = map_member(file, "images")
    assert found is not None
    assert type(found) is np.ndarray
    assert isinstance(found.base, np.memmap)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, PIXELS)
    check_member(file, "images")


def test_an_array_behind_other_bytes_is_mapped_too(file: Path, tmp_path: Path) -> None:
    shifted = tmp_path / "shifted.npz"
    shifted.write_bytes(b"x" * 77 + file.read_bytes())
    np.testing.assert_array_equal(map_member(shifted, "images"), PIXELS)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_of_two_arrays_of_one_name_the_last_one_counts_as_for_numpy(file: Path) -> None:
    with zipfile.ZipFile(file, "a") as both, both.open("images.npy", "w") as member:
        np.save(member, PIXELS[::-1])
    with np.load(file) as found:
        np.testing.assert_array_equal(map_member(file, "images"), found["images"])


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")
@pytest.mark.parametrize(
    "values",
    [
        PIXELS[:1, :5, :5],
        np.asfortranarray(PIXELS),
        np.array([None] * 500),
        np.zeros(200, dtype=[("\u5217", "<i8")]),
    ],
    ids=["small", "fortran", "objects", "columns"],
)
def test_other_arrays_are_left_to_numpy(tmp_path: Path, values: np.ndarray) -> None:
    np.savez(tmp_path / "set.npz", images=values)
    assert map_member(tmp_path / "set.npz", "images") is None
    assert map_member(tmp_path / "set.npz", "target") is None


def test_compressed_and_cut_arrays_are_left_to_numpy(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "small.npz", images=PIXELS)
    assert map_member(tmp_path / "small.npz", "images") is None
    np.save(tmp_path / "images.npy", PIXELS)
    content = (tmp_path / "images.npy").read_bytes()
    with zipfile.ZipFile(tmp_path / "cut.npz", "w") as cut:
        cut.writestr("images.npy", content[:-5])
    assert map_member(tmp_path / "cut.npz", "images") is None


def test_a_set_is_the_same_mapped_and_read(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = load_images("arrays:set.npz", {"study": tmp_path})
    assert isinstance(mapped.images.base, np.memmap)  # type: ignore[attr-defined]
    monkeypatch.setattr(archive, "LARGE", 10**9)
    read = load_images("arrays:set.npz", {"study": tmp_path})
    assert read.images.flags.writeable  # type: ignore[attr-defined]
    assert mapped.fingerprint == read.fingerprint
    some = mapped.take(np.array([5, 1, 3]))
    for positions, images in some.batches(2):
        np.testing.assert_array_equal(images, PIXELS[[5, 1, 3]][positions])
        assert images.flags.c_contiguous
    assert file.is_file()


def test_hashes_of_an_unchanged_file_are_not_computed_again(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counting(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return hash_pixels(images)

    monkeypatch.setattr(arrays, "hash_pixels", counting)
    first = load_images("arrays:set.npz", {"study": tmp_path})
    second = load_images("arrays:set.npz", {"study": tmp_path})
    assert calls == [7]
    assert second.hashes.tolist() == first.hashes.tolist() == hash_pixels(PIXELS).tolist()
    file.unlink()
    np.savez(file, target=TARGET, images=PIXELS[::-1])
    third = load_images("arrays:set.npz", {"study": tmp_path})
    assert calls == [7, 7]
    assert third.hashes.tolist() == first.hashes.tolist()[::-1]


def test_a_flipped_bit_is_found_although_the_array_is_mapped(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.npz: must be a readable .*CRC"):
        load_images("arrays:set.npz", {"study": tmp_path})
