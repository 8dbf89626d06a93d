"""CIFAR-100 in both of its versions; damaged files are the matter of test_cifar.py."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.data.splits import load_images
from shrinkproof.errors import DataError

PIXELS = np.random.default_rng(1).integers(0, 256, (10_000, 3072), dtype=np.uint8)
FINE = np.arange(10_000) % 100
COARSE = FINE // 5


def binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    labels = np.stack([COARSE, FINE], axis=1).astype(np.uint8)
    np.concatenate([labels, PIXELS], axis=1).tofile(folder / "test.bin")
    return folder


def python(folder: Path) -> Path:
    folder.mkdir(parents=True)
    batch = {b"data": PIXELS, b"coarse_labels": COARSE.tolist(), b"fine_labels": FINE.tolist()}
    (folder / "test").write_bytes(pickle.dumps(batch, 2))
    return folder


@pytest.mark.parametrize(
    ("write", "around"), [(binary, "cifar-100-binary"), (python, "cifar-100-python"), (python, "x")]
)
def test_fine_labels_are_read(tmp_path, write, around):
    folder = write(tmp_path / around)
    root = folder if around == "x" else tmp_path
    images = load_images("cifar100:test", {"cifar100": root})
    np.testing.assert_array_equal(images.target, FINE)
    np.testing.assert_array_equal(
        images.images[np.array([7])][0, 3, 5], PIXELS[7, [101, 1125, 2149]]
    )
    assert images.preset == "cifar"
    assert images.source == "cifar100:test"


def test_classes_are_the_hundred_fine_ones_by_alphabet(tmp_path):
    classes = load_images("cifar100:test", {"cifar100": binary(tmp_path / "x")}).classes
    assert len(set(classes)) == 100
    assert list(classes) == sorted(classes)
    # Numbers that everyone quotes.
    assert [classes[k] for k in (0, 23, 53, 76, 99)] == [
        *("apple", "cloud", "orange", "skyscraper", "worm"),
    ]


def test_files_of_the_other_set_are_refused(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"must hold test or test.bin.*--root cifar100=PATH"):
        load_images("cifar100:test", {"cifar100": tmp_path})
    (tmp_path / "test.bin").write_bytes(bytes(30_730_000))
    with pytest.raises(DataError, match=r"test.bin: must have 30740000 bytes.*got 30730000"):
        load_images("cifar100:test", {"cifar100": tmp_path})
