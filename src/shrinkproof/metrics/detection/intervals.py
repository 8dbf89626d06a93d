"""Confidence intervals of the calibration errors of detectors.

``docs/detection-calibration.md`` has the method, the rules and the measured coverage.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.detection.gaps import (
    Gaps,
    cells,
    mean_gap,
    resampled,
    resampled_cells,
)
from shrinkproof.statistics import (
    DEVIATION,
    DEVIATION_PAIRED,
    MINIMUM_OUTCOMES,
    MINIMUM_UNITS,
    Interval,
    Replicated,
    calculated,
    replicated_interval,
)
from shrinkproof.statistics.deviations import deviation_ends, paired_deviation_ends
from shrinkproof.statistics.intervals import carriers

# Shape suffixes: N images, m detections that count, P parts, K cells, R resampled data sets.

LEVEL: Final = 0.95
"""Confidence level."""

TAIL: Final = (1 - LEVEL) / 2
"""Probability left out at each end."""

MINIMUM_PER_CLASS: Final = 60
"""Fewest images that the detections of each class must rest on where single gaps are averaged."""

MINIMUM_PER_CELL: Final = 5
"""Fewest detections in the bins of a class that hold one, on average over these bins."""


def gap_interval(
    gaps: Gaps, right_m: NDArray[np.bool_], weights: NDArray[np.float32], units: int
) -> Interval:
    """Return the interval of an error in which gaps of a bin cancel (D-ECE, LaECE).

    The estimate is biased upward, and percentiles of resampled estimates would leave out the truth
    almost always where that is small. So the interval is that of binned calibration errors of
    classifiers, ``l1-deviation`` (see `statistics.interval`), with whole images resampled. Errors
    of detectors come together in few images, and resampling these understates the spread: both ends
    are moved outward by Student's t over the normal quantile, for as many values as images carry
    the rarer outcome (see `carrying_images`).

    Args:
        gaps: at least one detection.
        right_m: (m,) which of them found an object.
        weights: (R, N) how often each image stands in each resampled data set.
        units: number of independent images, or of groups.
    """
    reason = _too_few_images(gaps, units, MINIMUM_OUTCOMES) or _too_few_outcomes(gaps, right_m)
    if reason:
        return Interval(reason=reason)
    ends = deviation_ends(cells(gaps), resampled_cells(gaps, weights), TAIL)
    low, high = _widened(ends, mean_gap(gaps), _carrying(gaps, right_m))
    return Interval(max(0.0, low), min(1.0, high), DEVIATION)


def mean_interval(gaps: Gaps, weights: NDArray[np.float32], units: int) -> Interval:
    """Return the interval of an error in which nothing cancels (LaACE).

    Percentiles, moved outward like those of `gap_interval`, for as many values as images carry the
    spread. Arguments are those of `gap_interval`.
    """
    reason = _too_few_images(gaps, units, MINIMUM_PER_CLASS)
    if reason:
        return Interval(reason=reason)
    return _of_mean(resampled(gaps, weights), _influence(gaps), units, lowest=0.0)


def gap_change_interval(
    both: tuple[Gaps, Gaps],
    right: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    weights: NDArray[np.float32],
    units: int,
) -> Interval:
    """Return the interval of the first error minus the second, of two detectors on the same images.

    ``l1-deviation-paired`` (see `statistics.deviations`), with the same bins side by side and whole
    images resampled. Both errors must have an interval of their own, and both detectors must differ
    on enough images.

    Args:
        both: gaps of two detectors, at least one detection each.
        right: which of their detections found an object, (m,) each.
        weights: (R, N) how often each image stands in each resampled data set.
        units: number of independent images, or of groups.
    """
    for gaps, right_m in zip(both, right, strict=True):
        reason = _too_few_images(gaps, units, MINIMUM_OUTCOMES) or _too_few_outcomes(gaps, right_m)
        if reason:
            return Interval(reason=reason)
    differing = _differing_images(both)
    if differing < MINIMUM_OUTCOMES:
        return Interval(
            reason=f"an interval needs at least {MINIMUM_OUTCOMES} images on which both detectors "
            f"differ, got {differing}"
        )
    keys = np.union1d(both[0].key, both[1].key)
    gaps_2K = np.concatenate([_aligned(cells(gaps)[None], gaps, keys)[0] for gaps in both])
    means_R2K = np.concatenate(
        [_aligned(resampled_cells(gaps, weights), gaps, keys) for gaps in both], axis=1
    )
    change = mean_gap(both[0]) - mean_gap(both[1])
    fewest = min(_carrying(gaps, right_m) for gaps, right_m in zip(both, right, strict=True))
    low, high = _widened(paired_deviation_ends(gaps_2K, means_R2K, TAIL), change, fewest)
    return Interval(max(-1.0, low), min(1.0, high), DEVIATION_PAIRED)


def mean_change_interval(
    both: tuple[Gaps, Gaps], weights: NDArray[np.float32], units: int
) -> Interval:
    """Return the interval of the first LaACE minus the second: percentiles of paired differences.

    Arguments are those of `gap_change_interval`.
    """
    for gaps in both:
        reason = _too_few_images(gaps, units, MINIMUM_PER_CLASS)
        if reason:
            return Interval(reason=reason)
    change = calculated(np.subtract, *(resampled(gaps, weights) for gaps in both))
    return _of_mean(change, _influence(both[0]) - _influence(both[1]), units, lowest=-1.0)


def carrying_images(image_m: NDArray[np.int64]) -> float:
    """Return on how many images some detections rest: ``(sum n)^2 / sum n^2`` of their numbers n.

    That is the number of images where these hold equally many of them; 0 for no detections.
    """
    if not len(image_m):
        return 0.0
    count_N: NDArray[Any] = np.bincount(image_m).astype(np.float64)
    return float(count_N.sum() ** 2 / (count_N**2).sum())


def _too_few_images(gaps: Gaps, units: int, needed: int) -> str:
    """Return why resampling images says too little about the parts; empty where it does not."""
    if units < MINIMUM_UNITS:
        return f"an interval needs at least {MINIMUM_UNITS} independent images, got {units}"
    part_m = gaps.part[gaps.cell]
    fewest = min(carrying_images(gaps.image[part_m == part]) for part in range(gaps.parts))
    if fewest >= needed:
        return ""
    whose = "the detections that count" if gaps.parts == 1 else "the detections of one class"
    return f"{whose} rest on about {fewest:.0f} images; an interval needs at least {needed}"


def _too_few_outcomes(gaps: Gaps, right_m: NDArray[np.bool_]) -> str:
    """Return why bins cannot be resampled; empty where they can."""
    per_cell = (np.bincount(gaps.part[gaps.cell]) / np.bincount(gaps.part)).min()
    if per_cell < MINIMUM_PER_CELL:
        return (
            f"an interval needs at least {MINIMUM_PER_CELL} detections per bin, got {per_cell:.1f}"
            + (" in one class" if gaps.parts > 1 else "")
        )
    for name, chosen_m in (("right", right_m), ("wrong", ~right_m)):
        carried = carrying_images(gaps.image[chosen_m])
        if carried < MINIMUM_OUTCOMES:
            return (
                f"the {name} detections rest on about {carried:.0f} images; an interval needs at "
                f"least {MINIMUM_OUTCOMES}"
            )
    return ""


def _influence(gaps: Gaps) -> NDArray[np.float64]:
    """Return how much each image moves a mean of single gaps, up to a constant, (N,)."""
    part_m = gaps.part[gaps.cell]
    count_P = np.bincount(part_m)
    error_P = np.bincount(part_m, gaps.gap) / count_P
    moves_m = (gaps.gap - error_P[part_m]) / count_P[part_m]
    return np.asarray(np.bincount(gaps.image, moves_m, gaps.images), dtype=np.float64)


def _carrying(gaps: Gaps, right_m: NDArray[np.bool_]) -> float:
    """Return on how many images the rarer outcome rests, right or wrong."""
    return min(carrying_images(gaps.image[chosen_m]) for chosen_m in (right_m, ~right_m))


def _widened(ends: tuple[float, float], value: float, carrying: float) -> tuple[float, float]:
    """Return the ends of an interval moved outward because few images carry the spread."""
    from scipy.special import ndtri, stdtrit

    factor = float(stdtrit(carrying - 1, 1 - TAIL) / ndtri(1 - TAIL))
    return value - factor * (value - ends[0]), value + factor * (ends[1] - value)


def _of_mean(
    number: Replicated, influence_N: NDArray[np.float64], units: int, *, lowest: float
) -> Interval:
    """Return the interval of a number in which nothing cancels, lowest to 1."""
    resting = carriers(influence_N)
    if 0 < resting < MINIMUM_OUTCOMES:
        return Interval(
            reason=f"the spread rests on about {max(1, int(resting))} images; an interval needs at "
            f"least {MINIMUM_OUTCOMES}"
        )
    found = replicated_interval(number, units, LEVEL)
    if found.low is None or found.high is None:
        return found
    low, high = _widened((found.low, found.high), number.value, resting)
    return Interval(max(lowest, low), min(1.0, high), found.method)


def _aligned(
    columns: NDArray[np.float64], gaps: Gaps, keys: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the columns of all keys, 0 for those without a detection."""
    all_columns = np.zeros((len(columns), len(keys)))
    all_columns[:, np.searchsorted(keys, gaps.key)] = columns
    return all_columns


def _differing_images(both: tuple[Gaps, Gaps]) -> int:
    """Return on how many images two detectors have other gaps in any bin."""
    first, second = (
        np.stack([gaps.image, gaps.key[gaps.cell], gaps.gap.view(np.int64)], axis=1)
        for gaps in both
    )
    rows, copies = np.concatenate([first, second]), np.ones(len(first) + len(second))
    copies[len(first) :] = -1
    distinct, place = np.unique(rows, axis=0, return_inverse=True)
    surplus = np.bincount(place.ravel(), copies)
    return len(np.unique(distinct[surplus != 0, 0]))
