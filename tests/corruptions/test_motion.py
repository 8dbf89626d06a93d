"""Motion blur against its formula, ImageMagick, and imagecorruptions."""

from __future__ import annotations

import ctypes
import io
import math
from unittest import mock

import cv2
import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions.constants import MOTION_BLUR
from shrinkproof.corruptions.motion import MotionBlur, streak
from shrinkproof.corruptions.presets import PRESETS, constant
from shrinkproof.randomness import Streams

SHAPES = [(16, 16), (17, 40), (40, 17)]


def textured(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, height)[:, None, None] + np.zeros((1, width, 1))
    images = ramp + rng.integers(0, 56, (count, height, width, 3))
    images[0, : height // 2] = 255
    images[-1, :, : width // 2] = 0
    return images.astype(np.uint8)


def weighted_ray(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """The mean along the ray, in float64, pixel by pixel; the edge is repeated."""
    height, width = image.shape[:2]
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * radius + 1)]
    weights = [weight / math.fsum(weights) for weight in weights]
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    result = np.zeros(image.shape)
    for y, x in np.ndindex(height, width):
        for i, weight in enumerate(weights):
            row = min(max(y + math.ceil(i * down - 0.5), 0), height - 1)
            column = min(max(x + math.ceil(i * right - 0.5), 0), width - 1)
            result[y, x] += weight * image[row, column]
    return result


def assert_close(result: np.ndarray, expected: np.ndarray, share: float) -> None:
    difference = np.abs(result.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= share


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("preset", ["cifar", "tiny", "imagenet", "inception"])
def test_it_is_the_mean_along_a_ray_rounded_to_16_and_cut_to_8_bit(
    preset: str, shape: tuple[int, int]
) -> None:
    images = textured(2, *shape)
    angles = np.array([-41.3, 13.7])
    for severity in (1, 5):
        result = MotionBlur().apply(images, severity, preset, {"angle": angles})
        radius, sigma = MOTION_BLUR[preset][severity - 1]
        for image, angle, got in zip(images, angles, result, strict=True):
            sixteen = np.floor(257 * weighted_ray(image, radius, sigma, angle) + 0.5)
            assert_close(got, sixteen // 257, 0.001)


@pytest.mark.parametrize("preset", ["cifar", "tiny", "imagenet", "inception"])
def test_areas_of_one_color_stay(preset: str) -> None:
    images = np.arange(256, dtype=np.uint8)[:, None, None, None] * np.ones((16, 16, 3), np.uint8)
    angles = np.linspace(-45, 45, 256)
    for severity in range(1, 6):
        result = MotionBlur().apply(images, severity, preset, {"angle": angles})
        np.testing.assert_array_equal(result, images)


@pytest.mark.parametrize("angle", [-45.0, -20.5, 0.0, 33.0, 45.0, -135.0, -90.0, 118.0])
def test_long_rays_are_summed_in_pieces(angle: float) -> None:
    image = textured(1, 30, 33)
    result = streak(image, 20, 15, np.array([angle]))
    expected = weighted_ray(image[0], 20, 15, angle)
    np.testing.assert_allclose(result[0], expected, atol=2e-4)


def test_the_ray_points_to_the_right_and_then_down() -> None:
    image = np.zeros((1, 21, 21), dtype=np.uint8)
    image[0, 10, 10] = 255
    flat = streak(image, 3, 2.0, np.array([0.0]))[0]
    assert np.flatnonzero(flat.sum(axis=0)).tolist() == list(range(4, 11))
    steep = streak(image, 3, 2.0, np.array([45.0]))[0]
    assert steep[9, 9] > 0
    assert steep[11, 9] == 0


def test_beyond_the_image_imagecorruptions_drops_the_weight() -> None:
    image = np.full((1, 16, 16, 3), 200, dtype=np.uint8)
    result = streak(image, 20, 15, np.array([0.0]), cut=True)
    weights = np.exp(-(np.arange(41) ** 2) / (2 * 15**2))
    assert result.max() == pytest.approx(200 * weights[:16].sum() / weights.sum(), abs=1e-3)
    assert result.min() == pytest.approx(result.max(), abs=1e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_pixel_does_not_depend_on_the_batch(preset: str) -> None:
    images = textured(85, 17, 23)
    angles = np.random.default_rng(3).uniform(-45, 45, 85)
    whole = MotionBlur().apply(images, 5, preset, {"angle": angles})
    rng = np.random.default_rng(4)
    for some in (np.array([84]), np.array([3, 70]), rng.permutation(85)[:7], rng.permutation(85)):
        part = MotionBlur().apply(images[some], 5, preset, {"angle": angles[some]})
        np.testing.assert_array_equal(part, whole[some])


def test_no_images_are_no_error() -> None:
    empty = np.empty((0, 16, 16, 3), dtype=np.uint8)
    for preset in ("cifar", "imagecorruptions"):
        assert MotionBlur().apply(empty, 1, preset, {"angle": np.empty(0)}).shape == empty.shape


def test_angles_fill_their_range_evenly() -> None:
    streams = Streams((0, "corruption", "motion_blur", 1, "cifar"), np.arange(2000))
    angle = MotionBlur().draw(streams, (32, 32), 1, "cifar")["angle"]
    assert angle.shape == (2000,)
    assert angle.dtype == np.float64
    assert -45 <= angle.min() < -44
    assert 44 < angle.max() < 45
    counts = np.histogram(angle, bins=9, range=(-45, 45))[0]
    assert np.abs(counts - 2000 / 9).max() < 5 * (2000 / 9) ** 0.5


def image_magick(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    api = pytest.importorskip("wand.api", reason="needs wand and ImageMagick", exc_type=ImportError)
    from wand.image import Image as WandImage

    blur = api.library.MagickMotionBlurImage
    blur.argtypes = (ctypes.c_void_p, ctypes.c_double, ctypes.c_double, ctypes.c_double)
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, format="PNG")
    with WandImage(blob=stored.getvalue()) as held:
        blur(held.wand, radius, sigma, angle)
        blurred = np.frombuffer(held.make_blob(), np.uint8)
    return cv2.imdecode(blurred, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parity
@pytest.mark.parametrize(("preset", "side"), [("cifar", 32), ("tiny", 64), ("imagenet", 100)])
def test_it_is_what_image_magick_does(preset: str, side: int) -> None:
    images = textured(4, side, side)
    angles = np.array([-44.1, -12.3, 5.6, 38.7])
    for severity in range(1, 6):
        result = MotionBlur().apply(images, severity, preset, {"angle": angles})
        constants = constant(MOTION_BLUR, preset, severity)
        for image, angle, got in zip(images, angles, result, strict=True):
            assert_close(got, image_magick(image, *constants, angle), 0.0005)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(32, 32), (70, 41)])
def test_it_is_what_imagecorruptions_does(shape: tuple[int, int]) -> None:
    theirs = pytest.importorskip("imagecorruptions", exc_type=ImportError)
    images = textured(3, *shape)
    images[1] = np.arange(shape[0], dtype=np.uint8)[:, None, None] // 8
    angles = np.array([-31.3, 0.5, 44.7])
    for severity in range(1, 6):
        result = MotionBlur().apply(images, severity, "imagecorruptions", {"angle": angles})
        for image, angle, got in zip(images, angles, result, strict=True):
            with mock.patch("numpy.random.uniform", return_value=angle):
                expected = theirs.corrupt(image, severity, corruption_name="motion_blur")
            assert_close(got, expected, 0.002)
