"""Zoom blur against its formula, outputs of the original, and imagecorruptions."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.corruptions.constants import ZOOM_BLUR
from shrinkproof.corruptions.presets import PRESETS
from shrinkproof.corruptions.zoom import Cut, ZoomBlur, zoom, zoom_factors, zoom_taps

DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)
REFERENCE = DATA / "reference_cifar_c"


def textured(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, height)[:, None, None] + np.zeros((1, width, 1))
    images = ramp + rng.integers(0, 56, (count, height, width, 3))
    images[0, : height // 2] = 255
    images[-1, :, : width // 2] = 0
    return images.astype(np.uint8)


def stretched(line: np.ndarray, factor: float, cut: Cut) -> np.ndarray:
    """One axis of one zoom: each place of the result between two cells of the middle."""
    length = len(line)
    kept = math.ceil(length / factor)
    middle = line[(length - kept) // 2 :][:kept]
    size = round(kept * factor)
    places = []
    for place in range(size):
        position = place * ((kept - 1) / (size - 1))
        low = min(math.floor(position), kept - 2)
        part = position - low
        inside = position <= kept - 1
        places.append((middle[low] * (1 - part) + middle[low + 1] * part) * inside)
    start = (size - length) // 2 if cut == "middle" else 0
    return np.array(places if cut == "nothing" else places[start : start + length])


def zoomed(image: np.ndarray, factor: float, cut: Cut) -> np.ndarray:
    tall = np.apply_along_axis(stretched, 0, image, factor, cut)
    return np.apply_along_axis(stretched, 1, tall, factor, cut)


def blurred(image: np.ndarray, factors: np.ndarray, cut: Cut) -> np.ndarray:
    """The reference's own arithmetic: layers, their sum and their mean in float32."""
    sharp = (image / 255.0).astype(np.float32)
    total = np.zeros_like(sharp)
    for factor in factors:
        total += zoomed(sharp.astype(np.float64), factor, cut).astype(np.float32)
    mean = (sharp + total) / np.float32(len(factors) + 1)
    return (np.clip(mean, 0, 1) * np.float32(255)).astype(np.uint8)


STOPS = {
    "cifar": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "imagenet": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
}


@pytest.mark.parametrize("preset", STOPS)
def test_factors_are_those_of_arange_to_the_last_bit(preset: str) -> None:
    for (stop, step), (count, known_step) in zip(STOPS[preset], ZOOM_BLUR[preset], strict=True):
        assert zoom_factors(count, known_step) == tuple(np.arange(1, stop, step).tolist())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (40, 17), (26, 36)])
def test_it_is_the_mean_of_zooms(preset: str, shape: tuple[int, int]) -> None:
    images = textured(2, *shape)
    stops = STOPS["cifar" if preset in ("cifar", "tiny") else "imagenet"]
    for severity in (1, 5):
        result = ZoomBlur().apply(images, severity, preset, {})
        cut: Cut = "start" if preset == "imagecorruptions" else "middle"
        for image, got in zip(images, result, strict=True):
            expected = blurred(image, np.arange(1, *stops[severity - 1]), cut)
            difference = np.abs(got.astype(int) - expected)
            assert difference.max() <= 1
            # Between even areas a mean can be a whole level, which float32 noise then decides.
            assert (difference > 0).mean() < 0.002


def test_larger_images_take_another_way_to_the_same_result() -> None:
    images = textured(1, 120, 144)
    images[0, 60:, 40:90] = 77
    result = ZoomBlur().apply(images, 5, "imagenet", {})
    expected = blurred(images[0], np.arange(1, 1.31, 0.03), "middle")
    difference = np.abs(result[0].astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.0001


@pytest.mark.parametrize("side", [16, 132])
def test_areas_of_one_color_darken_only_as_float32_does(side: int) -> None:
    colors = np.arange(0, 256, 1 if side == 16 else 25).astype(np.uint8)
    images = colors[:, None, None, None] * np.ones((side, side, 3), np.uint8)
    for severity in (1, 5):
        result = ZoomBlur().apply(images, severity, "imagenet", {})
        layer = (colors / 255.0).astype(np.float32)
        factors = np.arange(1, *STOPS["imagenet"][severity - 1])
        total = np.zeros_like(layer)
        for _ in factors:
            total += layer
        mean = (layer + total) / np.float32(len(factors) + 1)
        expected = (mean * np.float32(255)).astype(np.uint8)
        np.testing.assert_array_equal(result, expected[:, None, None, None] + 0 * images)


def test_where_rounding_leaves_the_image_the_zoom_is_empty() -> None:
    cell, low, high = zoom_taps(26, 1.75, "middle")
    assert (low[:-1] + high[:-1] == 1).all()
    assert low[-1] == high[-1] == 0
    assert cell.max() + 1 < 26


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (130, 140)])
@pytest.mark.parametrize("cut", ["middle", "start", "nothing"])
def test_zoom_of_layers(shape: tuple[int, int], cut: Cut) -> None:
    layers = np.random.default_rng(0).standard_normal((2, *shape))
    for factor in (1.25, 4.5):
        result = zoom(layers, factor, cut)
        expected = [zoomed(layer, factor, cut) for layer in layers]
        np.testing.assert_allclose(result, expected, atol=1e-12)
        single = zoom(layers.astype(np.float32), factor, cut)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, expected, atol=1e-5)


@pytest.mark.parametrize("preset", ["cifar", "imagecorruptions"])
def test_a_pixel_does_not_depend_on_the_batch(preset: str) -> None:
    images = textured(85, 17, 23)
    whole = ZoomBlur().apply(images, 5, preset, {})
    rng = np.random.default_rng(4)
    for some in (np.array([84]), np.array([3, 70]), rng.permutation(85)[:7], rng.permutation(85)):
        np.testing.assert_array_equal(ZoomBlur().apply(images[some], 5, preset, {}), whole[some])


def test_no_images_are_no_error() -> None:
    for side in (16, 200):
        empty = np.empty((0, side, side, 3), dtype=np.uint8)
        assert ZoomBlur().apply(empty, 1, "cifar", {}).shape == empty.shape


@pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"no outputs of the original generator in {REFERENCE}"
)
@pytest.mark.parametrize(("preset", "share"), [("cifar", 0.0), ("imagenet", 0.0001)])
def test_bits_of_the_original(preset: str, share: float) -> None:
    with np.load(REFERENCE / f"deterministic_{preset}.npz") as stored:
        clean, expected = stored["clean"], stored["zoom_blur"]
    for severity in range(1, 6):
        result = ZoomBlur().apply(clean.reshape(-1, *clean.shape[-3:]), severity, preset, {})
        difference = np.abs(result.reshape(clean.shape).astype(int) - expected[severity - 1])
        assert difference.max() <= 1
        assert (difference > 0).mean() <= share


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(32, 32), (100, 190), (60, 33)])
def test_it_is_what_imagecorruptions_does(shape: tuple[int, int]) -> None:
    theirs = pytest.importorskip("imagecorruptions", exc_type=ImportError)
    images = textured(2, *shape)
    for severity in range(1, 6):
        result = ZoomBlur().apply(images, severity, "imagecorruptions", {})
        for image, got in zip(images, result, strict=True):
            expected = theirs.corrupt(image, severity, corruption_name="zoom_blur")
            difference = np.abs(got.astype(int) - expected)
            assert difference.max() <= 1
            assert (difference > 0).mean() <= 0.0001
