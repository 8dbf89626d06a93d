from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shrinkproof.data.splits import load_images
from shrinkproof.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
TARGET = np.array([0, 2, 1, 1], dtype=np.uint8)


def test_columns(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "set.npz",
        images=PIXELS,
        target=TARGET,
        classes=["cat", "dog", "fox"],
        groups=[7, 7, 8, 8],
        night=[True, False, True, False],
    )
    images = load_images("arrays:set.npz", {"study": tmp_path})
    np.testing.assert_array_equal(images.images[np.arange(4)], PIXELS)
    assert images.shape == (6, 5)
    assert images.target.tolist() == [0, 2, 1, 1]
    assert images.classes == ("cat", "dog", "fox")
    assert images.groups.tolist() == ["7", "7", "8", "8"]
    assert images.slices["night"].tolist() == ["True", "False", "True", "False"]
    assert images.preset == ""
    absolute = load_images(f"arrays:{tmp_path / 'set.npz'}", {})
    assert absolute.fingerprint == images.fingerprint


def test_classes_default_to_numbers(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "set.npz", images=PIXELS, target=TARGET)
    assert load_images("arrays:set.npz", {"study": tmp_path}).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"target": TARGET}, "must have an array 'images', got target"),
        ({"images": PIXELS}, "must have an array 'target'"),
        ({"images": PIXELS / 255, "target": TARGET}, r"uint8 .*got \(4, 6, 5, 3\) float64"),
        ({"images": PIXELS[..., 0], "target": TARGET}, r"got \(4, 6, 5\) uint8"),
        ({"images": PIXELS[:0], "target": TARGET[:0]}, "at least 1 image"),
        ({"images": PIXELS, "target": TARGET / 2}, r"integers, got \(4,\) float64"),
        ({"images": PIXELS, "target": TARGET[:3]}, r"one label per image \(4\), got 3"),
        ({"images": PIXELS, "target": TARGET, "night": [1]}, r"night must have one value"),
        ({"images": PIXELS, "target": TARGET, "classes": ["a", "a"]}, "different names"),
        ({"images": PIXELS, "target": TARGET, "classes": ["a", "b"]}, "labels must be 0 to 1"),
        (
            {"images": PIXELS, "target": np.array([None] * 4)},
            "plain arrays",
        ),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=rf"set\.npz: .*{message}"):
        load_images("arrays:set.npz", {"study": tmp_path})


def test_damaged_missing_and_other_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=PIXELS, target=TARGET)
    content = (tmp_path / "set.npz").read_bytes()
    for damaged in (b"", content[:100], content[:-30], b"no zip at all"):
        (tmp_path / "broken.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"broken\.npz"):
            load_images("arrays:broken.npz", {"study": tmp_path})
    np.save(tmp_path / "images.npy", PIXELS)
    with pytest.raises(DataError, match=r"must be a \.npz file"):
        load_images("arrays:images.npy", {"study": tmp_path})
    with pytest.raises(DataError, match="no such file"):
        load_images("arrays:absent.npz", {"study": tmp_path})
    with pytest.raises(DataError, match="got no path"):
        load_images("arrays:", {"study": tmp_path})
