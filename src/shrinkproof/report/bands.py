"""Where the accuracy of a bin of answers lies if their confidence is honest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.95

# Shape suffixes: B bins.


def honest_bands(
    count_B: Sequence[int] | NDArray[Any],
    confidence_B: Sequence[float] | NDArray[Any],
    level: float = LEVEL,
) -> NDArray[np.float64]:
    """Return the central range of each bin's accuracy under perfect calibration, (B, 2).

    Right answers of n images of mean confidence c are taken as binomial with n and c; the ends are
    exact quantiles. Confidences that differ within a bin make the spread smaller (Hoeffding 1956).
    The range is that of one bin: of twenty honest bins one is expected outside.

    Args:
        count_B: (B,) images of each bin, at least 1.
        confidence_B: (B,) mean confidence of each bin, 0 to 1.
        level: probability of the range.
    """
    # scipy.special costs 0.1 s to import, and a page may have no diagram.
    from scipy.special import bdtr

    n_B = np.asarray(count_B, dtype=np.int64)
    c_B = np.clip(np.asarray(confidence_B, dtype=np.float64), 0.0, 1.0)
    tails = ((1 - level) / 2, (1 + level) / 2)
    return np.stack([_quantile(tail, n_B, c_B, bdtr) / n_B for tail in tails], axis=1)


def _quantile(
    probability: float, n_B: NDArray[np.int64], c_B: NDArray[np.float64], cdf: Any
) -> NDArray[np.int64]:
    """Return the smallest number of right answers with at least this cumulated probability."""
    low_B, high_B = np.full_like(n_B, -1), n_B.copy()
    while (high_B - low_B > 1).any():
        middle_B = (low_B + high_B) // 2
        reaches_B = cdf(middle_B.astype(np.float64), n_B, c_B) >= probability
        reaches_B &= middle_B >= 0
        is_open_B = high_B - low_B > 1
        high_B = np.where(is_open_B & reaches_B, middle_B, high_B)
        low_B = np.where(is_open_B & ~reaches_B, middle_B, low_B)
    return high_B
