"""Pixelate against its formula, written out as slow loops, and against Pillow itself."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions.constants import PIXELATE
from shrinkproof.corruptions.pixelate import Pixelate, box_cells, box_enlarged, nearest
from shrinkproof.corruptions.presets import PRESETS, constant

FACTORS = sorted({factor for row in PIXELATE.values() for factor in row})


def images_of(count: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, (count, *shape, 3), dtype=np.uint8)


def reduced_oracle(samples: list[int], smaller: int) -> list[int]:
    """Means of the samples whose centers each cell covers, halves rounded up.

    No center lies on an end where the number of samples is a power of two.
    """
    scale = len(samples) / smaller
    means = []
    for cell in range(smaller):
        inside = [
            value
            for place, value in enumerate(samples)
            if cell * scale < place + 0.5 <= (cell + 1) * scale
        ]
        means.append((2 * sum(inside) + len(inside)) // (2 * len(inside)))
    return means


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("preset", ["cifar", "imagenet", "inception"])
@pytest.mark.parametrize("shape", [(16, 16), (16, 32), (64, 16)])
def test_means_of_rows_then_columns_repeated(
    shape: tuple[int, int], preset: str, severity: int
) -> None:
    images = images_of(1, shape)
    result = Pixelate().apply(images, severity, preset, {})
    factor = constant(PIXELATE, preset, severity)
    small = [int(size * factor) for size in shape]
    for channel in range(3):
        rows = [reduced_oracle(row, small[1]) for row in images[0, :, :, channel].tolist()]
        columns = [reduced_oracle(list(column), small[0]) for column in zip(*rows, strict=True)]
        for i, j in np.ndindex(*shape):
            down = int((i + 0.5) * small[0] / shape[0])
            right = int((j + 0.5) * small[1] / shape[1])
            assert result[0, i, j, channel] == columns[right][down]


def pillow(image: np.ndarray, factor: float, enlarge: Image.Resampling) -> np.ndarray:
    height, width = image.shape[:2]
    small_height, small_width = int(height * factor), int(width * factor)
    # Rows first, as all versions of Pillow do but 13 where images are more than twice as high as
    # wide.
    narrow = Image.fromarray(image).resize((small_width, height), Image.Resampling.BOX)
    small = narrow.resize((small_width, small_height), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), enlarge))


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize(
    "shape", [(16, 16), (17, 40), (40, 17), (19, 100), (32, 32), (64, 64), (224, 224), (299, 203)]
)
def test_bits_of_pillow(shape: tuple[int, int], preset: str, severity: int) -> None:
    images = images_of(2, shape)
    images[1, : shape[0] // 2] //= 64
    result = Pixelate().apply(images, severity, preset, {})
    coarse = preset == "imagecorruptions"
    enlarge = Image.Resampling.NEAREST if coarse else Image.Resampling.BOX
    factor = constant(PIXELATE, preset, severity)
    for image, got in zip(images, result, strict=True):
        np.testing.assert_array_equal(got, pillow(image, factor, enlarge))


def test_pillow_at_once_differs_by_one_level_at_most() -> None:
    image = images_of(1, (100, 20))[0]
    small = Image.fromarray(image).resize((13, 65), Image.Resampling.BOX)
    at_once = np.asarray(small.resize((20, 100), Image.Resampling.BOX))
    got = Pixelate().apply(image[None], 5, "cifar", {})[0]
    assert np.abs(got.astype(int) - at_once).max() <= 1


@pytest.mark.parametrize("factor", FACTORS)
def test_places_of_pillow_for_every_size(factor: float) -> None:
    rng = np.random.default_rng(0)
    for size in [*range(16, 300), 500, 640, 1024]:
        smaller = int(size * factor)
        ramp = Image.fromarray(np.arange(smaller, dtype=np.int32)[None])
        for filter_, found in ((Image.Resampling.BOX, box_enlarged), (0, nearest)):
            theirs = np.asarray(ramp.resize((size, 1), filter_))[0]
            np.testing.assert_array_equal(found(smaller, size), theirs)
        row = rng.integers(0, 256, size, dtype=np.uint8)
        theirs = np.asarray(Image.fromarray(row[None]).resize((smaller, 1), Image.Resampling.BOX))
        for cells, samples in box_cells(size, smaller):
            count = len(samples)
            means = (2 * row[samples].sum(axis=0, dtype=int) + count) // (2 * count)
            np.testing.assert_array_equal(means, theirs[0, cells])


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_flat_images_stay_flat(level: int) -> None:
    flat = np.full((2, 19, 33, 3), level, dtype=np.uint8)
    for preset in PRESETS:
        np.testing.assert_array_equal(Pixelate().apply(flat, 5, preset, {}), flat)


def test_each_image_alone_and_none() -> None:
    images = images_of(7, (32, 24))
    kept = images.copy()
    whole = Pixelate().apply(images, 3, "cifar", {})
    np.testing.assert_array_equal(images, kept)
    for image, got in zip(images, whole, strict=True):
        np.testing.assert_array_equal(Pixelate().apply(image[None], 3, "cifar", {})[0], got)
    assert Pixelate().apply(images[:0], 3, "cifar", {}).shape == (0, 32, 24, 3)
