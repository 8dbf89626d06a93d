"""Noise against its formulas, written out as slow loops on injected draws, and its moments."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions import noise as module
from shrinkproof.corruptions.constants import (
    GAUSSIAN_NOISE,
    IMPULSE_NOISE,
    SHOT_NOISE,
    SPECKLE_NOISE,
)
from shrinkproof.corruptions.noise import (
    GaussianNoise,
    ImpulseNoise,
    ShotNoise,
    SpeckleNoise,
    shot_table,
)
from shrinkproof.corruptions.presets import constant
from shrinkproof.randomness import Streams

NOISES = ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"]
ALL_PRESETS = ["cifar", "tiny", "imagenet", "inception", "imagecorruptions"]
SHAPES = [(16, 16), (17, 40), (40, 17)]


def images_of(shape: tuple[int, int]) -> np.ndarray:
    """A textured, a black, a white and a flat image."""
    images = np.random.default_rng(sum(shape)).integers(0, 256, (4, *shape, 3), dtype=np.uint8)
    for image, level in zip(images[1:], (0, 255, 90), strict=True):
        image[...] = level
    return images


def truncated(value: float) -> int:
    return int(min(max(value, 0.0), 1.0) * 255)


def corrupted(
    name: str, images: np.ndarray, severity: int = 3, preset: str = "cifar"
) -> np.ndarray:
    corruption = CORRUPTIONS.create(name)
    streams = Streams((5, name, severity, preset), np.arange(len(images)))
    draws = corruption.draw(streams, images.shape[1:3], severity, preset)
    return corruption.apply(images, severity, preset, draws)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("preset", ALL_PRESETS)
def test_gaussian_noise_is_x_plus_sigma_z(preset: str, severity: int, dtype: type) -> None:
    images = images_of(SHAPES[severity // 2])
    noise = np.random.default_rng(1).standard_normal(images.shape).astype(dtype)
    result = GaussianNoise().apply(images, severity, preset, {"noise": noise})
    sigma = constant(GAUSSIAN_NOISE, preset, severity)
    for got, level, z in zip(result.flat, images.flat, noise.flat, strict=True):
        assert got == truncated(int(level) / 255.0 + float(z) * sigma)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("preset", ALL_PRESETS)
def test_speckle_noise_is_x_plus_x_sigma_z(preset: str, severity: int, dtype: type) -> None:
    images = images_of(SHAPES[severity // 2])
    noise = np.random.default_rng(2).standard_normal(images.shape).astype(dtype)
    result = SpeckleNoise().apply(images, severity, preset, {"noise": noise})
    sigma = constant(SPECKLE_NOISE, preset, severity)
    for got, level, z in zip(result.flat, images.flat, noise.flat, strict=True):
        x = int(level) / 255.0
        assert got == truncated(x + x * (float(z) * sigma))


def photons_oracle(mean: float, chance: float) -> int:
    """The smallest count whose distribution function reaches the chance."""
    count, probability = 0, math.exp(-mean)
    reached = probability
    while reached < chance:
        count += 1
        probability *= mean / count
        reached += probability
    return count


@pytest.mark.parametrize(
    ("preset", "severity"),
    [("cifar", 1), ("cifar", 5), ("tiny", 5), ("imagenet", 3), ("imagecorruptions", 5)],
)
def test_shot_noise_counts_photons(preset: str, severity: int) -> None:
    images = images_of((17, 40))[:3, :, :16]
    uniform = np.random.default_rng(3).integers(0, 2**16, images.shape, dtype=np.uint16)
    uniform[0, :2], uniform[0, -2:] = 0, 65535
    result = ShotNoise().apply(images, severity, preset, {"uniform": uniform})
    full = constant(SHOT_NOISE, preset, severity)
    for got, level, u in zip(result.flat, images.flat, uniform.flat, strict=True):
        count = photons_oracle(int(level) / 255.0 * full, (int(u) + 0.5) / 65536)
        assert got == truncated(count / full)


@pytest.mark.parametrize("photons", [3, 60, 250, 500])
def test_shot_noise_is_the_table_for_every_level_and_number(photons: float) -> None:
    table = shot_table(photons)
    assert table.shape == (256, 65536)
    assert (np.diff(table.astype(np.int16), axis=1) >= 0).all()
    levels = np.minimum(np.arange(258), 255).astype(np.uint8).reshape(86, 1, 1, 3)
    images = np.broadcast_to(levels, (86, 256, 256, 3)).copy()
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    uniform = np.broadcast_to(every, images.shape).copy()
    preset, severity = next(
        (preset, row.index(photons) + 1) for preset, row in SHOT_NOISE.items() if photons in row
    )
    result = ShotNoise().apply(images, severity, preset, {"uniform": uniform})
    got = result.transpose(0, 3, 1, 2).reshape(258, 65536)
    np.testing.assert_array_equal(got, table[levels.reshape(-1)])


@pytest.mark.parametrize("photons", [3, 12, 60, 500])
def test_moments_of_shot_noise(photons: float) -> None:
    for level in (20, 60):
        results = shot_table(photons)[level].astype(float)
        # Truncation takes up to one level; clipping at these levels is rare.
        assert level - 1.1 < results.mean() < level + 0.01
        variance = level * 255 / photons
        if variance < (255 - level) ** 2 / 16:
            assert abs(results.var() / variance - 1) < 0.03


def test_the_distribution_of_the_counts() -> None:
    photons, level = 50, 200
    mean = level / 255 * photons
    table = shot_table(photons)[level]
    reached, probability = 0.0, math.exp(-mean)
    for count in range(51):
        reached += probability
        probability *= mean / (count + 1)
        if count < 50:
            share = (table <= truncated(count / photons)).mean()
            assert abs(share - reached) <= 2**-17 + 1e-12


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("preset", ALL_PRESETS)
def test_impulse_noise_hits_by_thresholds(preset: str, severity: int) -> None:
    images = images_of(SHAPES[severity // 2])
    share = constant(IMPULSE_NOISE, preset, severity)
    black, hit = round(share / 2 * 2**32), round(share * 2**32)
    uniform = np.random.default_rng(4).integers(0, 2**32, images.shape, dtype=np.uint32)
    uniform[0, 0, :2] = [[0, black - 1, black], [hit - 1, hit, 2**32 - 1]]
    result = ImpulseNoise().apply(images, severity, preset, {"uniform": uniform})
    for got, level, u in zip(result.flat, images.flat, uniform.flat, strict=True):
        assert got == (0 if u < black else 255 if u < hit else level)


@pytest.mark.parametrize("severity", [1, 5])
def test_share_of_salt_and_pepper(severity: int) -> None:
    flat = np.full((64, 32, 32, 3), 100, dtype=np.uint8)
    result = corrupted("impulse_noise", flat, severity)
    share = constant(IMPULSE_NOISE, "cifar", severity) / 2
    for value in (0, 255):
        deviation = (share * (1 - share) / flat.size) ** 0.5
        assert abs((result == value).mean() - share) < 4 * deviation
    assert set(np.unique(result)) == {0, 100, 255}


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_moments_of_gaussian_and_speckle_noise(severity: int) -> None:
    level = 128
    flat = np.full((64, 32, 32, 3), level, dtype=np.uint8)
    scale = {
        "gaussian_noise": 255 * constant(GAUSSIAN_NOISE, "cifar", severity),
        "speckle_noise": level * constant(SPECKLE_NOISE, "cifar", severity),
    }
    for name, sigma in scale.items():
        result = corrupted(name, flat, severity).astype(float)
        # Truncation takes half a level and adds the variance 1/12; 196,608 values.
        expected = math.hypot(sigma, 12**-0.5)
        assert abs(result.mean() - (level - 0.5)) < 4 * expected / result.size**0.5
        assert abs(result.std() / expected - 1) < 0.01


@pytest.mark.parametrize("name", NOISES)
def test_values_are_independent(name: str) -> None:
    result = corrupted(name, np.full((64, 32, 32, 3), 128, dtype=np.uint8), 5).astype(float)
    pairs = {
        "columns": (result[:, :, 1:], result[:, :, :-1]),
        "rows": (result[:, 1:], result[:, :-1]),
        "channels": (result[..., 0], result[..., 1]),
        "images": (result[1:], result[:-1]),
    }
    for what, (one, other) in pairs.items():
        found = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(found) < 4 / one.size**0.5, what


@pytest.mark.parametrize("name", ["shot_noise", "speckle_noise"])
def test_black_stays_black(name: str) -> None:
    assert not corrupted(name, np.zeros((2, 16, 16, 3), dtype=np.uint8), 5).any()


@pytest.mark.parametrize("name", NOISES)
def test_blocks_and_batches_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 17, 40, 3), dtype=np.uint8)
    whole = corrupted(name, images)
    assert (corrupted(name, images[:2]) == whole[:2]).all()
    monkeypatch.setattr(module, "_BLOCK", 999)
    np.testing.assert_array_equal(corrupted(name, images), whole)
    assert corrupted(name, images[:0]).shape == (0, 17, 40, 3)


@pytest.mark.parametrize(
    ("name", "key", "dtype"),
    [
        ("gaussian_noise", "noise", np.float32),
        ("speckle_noise", "noise", np.float32),
        ("shot_noise", "uniform", np.uint16),
        ("impulse_noise", "uniform", np.uint32),
    ],
)
def test_form_of_the_draws(name: str, key: str, dtype: type) -> None:
    draws = CORRUPTIONS.create(name).draw(Streams((0,), np.arange(3)), (17, 20), 1, "tiny")
    assert list(draws) == [key]
    assert draws[key].shape == (3, 17, 20, 3)
    assert draws[key].dtype == dtype
