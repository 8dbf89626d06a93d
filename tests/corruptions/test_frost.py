"""Frost against its formula, its layers, and what it says about photos that are not there."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions import frost_layers
from shrinkproof.corruptions.apply import create
from shrinkproof.corruptions.constants import FROST, FROST_SCALE
from shrinkproof.corruptions.frost import PHOTOS, Frost, frost_source, weighted_sum
from shrinkproof.corruptions.frost_layers import procedural_layers
from shrinkproof.corruptions.presets import PRESETS, constant
from shrinkproof.errors import DataError
from shrinkproof.randomness import Streams

DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)
STATISTICS = DATA / "reference_cifar_c" / "pixel_statistics.csv"
needs_data = pytest.mark.skipif(
    not STATISTICS.is_file() or not (DATA / "frost").is_dir(),
    reason=f"no statistics of the original generator or no frost photos in {DATA}",
)

LAST = 1 - 2.0**-32
DIGESTS = [
    "04fc27f1a6fa46c4",
    "0f63e1b36349ed12",
    "7c74d71f6a11f86b",
    "87b4c33d0f366cd7",
    "ff0787e6a4a909ec",
]
SIZES = ((90, 131), (100, 175), (120, 160), (83, 150), (140, 121))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with five small photos of odd sizes."""
    random = np.random.default_rng(0)
    for name, size in zip(PHOTOS, SIZES, strict=True):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def photo_of(folder: Path, which: int) -> np.ndarray:
    return cv2.imread(str(folder / PHOTOS[which]))[..., ::-1]


def textured(count: int, height: int, width: int) -> np.ndarray:
    images = np.random.default_rng(height).integers(0, 256, (count, height, width, 3), np.uint8)
    images[0], images[-1] = 0, 255
    return images


def drawn(photo: list[int], corner: list[tuple[float, float]]) -> dict[str, np.ndarray]:
    return {"photo": np.array(photo), "corner": np.array(corner)}


def mixed(image: np.ndarray, piece: np.ndarray, weights: tuple[float, float]) -> np.ndarray:
    pairs = zip(image.ravel().tolist(), piece.ravel().tolist(), strict=True)
    values = [weights[0] * x + weights[1] * f for x, f in pairs]
    return np.array([int(min(max(v, 0), 255)) for v in values]).reshape(image.shape)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("preset", ["cifar", "tiny", "imagenet"])
def test_frost_is_a_weighted_piece_of_a_photo(folder: Path, preset: str, severity: int) -> None:
    height, width = {"cifar": (16, 23), "tiny": (24, 17), "imagenet": (17, 40)}[preset]
    images = textured(5, height, width)
    corners = [(0.0, 0.0), (LAST, LAST), (0.5, 0.25), (0.999, 0.001), (0.3, 0.7)]
    result = Frost(photos=str(folder)).apply(
        images, severity, preset, drawn([4, 2, 1, 0, 3], corners)
    )
    for n, (which, (row, column)) in enumerate(zip([4, 2, 1, 0, 3], corners, strict=True)):
        layer = photo_of(folder, which)
        if FROST_SCALE[preset] != 1:
            scale = FROST_SCALE[preset]
            layer = cv2.resize(layer, (0, 0), fx=scale, fy=scale)
        free = layer.shape[0] - height, layer.shape[1] - width
        assert min(free) > 0
        top, left = math.floor(row * free[0]), math.floor(column * free[1])
        piece = layer[top : top + height, left : left + width]
        expected = mixed(images[n], piece, FROST[preset][severity - 1])
        np.testing.assert_array_equal(result[n], expected)


@pytest.mark.parametrize("weights", sorted({pair for row in FROST.values() for pair in row}))
def test_each_pair_of_levels_is_exact(weights: tuple[float, float]) -> None:
    image, frost = np.indices((256, 256)).astype(np.uint8)
    found = weighted_sum(image, frost, weights)
    np.testing.assert_array_equal(found, mixed(image, frost, weights))


def test_a_sum_that_should_be_whole_is_truncated_as_in_float64() -> None:
    # 0.7 * 1 + 0.7 * 19 is a little less than 14 in float64.
    pair = np.array([1], dtype=np.uint8), np.array([19], dtype=np.uint8)
    assert weighted_sum(*pair, (0.7, 0.7)) == 13


@pytest.mark.parametrize("shape", [(40, 50), (83, 60), (100, 200), (300, 160)])
def test_imagecorruptions_scales_by_a_tenth_more_than_needed(
    folder: Path, shape: tuple[int, int]
) -> None:
    images = textured(5, *shape)
    corners = [(0.0, LAST), (LAST, 0.0), (0.5, 0.5), (0.1, 0.9), (LAST, LAST)]
    draws = drawn([0, 1, 2, 3, 4], corners)
    result = Frost(photos=str(folder)).apply(images, 4, "imagecorruptions", draws)
    for n, (row, column) in enumerate(corners):
        photo = photo_of(folder, n)
        height, width = photo.shape[:2]
        factor = 1.1 * max(1, shape[0] / height, shape[1] / width)
        size = math.ceil(width * factor), math.ceil(height * factor)
        layer = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)
        top = math.floor(row * (layer.shape[0] - shape[0]))
        left = math.floor(column * (layer.shape[1] - shape[1]))
        piece = layer[top : top + shape[0], left : left + shape[1]]
        np.testing.assert_array_equal(result[n], mixed(images[n], piece, (0.65, 0.7)))


@pytest.mark.parametrize("preset", ["cifar", "tiny", "imagenet", "inception"])
def test_a_larger_image_gets_a_larger_layer(folder: Path, preset: str) -> None:
    images = textured(2, 200, 131)
    draws = drawn([0, 0], [(0.0, 0.0), (LAST, LAST)])
    result = Frost(photos=str(folder)).apply(images, 1, preset, draws)
    weights = constant(FROST, preset, 1)
    size = math.ceil(131 * 201 / 90), 201
    layer = cv2.resize(photo_of(folder, 0), size)
    np.testing.assert_array_equal(result[0], mixed(images[0], layer[:200, :131], weights))
    # One spare row, of which the last is never reached: the upper bound is excluded.
    left = size[0] - 131 - 1
    piece = layer[:200, left : left + 131]
    np.testing.assert_array_equal(result[1], mixed(images[1], piece, weights))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_takes_every_size(preset: str) -> None:
    for shape in ((16, 16), (17, 40), (700, 30)):
        images = textured(3, *shape)
        draws = Frost().draw(Streams((0, preset), np.arange(3)), shape, 2, preset)
        result = Frost().apply(images, 2, preset, draws)
        assert result.shape == images.shape
        assert result.dtype == np.uint8
        assert (result != images).any(axis=(1, 2, 3))[:2].all()


def test_draws_are_a_layer_and_a_place() -> None:
    draws = Frost().draw(Streams((3,), np.arange(5000)), (32, 32), 1, "cifar")
    photo, corner = draws["photo"], draws["corner"]
    assert (photo.shape, photo.dtype) == ((5000,), np.int64)
    assert (corner.shape, corner.dtype) == ((5000, 2), np.float64)
    # 1,000 expected, five standard deviations of a binomial number.
    assert np.abs(np.bincount(photo, minlength=5) - 1000).max() < 142
    assert len(np.bincount(photo)) == 5
    assert corner.min() >= 0
    assert corner.max() < 1
    # Uniform on [0, 1): mean within five standard errors.
    assert np.abs(corner.mean(axis=0) - 0.5).max() < 5 / math.sqrt(12 * 5000)
    some = np.array([4000, 7])
    again = Frost().draw(Streams((3,), some), (32, 32), 1, "cifar")
    np.testing.assert_array_equal(again["photo"], photo[some])
    np.testing.assert_array_equal(again["corner"], corner[some])


@pytest.mark.parametrize("severity", [1, 4])
def test_an_image_does_not_depend_on_its_batch(severity: int) -> None:
    images = textured(85, 32, 32)

    def result_of(chosen: np.ndarray) -> np.ndarray:
        draws = Frost().draw(Streams((1,), chosen), (32, 32), severity, "cifar")
        return Frost().apply(images[chosen], severity, "cifar", draws)

    together = result_of(np.arange(85))
    order = np.random.default_rng(3).permutation(85)
    for chosen in (order, order[:7], order[:2], order[:1], order[:0]):
        np.testing.assert_array_equal(result_of(chosen), together[chosen])


def test_layers_have_not_changed() -> None:
    """If one does on purpose, raise LAYERS_VERSION: results under frost are keyed by it."""
    found = [hashlib.sha256(layer.tobytes()).hexdigest()[:16] for layer in procedural_layers()]
    assert frost_layers.LAYERS_VERSION == 1
    assert found == DIGESTS


def test_layers_look_like_frost() -> None:
    layers = procedural_layers()
    shapes = [(600, 900, 3), (315, 560, 3), (315, 560, 3), (350, 527, 3), (495, 660, 3)]
    assert [layer.shape for layer in layers] == shapes
    for layer, mean, deviation in zip(
        layers, (131, 207, 207, 152, 123), (18, 22, 22, 29, 43), strict=True
    ):
        gray = layer.mean(axis=2)
        assert layer.dtype == np.uint8
        assert not layer.flags.writeable
        assert abs(gray.mean() - mean) < 3
        assert abs(gray.std() - deviation) < 3
        # Bluish, as ice is.
        assert layer[..., 2].mean() > layer[..., 0].mean() + 10
        # Crystals are larger than pixels: neighbors are alike.
        assert np.abs(np.diff(gray, axis=1)).mean() < 0.6 * deviation
    assert not np.array_equal(layers[1], layers[2])


def test_layers_are_made_the_same_again() -> None:
    for layer, again in zip(procedural_layers(), procedural_layers.__wrapped__(), strict=True):
        np.testing.assert_array_equal(layer, again)


def test_source_of_the_layers(folder: Path) -> None:
    assert frost_source(None) == "procedural:1"
    content = b"".join((folder / name).read_bytes() for name in PHOTOS)
    known = f"photos:{hashlib.sha256(content).hexdigest()[:16]}"
    assert frost_source(folder) == known
    Image.new("RGB", (70, 60), (1, 2, 3)).save(folder / "frost2.png")
    changed = frost_source(folder)
    assert changed.startswith("photos:")
    assert changed != known


def test_changed_photos_are_read_again(folder: Path) -> None:
    images = np.full((1, 16, 16, 3), 100, dtype=np.uint8)
    frost = Frost(photos=str(folder))
    draws = drawn([0], [(0.0, 0.0)])
    frost.apply(images, 1, "imagenet", draws)
    Image.new("RGB", (70, 60), (50, 60, 70)).save(folder / "frost1.png")
    # 100 + 0.4 * (50, 60, 70)
    assert (frost.apply(images, 1, "imagenet", draws) == [120, 124, 128]).all()


def test_transparency_is_ignored(folder: Path) -> None:
    Image.new("RGBA", (70, 60), (50, 60, 70, 9)).save(folder / "frost1.png")
    images = np.full((1, 16, 16, 3), 100, dtype=np.uint8)
    result = Frost(photos=str(folder)).apply(images, 1, "imagenet", drawn([0], [(0.0, 0.0)]))
    assert (result == [120, 124, 128]).all()


def test_photos_that_are_missing_or_bad_are_named(folder: Path) -> None:
    assert create("frost", folder) == Frost(photos=str(folder))
    kept = (folder / "frost3.png").read_bytes()
    (folder / "frost3.png").unlink()
    with pytest.raises(DataError, match=r"frost3\.png: must be there, got: No such file"):
        create("frost", folder)
    (folder / "frost3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"frost3\.png: must be an image, got: 8 bytes"):
        frost_source(folder)
    (folder / "frost3.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"frost3\.png: must be an image, got: 0 bytes"):
        frost_source(folder)
    Image.new("L", (60, 60)).save(folder / "frost3.png")
    with pytest.raises(DataError, match=r"frost3\.png: must have color, got: a gray image; put"):
        frost_source(folder)
    (folder / "frost3.png").write_bytes(kept)
    assert frost_source(folder).startswith("photos:")


def cifar_images(count: int) -> np.ndarray:
    with Image.open(DATA / "cifar10" / "test.webp") as sheet:
        tiles = np.asarray(sheet.convert("RGB")).reshape(100, 32, 100, 32, 3)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)[:count]


def change(frost: Frost, clean: np.ndarray, severity: int) -> dict[str, np.ndarray]:
    draws = frost.draw(Streams((0, severity), np.arange(len(clean))), (32, 32), severity, "cifar")
    difference = frost.apply(clean, severity, "cifar", draws).astype(float) - clean
    rms = np.sqrt((difference**2).mean(axis=(1, 2, 3)))
    return {"rms": rms, "shift": difference.mean(axis=(1, 2, 3))}


@needs_data
def test_photos_give_the_statistics_of_the_original_and_procedural_frost_is_close() -> None:
    clean = cifar_images(1000)
    with STATISTICS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["corruption"] == "frost"]
    assert len(rows) == 5
    for row in rows:
        photos = change(Frost(photos=str(DATA / "frost")), clean, int(row["severity"]))
        procedural = change(Frost(), clean, int(row["severity"]))
        for quantity, values in photos.items():
            mean, deviation = float(row[f"{quantity}_mean"]), float(row[f"{quantity}_sd"])
            # Two independent samples of 1,000 images: four standard errors of the difference.
            assert abs(values.mean() - mean) < 4 * deviation * (2 / 1000) ** 0.5, quantity
            assert abs(values.std() / deviation - 1) < 0.2, quantity
            assert abs(procedural[quantity].mean() / mean - 1) < 0.1, quantity
            assert abs(procedural[quantity].std() / deviation - 1) < 0.2, quantity
