"""Fog against its formula, written out as slow loops on injected draws."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.corruptions import fog as module
from shrinkproof.corruptions.constants import FOG, FOG_MAP
from shrinkproof.corruptions.fog import Fog, plasma
from shrinkproof.corruptions.presets import PRESETS, constant
from shrinkproof.randomness import Streams


def images_of(shape: tuple[int, int]) -> np.ndarray:
    """A textured, a dark, a white and a flat image."""
    images = np.random.default_rng(sum(shape)).integers(0, 256, (4, *shape, 3), dtype=np.uint8)
    images[1] //= 4
    images[2:] = np.array([255, 90], dtype=np.uint8)[:, None, None, None]
    return images


def corrupted(images: np.ndarray, severity: int = 3, preset: str = "cifar") -> np.ndarray:
    streams = Streams((5, "fog", severity, preset), np.arange(len(images)))
    draws = Fog().draw(streams, images.shape[1:3], severity, preset)
    return Fog().apply(images, severity, preset, draws)


def plasma_oracle(uniform: list[float], side: int, decay: float) -> np.ndarray:
    numbers = iter(uniform)
    cells = np.full((side, side), np.nan)
    cells[0, 0] = 0
    step, roughness = side, 100.0

    def noise() -> float:
        return roughness * (-roughness + 2 * roughness * next(numbers))

    def mean(*points: tuple[int, int]) -> float:
        return sum(cells[i % side, j % side] for i, j in points) / 4

    while step >= 2:
        half = step // 2
        grid = [(i, j) for i in range(0, side, step) for j in range(0, side, step)]
        for i, j in grid:
            corners = mean((i, j), (i + step, j), (i, j + step), (i + step, j + step))
            cells[i + half, j + half] = corners + noise()
        for i, j in grid:
            around = mean((i, j), (i, j + step), (i + half, j + half), (i - half, j + half))
            cells[i, j + half] = around + noise()
        for i, j in grid:
            around = mean((i, j), (i + step, j), (i + half, j + half), (i + half, j - half))
            cells[i + half, j] = around + noise()
        step, roughness = half, roughness / decay
    assert next(numbers, None) is None
    cells -= cells.min()
    return cells / cells.max()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("side", "decay"), [(2, 3.0), (8, 2.0), (32, 1.75), (64, 1.4)])
def test_plasma_is_diamond_square(side: int, decay: float, count: int) -> None:
    uniform = np.random.default_rng(side).random((count, side * side - 1))
    kept = uniform.copy()
    maps = plasma(uniform, decay)
    np.testing.assert_array_equal(uniform, kept)
    assert maps.shape == (count, side, side)
    for row, found in zip(uniform.tolist(), maps, strict=True):
        # Only the order of float64 operations differs.
        np.testing.assert_allclose(found, plasma_oracle(row, side, decay), atol=1e-12)
        assert found.min() == 0
        assert found.max() == 1


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("preset", ["cifar", "tiny", "imagecorruptions"])
@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (40, 17)])
def test_fog_adds_plasma_and_rescales(shape: tuple[int, int], preset: str, severity: int) -> None:
    images = images_of(shape)
    draws = Fog().draw(Streams((0,), np.arange(4)), shape, severity, preset)
    side = round((draws["uniform"].shape[1] + 1) ** 0.5)
    result = Fog().apply(images, severity, preset, draws)
    strength, decay = constant(FOG, preset, severity)
    for image, got, uniform in zip(images, result, draws["uniform"], strict=True):
        layer = plasma_oracle(uniform.tolist(), side, decay)
        top = image.max() / 255.0
        expected = np.zeros(image.shape)
        for i, j, c in np.ndindex(*image.shape):
            value = (image[i, j, c] / 255.0 + strength * layer[i, j]) * top / (top + strength)
            expected[i, j, c] = min(max(value, 0.0), 1.0) * 255
        # float64 is equal to 1e-12, so only values that close to a whole number may differ; not
        # where the plasma is 0 or 1.
        sure = np.abs(expected - np.round(expected)) > 1e-9
        sure |= np.isin(layer, (0, 1))[: image.shape[0], : image.shape[1], None]
        assert sure.mean() > 0.99
        np.testing.assert_array_equal(got[sure], expected[sure].astype(np.uint8))
        assert np.abs(got - expected).max() < 1 + 1e-9


def test_fog_leaves_black_images_black() -> None:
    assert not corrupted(np.zeros((2, 32, 32, 3), dtype=np.uint8), 5).any()


def test_fog_keeps_the_largest_value_and_gray() -> None:
    gray = np.full((3, 32, 32, 3), 200, dtype=np.uint8)
    result = corrupted(gray, 3)
    assert (result == result[..., :1]).all()
    assert result.max() in (199, 200)
    assert result.std() > 5


@pytest.mark.parametrize(
    ("preset", "shape", "side"),
    [
        ("cifar", (16, 16), 32),
        ("cifar", (33, 20), 64),
        ("imagenet", (224, 224), 256),
        ("inception", (299, 299), 512),
        ("imagecorruptions", (16, 16), 16),
        ("imagecorruptions", (32, 33), 64),
        ("imagecorruptions", (100, 500), 512),
    ],
)
def test_side_of_the_map(preset: str, shape: tuple[int, int], side: int) -> None:
    draws = Fog().draw(Streams((0,), np.arange(2)), shape, 1, preset)
    assert draws["uniform"].shape == (2, side * side - 1)
    assert draws["uniform"].dtype == np.float64
    assert 0 <= draws["uniform"].min() < draws["uniform"].max() < 1
    assert set(FOG_MAP) == set(PRESETS)


@pytest.mark.parametrize("shape", [(32, 32), (17, 40)])
def test_blocks_and_batches_change_nothing(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (85, *shape, 3), dtype=np.uint8)
    whole = corrupted(images)
    for count in (1, 2, 7):
        np.testing.assert_array_equal(corrupted(images[:count]), whole[:count])
    for size in (100, 3 * 40 * 5, 3 * 40 * 40 * 7):
        monkeypatch.setattr(module, "_BLOCK", size)
        np.testing.assert_array_equal(corrupted(images[:8]), whole[:8])
    assert corrupted(images[:0]).shape == (0, *shape, 3)
