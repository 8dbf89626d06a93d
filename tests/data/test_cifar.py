from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.data.splits import DataSpec, contamination, load_images, load_splits
from shrinkproof.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (10_000, 3072), dtype=np.uint8)
LABELS = np.arange(10_000) % 10


def binary(folder: Path, pixels: np.ndarray = PIXELS, labels: np.ndarray = LABELS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    records = np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1)
    records.tofile(folder / "test_batch.bin")
    return folder


def python(folder: Path, batch: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test_batch").write_bytes(pickle.dumps(batch, 2))
    return folder


@pytest.mark.parametrize("around", ["", "cifar-10-batches-bin"])
def test_binary_version(tmp_path: Path, around: str) -> None:
    binary(tmp_path / around)
    images = load_images("cifar10:test", {"cifar10": tmp_path})
    pixels = images.images[np.array([7])][0]
    # Channels come one after the other, each in rows.
    np.testing.assert_array_equal(pixels[3, 5], PIXELS[7, [101, 1125, 2149]])
    np.testing.assert_array_equal(images.target, LABELS)
    assert images.classes[:2] == ("airplane", "automobile")
    assert images.classes[9] == "truck"
    assert images.preset == "cifar"
    assert images.source == "cifar10:test"


@pytest.mark.parametrize("keys", [("data", "labels"), (b"data", b"labels")])
def test_python_version_has_the_same_images(tmp_path: Path, keys: tuple[str, str]) -> None:
    python(tmp_path / "py", {keys[0]: PIXELS, keys[1]: LABELS.tolist()})
    binary(tmp_path / "bin")
    first, second = (
        load_images("cifar10:test", {"cifar10": tmp_path / name}) for name in ("py", "bin")
    )
    assert first.fingerprint == second.fingerprint


def test_the_place_must_be_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--root cifar10=PATH or set SHRINKPROOF_CIFAR10"):
        load_images("cifar10:test", {})
    with pytest.raises(DataError, match=r"must hold test_batch.*--root cifar10=PATH"):
        load_images("cifar10:test", {"cifar10": tmp_path})
    for reference in ("cifar10", "cifar10:val"):
        with pytest.raises(DataError, match="'cifar10:train' or 'cifar10:test', got 'cifar10:"):
            load_images(reference, {"cifar10": tmp_path})


def test_one_of_five_files_is_missing(tmp_path: Path) -> None:
    for number in (1, 2, 3, 5):
        (tmp_path / f"data_batch_{number}").touch()
    with pytest.raises(DataError, match=r"needs 5 files, but .*data_batch_4 is missing"):
        load_images("cifar10:train", {"cifar10": tmp_path})


def test_truncated_binary(tmp_path: Path) -> None:
    binary(tmp_path, PIXELS[:9999], LABELS[:9999])
    with pytest.raises(DataError, match=r"test_batch.bin: must have 30730000 bytes.*got 30726927"):
        load_images("cifar10:test", {"cifar10": tmp_path})


def test_labels_out_of_range(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[17] = 10
    binary(tmp_path / "bin", labels=labels)
    with pytest.raises(DataError, match=r"test_batch.bin: labels must be 0 to 9, got 0 to 10"):
        load_images("cifar10:test", {"cifar10": tmp_path / "bin"})


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1], "must hold a dictionary, got list"),
        ({"labels": [1]}, r"must have an entry 'data', got \['labels'\]"),
        ({"data": PIXELS[:5]}, "must have an entry 'labels'"),
        (
            {"data": PIXELS[:5], "labels": [1]},
            r"data must be \(10000, 3072\) uint8, got \(5, 3072\)",
        ),
        ({"data": PIXELS.view(np.int8), "labels": [1]}, r"data must be .* int8"),
        ({"data": [1], "labels": [1]}, "data must be .* uint8, got list"),
        ({"data": PIXELS, "labels": [1, 2]}, "must have 10000 labels, got 2"),
        ({"data": PIXELS, "labels": 3}, "must have 10000 labels, got no"),
        ({"data": PIXELS, "labels": ["a"] * 10_000}, "labels must be whole numbers"),
    ],
)
def test_wrong_batches(tmp_path: Path, batch: object, message: str) -> None:
    python(tmp_path, batch)
    with pytest.raises(DataError, match=rf"test_batch: {message}"):
        load_images("cifar10:test", {"cifar10": tmp_path})


@pytest.mark.slow
def test_the_published_set(cifar_folder: Path) -> None:
    roots = {"cifar10": cifar_folder}
    train, test = (load_images(f"cifar10:{split}", roots) for split in ("train", "test"))
    assert np.bincount(train.target).tolist() == [5000] * 10
    assert np.bincount(test.target).tolist() == [1000] * 10
    # The channel means that everyone quotes.
    means = np.asarray(train.images).mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.49140, 0.48216, 0.44653], atol=1e-5)
    assert test.target[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6]
    only_binary = {"cifar10": cifar_folder / "cifar-10-batches-bin"}
    assert load_images("cifar10:test", only_binary).fingerprint == test.fingerprint

    spec = DataSpec(
        train="cifar10:train",
        calibrate={"use": "cifar10:train", "count": 512},
        split={"from": "cifar10:test", "select": 2000, "certify": 3000, "report": "rest"},
    )
    splits = load_splits(spec, roots=roots)
    sizes = {name: len(images) for name, images in splits.sets.items()}
    assert sizes == {
        "train": 50_000,
        "calibrate": 512,
        "select": 2000,
        "certify": 3000,
        "report": 5000,
    }
    assert contamination(splits.sets, [train]) == {}


@pytest.mark.slow
def test_ten_thousand_images_load_quickly(cifar_folder: Path) -> None:
    roots = {"cifar10": cifar_folder}
    times = []
    for _ in range(5):
        start = time.process_time()
        load_images("cifar10:test", roots)
        times.append(time.process_time() - start)
    assert min(times) < 0.3
