"""JPEG through OpenCV has the bits of JPEG through Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions import jpeg as module
from shrinkproof.corruptions.constants import JPEG_COMPRESSION
from shrinkproof.corruptions.jpeg import JpegCompression, recompress
from shrinkproof.corruptions.presets import PRESETS, constant
from shrinkproof.errors import DataError

SHAPES = [(16, 16), (17, 40), (40, 17), (33, 33)]


def images_of(shape: tuple[int, int]) -> np.ndarray:
    """A textured, a smooth, a black and a white image."""
    images = np.random.default_rng(sum(shape)).integers(0, 256, (4, *shape, 3), dtype=np.uint8)
    images[1] = np.linspace(0, 255, shape[1])[:, None] * [1, 0.5, 0.1]
    images[2:] = np.array([0, 255], dtype=np.uint8)[:, None, None, None]
    return images


def pillow(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_bits_of_pillow(preset: str, severity: int) -> None:
    quality = constant(JPEG_COMPRESSION, preset, severity)
    for shape in SHAPES:
        images = images_of(shape)
        kept = images.copy()
        result = JpegCompression().apply(images, severity, preset, {})
        np.testing.assert_array_equal(images, kept)
        for image, found in zip(images, result, strict=True):
            np.testing.assert_array_equal(found, pillow(image, quality))


@pytest.mark.parametrize("quality", [1, 2, 10, 24, 49, 50, 51, 75, 85, 92, 95, 99, 100])
def test_bits_of_pillow_at_other_qualities(quality: int) -> None:
    images = images_of((31, 50))
    for image, found in zip(images, recompress(images, quality), strict=True):
        np.testing.assert_array_equal(found, pillow(image, quality))


def test_lower_quality_harms_more() -> None:
    image = images_of((64, 64))[:1]
    errors = [
        ((JpegCompression().apply(image, s, "cifar", {}).astype(float) - image) ** 2).mean()
        for s in range(1, 6)
    ]
    assert (np.diff(errors) > 0).all()


def test_views_and_no_images() -> None:
    images = images_of((32, 48))
    expected = recompress(images, 50)
    np.testing.assert_array_equal(recompress(images[::2], 50), expected[::2])
    flipped = recompress(images[:, ::-1], 50)
    np.testing.assert_array_equal(flipped[0], pillow(images[0, ::-1], 50))
    assert recompress(images[:0], 50).shape == (0, 32, 48, 3)


@pytest.mark.parametrize("broken", ["imencode", "imdecode"])
def test_a_codec_that_refuses(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"imencode": (False, None), "imdecode": None}[broken]
    monkeypatch.setattr(module.cv2, broken, lambda *_: refusal)
    with pytest.raises(DataError, match="accept images of 16 x 16 pixels, but OpenCV refused one"):
        recompress(images_of((16, 16)), 50)
