from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from shrinkproof.data.digits import upscale
from shrinkproof.data.splits import load_images
from shrinkproof.errors import DataError


def test_digits() -> None:
    images = load_images("digits", {})
    pixels = images.images[np.arange(len(images))]
    assert pixels.shape == (1797, 32, 32, 3)
    assert pixels.dtype == np.uint8
    assert images.shape == (32, 32)
    assert images.preset == "cifar"
    assert images.classes == tuple("0123456789")
    np.testing.assert_array_equal(images.target, load_digits().target)
    np.testing.assert_array_equal(images.index, np.arange(1797))
    # The bytes are part of every result that was ever measured on them.
    assert images.fingerprint == "011eb7e9b5a70702"


def keys(x: float) -> float:
    """Cubic convolution kernel of Keys 1981 with a = -1/2."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def test_upscale_is_cubic_convolution() -> None:
    image = np.random.default_rng(0).integers(0, 17, (8, 8))
    result = upscale(image[None].astype(np.int64))[0]
    for i in range(32):
        for j in range(32):
            y, x = (i + 0.5) / 4 - 0.5, (j + 0.5) / 4 - 0.5
            total = 0.0
            for a in range(-3, 11):
                for b in range(-3, 11):
                    level = image[min(max(a, 0), 7), min(max(b, 0), 7)]
                    total += keys(y - a) * keys(x - b) * level
            expected = np.clip(total * 255 / 16, 0, 255)
            assert abs(result[i, j, 0] - expected) <= 0.5 + 1e-9
    assert (result == result[..., :1]).all()


def test_flat_levels_keep_their_value() -> None:
    flat = np.arange(17)[:, None, None] * np.ones((1, 8, 8), dtype=np.int64)
    expected = np.floor(np.arange(17) * 255 / 16 + 0.5)
    assert (upscale(flat) == expected[:, None, None, None]).all()


def test_digits_has_no_parts() -> None:
    with pytest.raises(DataError, match="'digits' has no parts, got 'digits:train'"):
        load_images("digits:train", {})
