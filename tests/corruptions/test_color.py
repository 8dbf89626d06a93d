"""Brightness, saturation and contrast against their formulas, written out as slow loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from shrinkproof.corruptions.color import Brightness, Contrast, Saturate
from shrinkproof.corruptions.constants import BRIGHTNESS, CONTRAST, SATURATE
from shrinkproof.corruptions.presets import PRESETS, constant

LEVELS = (0, 1, 2, 51, 85, 102, 127, 128, 170, 204, 254, 255)


def textured(count: int = 3, side: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 200, side)[:, None, None]
    images = rows + rng.integers(0, 56, (count, side, side, 3))
    images[0, : side // 2] = 255
    images[-1, :, : side // 2] = 0
    return images.astype(np.uint8)


def colorful(height: int, width: int) -> np.ndarray:
    """One image with all colors of a few telling levels, one with random colors."""
    few = np.array(list(itertools.product(LEVELS, repeat=3)), dtype=np.uint8)
    random = np.random.default_rng(height).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    return np.concatenate([np.resize(few, random.shape), random])


def truncated(value: float) -> int:
    return int(min(max(value, 0.0), 1.0) * 255)


def through_hsv(
    pixel: list[int], *, factor: float = 1.0, offset: float = 0.0, lift: float = 0.0
) -> list[int]:
    red, green, blue = (level / 255.0 for level in pixel)
    value = max(red, green, blue)
    spread = value - min(red, green, blue)
    saturation = spread / value if spread else 0.0
    if not spread:
        hue = 0.0
    elif blue == value:
        hue = 4.0 + (red - green) / spread
    elif green == value:
        hue = 2.0 + (blue - red) / spread
    else:
        hue = (green - blue) / spread
    hue = (hue / 6.0) % 1.0

    saturation = min(max(saturation * factor + offset, 0.0), 1.0)
    value = min(max(value + lift, 0.0), 1.0)

    sixth = math.floor(hue * 6)
    within = hue * 6 - sixth
    least = value * (1 - saturation)
    falling = value * (1 - within * saturation)
    rising = value * (1 - (1 - within) * saturation)
    colors = (
        (value, rising, least),
        (falling, value, least),
        (least, value, rising),
        (least, falling, value),
        (rising, least, value),
        (value, least, falling),
    )
    return [truncated(channel) for channel in colors[sixth % 6]]


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_brightness_raises_the_value_of_hsv(preset: str, severity: int) -> None:
    images = colorful(48, 36)
    lift = constant(BRIGHTNESS, preset, severity)
    expected = [through_hsv(pixel, lift=lift) for pixel in images.reshape(-1, 3).tolist()]
    result = Brightness().apply(images, severity, preset, {})
    np.testing.assert_array_equal(result.reshape(-1, 3), expected)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_saturate_changes_the_saturation_of_hsv(preset: str, severity: int) -> None:
    images = colorful(36, 48)
    factor, offset = constant(SATURATE, preset, severity)
    expected = [
        through_hsv(pixel, factor=factor, offset=offset) for pixel in images.reshape(-1, 3).tolist()
    ]
    result = Saturate().apply(images, severity, preset, {})
    np.testing.assert_array_equal(result.reshape(-1, 3), expected)


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (40, 17)])
@pytest.mark.parametrize("cls", [Brightness, Saturate])
def test_a_pixel_does_not_depend_on_the_others(
    cls: type[Brightness | Saturate], shape: tuple[int, int]
) -> None:
    images = np.random.default_rng(3).integers(0, 256, (85, *shape, 3), dtype=np.uint8)
    together = cls().apply(images, 4, "imagenet", {})
    assert together.shape == images.shape
    for image, result in zip(images[::12], together[::12], strict=True):
        np.testing.assert_array_equal(cls().apply(image[None], 4, "imagenet", {})[0], result)
    strided = cls().apply(images[::-1, :, ::-1], 4, "imagenet", {})
    np.testing.assert_array_equal(strided, together[::-1, :, ::-1])
    assert cls().apply(images[:0], 4, "imagenet", {}).shape == (0, *shape, 3)


def test_brightness_of_hand_computed_pixels() -> None:
    image = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    image[0, 0, :4] = [(0, 0, 0), (255, 255, 255), (100, 50, 20), (250, 250, 10)]
    result = Brightness().apply(image, 3, "imagenet", {})
    # V + 0.3 is 76.5 levels more; (100, 50, 20) * 1.765; the last is clipped to V = 1.
    expected = [(76, 76, 76), (255, 255, 255), (176, 88, 35), (255, 255, 10)]
    np.testing.assert_array_equal(result[0, 0, :4], expected)


def test_gray_turns_red_where_saturation_is_added() -> None:
    image = np.full((1, 16, 16, 3), 76, dtype=np.uint8)
    tinted = Saturate().apply(image, 5, "cifar", {})
    # S' = 0.2 at hue 0: red keeps 76, green and blue fall to 76 * 0.8 = 60.8.
    assert (tinted == np.array([76, 60, 60])).all()
    np.testing.assert_array_equal(Saturate().apply(image, 3, "cifar", {}), image)


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
