"""Spatter against its formula: slow loops around OpenCV's Canny, distance and equalization."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from shrinkproof.corruptions.constants import SPATTER
from shrinkproof.corruptions.presets import PRESETS, constant
from shrinkproof.corruptions.spatter import Spatter
from shrinkproof.randomness import Streams


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    """A textured, a black and a white image."""
    images = np.random.default_rng(seed).integers(0, 256, (3, *shape, 3), dtype=np.uint8)
    images[1:] = np.array([0, 255], dtype=np.uint8)[:, None, None, None]
    return images


def smoothed(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Rows, then columns; sums in float64, stored in the type of the input."""
    reach = int(4 * sigma + 0.5)
    taps = [math.exp(-(d**2) / (2 * sigma**2)) for d in range(-reach, reach + 1)]
    for axis in (0, 1):
        size = plane.shape[axis]
        total = np.zeros(plane.shape)
        for distance, tap in zip(range(-reach, reach + 1), taps, strict=True):
            source = np.clip(np.arange(size) + distance, 0, size - 1)
            total += tap / sum(taps) * plane.take(source, axis=axis).astype(float)
        plane = total.astype(plane.dtype)
    return plane


def water(image: np.ndarray, liquid: np.ndarray, intensity: float) -> np.ndarray:
    height = np.array([[int(v * 255) % 256 for v in row] for row in liquid], dtype=np.uint8)
    rims = (255 - cv2.Canny(height, 50, 150)).astype(np.uint8)
    distance = np.minimum(cv2.distanceTransform(rims, cv2.DIST_L2, 5), 20)
    depth = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8)).astype(int)
    framed = np.pad(depth, 1, mode="reflect")
    relief = np.zeros_like(depth)
    for i, row in enumerate(((-2, -1, 0), (-1, 1, 1), (0, 1, 2))):
        for j, tap in enumerate(row):
            relief += tap * framed[i : i + depth.shape[0], j : j + depth.shape[1]]
    relief = cv2.blur(np.clip(relief, 0, 255).astype(np.uint8), (3, 3))
    shine = height.astype(np.float32) * relief.astype(np.float32)
    if shine.max():
        shine = shine / shine.max() * np.float32(intensity)
    color = (np.array([175, 238, 238]) / 255).astype(np.float32)
    result = image.astype(np.float32) / np.float32(255) + shine[..., None] * color
    return (np.clip(result, 0, 1) * np.float32(255)).astype(np.uint8)


def mud(image: np.ndarray, covered: np.ndarray, sigma: float, kind: type) -> np.ndarray:
    cover = smoothed(covered.astype(np.float32), sigma)
    cover[cover < 0.8] = 0
    color = (np.array([63, 42, 20]) / 255).astype(kind) * cover[..., None]
    left = image.astype(np.float32) / np.float32(255) * (1 - cover[..., None])
    return (np.clip(left + color, 0, 1) * 255).astype(np.uint8)


def spattered(image: np.ndarray, layer: np.ndarray, severity: int, preset: str) -> np.ndarray:
    mean, sigma, reach, threshold, last, is_mud = constant(SPATTER, preset, severity)
    liquid = smoothed(mean + sigma * layer.astype(float), reach)
    if is_mud:
        kind = np.float64 if preset == "imagecorruptions" else np.float32
        return mud(image, liquid > threshold, last, kind)
    return water(image, np.where(liquid < threshold, 0, liquid), last)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_spatter_is_its_formula(preset: str, severity: int) -> None:
    touched = 0
    for shape in ((16, 16), (17, 40), (40, 17), (32, 32)):
        images = pictures(*shape)
        layer = np.random.default_rng(severity).standard_normal((3, *shape))
        result = Spatter().apply(images, severity, preset, {"layer": layer})
        for image, one, found in zip(images, layer, result, strict=True):
            np.testing.assert_array_equal(found, spattered(image, one, severity, preset))
        touched += int((result != images).sum())
    assert touched > 100


def test_heights_above_one_wrap_around() -> None:
    images = pictures(32, 32)
    layer = 3 * np.random.default_rng(0).standard_normal((3, 32, 32))
    mean, sigma, reach = constant(SPATTER, "cifar", 3)[:3]
    assert smoothed(mean + sigma * layer[0], reach).max() > 1.1
    result = Spatter().apply(images, 3, "cifar", {"layer": layer})
    for image, one, found in zip(images, layer, result, strict=True):
        np.testing.assert_array_equal(found, spattered(image, one, 3, "cifar"))


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_dry_lens_leaves_the_image(preset: str, severity: int) -> None:
    images = pictures(16, 24)
    layer = np.full((3, 16, 24), -10.0, dtype=np.float32)
    result = Spatter().apply(images, severity, preset, {"layer": layer})
    np.testing.assert_array_equal(result, images)


def test_thick_mud_is_brown() -> None:
    images = pictures(16, 24)
    result = Spatter().apply(images, 4, "cifar", {"layer": np.full((3, 16, 24), 10.0)})
    assert np.abs(result.astype(int) - [63, 42, 20]).max() <= 1


def test_water_is_turquoise_up_to_the_intensity() -> None:
    black = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    layer = np.random.default_rng(1).standard_normal((4, 32, 32))
    result = Spatter().apply(black, 1, "cifar", {"layer": layer})
    # Half of (175, 238, 238) at the brightest place of each image.
    assert (result.reshape(4, -1, 3).max(axis=1) == [87, 119, 119]).all()
    np.testing.assert_array_equal(result[..., 1], result[..., 2])
    images = pictures(32, 32)
    wet = Spatter().apply(images, 1, "cifar", {"layer": layer[:3]})
    assert (wet >= images).all()


def test_draws_are_standard_normal_numbers() -> None:
    streams = Streams((0,), np.arange(20))
    layer = Spatter().draw(streams, (24, 40), 2, "tiny")["layer"]
    assert layer.shape == (20, 24, 40)
    assert layer.dtype == np.float32
    # 19,200 numbers: five standard errors.
    assert abs(layer.mean()) < 0.04
    assert abs(layer.std() - 1) < 0.03
    again = Spatter().draw(Streams((0,), np.array([7])), (24, 40), 2, "tiny")["layer"]
    np.testing.assert_array_equal(again[0], layer[7])


def test_no_images_are_no_error() -> None:
    for severity in (1, 5):
        draws = Spatter().draw(Streams((0,), np.arange(0)), (16, 16), severity, "cifar")
        result = Spatter().apply(pictures(16, 16)[:0], severity, "cifar", draws)
        assert result.shape == (0, 16, 16, 3)


@pytest.mark.parametrize("severity", [3, 4])
def test_an_image_does_not_depend_on_its_batch(severity: int) -> None:
    images = np.random.default_rng(2).integers(0, 256, (85, 32, 32, 3), dtype=np.uint8)
    order = np.random.default_rng(3).permutation(85)

    def result_of(chosen: np.ndarray) -> np.ndarray:
        draws = Spatter().draw(Streams((1,), chosen), (32, 32), severity, "cifar")
        return Spatter().apply(images[chosen], severity, "cifar", draws)

    together = result_of(np.arange(85))
    np.testing.assert_array_equal(result_of(order), together[order])
    for chosen in (np.array([4]), np.array([80, 2]), order[:7]):
        np.testing.assert_array_equal(result_of(chosen), together[chosen])
