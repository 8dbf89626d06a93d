"""How two metrics go together over the candidates of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shrinkproof.errors import UsageError
from shrinkproof.protocols import Undefined
from shrinkproof.statistics import Interval

# Shape suffixes: M candidates.

FISHER: Final = "fisher-z"
FEW: Final = 5
"""With fewer candidates than this a correlation carries a warning."""

_NO_SAMPLE: Final = (
    "candidates are chosen, not drawn at random: the interval says how precise a correlation of "
    "this many points is, not what other candidates would show"
)


@dataclass(frozen=True, slots=True)
class Correlation:
    """Correlation of two metrics over candidates.

    Attributes:
        pearson: linear correlation, -1 to 1.
        spearman: correlation of the ranks; tied values share their mean rank.
        pearson_interval: interval of ``pearson``, or why there is none.
        spearman_interval: interval of ``spearman``, or why there is none.
        count: number of candidates.
        caveat: what a reader must know.
    """

    pearson: float
    spearman: float
    pearson_interval: Interval
    spearman_interval: Interval
    count: int
    caveat: str


def correlation(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Correlation | Undefined:
    """Return how two metrics go together over candidates, within one network.

    Intervals are Fisher's: ``tanh(atanh(r) -+ z * s)`` with ``s = 1 / sqrt(M - 3)`` for Pearson and
    ``s = sqrt((1 + r^2 / 2) / (M - 3))`` for Spearman (Bonett and Wright 2000). They need four
    candidates.

    Args:
        x: (M,) values of one metric, finite; candidates where one is undefined are left out before.
        y: (M,) values of the other metric.
        level: confidence level, between 0 and 1.

    Raises:
        UsageError: lengths differ, a value is not finite, or the level is not between 0 and 1.

    Reference: Fisher 1921, "On the probable error of a coefficient of correlation"; Bonett and
    Wright 2000, doi:10.1007/BF02294183.
    """
    x_M, y_M = (np.asarray(values, dtype=np.float64) for values in (x, y))
    if x_M.ndim != 1 or x_M.shape != y_M.shape:
        raise UsageError(
            "correlation: both metrics must have one value per candidate, got "
            f"{x_M.shape} and {y_M.shape}"
        )
    if not (np.isfinite(x_M).all() and np.isfinite(y_M).all()):
        raise UsageError("correlation: every value must be finite; leave undefined ones out before")
    if not 0 < level < 1:
        raise UsageError(f"correlation: level must be between 0 and 1, got {level!r}")
    count = len(x_M)
    if count < 3:
        return Undefined(f"a correlation needs at least 3 candidates, got {count}")
    for values_M, which in ((x_M, "first"), (y_M, "second")):
        if np.ptp(values_M) == 0:
            return Undefined(f"all candidates have the same value of the {which} metric")
    pearson = _pearson(x_M, y_M)
    spearman = _pearson(_ranks(x_M), _ranks(y_M))
    return Correlation(
        pearson=pearson,
        spearman=spearman,
        pearson_interval=_interval(pearson, 1.0, count, level),
        spearman_interval=_interval(spearman, 1 + spearman**2 / 2, count, level),
        count=count,
        caveat=_NO_SAMPLE if count >= FEW else f"only {count} candidates; {_NO_SAMPLE}",
    )


def _pearson(x_M: NDArray[np.float64], y_M: NDArray[np.float64]) -> float:
    # Scaled first, so that neither tiny nor huge values leave the range of floats.
    a_M, b_M = (v - v.mean() for v in (x_M / np.abs(x_M).max(), y_M / np.abs(y_M).max()))
    a_M, b_M = a_M / np.abs(a_M).max(), b_M / np.abs(b_M).max()
    r = float(a_M @ b_M / math.sqrt(float(a_M @ a_M) * float(b_M @ b_M)))
    return min(1.0, max(-1.0, r))


def _ranks(values_M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1; tied values share their mean rank."""
    _, place_M, count = np.unique(values_M, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return np.asarray((ends - (count - 1) / 2)[place_M], dtype=np.float64)


def _interval(r: float, spread: float, count: int, level: float) -> Interval:
    if count < 4:
        return Interval(reason=f"an interval needs at least 4 candidates, got {count}")
    if abs(r) > 1 - 1e-12:
        return Interval(reason="all points lie on one line, so nothing varies around it")
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(spread / (count - 3))
    return Interval(math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), FISHER)
