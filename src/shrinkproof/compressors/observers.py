"""How the range of an activation is chosen: by its extremes, or by its histogram in a second pass.

Each function below takes a histogram and returns the lowest and the highest value that the 8-bit
integers should reach; everything beyond is cut off.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Shape suffixes: B bins, C candidates, L levels.

Rule = Literal["minmax", "percentile", "mse", "entropy"]
"""Names of the ways to choose a range."""

LOWEST: Final = 0
HIGHEST: Final = 255
"""Limits of the unsigned 8-bit integers of an activation."""

BINS: Final = 4096
"""Bins of a histogram; 16 for each integer, so what is inside of a bin hardly matters."""

PERCENTILE: Final = 0.9999
"""``percentile`` covers all but the lowest and highest 0.01 % of the values."""

CUTS: Final = 128
"""``mse`` tries this many ends on each side of zero, evenly spaced."""

EXACT: Final = 2**24
"""Values counted at once: `torch.histc` counts in float32, which stops at this number."""

MAGNITUDES: Final = 2048
"""Bins of the absolute values behind ``entropy``, as in TensorRT."""


class Observer(Protocol):
    """Watches the values of one place in the network."""

    def see(self, values: Tensor) -> None:
        """Take one batch into account."""
        ...


class Extremes:
    """The smallest and the largest value seen; not finite if one value was not."""

    def __init__(self) -> None:
        self._low = torch.tensor(float("inf"))
        self._high = torch.tensor(float("-inf"))

    @property
    def low(self) -> float:
        """Smallest value seen."""
        return float(self._low)

    @property
    def high(self) -> float:
        """Largest value seen."""
        return float(self._high)

    def see(self, values: Tensor) -> None:
        """Take one batch into account."""
        low, high = torch.aminmax(values.detach())
        # Unlike those of Python, these keep a value that is no number.
        self._low = torch.minimum(self._low.to(low), low)
        self._high = torch.maximum(self._high.to(high), high)


class Histogram:
    """Counts of values between two known extremes, in a second pass.

    Args:
        low: smallest value that will be seen.
        high: largest value that will be seen, > ``low``.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high
        self.counts = torch.zeros(BINS, dtype=torch.float64)

    def see(self, values: Tensor) -> None:
        """Take one batch into account."""
        for part in values.detach().float().reshape(-1).split(EXACT):
            found = torch.histc(part, bins=BINS, min=self.low, max=self.high)
            self.counts += found.cpu().double()

    def percentiles(self, fraction: float) -> tuple[float, float]:
        """Return the values below which ``1 - fraction`` and ``fraction`` of all values lie.

        Each is rounded outward to the edge of its bin.
        """
        share = self.counts.cumsum(0) / self.counts.sum()
        first = int((share <= 1 - fraction).sum())
        last = int((share < fraction).sum())
        step = (self.high - self.low) / BINS
        return self.low + first * step, self.low + min(last + 1, BINS) * step


def histogram_for(rule: Rule, seen: Extremes) -> Histogram | None:
    """Return the empty histogram of a place, or None where its extremes are the range already."""
    if rule == "minmax" or not seen.low < seen.high:
        return None
    if rule == "entropy":
        # Symmetric about zero, or from zero on, so that bins of absolute values are sums of bins.
        largest = max(abs(seen.low), abs(seen.high))
        return Histogram(0.0 if seen.low >= 0 else -largest, largest)
    return Histogram(seen.low, seen.high)


def range_of(rule: Rule, seen: Extremes, counted: Histogram | None) -> tuple[float, float]:
    """Return the range that a rule chooses for a place, (low, high)."""
    if counted is None:
        return seen.low, seen.high
    if rule == "mse":
        return least_error_range(counted)
    if rule == "entropy":
        return entropy_range(counted, seen)
    return counted.percentiles(PERCENTILE)


def grid_of(low: float, high: float) -> tuple[float, int]:
    """Return step and zero point of the unsigned 8-bit grid that covers a range and zero.

    A range that is nothing but zero becomes 0 to 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / (HIGHEST - LOWEST)
    if step < torch.finfo(torch.float32).tiny:
        return 1.0 / (HIGHEST - LOWEST), LOWEST
    return step, min(max(round(-low / step), LOWEST), HIGHEST)


def least_error_range(counted: Histogram) -> tuple[float, float]:
    """Return the range with the least mean squared error of quantization.

    Rounding errors shrink with the range, errors of what is cut off grow; their sum is measured on
    the centers of the bins (Banner et al. 2019, arXiv:1810.05723, section 3, without their
    assumption about the distribution). The upper and the lower end move in turn over ``CUTS``
    evenly spaced values between zero and the extreme until neither improves.
    """
    edges = np.linspace(counted.low, counted.high, BINS + 1)
    centers_B = (edges[:-1] + edges[1:]) / 2
    counts_B = counted.counts.numpy()
    kept = counts_B > 0
    centers_B, counts_B = centers_B[kept], counts_B[kept]
    shares_C = np.arange(CUTS, 0, -1) / CUTS
    low, high = min(counted.low, 0.0), max(counted.high, 0.0)
    lows_C, highs_C = np.unique(shares_C * low), np.unique(shares_C * high)[::-1]
    least = quantization_error(centers_B, counts_B, low, high)
    while True:
        before = least
        for end in highs_C:
            error = quantization_error(centers_B, counts_B, low, end)
            if error < least:
                least, high = error, float(end)
        for end in lows_C:
            error = quantization_error(centers_B, counts_B, end, high)
            if error < least:
                least, low = error, float(end)
        if not least < before:
            return low, high


def quantization_error(
    values_B: NDArray[np.float64], counts_B: NDArray[np.float64], low: float, high: float
) -> float:
    """Return the sum of squared errors that rounding values to the grid of a range makes."""
    step, zero = grid_of(low, high)
    levels_B = np.clip(np.rint(values_B / step) + zero, LOWEST, HIGHEST)
    return float(counts_B @ ((levels_B - zero) * step - values_B) ** 2)


def entropy_range(counted: Histogram, seen: Extremes) -> tuple[float, float]:
    """Return the range that loses the least information, by relative entropy.

    The procedure of TensorRT (Migacz 2017, "8-bit inference with TensorRT", GPU Technology
    Conference; `entropy_bins`), on absolute values, with 128 levels where values have both signs
    and 256 where none is negative. TensorRT's grid is symmetric; ours need not be, so a threshold
    cuts only the side that reaches beyond it.

    Args:
        counted: from zero on, or symmetric about zero.
        seen: the extremes of the same values.
    """
    counts_B = counted.counts.numpy()
    if counted.low < 0:
        half = BINS // 2
        magnitudes, levels = counts_B[half:] + counts_B[:half][::-1], 128
    else:
        magnitudes, levels = counts_B.reshape(MAGNITUDES, -1).sum(axis=1), 256
    limit = counted.high * entropy_bins(magnitudes, levels) / MAGNITUDES
    return max(seen.low, -limit), min(seen.high, limit)


def entropy_bins(counts_B: NDArray[np.float64], levels: int) -> int:
    """Return how many bins to keep so that relative entropy is least; the most of equal ones.

    For each number of bins kept, ``p`` is the histogram with all that lies beyond added to the
    last bin, and ``q`` the histogram without it, averaged over the nonempty bins of each of
    ``levels`` groups of bins; both sum to one, and the divergence is ``sum p log(p / q)``. The
    first bin counts as much as the second: zeros of a rectifier are exact at any range. At most
    half of the values may lie beyond: where none is near zero, ``p`` and ``q`` would be equal for
    the first nonempty bin alone, which cuts off all others.

    Args:
        counts_B: of absolute values, from zero on.
        levels: numbers that the integers can tell apart, at most the number of bins.
    """
    counts_B = np.concatenate([counts_B[1:2], counts_B[1:]])
    total = counts_B.sum()
    if total == 0:
        return len(counts_B)
    kept_C = np.arange(levels, len(counts_B) + 1)
    starts_CL = -(-np.arange(levels + 1) * kept_C[:, None] // levels)
    group_CL = np.diff(_running(counts_B)[starts_CL], axis=1)
    filled_CL = np.diff(_running(counts_B > 0)[starts_CL], axis=1)
    mean_CL = np.divide(group_CL, filled_CL, out=np.ones_like(group_CL), where=filled_CL > 0)
    last_C = counts_B[kept_C - 1]
    inside_C = _running(counts_B)[kept_C]
    beyond_C = total - inside_C
    beyond_C[-1] = 0.0
    p_log_p_C = _running(_x_log_x(counts_B))[kept_C - 1] + _x_log_x(last_C + beyond_C)
    p_log_q_C = (group_CL * np.log(mean_CL)).sum(axis=1) + beyond_C * np.log(mean_CL[:, -1])
    # Where the last bin is empty but takes what lies beyond, q is zero and p is not.
    possible_C = ((last_C > 0) | (beyond_C <= 0)) & (inside_C > 0) & (beyond_C <= inside_C)
    divergence_C = (p_log_p_C - p_log_q_C) / total - np.log(total)
    divergence_C += np.log(np.where(inside_C > 0, inside_C, 1.0))
    divergence_C[~possible_C] = np.inf
    return int(kept_C[divergence_C <= divergence_C.min() + 1e-12].max())


def _running(values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the sums of the first 0, 1, 2, ... values."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _x_log_x(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values * np.log(np.where(values > 0, values, 1.0))
