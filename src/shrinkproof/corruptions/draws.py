"""From raw random words to the numbers that corruptions need, the cheap way."""

from __future__ import annotations

import functools
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from shrinkproof.protocols import Draws


def bits(streams: Draws, **wanted: tuple[DTypeLike, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """Return independent random integers, uniform over the whole range of their type.

    Args:
        streams: the random streams of a batch.
        wanted: name -> (unsigned integer type, shape for one image).

    Returns:
        Name -> (N, *shape). Together they use each random bit at most once.
    """
    sizes = {
        name: (np.dtype(dtype).newbyteorder("<"), math.prod(shape))
        for name, (dtype, shape) in wanted.items()
    }
    lengths = {name: -(-dtype.itemsize * count // 8) for name, (dtype, count) in sizes.items()}
    words = streams.words(sum(lengths.values())).astype("<u8", copy=False)
    found = {}
    start = 0
    for name, (dtype, count) in sizes.items():
        part = np.ascontiguousarray(words[:, start : start + lengths[name]])
        values = part.view(dtype)[:, :count]
        found[name] = values.reshape(len(words), *wanted[name][1])
        start += lengths[name]
    return found


def unit(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return random unsigned integers as numbers in [0, 1), float64."""
    return values * (0.5 ** (8 * values.dtype.itemsize))


def normal(values: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return standard normal numbers for random 16-bit integers, same shape, float32.

    The normal distribution is cut into 65,536 parts of equal probability, and each integer gives
    the mean of its part, scaled so that the variance is 1. The distribution function is nowhere
    more than 1e-5 from the normal one, mean, variance and skewness are those of the normal
    distribution to 1e-6, and no number exceeds 4.4.
    """
    return lookup(_normal_table(), values)


def lookup(table: NDArray[Any], values: NDArray[np.uint16]) -> NDArray[Any]:
    """Return ``table[values]``, same shape as the values.

    Args:
        table: (65536,), of a type that OpenCV knows.
        values: 16-bit integers of any shape.
    """
    if not values.size or not _opencv_looks_up_16_bits():
        return np.take(table, values)
    return cv2.LUT(values.reshape(-1), table).reshape(values.shape)


@functools.cache
def _opencv_looks_up_16_bits() -> bool:
    """Return whether OpenCV is new enough for tables of 65,536 entries, twice as fast as numpy."""
    table = np.arange(2**16, dtype=np.float32)
    values = np.array([0, 1, 256, 65535], dtype=np.uint16)
    try:
        return np.array_equal(cv2.LUT(values, table).reshape(-1), table[values])
    except cv2.error:
        return False


@functools.cache
def _normal_table() -> NDArray[np.float32]:
    from scipy.special import ndtri

    parts = 2**16
    edges = ndtri(np.arange(parts + 1) / parts)
    density = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
    means = (density[:-1] - density[1:]) * parts
    means = (means - means[::-1]) / 2
    table: NDArray[np.float32] = (means / means.std()).astype(np.float32)
    return table
