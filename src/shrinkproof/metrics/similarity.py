"""How alike two heat maps of the same image are: one number per image and measure.

All functions take two stacks of maps (n, h, w) and return one number per image, (n,) float64.
``nan`` marks an image for which the measure is undefined; nobody may take it for a number. All
values are finite, or a `DataError` says which are not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError, UsageError

# Shape suffixes: n images, h rows, w columns, P pixels of a map, k columns of a window.

CONSTANT: Final = 1e-6
"""A map is constant where its range is at most this part of its largest absolute value: less is
rounding of float32."""

HOTTEST: Final = 0.1
"""Part of the pixels that counts as hottest."""

WINDOW: Final = 11
"""Side of the window of the structural similarity, pixels; smaller maps take a smaller one."""

Measure = Callable[..., NDArray[np.float64]]
"""Two stacks of maps (n, h, w) -> how alike each pair is, (n,)."""

_PIECE: Final = 1 << 16
"""Pixels that are compared at once."""

_SIGMA: Final = 1.5
_C1, _C2 = 0.01**2, 0.03**2


def _in_pieces(measure: Measure) -> Measure:
    """Let a measure see as many maps at once as fit into the cache; large maps are 5x faster."""

    @functools.wraps(measure)
    def measured(a: NDArray[Any], b: NDArray[Any], *settings: Any) -> NDArray[np.float64]:
        _check(a, b)
        size = max(1, _PIECE // max(1, a.shape[1] * a.shape[2]))
        starts = range(0, max(1, len(a)), size)
        found = [measure(a[at : at + size], b[at : at + size], *settings) for at in starts]
        return np.concatenate(found)

    return measured


@_in_pieces
def pearson(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the linear correlation of each pair of maps, -1 to 1; of all images it makes HCC.

    Undefined where a map is constant.

    Reference: Mantowsky et al. 2023, heat-map correlation; on maps of the same class.
    """
    a_nP, b_nP = _flat(a, b)
    return _masked(_correlation(a_nP, b_nP), varies(a_nP) & varies(b_nP))


@_in_pieces
def spearman(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rank correlation of each pair of maps, -1 to 1; ties share their mean rank.

    Undefined where a map is constant.
    """
    a_nP, b_nP = _flat(a, b)
    return _masked(_correlation(_ranks(a_nP), _ranks(b_nP)), varies(a_nP) & varies(b_nP))


@_in_pieces
def cosine(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cosine of the angle between each pair of maps, -1 to 1.

    Undefined where a map is zero everywhere. Maps without negative values never get below 0, also
    where they have nothing in common; the correlation does not have this lift.
    """
    a_nP, b_nP = _flat(a, b)
    defined: NDArray[np.bool_] = np.any(a_nP, axis=1) & np.any(b_nP, axis=1)
    return _masked(_angle(_unit_scale(a_nP), _unit_scale(b_nP)), defined)


@_in_pieces
def ssim(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean structural similarity of each pair of maps, -1 to 1.

    Each map is scaled to 0 ... 1 first, because the scale of a heat map means nothing. The window
    is a Gaussian of standard deviation 1.5 on 11x11 pixels, moved over all places where it fits;
    for up to 11 rows or columns its side is the largest odd number that leaves at least two places,
    for example 7 on 8x8 and 3 on 4x4. K1 = 0.01, K2 = 0.03.

    Undefined where a map is constant, and for maps with fewer than 4 rows or columns.

    Reference: Wang et al. 2004, doi:10.1109/TIP.2003.819861, equation 13 and section III.C.
    """
    a_nP, b_nP = _flat(a, b)
    defined = varies(a_nP) & varies(b_nP)
    rows, columns = a.shape[1:]
    side = window_of((rows, columns))
    if side < 3:
        return np.full(len(a), np.nan)
    x_nhw, y_nhw = (_from_0_to_1(flat).reshape(-1, rows, columns) for flat in (a_nP, b_nP))

    def blurred(maps_nhw: NDArray[np.float64]) -> NDArray[np.float64]:
        return _windowed(_windowed(maps_nhw, 1, side), 2, side)

    mean_x, mean_y = blurred(x_nhw), blurred(y_nhw)
    var_x = blurred(x_nhw * x_nhw) - mean_x**2
    var_y = blurred(y_nhw * y_nhw) - mean_y**2
    covariance = blurred(x_nhw * y_nhw) - mean_x * mean_y
    above = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    below = (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    return _masked((above / below).mean(axis=(1, 2)), defined)


def window_of(size: tuple[int, int]) -> int:
    """Return the side of the window of the structural similarity for maps of a size."""
    side = min(WINDOW, *(length - 1 if length <= WINDOW else length for length in size))
    return side if side % 2 else side - 1


@_in_pieces
def top_overlap(a: NDArray[Any], b: NDArray[Any], share: float = HOTTEST) -> NDArray[np.float64]:
    """Return which part of the hottest pixels of each pair of maps is common, 0 to 1.

    The hottest ``k = max(1, round(share * pixels))`` pixels of each map count, and the number that
    both share is divided by k. Pixels tied at the border share the places that are left: each
    counts for the same part, and two maps share the smaller part. So the order of pixels plays no
    part, and a map shares all with itself. By chance two maps share about ``share``.

    Undefined where a map is constant.
    """
    if not 0 < share <= 1:
        raise UsageError(f"top overlap: share must be above 0 and at most 1, got {share!r}")
    a_nP, b_nP = _flat(a, b)
    count = max(1, round(share * a_nP.shape[1]))
    common = np.minimum(_membership(a_nP, count), _membership(b_nP, count)).sum(axis=1) / count
    return _masked(common, varies(a_nP) & varies(b_nP))


MEASURES: Final[Mapping[str, Measure]] = {
    "hcc": pearson,
    "spearman": spearman,
    "cosine": cosine,
    "ssim": ssim,
    "topk": top_overlap,
}
"""Short name of a metric of saliency -> similarity of each pair of maps."""


def varies(maps: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which maps, (n, h, w) or (n, P), are not constant, (n,)."""
    flat_nP = maps.reshape(len(maps), int(np.prod(maps.shape[1:])))
    span = np.ptp(flat_nP, axis=1) if flat_nP.size else np.zeros(len(maps))
    largest = np.abs(flat_nP).max(axis=1, initial=0)
    return np.asarray(span > CONSTANT * largest)


def fisher_mean(correlation: NDArray[np.float64]) -> float:
    """Return the mean of correlations on Fisher's scale, ``tanh(mean(atanh r))``.

    It weighs values near 1 more than the plain mean does. Correlations of 1 count as 1 - 1e-7,
    the rounding of float32 maps.

    Raises:
        UsageError: there is none.
    """
    if not len(correlation):
        raise UsageError("Fisher's mean: there must be at least one correlation, got none")
    limit = 1 - 1e-7
    return float(np.tanh(np.arctanh(np.clip(correlation, -limit, limit)).mean()))


def _check(a: NDArray[Any], b: NDArray[Any]) -> None:
    """Refuse maps that cannot be compared.

    Raises:
        DataError: the shapes differ, or a value is not finite.
    """
    if a.ndim != 3 or a.shape != b.shape:
        raise DataError(
            "heat maps: both must be (n, h, w) of the same images at the same resolution, got "
            f"{a.shape} and {b.shape}; choose a layer with outputs of one size in both networks"
        )
    for maps in (a, b):
        bad = int(len(maps) - np.isfinite(maps).all(axis=(1, 2)).sum())
        if bad:
            raise DataError(
                f"heat maps: values must be finite, got NaN or infinity for {bad} of {len(maps)} "
                "images; the network is numerically broken for them"
            )


def _flat(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both stacks as (n, P) float64."""
    pixels = a.shape[1] * a.shape[2]
    flat_a, flat_b = (maps.reshape(len(maps), pixels).astype(np.float64) for maps in (a, b))
    return flat_a, flat_b


def _masked(values: NDArray[np.float64], defined: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(defined, values, np.nan)


def _unit_scale(flat_nP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide each map by its largest absolute value, so that squares neither vanish nor grow."""
    largest_n1 = np.abs(flat_nP).max(axis=1, keepdims=True, initial=0)
    return flat_nP / np.where(largest_n1 > 0, largest_n1, 1)


def _correlation(a_nP: NDArray[np.float64], b_nP: NDArray[np.float64]) -> NDArray[np.float64]:
    a_nP, b_nP = _unit_scale(a_nP), _unit_scale(b_nP)
    a_nP = _unit_scale(a_nP - a_nP.mean(axis=1, keepdims=True))
    b_nP = _unit_scale(b_nP - b_nP.mean(axis=1, keepdims=True))
    return _angle(a_nP, b_nP)


def _angle(a_nP: NDArray[np.float64], b_nP: NDArray[np.float64]) -> NDArray[np.float64]:
    product_n = np.einsum("nP,nP->n", a_nP, b_nP)
    length_n = np.sqrt(np.einsum("nP,nP->n", a_nP, a_nP) * np.einsum("nP,nP->n", b_nP, b_nP))
    return np.asarray(np.clip(product_n / np.where(length_n > 0, length_n, 1), -1, 1))


def _ranks(flat_nP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each pixel in its map, from 0; ties share the mean of their ranks."""
    order_nP = np.argsort(flat_nP, axis=1, kind="stable")
    sorted_nP = np.take_along_axis(flat_nP, order_nP, axis=1)
    place_nP = np.broadcast_to(np.arange(flat_nP.shape[1]), flat_nP.shape)
    step_nP = sorted_nP[:, 1:] != sorted_nP[:, :-1]
    edge_n1 = np.ones((len(flat_nP), 1), dtype=bool)
    first_nP = np.where(np.concatenate([edge_n1, step_nP], axis=1), place_nP, 0)
    last_nP = np.where(np.concatenate([step_nP, edge_n1], axis=1), place_nP, place_nP.shape[1])
    low_nP = np.maximum.accumulate(first_nP, axis=1)
    high_nP = np.minimum.accumulate(last_nP[:, ::-1], axis=1)[:, ::-1]
    ranks_nP = np.empty(flat_nP.shape)
    np.put_along_axis(ranks_nP, order_nP, (low_nP + high_nP) / 2, axis=1)
    return ranks_nP


def _from_0_to_1(flat_nP: NDArray[np.float64]) -> NDArray[np.float64]:
    low_n1 = flat_nP.min(axis=1, keepdims=True, initial=np.inf)
    span_n1 = flat_nP.max(axis=1, keepdims=True, initial=-np.inf) - low_n1
    return np.asarray((flat_nP - low_n1) / np.where(span_n1 > 0, span_n1, 1))


def _windowed(maps_nhw: NDArray[np.float64], axis: int, side: int) -> NDArray[np.float64]:
    """Return means under the Gaussian window along one axis, where it fits."""
    offset_k = np.arange(side) - side // 2
    weight_k = np.exp(-0.5 * (offset_k / _SIGMA) ** 2)
    weight_k /= weight_k.sum()
    shape = list(maps_nhw.shape)
    shape[axis] -= side - 1
    total = np.zeros(shape)
    for start, weight in enumerate(weight_k.tolist()):
        which = [slice(None)] * 3
        which[axis] = slice(start, start + shape[axis])
        total += weight * maps_nhw[tuple(which)]
    return total


def _membership(flat_nP: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return by how much each pixel is among the hottest ``count`` of its map, 0 to 1, (n, P)."""
    pixels = flat_nP.shape[1]
    border_n1 = np.partition(flat_nP, pixels - count, axis=1)[:, pixels - count, None]
    above_nP, tied_nP = flat_nP > border_n1, flat_nP == border_n1
    left_n1 = count - above_nP.sum(axis=1, keepdims=True)
    return np.asarray(above_nP + tied_nP * (left_n1 / tied_nP.sum(axis=1, keepdims=True)))
