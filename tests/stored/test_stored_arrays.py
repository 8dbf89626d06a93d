"""Reading published arrays: what is wrong with them is told before anything is computed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError, StoreError, UnknownNameError
from shrinkproof.records import Condition
from shrinkproof.stored import open_stored

from .conftest import array_images

FOG = Condition("fog", 2)


@pytest.fixture
def published(toys: ImageSet, tmp_path: Path) -> Path:
    """A set that somebody else has written: pixel (0, 0, 0) says row and corruption."""
    for number, name in enumerate(("fog", "snow")):
        images = np.zeros((35, *toys.shape, 3), dtype=np.uint8)
        images[:, 0, 0, 0] = np.arange(35) + 100 * number
        np.save(tmp_path / f"{name}.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(toys.target, 5))
    return tmp_path


def check(published: Path, images: ImageSet, *conditions: Condition) -> tuple[str, ...]:
    return open_stored(f"cifar-c:{published}", {}).check(images, conditions or [FOG])


def test_rows_are_severity_major(published: Path, toys: ImageSet) -> None:
    stored = open_stored("cifar-c:there", {"there": published})
    found = stored.read(toys.take(np.array([6, 2])), Condition("snow", 5), np.array([1, 0]))
    assert found[:, 0, 0, 0].tolist() == [100 + 4 * 7 + 2, 100 + 4 * 7 + 6]
    assert stored.read(toys, FOG, np.array([], dtype=np.int64)).shape == (0, 16, 18, 3)


def test_a_set_without_checksums_says_so(published: Path, toys: ImageSet) -> None:
    (note,) = check(published, toys)
    assert "no checksum file" in note


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32])
@pytest.mark.parametrize("times", [1, 5])
def test_labels_once_or_five_times(
    published: Path, toys: ImageSet, dtype: type, times: int
) -> None:
    np.save(published / "labels.npy", np.tile(toys.target, times).astype(dtype))
    check(published, toys)


def test_labels_of_another_order(published: Path, toys: ImageSet) -> None:
    labels = np.tile(toys.target, 5)
    labels[3 * 7 + 2] = 0  # image 2 is a fox (2)
    labels[1 * 7 + 4] = 0  # image 4 is a dog (1)
    np.save(published / "labels.npy", labels)
    message = r"but 2 of 7 differ; the first is image 2, where the set says 0 and the clean .* 2"
    with pytest.raises(DataError, match=message):
        check(published, toys)
    with pytest.raises(
        DataError, match="1 of 2 differ; the first is image 4, where the set says 0"
    ):
        check(published, toys.take(np.array([0, 4])))
    check(published, toys.take(np.array([0, 1, 3])))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(34, np.int64), r"must be 7 labels, or 5 times as many, .* got \(34,\) int64"),
        (np.zeros(7), r"got \(7,\) float64"),
        (np.zeros((35, 1), np.int64), r"got \(35, 1\) int64"),
    ],
)
def test_wrong_labels(published: Path, toys: ImageSet, labels: np.ndarray, message: str) -> None:
    np.save(published / "labels.npy", labels)
    with pytest.raises(DataError, match=message):
        check(published, toys)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((34, 16, 18, 3), np.uint8),
        ((70, 16, 18, 3), np.uint8),
        ((35, 18, 16, 3), np.uint8),
        ((35, 16, 18), np.uint8),
        ((35, 16, 18, 3), np.float32),
    ],
)
def test_arrays_that_do_not_fit(
    published: Path, toys: ImageSet, shape: tuple[int, ...], dtype: type
) -> None:
    np.save(published / "fog.npy", np.zeros(shape, dtype))
    with pytest.raises(DataError, match=r"fog\.npy: must be \(35, 16, 18, 3\) uint8, .* got "):
        check(published, toys)
    with pytest.raises(DataError, match=r"fog\.npy: must be \(35, 16, 18, 3\) uint8"):
        open_stored(f"cifar-c:{published}", {}).read(toys, FOG, np.array([0]))
    check(published, toys, Condition("snow", 1))


def test_clean_images_of_another_number(published: Path) -> None:
    with pytest.raises(DataError, match=r"of the 8 images of toys, .* made from another set"):
        check(published, array_images(8))


def test_an_index_outside_of_the_set(published: Path, toys: ImageSet) -> None:
    toys.index[3] = 7
    with pytest.raises(DataError, match=r"index of an image must be below 7 .* got 7"):
        open_stored(f"cifar-c:{published}", {}).read(toys, FOG, np.array([3]))


def test_missing_files(published: Path, toys: ImageSet) -> None:
    with pytest.raises(DataError, match=r"has no snoww\.npy in .*; did you mean snow\?"):
        check(published, toys, Condition("snoww", 1))
    with pytest.raises(DataError, match=r"has no glass_blur\.npy in .*; it has fog, snow"):
        check(published, toys, Condition("glass_blur", 1))
    (published / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"has no labels\.npy"):
        check(published, toys)


def test_damaged_files(published: Path, toys: ImageSet) -> None:
    content = (published / "fog.npy").read_bytes()
    (published / "fog.npy").write_bytes(content[:-5])
    with pytest.raises(DataError, match=r"fog\.npy: must be a complete \.npy file"):
        check(published, toys)
    np.save(published / "fog.npy", np.array([print], dtype=object))
    with pytest.raises(DataError, match=r"fog\.npy: must be a complete \.npy file of numbers"):
        check(published, toys)


def test_the_identity_is_that_of_the_file(published: Path) -> None:
    stored = open_stored(f"cifar-c:{published}", {})
    digest = hashlib.sha256((published / "fog.npy").read_bytes()).hexdigest()
    assert stored.identity(FOG) == stored.identity(Condition("fog", 5)) == f"sha256:{digest[:16]}"
    assert stored.identity(Condition("snow", 2)) != stored.identity(FOG)
    content = bytearray((published / "fog.npy").read_bytes())
    content[-1] ^= 1
    (published / "fog.npy").write_bytes(content)
    os.utime(published / "fog.npy", ns=(1, 1))
    assert stored.identity(FOG) != f"sha256:{digest[:16]}"


@pytest.mark.parametrize("name", ["SHA256SUMS", "MD5SUMS"])
def test_checksum_files(published: Path, toys: ImageSet, name: str) -> None:
    algorithm = name.removesuffix("SUMS").lower()
    sums = {
        file: hashlib.new(algorithm, (published / file).read_bytes()).hexdigest()
        for file in ("fog.npy", "labels.npy")
    }
    (published / name).write_text(
        f"{sums['fog.npy']} *./fog.npy\n\n{sums['labels.npy']}  labels.npy"
    )
    assert check(published, toys, FOG, Condition("snow", 1)) == ()
    (published / name).write_text(f"{'0' * len(sums['fog.npy'])}  fog.npy\n")
    check(published, toys, Condition("snow", 1))
    with pytest.raises(
        DataError, match=rf"fog\.npy: its {algorithm} must be 0000.* as {name} says"
    ):
        check(published, toys)
    (published / name).write_text("fog.npy is fine\n")
    with pytest.raises(DataError, match=rf"{name}, line 1: must be a checksum and a file name"):
        check(published, toys)


def test_a_damaged_manifest(published: Path, toys: ImageSet) -> None:
    (published / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        check(published, toys)
    (published / "manifest.json").write_text('{"name": "of somebody else"}')
    assert "no checksum file" in check(published, toys)[0]
    (published / "manifest.json").write_text('{"made_by": {"shrinkproof": "9"}, "form": 99}')
    with pytest.raises(StoreError, match="form must be 1, got 99"):
        check(published, toys)


def test_wrong_references(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown format .* 'cifarc'; did you mean 'cifar-c'"
    ):
        open_stored("cifarc:x", {})
    with pytest.raises(DataError, match="got no place"):
        open_stored("cifar-c:", {})
    with pytest.raises(DataError, match=r"there is no such folder; .* pass --root NAME=DIR"):
        open_stored("cifar-c:absent", {"study": tmp_path})
    np.save(tmp_path / "labels.npy", np.zeros(5))
    with pytest.raises(DataError, match=r"must hold one \.npy file per corruption, got none"):
        open_stored("cifar-c:.", {"study": tmp_path})
    with pytest.raises(DataError, match="must hold folders CORRUPTION/SEVERITY/CLASS"):
        open_stored("imagenet-c:.", {"study": tmp_path})
