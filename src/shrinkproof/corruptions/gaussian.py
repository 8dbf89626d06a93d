"""The Gaussian filter that several corruptions share."""

from __future__ import annotations

import functools
from typing import Final, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", np.float32, np.float64)

Border = Literal["nearest", "reflect"]
"""Beyond the edge: its pixel (a a | a b c), or the mirror image with the edge (b a | a b c)."""

_CV_BORDER: Final = {"nearest": cv2.BORDER_REPLICATE, "reflect": cv2.BORDER_REFLECT}
_PAD: Final[dict[Border, Literal["edge", "symmetric"]]] = {
    "nearest": "edge",
    "reflect": "symmetric",
}
_SMALL: Final = 64
"""Longest side that is multiplied by matrices: BLAS libraries give such products one thread, so
that the number of threads cannot change a bit."""


def gaussian_filter(
    images: NDArray[F],
    sigma: float | tuple[float, float],
    *,
    border: Border,
    truncate: float = 4.0,
) -> NDArray[F]:
    """Return images smoothed by a Gaussian, same shape and type.

    The filter of scikit-image and scipy: separable, sampled at whole pixels, cut at `radius` and
    normalized. Each image is filtered on its own, so its bits do not depend on the batch. Without
    channels there are two more ways to the same result, taken where they are faster: matrices
    that hold the border too, for small images; the cosine transform, which has the mirrored
    border built in, for wide kernels.

    Args:
        images: (N, H, W) or (N, H, W, C) float32 or float64, C up to 4.
        sigma: standard deviation in pixels, or that of rows and columns; 0 leaves an axis alone.
        border: what lies beyond the edges.
        truncate: where to cut the kernel, in standard deviations.
    """
    rows, columns = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    height, width = images.shape[1:3]
    if images.ndim == 3 and max(height, width) <= _SMALL:
        down = _typed_operator(height, rows, truncate, border, images.dtype)
        across = _typed_operator(width, columns, truncate, border, images.dtype)
        small: NDArray[F] = down @ images @ across.T
        return small
    images = np.ascontiguousarray(images)
    result = np.empty_like(images)
    # Measured: with a quarter as many weights as pixels, the transform takes over.
    reach = radius(max(rows, columns), truncate)
    if images.ndim == 3 and border == "reflect" and 8 * reach >= min(height, width):
        response = _response(height, width, rows, columns, truncate).astype(images.dtype)
        for source, target in zip(images, result, strict=True):
            target[...] = _by_cosines(source, response)
        return result
    across_taps, down_taps = gaussian_kernel(columns, truncate), gaussian_kernel(rows, truncate)
    for source, target in zip(images, result, strict=True):
        cv2.sepFilter2D(
            source, -1, across_taps, down_taps, dst=target, borderType=_CV_BORDER[border]
        )
    return result


def radius(sigma: float, truncate: float = 4.0) -> int:
    """Return how far the kernel of a standard deviation reaches, in pixels."""
    return int(truncate * sigma + 0.5)


@functools.lru_cache(maxsize=64)
def gaussian_kernel(sigma: float, truncate: float = 4.0) -> NDArray[np.float64]:
    """Return the normalized weights, (2 * `radius` + 1,) float64, read-only.

    Args:
        sigma: standard deviation in pixels; 0 gives a single weight of 1.
        truncate: where to cut, in standard deviations.
    """
    reach = radius(sigma, truncate)
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-0.5 / (sigma * sigma) * steps**2) if sigma > 0 else np.ones(1)
    weights /= np.sum(weights)
    weights.flags.writeable = False
    return weights


@functools.lru_cache(maxsize=16)
def operator(size: int, sigma: float, truncate: float, border: Border) -> NDArray[np.float64]:
    """Return the filter of one axis with its border as a matrix, (size, size) float64, read-only.

    Row i holds the weights of all pixels in the result at i.
    """
    weights = gaussian_kernel(sigma, truncate)
    reach = len(weights) // 2
    source = np.pad(np.arange(size), reach, mode=_PAD[border])
    matrix = np.zeros((size, size), dtype=np.float64)
    for i in range(size):
        np.add.at(matrix[i], source[i : i + len(weights)], weights)
    matrix.flags.writeable = False
    return matrix


@functools.lru_cache(maxsize=16)
def _typed_operator(
    size: int, sigma: float, truncate: float, border: Border, dtype: np.dtype[F]
) -> NDArray[F]:
    return operator(size, sigma, truncate, border).astype(dtype)


@functools.lru_cache(maxsize=4)
def _response(
    height: int, width: int, rows: float, columns: float, truncate: float
) -> NDArray[np.float64]:
    """Return by how much the filter scales each cosine of a mirrored image, (H, W) float64."""
    axes = []
    for size, sigma in ((height, rows), (width, columns)):
        weights = gaussian_kernel(sigma, truncate)
        steps = np.arange(len(weights)) - len(weights) // 2
        axes.append(np.cos(np.outer(np.arange(size), steps) * (np.pi / size)) @ weights)
    return np.outer(*axes)


def _by_cosines(image: NDArray[F], response: NDArray[F]) -> NDArray[F]:
    from scipy.fft import dctn, idctn

    waves = dctn(image)
    waves *= response
    smooth: NDArray[F] = idctn(waves, overwrite_x=True)
    return smooth
