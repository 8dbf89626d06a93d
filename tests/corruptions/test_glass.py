"""Glass blur against a scan in plain loops, on drawn and on injected shifts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from shrinkproof.corruptions.constants import GLASS_BLUR
from shrinkproof.corruptions.glass import GlassBlur, sources
from shrinkproof.corruptions.presets import PRESETS, constant
from shrinkproof.randomness import Streams

SHAPES = [(16, 16), (17, 40), (40, 17)]


def textured(count: int, height: int, width: int) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    images[0, : height // 2] = 255
    images[-1, :, : width // 2] = 0
    return images


def scan(image: np.ndarray, shift: np.ndarray, reach: int) -> np.ndarray:
    """One pass: rows and columns backwards, each pixel becomes a copy."""
    image = image.copy()
    numbers = iter(shift.tolist())
    for h in range(len(image) - reach, reach, -1):
        for w in range(image.shape[1] - reach, reach, -1):
            dx, dy = next(numbers)
            image[h, w] = image[h + dy, w + dx]
    assert next(numbers, None) is None
    return image


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    values = ndimage.gaussian_filter(image / 255.0, (sigma, sigma, 0), mode="nearest")
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def glass(image: np.ndarray, shift: np.ndarray, sigma: float, reach: int) -> np.ndarray:
    image = blurred(image, sigma)
    for part in shift:
        image = scan(image, part, reach)
    return blurred(image, sigma)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("preset", list(PRESETS))
def test_bits_of_the_scan(preset: str, shape: tuple[int, int]) -> None:
    images = textured(3, *shape)
    for severity in range(1, 6):
        sigma, reach, _ = constant(GLASS_BLUR, preset, severity)
        draws = GlassBlur().draw(Streams((preset,), np.arange(3)), shape, severity, preset)
        result = GlassBlur().apply(images, severity, preset, draws)
        for image, shift, found in zip(images, draws["shift"], result, strict=True):
            np.testing.assert_array_equal(found, glass(image, shift, sigma, reach))


def test_the_published_swap_of_views_is_a_copy() -> None:
    shift = np.random.default_rng(1).integers(-2, 2, (12 * 12, 2)).astype(np.int8)
    image = textured(1, 16, 16)[0]
    swapped = image.copy()
    numbers = iter(shift.tolist())
    for h in range(14, 2, -1):
        for w in range(14, 2, -1):
            dx, dy = next(numbers)
            other = (h + dy, w + dx)
            swapped[h, w], swapped[other] = swapped[other], swapped[h, w]
    np.testing.assert_array_equal(scan(image, shift, 2), swapped)


def test_a_chain_of_copies_carries_one_pixel_across_the_image() -> None:
    right = np.zeros((1, 12 * 36, 2), dtype=np.int8)
    right[..., 0] = 1
    found = sources(right, 2, (16, 40))[0]
    # Each pixel copies its right neighbor, which has already become that of column 39.
    assert (found[3:15, 3:39] % 40 == 39).all()
    assert (found[3:15, 3:39] // 40 == np.arange(3, 15)[:, None]).all()
    np.testing.assert_array_equal(found[:3].ravel(), np.arange(120))
    left = -right
    np.testing.assert_array_equal(
        sources(left, 2, (16, 40))[0, 3:15, 3:39] + 1,
        np.arange(640).reshape(16, 40)[3:15, 3:39],
    )


@pytest.mark.parametrize("reach", [1, 2, 3, 4, 5])
def test_sources_of_extreme_shifts(reach: int) -> None:
    shape = (16, 23)
    count = (16 - 2 * reach) * (23 - 2 * reach)
    places = np.arange(16 * 23).reshape(*shape, 1)
    for dx in (-reach, 0, reach - 1):
        for dy in (-reach, 0, reach - 1):
            shift = np.full((1, count, 2), (dx, dy), dtype=np.int8)
            found = sources(shift, reach, shape)[0]
            np.testing.assert_array_equal(found, scan(places, shift[0], reach)[..., 0])


@pytest.mark.parametrize("preset", list(PRESETS))
def test_shifts_are_uniform(preset: str) -> None:
    shape, count = (40, 24), 60
    for severity in range(1, 6):
        _, reach, passes = constant(GLASS_BLUR, preset, severity)
        streams = Streams((severity,), np.arange(count))
        shift = GlassBlur().draw(streams, shape, severity, preset)["shift"]
        positions = len(range(40 - reach, reach, -1)) * len(range(24 - reach, reach, -1))
        assert shift.shape == (count, passes, positions, 2)
        assert shift.dtype == np.int8
        values, found = np.unique(shift, return_counts=True)
        assert values.tolist() == list(range(-reach, reach))
        expected = shift.size / (2 * reach)
        # Five standard deviations of a binomial count.
        assert np.abs(found - expected).max() < 5 * expected**0.5
        dx, dy = shift[..., 0].ravel(), shift[..., 1].ravel()
        assert abs(np.corrcoef(dx, dy)[0, 1]) < 5 / dx.size**0.5


def test_an_image_does_not_depend_on_its_batch() -> None:
    # More pixels than are traced at once.
    shape = (40, 80)
    images = textured(85, *shape)
    draws = GlassBlur().draw(Streams((0,), np.arange(85)), shape, 5, "imagenet")
    whole = GlassBlur().apply(images, 5, "imagenet", draws)
    order = np.random.default_rng(2).permutation(85)
    for some in (order, order[:7], order[:2], order[:1], order[:0]):
        part = {"shift": draws["shift"][some]}
        found = GlassBlur().apply(images[some], 5, "imagenet", part)
        np.testing.assert_array_equal(found, whole[some])


@pytest.mark.parametrize("level", [0, 77, 255])
def test_plain_images_lose_at_most_a_level_per_blur(level: int) -> None:
    images = np.full((1, 16, 16, 3), level, dtype=np.uint8)
    for preset in PRESETS:
        for severity in range(1, 6):
            draws = GlassBlur().draw(Streams((0,), np.arange(1)), (16, 16), severity, preset)
            result = GlassBlur().apply(images, severity, preset, draws).astype(int)
            assert np.ptp(result) == 0
            assert max(0, level - 2) <= result.max() <= level
