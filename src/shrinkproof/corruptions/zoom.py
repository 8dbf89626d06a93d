"""Blur of a camera that moves towards the scene; and the zoom behind it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from shrinkproof.corruptions.constants import ZOOM_BLUR
from shrinkproof.corruptions.drawless import Drawless
from shrinkproof.corruptions.presets import constant
from shrinkproof.registry import component

_BITS: Final = 22
"""Bits behind the binary point of grey levels before they are truncated."""

_NEAR: Final = 2**9
"""Distance from a whole grey level, 1.2e-4 of one, below which the reference's rounding counts."""

_SMALL: Final = 2**14
"""Pixels of an image up to which the whole blur is one sparse matrix."""

_GROUP: Final = 4
"""Zooms that are summed before they are added to the others."""

_WEIGHT_BITS: Final = 14
"""Bits of a weight, so few that a group's sum over an area of one color is exact in float32."""

_STRIP: Final = 2**14
"""Pixels times zooms that are treated at once, to stay in the cache, but at least four rows."""

Cut = Literal["middle", "start", "nothing"]
"""Which part of a zoom is kept: as much as the image has in the middle, at the start, or all."""

_Blur = tuple[int, int, tuple[float, ...], Cut]
_Taps = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


@component
class ZoomBlur(Drawless):
    """Mean of an image and zooms of it, as of a camera that moves forwards.

    (x + sum_k zoom(x, z_k)) / (K + 1) with factors z_k = 1, 1 + step, ... (see `zoom_taps`), each
    in float32 on the scale 0 to 1, clipped, then truncated to uint8.

    Input: images (N, H, W, 3) uint8; no draws.
    Output: images (N, H, W, 3) uint8.
    Differences: bit-equal to outputs of the reference at 32 pixels; at 224 pixels one grey level
        on 0.002 % of the values or less. The reference knows squares only; other images are
        zoomed along each axis by the same rule. The preset ``imagecorruptions`` takes the upper
        left corner of each zoom instead of its middle, as imagecorruptions 1.1.2 does.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261; Michaelis et al. 2019,
        arXiv:1907.07484.
    """

    name: ClassVar[str] = "zoom_blur"
    family: ClassVar[str] = "blur"
    version: ClassVar[int] = 1

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the blurred images."""
        del draws
        factors = zoom_factors(*constant(ZOOM_BLUR, preset, severity))
        if not len(images):
            return images.copy()
        height, width = images.shape[1:3]
        cut: Cut = "start" if preset == "imagecorruptions" else "middle"
        blur = (height, width, factors, cut)
        if height * width <= _SMALL:
            return _blur_together(images, blur)
        return np.stack([_blur_alone(image, blur) for image in images])


def zoom_factors(count: int, step: float) -> tuple[float, ...]:
    """Return 1, 1 + step, ... to the last bit as ``numpy.arange`` has them."""
    rise = (1 + step) - 1
    return tuple(1 + number * rise for number in range(count))


def zoom_taps(length: int, factor: float, cut: Cut) -> _Taps:
    """Return what a zoom along one axis reads: a cell, its weight, and the next one's weight.

    The middle ceil(length / factor) cells are stretched linearly by the factor, first on first and
    last on last cell, and cut to the length again as ``cut`` tells. Where rounding puts the last
    position beyond the last cell, both weights are 0: ``scipy.ndimage.zoom`` fills with 0 there.

    Returns:
        Three arrays, as long as the result: int64, float64, float64.
    """
    kept = math.ceil(length / factor)
    size = round(kept * factor)
    skipped = (size - length) // 2 if cut == "middle" else 0
    places = np.arange(size if cut == "nothing" else length)
    position = np.multiply(places + skipped, (kept - 1) / (size - 1), dtype=np.float64)
    low = np.minimum(position.astype(np.int64), kept - 2)
    high_weight: NDArray[np.float64] = position - low
    low_weight: NDArray[np.float64] = 1 - high_weight
    beyond = position > kept - 1
    low_weight[beyond] = high_weight[beyond] = 0
    cell: NDArray[np.int64] = (length - kept) // 2 + low
    return cell, low_weight, high_weight


def _matrix(taps: _Taps, length: int) -> Any:
    """Return the taps on an axis as a sparse matrix (result, length), float64."""
    from scipy.sparse import csr_array

    cell, low, high = taps
    row = np.arange(len(cell))
    places = (np.append(row, row), np.append(cell, cell + 1))
    matrix = csr_array((np.append(low, high), places), shape=(len(cell), length))
    matrix.eliminate_zeros()
    return matrix


def zoom(layers: NDArray[Any], factor: float, cut: Cut) -> NDArray[Any]:
    """Return layers zoomed along both axes as `zoom_taps` tells.

    Args:
        layers: (N, H, W), float32 or float64.
        factor: above 1.
        cut: what is cut off to come back to (H, W).

    Returns:
        (N, H, W), or larger if not cut, of the type of the layers.
    """
    count, height, width = layers.shape
    if height * width <= _SMALL:
        pixels = np.ascontiguousarray(layers.reshape(count, height * width).T)
        zoomed = (_plane(height, width, factor, cut, layers.dtype) @ pixels).T
        shape = [len(zoom_taps(side, factor, cut)[0]) for side in (height, width)]
        return np.ascontiguousarray(zoomed).reshape(count, *shape)
    down, across = _axes(height, width, factor, cut, layers.dtype)
    turned = (cv2.transpose(down @ np.ascontiguousarray(layer)) for layer in layers)
    return np.stack([cv2.transpose(across @ layer) for layer in turned])


@functools.lru_cache(maxsize=16)
def _axes(
    height: int, width: int, factor: float, cut: Cut, dtype: DTypeLike = np.float64
) -> tuple[Any, Any]:
    down, across = (_matrix(zoom_taps(side, factor, cut), side) for side in (height, width))
    return _lean(down, dtype), _lean(across, dtype)


@functools.lru_cache(maxsize=8)
def _plane(height: int, width: int, factor: float, cut: Cut, dtype: DTypeLike) -> Any:
    from scipy.sparse import kron

    return _lean(kron(*_axes(height, width, factor, cut)), dtype)


def _blur_together(images: NDArray[np.uint8], blur: _Blur) -> NDArray[np.uint8]:
    """Return small images blurred by one sparse matrix over their pixels."""
    count, height, width, channels = images.shape
    pixels = cv2.transpose(images.reshape(count, height * width, channels))
    values = pixels.reshape(height * width, -1).astype(np.float64)
    fixed = (_mixer(blur) @ values).astype(np.int32)
    result, near = _truncated(fixed, len(blur[2]))
    pixel, rest = np.divmod(near, count * channels)
    where = (rest // channels, *np.divmod(pixel, width), rest % channels)
    result.reshape(-1)[near] = _published(images, blur, where)
    mixed: NDArray[Any] = cv2.transpose(result.reshape(height * width, count, channels))
    return mixed.reshape(images.shape)


@functools.lru_cache(maxsize=8)
def _mixer(blur: _Blur) -> Any:
    """Return the blur as a matrix over the pixels, in units of 2**-_BITS.

    All its sums over uint8 pixels are exact in float64: no order can change them.
    """
    from scipy.sparse import eye_array, kron

    height, width, factors, cut = blur
    total = eye_array(height * width, format="csr")
    for factor in factors:
        down, across = _axes(height, width, factor, cut)
        total = total + kron(down, across, format="csr")
    total *= 2**_BITS / (len(factors) + 1)
    mixer = total.copy()
    mixer.data = np.rint(mixer.data)
    missing = np.rint(total.sum(axis=1)) - mixer.sum(axis=1)
    mixer.setdiag(mixer.diagonal() + missing)
    return _lean(mixer, np.float64)


def _blur_alone(image: NDArray[np.uint8], blur: _Blur) -> NDArray[np.uint8]:
    """Return a larger image blurred along one axis after the other, some rows and zooms at once."""
    height, width, factors, _ = blur
    planes = np.empty((height, 3, width), dtype=np.float32)
    for channel in range(3):
        planes[:, channel] = cv2.extractChannel(image, channel)
    values = planes.reshape(height, 3 * width)
    total = cv2.transpose(image).reshape(width, -1).astype(np.float32)
    total *= 2
    strips, across = _stages(blur)
    for rows, down in strips:
        turned = cv2.transpose((down @ values).reshape(-1, width))
        groups = across @ turned.reshape(across.shape[1], -1)
        total[:, rows] += groups.reshape(-1, width, groups.shape[1]).sum(axis=0)
    total /= len(factors) + 1
    total *= 2**_BITS
    result, near = _truncated(total.astype(np.int32), len(factors))
    pixel = near // 3
    where = (np.zeros_like(near), pixel % height, pixel // height, near % 3)
    result.reshape(-1)[near] = _published(image[None], blur, where)
    blurred: NDArray[Any] = cv2.transpose(result.reshape(width, height, 3))
    return blurred


@functools.lru_cache(maxsize=16)
def _stages(blur: _Blur) -> tuple[list[tuple[slice, Any]], Any]:
    """Return the zooms without the first, factor 1, as matrices.

    For each strip of rows: its columns in the result, three per row of the image, and the matrix
    from all rows to that strip in all zooms. And the matrix from all columns of the image in all
    zooms, the zooms of a column side by side, to all columns of each group's sum.
    """
    from scipy.sparse import block_diag, hstack, vstack

    height, width, factors, cut = blur
    downs = [_rounded(height, factor, cut) for factor in factors[1:]]
    wides = [_rounded(width, factor, cut) for factor in factors[1:]]
    strip = max(4, _STRIP // (width * len(wides)))
    strips = [
        (
            slice(3 * top, 3 * min(height, top + strip)),
            _lean(vstack([matrix[top : top + strip] for matrix in downs])),
        )
        for top in range(0, height, strip)
    ]
    groups = [hstack(wides[start : start + _GROUP]) for start in range(0, len(wides), _GROUP)]
    order = np.arange(width * len(wides)).reshape(len(wides), width).T.reshape(-1)
    return strips, _lean(block_diag(groups, "csc")[:, order])


def _rounded(length: int, factor: float, cut: Cut) -> Any:
    """Return the zoom on an axis as a matrix, weights rounded to `_WEIGHT_BITS`."""
    cell, low, high = zoom_taps(length, factor, cut)
    beyond = low + high == 0
    high = np.rint(high * 2**_WEIGHT_BITS) / 2**_WEIGHT_BITS
    return _matrix((cell, np.where(beyond, 0, 1 - high), high), length)


def _lean(matrix: Any, dtype: DTypeLike = np.float32) -> Any:
    """Return a sparse matrix with small indices, sorted."""
    from scipy.sparse import csr_array

    lean = csr_array(matrix, dtype=dtype)
    lean.sum_duplicates()
    lean.indices = lean.indices.astype(np.int32)
    lean.indptr = lean.indptr.astype(np.int32)
    return lean


def _truncated(fixed: NDArray[np.int32], count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return values in units of 2**-_BITS truncated, and where float32 noise may change that.

    Whole levels, as on areas of one color, become what float32 makes of them; the flat indices of
    values close to a whole level, but not on it, come second. The values are overwritten.
    """
    flat = _flat_levels(count)
    fixed += _NEAR
    result = (fixed >> _BITS).astype(np.uint8)
    fixed &= 2**_BITS - 1
    near = np.flatnonzero(fixed < 2 * _NEAR)
    whole = fixed.reshape(-1)[near] == _NEAR
    result.reshape(-1)[near[whole]] = flat[result.reshape(-1)[near[whole]]]
    return result, near[~whole]


@functools.cache
def _flat_levels(count: int) -> NDArray[np.uint8]:
    """Return what the blur of ``count`` zooms makes of areas of one color, per color."""
    layers = np.broadcast_to(_scale(), (count, 256))
    return _mean(layers[0], layers)


def _scale() -> NDArray[np.float32]:
    """Return the levels on the scale 0 to 1, rounded as in the reference."""
    return (np.arange(256) / 255).astype(np.float32)


def _published(
    images: NDArray[np.uint8], blur: _Blur, where: tuple[NDArray[np.int64], ...]
) -> NDArray[np.uint8]:
    """Return single values as the reference computes them, layer by layer in float32.

    Args:
        images: (N, H, W, 3).
        blur: the blur.
        where: number of the image, row, column and channel, (M,) each.
    """
    number, row, column, channel = where
    (top, upper, lower), (left, lefter, righter) = _taps(blur)
    top, left = top[:, row], left[:, column]
    bottom = np.minimum(top + 1, blur[0] - 1)
    right = np.minimum(left + 1, blur[1] - 1)
    scaled = _scale().astype(np.float64)
    above = scaled[images[number, top, left, channel]] * lefter[:, column]
    above += scaled[images[number, top, right, channel]] * righter[:, column]
    below = scaled[images[number, bottom, left, channel]] * lefter[:, column]
    below += scaled[images[number, bottom, right, channel]] * righter[:, column]
    layers = (above * upper[:, row] + below * lower[:, row]).astype(np.float32)
    return _mean(scaled[images[number, row, column, channel]].astype(np.float32), layers)


@functools.lru_cache(maxsize=16)
def _taps(blur: _Blur) -> tuple[_Taps, _Taps]:
    """Return the taps of all zooms along both axes, arrays (K, length)."""
    height, width, factors, cut = blur
    down, across = (
        [np.stack(part) for part in zip(*(zoom_taps(n, f, cut) for f in factors), strict=True)]
        for n in (height, width)
    )
    return (down[0], down[1], down[2]), (across[0], across[1], across[2])


def _mean(sharp: NDArray[np.float32], layers: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the mean of the image and its zooms as the reference rounds it."""
    total = np.add.accumulate(layers, axis=0)[-1]
    mean = (sharp + total) / np.float32(len(layers) + 1)
    truncated: NDArray[np.uint8] = (np.clip(mean, 0, 1) * np.float32(255)).astype(np.uint8)
    return truncated
