"""Snow against its formula and against imagecorruptions."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
from scipy import ndimage

from shrinkproof.corruptions.constants import SNOW
from shrinkproof.corruptions.presets import PRESETS, constant
from shrinkproof.corruptions.snow import Snow
from shrinkproof.randomness import Streams


def textured(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, height)[:, None, None] + np.zeros((1, width, 1))
    images = ramp + rng.integers(0, 56, (count, height, width, 3))
    images[0, : height // 2] = 255
    images[-1, :, : width // 2] = 0
    return images.astype(np.uint8)


def injected(count: int, height: int, width: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    layer = rng.standard_normal((count, height, width))
    return {"layer": layer, "angle": rng.uniform(-135, -45, count)}


def weighted_ray(layer: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    height, width = layer.shape
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * radius + 1)]
    weights = [weight / math.fsum(weights) for weight in weights]
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    result = np.zeros(layer.shape)
    for y, x in np.ndindex(height, width):
        for i, weight in enumerate(weights):
            row = min(max(y + math.ceil(i * down - 0.5), 0), height - 1)
            column = min(max(x + math.ceil(i * right - 0.5), 0), width - 1)
            result[y, x] += weight * layer[row, column]
    return result


def centered(layer: np.ndarray, factor: float) -> np.ndarray:
    kept = [math.ceil(side / factor) for side in layer.shape]
    rows, columns = (
        slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(layer.shape, kept, strict=True)
    )
    large = ndimage.zoom(layer[rows, columns], factor, order=1)
    skipped = [(s - n) // 2 for s, n in zip(large.shape, layer.shape, strict=True)]
    return large[skipped[0] :, skipped[1] :][: layer.shape[0], : layer.shape[1]]


def snowed(
    image: np.ndarray, constants: tuple[float, ...], layer: np.ndarray, angle: float
) -> np.ndarray:
    mean, deviation, factor, threshold, radius, sigma, mix = constants
    flakes = centered(mean + deviation * layer, factor)
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1))
    eight = np.floor(flakes * 255)
    smeared = np.floor(257 * weighted_ray(eight, int(radius), sigma, angle) + 0.5) // 257
    result = np.zeros(image.shape, dtype=np.uint8)
    height, width = layer.shape
    for y, x in np.ndindex(height, width):
        red, green, blue = (float(value) / 255 for value in image[y, x])
        white = 1.5 * (0.299 * red + 0.587 * green + 0.114 * blue) + 0.5
        fallen = (smeared[y, x] + smeared[height - 1 - y, width - 1 - x]) / 255
        for channel, value in enumerate((red, green, blue)):
            light = mix * value + (1 - mix) * max(value, white) + fallen
            result[y, x, channel] = math.floor(min(light, 1.0) * 255)
    return result


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (40, 17)])
@pytest.mark.parametrize("preset", ["cifar", "tiny", "imagenet", "inception"])
def test_it_is_light_and_flakes_and_flakes_turned(preset: str, shape: tuple[int, int]) -> None:
    images = textured(2, *shape)
    draws = injected(2, *shape)
    for severity in (1, 3, 4):
        result = Snow().apply(images, severity, preset, draws)
        constants = SNOW[preset][severity - 1]
        for image, layer, angle, got in zip(
            images, draws["layer"], draws["angle"], result, strict=True
        ):
            expected = snowed(image, constants, layer, angle)
            # Whole levels, as of white areas, hang on float32 in the reference.
            interior = (image > 0).any(axis=2) & (image < 255).any(axis=2)
            difference = np.abs(got.astype(int) - expected)
            assert difference.max() <= 1
            assert (difference[interior] > 0).mean() <= 0.005


@pytest.mark.parametrize("color", [0, 255])
def test_white_stays_nearly_white_and_black_is_lit(color: int) -> None:
    images = np.full((1, 24, 24, 3), color, dtype=np.uint8)
    result = Snow().apply(images, 3, "imagenet", injected(1, 24, 24))
    if color:
        assert result.min() >= 254
    else:
        assert result.min() == int(0.3 * 127.5)


def test_without_flakes_the_image_is_only_whitened() -> None:
    images = np.full((1, 16, 16, 3), 100, dtype=np.uint8)
    draws = {"layer": np.full((1, 16, 16), -9.0), "angle": np.array([-60.0])}
    result = Snow().apply(images, 1, "cifar", draws)
    assert set(result.ravel().tolist()) == {int(0.95 * 100 + 0.05 * (1.5 * 100 + 127.5))}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_pixel_does_not_depend_on_the_batch(preset: str) -> None:
    images, draws = textured(85, 17, 23), injected(85, 17, 23)
    draws["layer"] = draws["layer"].astype(np.float32)
    whole = Snow().apply(images, 4, preset, draws)
    rng = np.random.default_rng(4)
    for some in (np.array([84]), np.array([3, 70]), rng.permutation(85)[:7], rng.permutation(85)):
        part = {name: values[some] for name, values in draws.items()}
        np.testing.assert_array_equal(Snow().apply(images[some], 4, preset, part), whole[some])


def test_no_images_are_no_error() -> None:
    for side in (16, 200):
        empty = np.empty((0, side, side, 3), dtype=np.uint8)
        for preset in ("cifar", "imagenet", "imagecorruptions"):
            result = Snow().apply(empty, 1, preset, injected(0, side, side))
            assert result.shape == empty.shape


def test_draws_have_their_form_and_range() -> None:
    streams = Streams((0, "corruption", "snow", 1, "cifar"), np.arange(500))
    draws = Snow().draw(streams, (16, 20), 1, "cifar")
    assert draws["layer"].shape == (500, 16, 20)
    assert draws["layer"].dtype == np.float32
    assert abs(draws["layer"].mean()) < 0.01
    assert abs(draws["layer"].std() - 1) < 0.01
    assert draws["angle"].shape == (500,)
    assert draws["angle"].dtype == np.float64
    assert -135 <= draws["angle"].min() < -133
    assert -47 < draws["angle"].max() < -45


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(32, 32), (100, 190), (60, 33)])
def test_it_is_what_imagecorruptions_does(shape: tuple[int, int]) -> None:
    theirs = pytest.importorskip("imagecorruptions", exc_type=ImportError)
    images, draws = textured(2, *shape), injected(2, *shape)
    for severity in range(1, 6):
        result = Snow().apply(images, severity, "imagecorruptions", draws)
        mean, deviation, *_ = constant(SNOW, "imagecorruptions", severity)
        for image, layer, angle, got in zip(
            images, draws["layer"], draws["angle"], result, strict=True
        ):
            with (
                mock.patch("numpy.random.normal", return_value=mean + deviation * layer),
                mock.patch("numpy.random.uniform", return_value=angle),
            ):
                expected = theirs.corrupt(image, severity, corruption_name="snow")
            difference = np.abs(got.astype(int) - expected)
            assert difference.max() <= 1
            assert (difference > 0).mean() <= 0.002
