"""Each corruption against its formula, written out as slow loops on injected draws."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions.blur import DefocusBlur, disk_kernel
from shrinkproof.corruptions.digital import Contrast, JpegCompression
from shrinkproof.corruptions.noise import GaussianNoise
from shrinkproof.corruptions.presets import (
    CONTRAST,
    DEFOCUS_BLUR,
    FOG,
    GAUSSIAN_NOISE,
    JPEG_COMPRESSION,
)
from shrinkproof.corruptions.weather import Fog, plasma


def textured(count: int = 3, side: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 200, side)[:, None, None]
    images = rows + rng.integers(0, 56, (count, side, side, 3))
    images[0, : side // 2] = 255
    images[-1, :, : side // 2] = 0
    return images.astype(np.uint8)


def truncated(value: float) -> int:
    return int(min(max(value, 0.0), 1.0) * 255)


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("preset", ["cifar", "tiny", "imagenet", "inception"])
def test_gaussian_noise_is_x_plus_sigma_z_truncated(preset: str, severity: int) -> None:
    images = textured()
    noise = np.random.default_rng(1).standard_normal(images.shape)
    result = GaussianNoise().apply(images, severity, preset, {"noise": noise})
    sigma = GAUSSIAN_NOISE[preset][severity - 1]
    for at in np.ndindex(*images.shape):
        assert result[at] == truncated(images[at] / 255.0 + noise[at] * sigma)


@pytest.mark.parametrize("severity", [1, 2, 5])
def test_contrast_is_around_the_channel_mean(severity: int) -> None:
    images = textured()
    result = Contrast().apply(images, severity, "cifar", {})
    factor = CONTRAST["cifar"][severity - 1]
    for n, _, _, c in np.ndindex(images.shape[0], 1, 1, 3):
        channel = images[n, :, :, c] / 255.0
        mean = math.fsum(channel.ravel().tolist()) / channel.size
        expected = [truncated((v - mean) * factor + mean) for v in channel.ravel().tolist()]
        # A sum in another order may move a value across a whole number.
        assert np.abs(result[n, :, :, c].ravel() - np.array(expected)).max() <= 1
        assert (result[n, :, :, c].ravel() != np.array(expected)).mean() < 0.01


def test_contrast_of_a_hand_computed_image() -> None:
    image = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    image[:, :8] = 200
    result = Contrast().apply(image, 2, "cifar", {})
    # Mean 100; 100 + 0.5 * 100 = 150 and 100 - 0.5 * 100 = 50.
    assert np.isin(result[:, :8], [149, 150]).all()
    assert np.isin(result[:, 8:], [49, 50]).all()


def reflected(position: int, size: int) -> int:
    while not 0 <= position < size:
        position = -position if position < 0 else 2 * (size - 1) - position
    return position


def kernel_oracle(radius: float, smoothing: float) -> np.ndarray:
    half, reach = (8, 1) if radius <= 8 else (int(radius), 2)
    size = 2 * half + 1
    disk = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            disk[i, j] = (i - half) ** 2 + (j - half) ** 2 <= radius**2
    disk /= disk.sum()
    taps = [math.exp(-(d**2) / (2 * smoothing**2)) for d in range(-reach, reach + 1)]
    taps = [tap / sum(taps) for tap in taps]
    smooth = np.zeros_like(disk)
    for i in range(size):
        for j in range(size):
            for a in range(-reach, reach + 1):
                for b in range(-reach, reach + 1):
                    source = disk[reflected(i + a, size), reflected(j + b, size)]
                    smooth[i, j] += taps[a + reach] * taps[b + reach] * source
    return smooth


@pytest.mark.parametrize("preset", list(DEFOCUS_BLUR))
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_disk_kernel(preset: str, severity: int) -> None:
    parameters = DEFOCUS_BLUR[preset][severity - 1]
    kernel = disk_kernel(*parameters)
    expected = kernel_oracle(*parameters)
    rim = (len(expected) - len(kernel)) // 2
    inner = slice(rim, rim + len(kernel))
    # float32 kernel: 24 bits.
    np.testing.assert_allclose(kernel, expected[inner, inner], atol=1e-7)
    assert expected.sum() - expected[inner, inner].sum() < 1e-12


def test_disk_kernel_centers_of_the_small_radii() -> None:
    centers = [disk_kernel(*DEFOCUS_BLUR["cifar"][s])[1, 1] for s in range(3)]
    # One pixel, so the center is the squared middle tap of the Gaussian.
    np.testing.assert_allclose(centers, [0.845, 0.619, 0.445], atol=6e-4)


@pytest.mark.parametrize("severity", [1, 5])
def test_defocus_is_a_correlation_with_reflected_borders(severity: int) -> None:
    images = textured(2)
    result = DefocusBlur().apply(images, severity, "cifar", {})
    kernel = disk_kernel(*DEFOCUS_BLUR["cifar"][severity - 1])
    reach = len(kernel) // 2
    expected = np.zeros_like(images)
    for n, i, j, c in np.ndindex(*images.shape):
        total = 0.0
        for a in range(-reach, reach + 1):
            for b in range(-reach, reach + 1):
                pixel = images[n, reflected(i + a, 16), reflected(j + b, 16), c] / 255.0
                total += float(kernel[a + reach, b + reach]) * pixel
        expected[n, i, j, c] = truncated(total)
    difference = np.abs(result.astype(int) - expected)
    # The order of the sum may move a value across a whole number.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005


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


@pytest.mark.parametrize(("side", "decay"), [(2, 3.0), (8, 2.0), (32, 1.75)])
def test_plasma_is_diamond_square(side: int, decay: float) -> None:
    uniform = np.random.default_rng(side).random((2, side * side - 1))
    maps = plasma(uniform, decay)
    for row, found in zip(uniform.tolist(), maps, strict=True):
        # Only the order of float64 sums differs.
        np.testing.assert_allclose(found, plasma_oracle(row, side, decay), atol=1e-12)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_fog_adds_plasma_and_rescales(severity: int) -> None:
    images = textured(2, side=20)
    uniform = np.random.default_rng(3).random((2, 32 * 32 - 1))
    result = Fog().apply(images, severity, "cifar", {"uniform": uniform})
    strength, decay = FOG["cifar"][severity - 1]
    for n, image in enumerate(images):
        layer = plasma_oracle(uniform[n].tolist(), 32, decay)
        top = image.max() / 255.0
        for i, j, c in np.ndindex(*image.shape):
            value = (image[i, j, c] / 255.0 + strength * layer[i, j]) * top / (top + strength)
            # The plasma is equal to 1e-12, so a value may cross a whole number.
            assert abs(int(result[n, i, j, c]) - truncated(value)) <= 1
    assert result.std() > 0


def test_fog_leaves_black_images_black() -> None:
    images = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    uniform = np.random.default_rng(3).random((1, 1023))
    assert not Fog().apply(images, 5, "cifar", {"uniform": uniform}).any()


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("preset", list(JPEG_COMPRESSION))
def test_jpeg_has_the_bits_of_pillow(preset: str, severity: int) -> None:
    images = textured(2, side=33)
    result = JpegCompression().apply(images, severity, preset, {})
    for image, found in zip(images, result, strict=True):
        file = io.BytesIO()
        quality = JPEG_COMPRESSION[preset][severity - 1]
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(found, np.asarray(Image.open(file)))
