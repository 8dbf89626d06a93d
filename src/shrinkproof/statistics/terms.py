"""Per-image terms of a metric, their mean, and the difference of two metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError

# Shape suffixes: N images, K columns of terms, R bootstrap replicates, P columns of a product.

Kind = Literal["mean", "absolute-sum", "absolute-sum-difference", "mean-of-ratios"]

_KINDS: Final = ("mean", "absolute-sum", "absolute-sum-difference", "mean-of-ratios")


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What each image adds to a metric.

    The metric is a function of the column means of ``values``:

    * ``mean``: one column, its mean (accuracy, NLL, Brier).
    * ``absolute-sum``: the sum of the absolute column means (binned calibration errors; column k
      holds confidence minus correctness of the images in bin k, and 0 elsewhere).
    * ``absolute-sum-difference``: the columns of two absolute sums, half of them each; the first
      sum minus the second (the change of a calibration error).
    * ``mean-of-ratios``: K numerators, then K denominators; the mean of the K ratios of column
      means (mCE).

    Attributes:
        values: (N, K) float32 or float64, finite.
        kind: how the column means become the metric.
        is_binary: True where all values are 0 or 1.
    """

    values: NDArray[Any]
    kind: Kind = "mean"
    is_binary: bool = False

    def __post_init__(self) -> None:
        """Check shape, kind and finiteness.

        Raises:
            UsageError: a mean has several columns, a ratio has no denominator, a value is not
                finite, or a binary value is neither 0 nor 1.
        """
        shape = self.values.shape
        if self.kind not in _KINDS:
            raise UsageError(f"terms: kind must be one of {', '.join(_KINDS)}, got {self.kind!r}")
        if len(shape) != 2 or self.values.dtype.kind != "f":
            raise UsageError(
                f"terms: values must be (N, K) of floats, got {shape} {self.values.dtype}"
            )
        if self.kind == "mean" and shape[1] != 1:
            raise UsageError(f"terms: a mean has one column, got {shape[1]}")
        if self.kind == "mean-of-ratios" and (shape[1] == 0 or shape[1] % 2):
            raise UsageError(f"terms: ratios need as many denominators, got {shape[1]} columns")
        if self.kind == "absolute-sum-difference" and shape[1] % 2:
            raise UsageError(f"terms: both sums must have as many columns, got {shape[1]} together")
        if not np.isfinite(self.values).all():
            raise UsageError("terms: every value must be finite, got NaN or infinity")
        if self.is_binary and not ((self.values == 0) | (self.values == 1)).all():
            raise UsageError("terms: binary values must be 0 or 1, got others")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.values)


def estimate(terms: Terms) -> float:
    """Return the metric itself from its terms; ``nan`` for no images or a zero denominator."""
    if not len(terms):
        return math.nan
    means_1K = terms.values.mean(axis=0, dtype=np.float64, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(combine(means_1K, terms.kind)[0])
    return value if math.isfinite(value) else math.nan


def replicates(terms: Terms, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the metric on each resampled data set, (R,) float64.

    Replicates in which none of these images has a weight (possible for a small slice of the data
    set) are left out, so up to R values return.

    Raises:
        UsageError: ``weights`` and ``terms`` disagree about the number of images.
    """
    return combine(resampled_means([terms], weights)[0], terms.kind)


def difference(a: Terms, b: Terms) -> Terms:
    """Return the terms of the difference of two metrics, a minus b, over the same images in order.

    Both are means, or both are binned calibration errors; the latter may have another number of
    bins each (equal-mass bins), the shorter one then gets empty bins.

    Raises:
        UsageError: the metrics are of other or of different kinds, or the numbers of images differ.
    """
    if a.kind != b.kind or a.kind not in ("mean", "absolute-sum"):
        raise UsageError(
            "paired interval: both metrics must be means over images or both binned calibration "
            f"errors, got {a.kind} and {b.kind}; state no interval for this change"
        )
    if len(a) != len(b):
        raise UsageError(
            "paired interval: both metrics must be about the same images, got "
            f"{len(a)} and {len(b)} images"
        )
    if a.kind == "mean":
        return Terms(values=a.values.astype(np.float64) - b.values, kind="mean", is_binary=False)
    bins = max(a.values.shape[1], b.values.shape[1])
    values_NK = np.zeros((len(a), 2 * bins))
    values_NK[:, : a.values.shape[1]] = a.values
    values_NK[:, bins : bins + b.values.shape[1]] = b.values
    return Terms(values=values_NK, kind="absolute-sum-difference")


def resampled_means(
    terms: Sequence[Terms], weights: NDArray[np.float32]
) -> list[NDArray[np.float64]]:
    """Return the column means of each metric on each resampled data set, (R, K) each."""
    if not terms:
        return []
    count = weights.shape[1]
    for item in terms:
        if len(item) != count:
            raise UsageError(
                "bootstrap: weights and terms must be about the same images, got "
                f"{count} and {len(item)}"
            )
    ones_N1 = np.ones((count, 1), dtype=np.float32)
    columns_NP = np.concatenate(
        [ones_N1, *(item.values.astype(np.float32, copy=False) for item in terms)], axis=1
    )
    sums_RP = (weights @ columns_NP).astype(np.float64)
    sums_RP = sums_RP[sums_RP[:, 0] > 0]
    means_RP = sums_RP / sums_RP[:, :1]
    ends = np.cumsum([1, *(item.values.shape[1] for item in terms)])
    return [
        means_RP[:, start:end]
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]


def combine(means_RK: NDArray[np.float64], kind: Kind) -> NDArray[np.float64]:
    """Return the metric of each row of column means, (R,)."""
    if kind == "mean":
        return means_RK[:, 0]
    if kind == "absolute-sum":
        return np.asarray(np.abs(means_RK).sum(axis=1), dtype=np.float64)
    half = means_RK.shape[1] // 2
    if kind == "absolute-sum-difference":
        sizes_RK = np.abs(means_RK)
        return np.asarray(sizes_RK[:, :half].sum(axis=1) - sizes_RK[:, half:].sum(axis=1))
    ratios_RK = means_RK[:, :half] / means_RK[:, half:]
    return np.asarray(ratios_RK.mean(axis=1), dtype=np.float64)
