from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.data.splits import load_images
from shrinkproof.errors import DataError


def save(path: Path, height: int, width: int, seed: int = 0, mode: str = "RGB") -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels


def load(folder: Path, options: str = ""):
    return load_images(f"imagefolder:{folder.name}{options}", {"study": folder.parent})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "set"
    for number, (name, height, width) in enumerate(
        [
            ("dog/b.png", 40, 60),
            ("cat/2.png", 50, 40),
            ("cat/10.png", 64, 64),
            ("dog/a.png", 90, 45),
        ]
    ):
        save(place / name, height, width, number)
    return place


def test_names_are_sorted_and_hidden_files_passed_over(folder: Path) -> None:
    (folder / "labels.csv").write_text("beside the class folders")
    (folder / "dog" / ".DS_Store").touch()
    (folder / "dog" / "Thumbs.db").touch()
    images = load(folder, "?resize=32&crop=24")
    assert images.classes == ("cat", "dog")
    assert images.images.files == ("cat/10.png", "cat/2.png", "dog/a.png", "dog/b.png")
    assert images.target.tolist() == [0, 0, 1, 1]
    assert images.shape == (24, 24)
    assert images.hashes[0] == hashlib.sha256((folder / "cat/10.png").read_bytes()).hexdigest()[:16]
    assert images.preset == ""


def test_pixels_are_those_of_pillow(folder: Path) -> None:
    images = load(folder, "?resize=32&crop=24")
    with Image.open(folder / "dog/a.png") as image:
        # 45 x 90 (width x height): the short side becomes 32, the long one 64.
        resized = image.resize((32, 64), Image.Resampling.BILINEAR)
        expected = np.asarray(resized.crop((4, 20, 28, 44)))
    np.testing.assert_array_equal(images.images[np.array([2])][0], expected)
    several = images.images[np.array([3, 2])]
    assert several.shape == (2, 24, 24, 3)
    np.testing.assert_array_equal(several[1], expected)


def test_the_preparation_is_part_of_the_identity_but_not_of_the_hash(folder: Path) -> None:
    first, second = load(folder, "?resize=32&crop=24"), load(folder, "?resize=36&crop=24")
    assert first.shape == second.shape
    np.testing.assert_array_equal(first.hashes, second.hashes)
    assert first.fingerprint != second.fingerprint


def test_crop_alone_and_odd_margins(tmp_path: Path) -> None:
    pixels = save(tmp_path / "set/cat/a.png", 21, 20)
    images = load(tmp_path / "set", "?crop=16")
    # Margins of 5 and 4 rows and columns; 2.5 rounds to the even 2, as in torchvision.
    np.testing.assert_array_equal(images.images[np.array([0])][0], pixels[2:18, 2:18])


def test_without_options_one_size(tmp_path: Path) -> None:
    pixels = save(tmp_path / "set/cat/a.png", 20, 30)
    save(tmp_path / "set/dog/a.png", 20, 30, 1)
    images = load(tmp_path / "set")
    assert images.shape == (20, 30)
    np.testing.assert_array_equal(images.images[np.array([0])][0], pixels)
    save(tmp_path / "set/dog/b.png", 30, 20, 2)
    with pytest.raises(DataError, match=r"one size; .*a\.png gives 20 x 30 .*b\.png gives 30 x 20"):
        load(tmp_path / "set")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_all_8_bit_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    save(tmp_path / f"set/cat/a.{suffix}", 20, 20, mode=mode)
    assert load(tmp_path / "set").images[np.array([0])].shape == (1, 20, 20, 3)


def test_deeper_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set/cat").mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9), dtype=np.uint16)).save(tmp_path / "set/cat/deep.png")
    with pytest.raises(DataError, match=r"deep\.png: must have at most 8 bits .*'I;16'"):
        load(tmp_path / "set")


def test_unreadable_and_truncated_files_are_named(folder: Path) -> None:
    (folder / "cat" / "note.txt").write_text("hello")
    with pytest.raises(DataError, match=r"note\.txt: cannot be read as an image"):
        load(folder, "?resize=32&crop=24")
    (folder / "cat" / "note.txt").unlink()
    content = (folder / "cat/2.png").read_bytes()
    (folder / "cat/2.png").write_bytes(content[: len(content) // 2])
    images = load(folder, "?resize=32&crop=24")
    with pytest.raises(DataError, match=r"2\.png: the image breaks off or is damaged"):
        images.images[np.array([0, 1])]


def test_a_file_that_changed_after_listing(tmp_path: Path) -> None:
    save(tmp_path / "set/cat/a.png", 20, 20)
    images = load(tmp_path / "set")
    save(tmp_path / "set/cat/a.png", 22, 20)
    with pytest.raises(DataError, match=r"a\.png: must be 20 x 20 .*got 22 x 20"):
        images.images[np.array([0])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?size=3", "options are resize and crop, got 'size'"),
        ("?crop=0", "crop must be a number of pixels, once, got '0'"),
        ("?crop=", "got ''"),
        ("?crop=a", "got 'a'"),
        ("?crop=4&crop=4", "once, got '4'"),
        ("?resize=20&crop=24", r"crop must be at most resize \(20\), got 24"),
        ("?crop=41", r"b\.png: crop must fit into the image \(40 x 60 pixels\), got 41"),
    ],
)
def test_wrong_options(folder: Path, options: str, message: str) -> None:
    for name in ("cat/2.png", "cat/10.png", "dog/a.png"):
        save(folder / name, 64, 64)
    with pytest.raises(DataError, match=message):
        load(folder, options)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="one folder per class, got none"):
        load(tmp_path / "empty")
    (tmp_path / "empty" / "cat").mkdir()
    with pytest.raises(DataError, match=r"cat must hold at least 1 image"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match="got no path"):
        load_images("imagefolder:", {})
    (tmp_path / "nested/cat/inner").mkdir(parents=True)
    with pytest.raises(DataError, match="inner: cannot be read as an image"):
        load(tmp_path / "nested")
