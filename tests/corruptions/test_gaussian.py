"""The shared Gaussian filter against its formula and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from shrinkproof.corruptions.gaussian import gaussian_filter, gaussian_kernel, operator, radius

TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}


def beyond(position: int, size: int, border: str) -> int:
    if border == "nearest":
        return min(max(position, 0), size - 1)
    while not 0 <= position < size:
        position = -position - 1 if position < 0 else 2 * size - 1 - position
    return position


def taps(sigma: float, truncate: float) -> list[float]:
    reach = int(truncate * sigma + 0.5)
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1)]
    return [weight / math.fsum(weights) for weight in weights]


def filtered(image: np.ndarray, sigma: float, border: str, truncate: float) -> np.ndarray:
    """Both axes in loops, float64."""
    weights = taps(sigma, truncate)
    reach = len(weights) // 2
    for _ in ("rows", "columns"):
        result = np.zeros_like(image)
        for i, j in np.ndindex(*image.shape):
            for k, weight in enumerate(weights):
                result[i, j] += weight * image[beyond(i + k - reach, len(image), border), j]
        image = result.T
    return image


@pytest.mark.parametrize("border", ["nearest", "reflect"])
@pytest.mark.parametrize("sigma", [0.4, 1.3, 12.0])
def test_it_is_a_weighted_mean_of_each_axis(sigma: float, border: str) -> None:
    image = np.random.default_rng(0).random((9, 16))
    for truncate in (3.0, 4.0):
        expected = filtered(image, sigma, border, truncate)
        # As a stack of one-channel images too: another path to the same numbers.
        for images in (image[None], image[None, ..., None]):
            result = gaussian_filter(images, sigma, border=border, truncate=truncate)
            np.testing.assert_allclose(result.reshape(9, 16), expected, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("border", ["nearest", "reflect"])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_it_agrees_with_scipy(dtype: type, border: str, channels: tuple[int, ...]) -> None:
    for shape in ((16, 16), (17, 40), (40, 17), (65, 90)):
        images = np.random.default_rng(1).random((2, *shape, *channels)).astype(dtype)
        for sigma in (0.05, 1.0, 6.4, 40.0, (0.7, 5.0)):
            result = gaussian_filter(images, sigma, border=border, truncate=3.0)
            rows, columns = sigma if isinstance(sigma, tuple) else (sigma, sigma)
            expected = ndimage.gaussian_filter(
                images.astype(np.float64),
                (0, rows, columns, *(0 for _ in channels)),
                mode=border,
                truncate=3.0,
            )
            assert result.dtype == dtype
            np.testing.assert_allclose(result, expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(32, 32), (70, 90)])
@pytest.mark.parametrize("sigma", [1.0, 30.0])
def test_bits_do_not_depend_on_the_batch(shape: tuple[int, int], sigma: float) -> None:
    images = np.random.default_rng(2).random((85, *shape)).astype(np.float32)
    whole = gaussian_filter(images, sigma, border="reflect")
    order = np.random.default_rng(3).permutation(85)
    np.testing.assert_array_equal(
        gaussian_filter(images[order], sigma, border="reflect"), whole[order]
    )
    for count in (0, 1, 2, 7):
        part = gaussian_filter(images[:count], sigma, border="reflect")
        np.testing.assert_array_equal(part, whole[:count])


def test_sigma_0_changes_nothing() -> None:
    images = np.random.default_rng(4).random((2, 70, 17, 3))
    result = gaussian_filter(images, 0, border="nearest")
    np.testing.assert_array_equal(result, images)
    assert result is not images


def test_kernel_and_operator_sum_to_1() -> None:
    assert radius(170.8, 3.0) == 512
    assert len(gaussian_kernel(170.8, 3.0)) == 1025
    for sigma in (0.0, 0.3, 2.0, 170.8):
        assert abs(gaussian_kernel(sigma).sum() - 1) < 1e-14
        np.testing.assert_allclose(operator(16, sigma, 3.0, "reflect").sum(axis=1), 1)
        np.testing.assert_allclose(operator(16, sigma, 3.0, "nearest").sum(axis=1), 1)
