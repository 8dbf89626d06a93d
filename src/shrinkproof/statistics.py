"""Intervals by one shared Poisson bootstrap: numpy, and scipy where a quantile needs it.

A metric gives its per-image terms, one seeded matrix of weights stands for the resampled data sets,
and their matrix product gives all replicates. The matrix depends on the data set only, so every
candidate, condition and metric sees the same resamples and comparisons are paired by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.randomness import stream

# Shape suffixes: N images, K columns of terms, R bootstrap replicates, P columns of a product.

Kind = Literal["mean", "absolute-sum", "mean-of-ratios"]

BOOTSTRAP: Final = "bootstrap-percentile"
EXACT: Final = "clopper-pearson"
EXACT_PAIRED: Final = "clopper-pearson-paired"
DEVIATION: Final = "l1-deviation"

MINIMUM_UNITS: Final = 30
"""Fewest independent images (or groups) for which a bootstrap interval is stated."""

MINIMUM_PER_COLUMN: Final = 20
"""Fewest independent images (or groups) per bin for which ``l1-deviation`` is stated."""

MINIMUM_OUTCOMES: Final = 10
"""Fewest images that must carry the spread; with fewer, resampling understates it."""

_NEVER_EMPTY: Final = 100
"""A row of more counts than this is never all zero (probability below 1e-43)."""

_KINDS: Final = ("mean", "absolute-sum", "mean-of-ratios")


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What each image adds to a metric.

    The metric is a function of the column means of ``values``:

    * ``mean``: one column, its mean (accuracy, NLL, Brier).
    * ``absolute-sum``: the sum of the absolute column means (binned calibration errors; column k
      holds confidence minus correctness of the images in bin k, and 0 elsewhere).
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
        if not np.isfinite(self.values).all():
            raise UsageError("terms: every value must be finite, got NaN or infinity")
        if self.is_binary and not ((self.values == 0) | (self.values == 1)).all():
            raise UsageError("terms: binary values must be 0 or 1, got others")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, or the reason why there is none.

    Attributes:
        low: lower end, None where no interval is stated.
        high: upper end, None where no interval is stated.
        method: how it was made (``bootstrap-percentile``, ``clopper-pearson``,
            ``clopper-pearson-paired``, ``l1-deviation``), empty where there is none.
        reason: why there is none, empty where there is one.
    """

    low: float | None = None
    high: float | None = None
    method: str = ""
    reason: str = ""

    @property
    def is_stated(self) -> bool:
        """True where there is an interval."""
        return self.low is not None


def bootstrap_weights(
    count: int, *, groups: NDArray[Any] | None = None, replicates: int = 1000, seed: int
) -> NDArray[np.float32]:
    """Return how often each image stands in each resampled data set, (R, N).

    Weights are independent Poisson(1) counts, the limit of drawing N of N with replacement; a
    replicate divides by the sum of its weights. They come from a table of 2**16 entries, so each
    probability is off by at most 2**-16 (a count above 8, probability 1e-6, never occurs). A
    replicate without any image is drawn again. The matrix needs 4 R N bytes; 1,000 x 10,000
    take about 60 ms.

    Args:
        count: number of images, N.
        groups: (N,) group of each image; groups are resampled whole. None where images are
            independent.
        replicates: number of resampled data sets, R.
        seed: seed of the study; same seed, count and groups give the same matrix.

    Raises:
        UsageError: ``groups`` has another length, or ``replicates`` is not positive.

    Reference: Chamandy et al. 2012, "Estimating uncertainty for massive data streams".
    """
    if count < 0 or replicates < 1:
        raise UsageError(
            "bootstrap: count must not be negative and replicates at least 1, got "
            f"{count} and {replicates}"
        )
    draws = stream("bootstrap", seed)
    if groups is None:
        return _poisson(draws, replicates, count)
    if len(groups) != count:
        raise UsageError(
            f"bootstrap: groups must have one value per image ({count}), got {len(groups)}"
        )
    names, group_N = np.unique(groups, return_inverse=True)
    weights_RG = _poisson(draws, replicates, len(names))
    return np.ascontiguousarray(weights_RG[:, group_N])


def estimate(terms: Terms) -> float:
    """Return the metric itself from its terms; ``nan`` for no images or a zero denominator."""
    if not len(terms):
        return math.nan
    means_1K = terms.values.mean(axis=0, dtype=np.float64, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(_combine(means_1K, terms.kind)[0])
    return value if math.isfinite(value) else math.nan


def replicates(terms: Terms, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the metric on each resampled data set, (R,) float64.

    Replicates in which none of these images has a weight (possible for a small slice of the data
    set) are left out, so up to R values return.

    Raises:
        UsageError: ``weights`` and ``terms`` disagree about the number of images.
    """
    return _combine(_resampled_means([terms], weights)[0], terms.kind)


def interval(
    terms: Terms,
    weights: NDArray[np.float32],
    level: float = 0.95,
    *,
    group_count: int | None = None,
) -> Interval:
    """Return the confidence interval of a metric, or why there is none.

    * Means and means of ratios: percentile bootstrap.
    * Binary means with fewer than 10 images on one side (accuracy near 0 or 1), or of fewer than
      30 images: Clopper-Pearson, exact for independent images.
    * Differences of binary means that fewer than 10 images carry: the difference of the two
      Clopper-Pearson intervals of "only a is 1" and "only b is 1", each at half the error; its
      coverage is at least the level (Bonferroni).
    * Binned calibration errors: ``l1-deviation``. With d_k the signed gap of bin k (column mean)
      and d*_k its replicates, the reverse triangle inequality bounds the error of the estimate by
      D = sum_k |d_k - E d_k|, so the lower end is the estimate minus the upper quantile of
      D* = sum_k |d*_k - d_k|, not below 0. The estimate is biased upward (Jensen), so the upper
      end adds z times the standard deviation of the replicates, not above 1. It is about the
      calibration error of the model binned as the sample was; coverage was measured, see
      ``docs/calibration-intervals.md``. It needs 10 right and 10 wrong predictions.

    A bootstrap needs 30 images (groups, where images come in groups), 20 per bin for calibration
    errors, and a spread that does not rest on fewer than 10 images: (sum c^2)^2 / sum c^4 of the
    centered influences c, which is the number of errors where these are rare. Otherwise no
    interval is stated and the reason says so.

    Args:
        terms: per-image terms of the metric, N images.
        weights: (R, N) of `bootstrap_weights`; for a slice, its columns.
        level: confidence level, between 0 and 1.
        group_count: number of distinct groups among these images; None where they are independent.

    Raises:
        UsageError: the level is not between 0 and 1, or the numbers of images disagree.
    """
    return intervals({"": terms}, weights, level, group_count=group_count)[""]


def intervals(
    terms: Mapping[str, Terms],
    weights: NDArray[np.float32],
    level: float = 0.95,
    *,
    group_count: int | None = None,
) -> dict[str, Interval]:
    """Return the interval of several metrics of the same images, with one matrix product.

    Arguments, rules and errors are those of `interval`.
    """
    if not 0 < level < 1:
        raise UsageError(
            f"interval: level must be between 0 and 1, got {level!r}; write 0.95 for 95 %"
        )
    found: dict[str, Interval] = {}
    resampled: dict[str, Terms] = {}
    for name, item in terms.items():
        known = _without_bootstrap(item, level, group_count)
        if known is None:
            resampled[name] = item
        else:
            found[name] = known
    means = _resampled_means(list(resampled.values()), weights)
    for (name, item), means_RK in zip(resampled.items(), means, strict=True):
        found[name] = _bootstrapped(item, means_RK, level)
    return {name: found[name] for name in terms}


def difference(a: Terms, b: Terms) -> Terms:
    """Return the terms of ``mean(a) - mean(b)`` over the same images in the same order.

    Raises:
        UsageError: a metric is not a mean, or the numbers of images differ.
    """
    if a.kind != "mean" or b.kind != "mean":
        raise UsageError(
            f"paired interval: both metrics must be means over images, got {a.kind} and {b.kind}; "
            "state no interval for this change"
        )
    if len(a) != len(b):
        raise UsageError(
            "paired interval: both metrics must be about the same images, got "
            f"{len(a)} and {len(b)} images"
        )
    return Terms(values=a.values.astype(np.float64) - b.values, kind="mean", is_binary=False)


def paired_interval(
    a: Terms,
    b: Terms,
    weights: NDArray[np.float32],
    level: float = 0.95,
    *,
    group_count: int | None = None,
) -> Interval:
    """Return the interval of ``mean(a) - mean(b)`` over the same images.

    Pairing removes what both share: images that both models get right or wrong add nothing. Two
    models that agree on all images still have an interval for their accuracies: what N images
    cannot rule out.

    Raises:
        UsageError: a metric is not a mean, or the numbers of images differ.
    """
    return interval(difference(a, b), weights, level, group_count=group_count)


def clopper_pearson(successes: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a probability from ``successes`` of ``count`` trials.

    Raises:
        UsageError: ``count`` is not positive, or ``successes`` is not 0 to ``count``.

    Reference: Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    if count < 1 or not 0 <= successes <= count:
        raise UsageError(
            f"clopper-pearson: successes must be 0 to count >= 1, got {successes} of {count}"
        )
    # scipy.special costs 0.1 s to import; commands that only read tables never come here.
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = betaincinv(successes, count - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, count - successes, 1 - tail) if successes < count else 1.0
    return float(low), float(high)


def _without_bootstrap(terms: Terms, level: float, group_count: int | None) -> Interval | None:
    """Return the interval, or the reason for none, where resampling is no way to get it."""
    if not len(terms):
        return Interval(reason="there are no images")
    if group_count is None:
        exact = _exact(terms, level)
        if exact is not None:
            return exact
    units = len(terms) if group_count is None else group_count
    needed = MINIMUM_UNITS
    if terms.kind == "absolute-sum":
        needed = max(needed, MINIMUM_PER_COLUMN * terms.values.shape[1])
    if units < needed:
        noun = "images" if group_count is None else "groups"
        return Interval(reason=f"an interval needs at least {needed} {noun}, got {units}")
    if terms.kind == "absolute-sum":
        return _few_outcomes(terms)
    carriers = _carriers(_influence(terms))
    if not carriers:
        return Interval(reason="every image has the same value, so resampling cannot vary it")
    if carriers < MINIMUM_OUTCOMES:
        return Interval(
            reason=f"the spread rests on about {max(1, int(carriers))} images; an interval needs "
            f"at least {MINIMUM_OUTCOMES}"
        )
    return None


def _exact(terms: Terms, level: float) -> Interval | None:
    """Return an exact interval where the terms are counts and too few for resampling, else None."""
    if terms.kind != "mean":
        return None
    values_N = terms.values[:, 0]
    count = len(values_N)
    ones = int((values_N == 1).sum())
    if terms.is_binary:
        if count >= MINIMUM_UNITS and min(ones, count - ones) >= MINIMUM_OUTCOMES:
            return None
        return Interval(*clopper_pearson(ones, count, level), EXACT)
    minus = int((values_N == -1).sum())
    if ones + minus + int((values_N == 0).sum()) < count:
        return None
    if count >= MINIMUM_UNITS and _carriers(values_N) >= MINIMUM_OUTCOMES:
        return None
    half = (1 + level) / 2
    low_ones, high_ones = clopper_pearson(ones, count, half)
    low_minus, high_minus = clopper_pearson(minus, count, half)
    return Interval(low_ones - high_minus, high_ones - low_minus, EXACT_PAIRED)


def _few_outcomes(terms: Terms) -> Interval | None:
    """Return why a calibration error has no interval; None where it has one."""
    wrong = int((terms.values.sum(axis=1) > 0).sum())
    right = len(terms) - wrong
    if min(wrong, right) >= MINIMUM_OUTCOMES:
        return None
    return Interval(
        reason=f"an interval needs at least {MINIMUM_OUTCOMES} right and {MINIMUM_OUTCOMES} wrong "
        f"predictions, got {right} right and {wrong} wrong"
    )


def _influence(terms: Terms) -> NDArray[np.float64]:
    """Return how much each image moves the metric, up to a constant, (N,)."""
    values_NK = terms.values.astype(np.float64, copy=False)
    if terms.kind == "mean":
        return values_NK[:, 0]
    half = values_NK.shape[1] // 2
    top_K, bottom_K = np.split(values_NK.mean(axis=0), 2)
    if not bottom_K.all():
        return np.zeros(len(values_NK))
    moves_NK = (values_NK[:, :half] - top_K / bottom_K * values_NK[:, half:]) / bottom_K
    return np.asarray(moves_NK.sum(axis=1), dtype=np.float64)


def _carriers(influence_N: NDArray[np.floating[Any]]) -> float:
    """Return on how many images the spread rests: N divided by the kurtosis; 0 for no spread."""
    if np.ptp(influence_N) == 0:
        return 0.0
    square_N = (influence_N - influence_N.mean(dtype=np.float64)) ** 2
    square_N = square_N / square_N.max()
    return float(square_N.sum() ** 2 / (square_N**2).sum())


def _bootstrapped(terms: Terms, means_RK: NDArray[np.float64], level: float) -> Interval:
    """Return the interval from the replicates of the column means."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values_R = _combine(means_RK, terms.kind)
    if not len(values_R) or not np.isfinite(values_R).all():
        return Interval(reason="some resampled data sets leave the metric undefined")
    if np.ptp(values_R) == 0:
        return Interval(reason="every resampled data set has the same value")
    tail = (1 - level) / 2
    if terms.kind == "absolute-sum":
        return _deviation(terms, means_RK, values_R, tail)
    low, high = np.quantile(values_R, [tail, 1 - tail])
    return Interval(float(low), float(high), BOOTSTRAP)


def _deviation(
    terms: Terms, means_RK: NDArray[np.float64], values_R: NDArray[np.float64], tail: float
) -> Interval:
    from scipy.special import ndtri

    gaps_K = terms.values.mean(axis=0, dtype=np.float64)
    deviation_R = np.abs(means_RK - gaps_K).sum(axis=1)
    value = float(np.abs(gaps_K).sum())
    low = max(0.0, value - float(np.quantile(deviation_R, 1 - tail)))
    high = min(1.0, value + float(ndtri(1 - tail)) * float(values_R.std(ddof=1)))
    return Interval(low, high, DEVIATION)


def _resampled_means(
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


def _combine(means_RK: NDArray[np.float64], kind: Kind) -> NDArray[np.float64]:
    """Return the metric of each row of column means, (R,)."""
    if kind == "mean":
        return means_RK[:, 0]
    if kind == "absolute-sum":
        return np.asarray(np.abs(means_RK).sum(axis=1), dtype=np.float64)
    half = means_RK.shape[1] // 2
    ratios_RK = means_RK[:, :half] / means_RK[:, half:]
    return np.asarray(ratios_RK.mean(axis=1), dtype=np.float64)


def _poisson_table() -> NDArray[np.float32]:
    """Return the inverse distribution function of Poisson(1) at 2**16 equal steps."""
    probability = np.exp(-1.0) / np.array([math.factorial(k) for k in range(10)], dtype=np.float64)
    edges = np.round(np.cumsum(probability) * 65536)
    return np.searchsorted(edges, np.arange(65536), side="right").astype(np.float32)


def _poisson(draws: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    """Return Poisson(1) counts, (rows, columns); no row is all zero unless it is empty."""
    weights = np.empty((rows, columns), dtype=np.float32)
    if not columns:
        return weights
    table = _poisson_table()
    steps = np.frombuffer(draws.bytes(2 * rows * columns), dtype="<u2")
    _look_up(table, steps, weights.reshape(-1))
    if columns > _NEVER_EMPTY:
        return weights
    empty = np.flatnonzero(~weights.any(axis=1))
    while len(empty):
        steps = np.frombuffer(draws.bytes(2 * len(empty) * columns), dtype="<u2")
        weights[empty] = table[steps].reshape(len(empty), columns)
        empty = empty[~weights[empty].any(axis=1)]
    return weights


def _look_up(
    table: NDArray[np.float32], steps: NDArray[np.uint16], out: NDArray[np.float32]
) -> None:
    """Write ``table[steps]`` to ``out`` in pieces that stay in the cache."""
    for start in range(0, len(steps), 1 << 16):
        piece = slice(start, start + (1 << 16))
        table.take(steps[piece], out=out[piece], mode="clip")
