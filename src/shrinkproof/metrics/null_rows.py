"""Errors without fixed bins that perfectly calibrated models would show, one model per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.binning import run_ends
from shrinkproof.metrics.derived import Derived

# Shape suffixes: N images, T ties, B bins, G cells of the grid, r simulated models of one block.

FEW: Final = 200
"""Simulated models for metrics that are slow."""

_GRID: Final = 1 << 14
"""Cells between 0 and 1, as many as `calibration.smooth_ece` has."""

_NARROWEST: Final = 1 / _GRID
"""Smallest bandwidth of smoothing: one cell."""

_STEPS: Final = 60
"""Most steps towards a fixed point; about 12 are needed."""

_CLOSE: Final = 1e-7
"""Distance from the fixed point that ends the search."""

_Value = Callable[[NDArray[np.int32]], NDArray[np.float64]]
"""How many of the n least confident images are right, (r, N) -> values, (r,)."""


@dataclass(frozen=True, slots=True)
class Row:
    """How a metric follows from the right answers of all images.

    Attributes:
        prepare: metric and quantities of the images -> function of the right answers.
        most: simulated models that are affordable.
    """

    prepare: Callable[[Any, Derived], _Value]
    most: int


def _tie_ends(values: Derived) -> NDArray[np.int64]:
    """Return the number of images up to the end of each tie, (T,), by ascending confidence."""
    return np.append(np.flatnonzero(np.diff(values.ascending)) + 1, len(values.ascending))


def _largest_sum(metric: Any, values: Derived) -> _Value:  # noqa: ARG001
    last_T = _tie_ends(values) - 1
    is_distinct = len(last_T) == len(values.ascending)
    # Single precision is 4e-8 of the number of images here: twice as fast, and far below chance.
    sure_T = np.cumsum(values.ascending)[last_T].astype(np.float32)

    def value(right_rN: NDArray[np.int32]) -> NDArray[np.float64]:
        right_rT = right_rN if is_distinct else right_rN[:, last_T]
        gap_rT = np.subtract(right_rT, sure_T, dtype=np.float32)
        largest_r = np.maximum(gap_rT.max(axis=1), -gap_rT.min(axis=1))
        return np.asarray(largest_r, dtype=np.float64) / len(values.ascending)

    return value


def _sweep(metric: Any, values: Derived) -> _Value:
    ends: dict[int, NDArray[np.int64]] = {}
    count = len(values.ascending)
    end_T = _tie_ends(values)
    tie_end_N = np.repeat(end_T, np.diff(end_T, prepend=0))
    sure = np.concatenate([[0.0], np.cumsum(values.ascending)])

    def ends_of(bins: int) -> NDArray[np.int64]:
        if bins not in ends:
            ends[bins] = np.unique(tie_end_N[run_ends(count, bins) - 1])
        return ends[bins]

    def errors(right_rB: NDArray[np.int32], end_B: NDArray[np.int64]) -> NDArray[np.float64]:
        size_B = np.diff(end_B, prepend=0)
        gap_rB = np.abs(np.diff(sure[end_B], prepend=0.0) - right_rB) / size_B
        return np.asarray((gap_rB**metric.norm @ size_B / count) ** (1 / metric.norm))

    def value(right_rN: NDArray[np.int32]) -> NDArray[np.float64]:
        found_r = np.zeros(len(right_rN))
        # Every wrong image before every right one: no number of bins can fall.
        last_wrong_r = np.maximum(count - right_rN[:, -1], 1) - 1
        before_r = right_rN[np.arange(len(right_rN)), last_wrong_r]
        is_sorted_r = (right_rN[:, -1] == count) | (before_r == 0)
        found_r[is_sorted_r] = errors(_in_bins(right_rN[is_sorted_r], end_T), end_T)
        going_r = np.flatnonzero(~is_sorted_r)
        bins, is_finest = 0, False
        while len(going_r) and not is_finest:
            bins += 1
            end_B = ends_of(bins)
            right_rB = _in_bins(right_rN[going_r], end_B)
            accuracy_rB = right_rB / np.diff(end_B, prepend=0)
            rises_r = (accuracy_rB[:, 1:] >= accuracy_rB[:, :-1]).all(axis=1)
            going_r, right_rB = going_r[rises_r], right_rB[rises_r]
            found_r[going_r] = errors(right_rB, end_B)
            is_finest = len(end_B) == len(end_T)
        return found_r

    return value


def _in_bins(right_rN: NDArray[np.int32], end_B: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the right answers in each bin, (r, B)."""
    return np.diff(right_rN[:, end_B - 1], axis=1, prepend=np.int32(0))


def _miscalibration(metric: Any, values: Derived) -> _Value:  # noqa: ARG001
    from scipy.optimize import isotonic_regression

    end_T = _tie_ends(values)
    size_T = np.diff(end_T, prepend=0)
    sure_T, count = values.ascending[end_T - 1], len(values.ascending)

    def recalibrated(right_T: NDArray[np.int32]) -> float:
        fitted_T = isotonic_regression(right_T / size_T, weights=size_T).x
        return float(right_T @ (1 - fitted_T))

    def value(right_rN: NDArray[np.int32]) -> NDArray[np.float64]:
        right_rT = _in_bins(right_rN, end_T)
        score_r = sure_T**2 @ size_T - right_rT @ (2 * sure_T - 1)
        after_r = np.array([recalibrated(right_T) for right_T in right_rT])
        return np.asarray(np.maximum(score_r - after_r, 0.0) / count, dtype=np.float64)

    return value


def _smoothed(metric: Any, values: Derived) -> _Value:  # noqa: ARG001
    position_N = values.ascending * _GRID - 0.5
    cell_N = np.floor(position_N).astype(np.int64)
    upper_N = position_N - cell_N
    spread = [
        (np.clip(cells, 0, _GRID - 1), weight_N)
        for cells, weight_N in ((cell_N, 1 - upper_N), (cell_N + 1, upper_N))
    ]

    def density(right_rN: NDArray[np.int32]) -> NDArray[np.float64]:
        residual_rN = values.ascending - np.diff(right_rN, axis=1, prepend=np.int32(0))
        found_rG = np.zeros((len(right_rN), _GRID))
        for cells, weight_N in spread:
            starts = np.flatnonzero(np.diff(cells, prepend=-1))
            found_rG[:, cells[starts]] += np.add.reduceat(residual_rN * weight_N, starts, axis=1)
        return found_rG / len(values.ascending)

    def value(right_rN: NDArray[np.int32]) -> NDArray[np.float64]:
        return np.minimum(_fixed_points(density(right_rN)), 1.0)

    return value


def _fixed_points(density_rG: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bandwidth that equals the smoothed error, (r,).

    The excess of the error over the bandwidth falls from one end of the bracket to the other; its
    zero is found by the Illinois method (false position, halving the end that stays).
    """
    from scipy.fft import dct

    coefficients_rG = dct(density_rG, norm="ortho", axis=1)
    low_r, high_r = np.zeros(len(density_rG)), np.ones(len(density_rG))
    above_r = np.abs(density_rG).sum(axis=1)
    below_r = _smoothed_error(coefficients_rG, high_r) - high_r
    side_r = np.zeros(len(density_rG))
    for _ in range(_STEPS):
        # Where both ends are the fixed point, there is nothing left to divide.
        share_r = above_r / np.maximum(above_r - below_r, _CLOSE**2)
        middle_r = low_r + (high_r - low_r) * share_r
        excess_r = _smoothed_error(coefficients_rG, np.maximum(middle_r, _NARROWEST)) - middle_r
        is_low_r = excess_r > 0
        below_r = np.where(is_low_r, np.where(side_r > 0, below_r / 2, below_r), excess_r)
        above_r = np.where(is_low_r, excess_r, np.where(side_r < 0, above_r / 2, above_r))
        low_r, high_r = np.where(is_low_r, middle_r, low_r), np.where(is_low_r, high_r, middle_r)
        side_r = np.where(is_low_r, 1.0, -1.0)
        if np.abs(excess_r).max() < _CLOSE:
            break
    return np.asarray(middle_r, dtype=np.float64)


def _smoothed_error(
    coefficients_rG: NDArray[np.float64], bandwidth_r: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the integral of the smoothed residuals' size, (r,).

    Higher frequencies than the narrowest kernel lets through are left out, and the integral is a
    sum over 16 points for each of its bandwidths.
    """
    from scipy.fft import idct

    points = min(_GRID, 1 << int(np.ceil(np.log2(16 / bandwidth_r.min()))))
    decay = -((np.pi * np.arange(points)) ** 2) / 2
    damping = np.exp(bandwidth_r[:, None] ** 2 * decay)
    smooth = idct(coefficients_rG[:, :points] * damping, norm="ortho", axis=1)
    return np.asarray(np.abs(smooth).sum(axis=1) * np.sqrt(_GRID / points), dtype=np.float64)


ROWS: Final[Mapping[str, Row]] = {
    "calibration.ks": Row(_largest_sum, most=1 << 31),
    "calibration.ece_sweep": Row(_sweep, most=FEW),
    "calibration.smooth_ece": Row(_smoothed, most=FEW),
    "calibration.corp_miscalibration": Row(_miscalibration, most=FEW),
}
"""Metrics of the predicted class that need the right answers of all images."""
