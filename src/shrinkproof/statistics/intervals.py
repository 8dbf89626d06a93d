"""Confidence intervals of metrics, each by a method whose coverage was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.statistics.deviations import deviation_ends, paired_deviation_ends
from shrinkproof.statistics.terms import Terms, combine, difference, resampled_means

# Shape suffixes: N images, K columns of terms, R bootstrap replicates.

BOOTSTRAP: Final = "bootstrap-percentile"
EXACT: Final = "clopper-pearson"
EXACT_PAIRED: Final = "clopper-pearson-paired"
DEVIATION: Final = "l1-deviation"
DEVIATION_PAIRED: Final = "l1-deviation-paired"

MINIMUM_UNITS: Final = 30
"""Fewest independent images (or groups) for which a bootstrap interval is stated."""

MINIMUM_PER_COLUMN: Final = 20
"""Fewest independent images (or groups) per bin for which ``l1-deviation`` is stated."""

MINIMUM_OUTCOMES: Final = 10
"""Fewest images that must carry the spread; with fewer, resampling understates it."""


_ROUNDING: Final = 1e-5
"""Sums of one image's terms below this are zero."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, or the reason why there is none.

    Attributes:
        low: lower end, None where no interval is stated.
        high: upper end, None where no interval is stated.
        method: how it was made (``bootstrap-percentile``, ``clopper-pearson``,
            ``clopper-pearson-paired``, ``l1-deviation``, ``l1-deviation-paired``), empty where
            there is none.
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
      ``docs/calibration-intervals.md``. It needs 10 right and 10 wrong predictions, and bins of the
      predicted class: errors of all classes have none.
    * Changes of binned calibration errors: ``l1-deviation-paired``, see
      `deviations.paired_deviation_ends`, with the same needs for both models. Where fewer than 10
      images are right for exactly one of them, both ends move outward by the upper end of the
      Clopper-Pearson interval of their share; there is no interval then for grouped images.

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
    means = resampled_means(list(resampled.values()), weights)
    for (name, item), means_RK in zip(resampled.items(), means, strict=True):
        found[name] = _bootstrapped(item, means_RK, level)
    return {name: found[name] for name in terms}


def paired_interval(
    a: Terms,
    b: Terms,
    weights: NDArray[np.float32],
    level: float = 0.95,
    *,
    group_count: int | None = None,
) -> Interval:
    """Return the interval of the difference of a metric, a minus b, over the same images.

    Pairing removes what both share: images that both models get right or wrong add nothing. Two
    models that agree on all images still have an interval for their accuracies: what N images
    cannot rule out.

    Raises:
        UsageError: the metrics are neither both means nor both binned calibration errors, or the
            numbers of images differ.
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
    halves = _halves(terms)
    if halves:
        needed = max(needed, MINIMUM_PER_COLUMN * halves[0].shape[1])
    if units < needed:
        noun = "images" if group_count is None else "groups"
        return Interval(reason=f"an interval needs at least {needed} {noun}, got {units}")
    if halves:
        return _few_outcomes(halves, is_grouped=group_count is not None)
    resting = carriers(_influence(terms))
    if not resting:
        return Interval(reason="every image has the same value, so resampling cannot vary it")
    if resting < MINIMUM_OUTCOMES:
        return Interval(
            reason=f"the spread rests on about {max(1, int(resting))} images; an interval needs "
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
    if count >= MINIMUM_UNITS and carriers(values_N) >= MINIMUM_OUTCOMES:
        return None
    half = (1 + level) / 2
    low_ones, high_ones = clopper_pearson(ones, count, half)
    low_minus, high_minus = clopper_pearson(minus, count, half)
    return Interval(low_ones - high_minus, high_ones - low_minus, EXACT_PAIRED)


def _halves(terms: Terms) -> list[NDArray[Any]]:
    """Return the columns of each model's calibration error, (N, K) each; none for other kinds."""
    if terms.kind == "absolute-sum":
        return [terms.values]
    if terms.kind == "absolute-sum-difference":
        return np.split(terms.values, 2, axis=1)
    return []


def _few_outcomes(halves: list[NDArray[Any]], *, is_grouped: bool) -> Interval | None:
    """Return why a calibration error or its change has no interval; None where it has one."""
    if any(_cancels(values_NK) for values_NK in halves):
        return Interval(reason="no interval for errors of all classes has a tested coverage")
    for values_NK in halves:
        wrong = int(_is_wrong(values_NK).sum())
        right = len(values_NK) - wrong
        if min(wrong, right) < MINIMUM_OUTCOMES:
            return Interval(
                reason=f"an interval needs at least {MINIMUM_OUTCOMES} right and "
                f"{MINIMUM_OUTCOMES} wrong predictions, got {right} right and {wrong} wrong"
            )
    changed = _discordant(halves)
    if is_grouped and changed < MINIMUM_OUTCOMES:
        return Interval(
            reason=f"an interval needs at least {MINIMUM_OUTCOMES} images that only one of the two "
            f"gets right, got {changed}"
        )
    return None


def _cancels(values_NK: NDArray[Any]) -> bool:
    """Return whether the gaps of each image add up to nothing: probabilities of all classes do."""
    if np.abs(values_NK.sum(axis=1)).max() > _ROUNDING:
        return False
    return bool((np.count_nonzero(values_NK, axis=1) > 1).any())


def _is_wrong(values_NK: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which images are misclassified: there confidence minus correctness is positive."""
    return np.asarray(values_NK.sum(axis=1) > 0)


def _discordant(halves: list[NDArray[Any]]) -> int:
    """Return how many images one model gets right and the other wrong; N for a single model."""
    if len(halves) == 1:
        return len(halves[0])
    return int((_is_wrong(halves[0]) != _is_wrong(halves[1])).sum())


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


def carriers(influence_N: NDArray[np.floating[Any]]) -> float:
    """Return on how many images the spread rests: N divided by the kurtosis; 0 for no spread."""
    if np.ptp(influence_N) == 0:
        return 0.0
    square_N = (influence_N - influence_N.mean(dtype=np.float64)) ** 2
    square_N = square_N / square_N.max()
    return float(square_N.sum() ** 2 / (square_N**2).sum())


def _bootstrapped(terms: Terms, means_RK: NDArray[np.float64], level: float) -> Interval:
    """Return the interval from the replicates of the column means."""
    tail = (1 - level) / 2
    if terms.kind == "absolute-sum-difference":
        return _change(terms, means_RK, tail)
    with np.errstate(invalid="ignore", divide="ignore"):
        values_R = combine(means_RK, terms.kind)
    if not len(values_R) or not np.isfinite(values_R).all():
        return Interval(reason="some resampled data sets leave the metric undefined")
    if np.ptp(values_R) == 0:
        return Interval(reason="every resampled data set has the same value")
    if terms.kind == "absolute-sum":
        gaps_K = terms.values.mean(axis=0, dtype=np.float64)
        return Interval(*deviation_ends(gaps_K, means_RK, tail), DEVIATION)
    low, high = np.quantile(values_R, [tail, 1 - tail])
    return Interval(float(low), float(high), BOOTSTRAP)


def _change(terms: Terms, means_RK: NDArray[np.float64], tail: float) -> Interval:
    """Return the interval of the change of a calibration error."""
    if len(means_RK) < 2:
        return Interval(reason="an interval needs at least 2 resampled data sets")
    gaps_K = terms.values.mean(axis=0, dtype=np.float64)
    low, high = paired_deviation_ends(gaps_K, means_RK, tail)
    changed = _discordant(_halves(terms))
    if changed < MINIMUM_OUTCOMES:
        # So few changed images cannot show by resampling how many more there might have been.
        unseen = clopper_pearson(changed, len(terms), 1 - 2 * tail)[1]
        low, high = max(-1.0, low - unseen), min(1.0, high + unseen)
    return Interval(low, high, DEVIATION_PAIRED)
