"""Blurs of the optics against their formulas, written out as slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from shrinkproof.corruptions.blur import DefocusBlur, GaussianBlur, SmoothedLevels, disk_kernel
from shrinkproof.corruptions.constants import DEFOCUS_BLUR, GAUSSIAN_BLUR, GLASS_BLUR
from shrinkproof.corruptions.presets import PRESETS, constant

SHAPES = [(16, 16), (17, 40), (40, 17)]
SIGMAS = sorted(
    {sigma for row in GAUSSIAN_BLUR.values() for sigma in row}
    | {sigma for row in GLASS_BLUR.values() for sigma, _, _ in row}
)


def textured(count: int, height: int = 16, width: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, height)[:, None, None] + np.zeros((1, width, 1))
    images = ramp + rng.integers(0, 56, (count, height, width, 3))
    images[0, : height // 2] = 255
    images[-1, :, : width // 2] = 0
    return images.astype(np.uint8)


def truncated(value: float) -> int:
    return int(min(max(value, 0.0), 1.0) * 255)


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


@pytest.mark.parametrize("preset", ["imagenet", "inception"])
def test_defocus_with_a_kernel_wider_than_the_image(preset: str) -> None:
    images = textured(2, 17, 20)
    for severity in (1, 4, 5):
        kernel = disk_kernel(*DEFOCUS_BLUR[preset][severity - 1]).astype(np.float64)
        reach = len(kernel) // 2
        rows = [reflected(i, 17) for i in range(-reach, 17 + reach)]
        columns = [reflected(j, 20) for j in range(-reach, 20 + reach)]
        padded = images[:, rows][:, :, columns] / 255.0
        total = np.zeros(images.shape)
        for a, b in np.ndindex(*kernel.shape):
            total += kernel[a, b] * padded[:, a : a + 17, b : b + 20]
        expected = (np.clip(total, 0, 1) * 255).astype(np.uint8)
        result = DefocusBlur().apply(images, severity, preset, {})
        assert np.abs(result.astype(int) - expected).max() <= 1
        assert (result != expected).mean() < 0.001


def test_defocus_keeps_black_and_brightens_where_the_disk_touches_its_grid() -> None:
    for severity in range(1, 6):
        black = np.zeros((1, 16, 33, 3), dtype=np.uint8)
        assert not DefocusBlur().apply(black, severity, "imagenet", {}).any()
    gray = np.full((1, 40, 40, 3), 100, dtype=np.uint8)
    # Radius 8 on the 17 x 17 grid: the weights sum to 1.013.
    assert (DefocusBlur().apply(gray, 4, "imagenet", {}) == 101).all()
    white = np.full((1, 40, 40, 3), 255, dtype=np.uint8)
    assert (DefocusBlur().apply(white, 4, "imagenet", {}) == 255).all()


def gaussian_oracle(image: np.ndarray, sigma: float) -> np.ndarray:
    """One channel, rows then columns, on the scale 0 to 1."""
    reach = int(4 * sigma + 0.5)
    taps = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1)]
    taps = [tap / math.fsum(taps) for tap in taps]
    values = image / 255.0
    for _ in ("rows", "columns"):
        smooth = np.zeros_like(values)
        for i, j in np.ndindex(*values.shape):
            for k, tap in enumerate(taps):
                row = min(max(i + k - reach, 0), len(values) - 1)
                smooth[i, j] += tap * values[row, j]
        values = smooth.T
    return values


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("severity", [1, 5])
def test_gaussian_blur_is_a_weighted_mean_with_repeated_borders(preset: str, severity: int) -> None:
    images = textured(2, 16, 19)
    result = GaussianBlur().apply(images, severity, preset, {})
    sigma = constant(GAUSSIAN_BLUR, preset, severity)
    differs = []
    for n, c in ((0, 0), (1, 2)):
        values = gaussian_oracle(images[n, :, :, c], sigma)
        expected = np.vectorize(truncated)(values)
        difference = np.abs(result[n, :, :, c].astype(int) - expected)
        # Plain areas fall on either side of a whole number, by the rounding of the loops.
        plain = np.abs(values * 255 - np.rint(values * 255)) < 1e-9
        assert difference.max() <= 1
        differs.append((difference > 0) & ~plain)
    assert not np.any(differs)


def scipy_blur(images: np.ndarray, sigma: float) -> np.ndarray:
    values = ndimage.gaussian_filter(images / 255.0, (0, sigma, sigma, 0), mode="nearest")
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_blur_has_the_bits_of_scipy(shape: tuple[int, int]) -> None:
    images = textured(3, *shape)
    for preset in PRESETS:
        for severity in range(1, 6):
            result = GaussianBlur().apply(images, severity, preset, {})
            sigma = constant(GAUSSIAN_BLUR, preset, severity)
            np.testing.assert_array_equal(result, scipy_blur(images, sigma))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_plain_areas_lose_the_levels_that_scipy_loses(sigma: float) -> None:
    images = np.empty((256, 16, 18, 3), dtype=np.uint8)
    images[:] = np.arange(256)[:, None, None, None]
    expected = scipy_blur(images, sigma)
    blur = SmoothedLevels(sigma, (16, 18))
    for image in images:
        blur(image, image)
    np.testing.assert_array_equal(images, expected)


def test_one_speck_in_white_is_not_lost() -> None:
    images = np.full((1, 16, 16, 3), 255, dtype=np.uint8)
    images[0, 8, 8] = 254
    result = GaussianBlur().apply(images, 1, "cifar", {})
    # Its weight two pixels away on both axes is 1e-11: below 255, so truncated to 254.
    np.testing.assert_array_equal(result, scipy_blur(images, 0.4))
    assert (result[0, 6:11, 6:11] == 254).all()
    assert (result == 255).sum() == (256 - 25) * 3


@pytest.mark.parametrize("cls", [DefocusBlur, GaussianBlur])
def test_an_image_does_not_depend_on_its_batch(cls: type) -> None:
    for shape in SHAPES:
        images = textured(7, *shape)
        for severity in (1, 5):
            whole = cls().apply(images, severity, "imagenet", {})
            order = np.array([5, 0, 3])
            part = cls().apply(images[order], severity, "imagenet", {})
            np.testing.assert_array_equal(part, whole[order])
            assert cls().apply(images[:0], severity, "imagenet", {}).shape == (0, *shape, 3)
