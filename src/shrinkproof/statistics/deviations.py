"""Ends of the intervals of binned calibration errors and of their changes, by L1 deviations.

``docs/calibration-intervals.md`` has the derivations and the measured coverage.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# Shape suffixes: K bins, R bootstrap replicates.

KNOWN_SIGN: Final = 3.0
"""Standard deviations from which on the sign of a bin's gap is taken as known."""


def deviation_ends(
    gaps_K: NDArray[np.float64], means_RK: NDArray[np.float64], tail: float
) -> tuple[float, float]:
    """Return the interval of ``sum |gap|``.

    Args:
        gaps_K: (K,) signed gap of each bin.
        means_RK: (R, K) its replicates.
        tail: probability left out at each end.
    """
    from scipy.special import ndtri

    deviation_R = np.abs(means_RK - gaps_K).sum(axis=1)
    spread = float(np.abs(means_RK).sum(axis=1).std(ddof=1))
    value = float(np.abs(gaps_K).sum())
    low = max(0.0, value - float(np.quantile(deviation_R, 1 - tail)))
    high = min(1.0, value + float(ndtri(1 - tail)) * spread)
    return low, high


def paired_deviation_ends(
    gaps_K: NDArray[np.float64], means_RK: NDArray[np.float64], tail: float
) -> tuple[float, float]:
    """Return the interval of ``sum |gap of a| - sum |gap of b|`` over the same images.

    With z the deviation of a bin's gap from its expectation and s the sign of that expectation,
    ``s z <= |g| - |E g| <= |z|``, and the left side is exact where the sign is beyond doubt. So
    the estimate exceeds the truth by at most the sum of ``|z_a| - s_b z_b``, or
    ``s_a z_a - s_b z_b`` where the sign of a is known, whose distribution is that of the
    replicates. Besides, the truth is not larger than the sum of ``|E g_a - E g_b|``, which is at
    most that of ``|g_a - g_b|`` plus that of ``|z_a - z_b|``: for models that are nearly equal this
    is the tighter bound.

    Args:
        gaps_K: (2 K,) signed gaps of a, then those of b.
        means_RK: (R, 2 K) their replicates.
        tail: probability left out at each end.
    """
    gaps_2K = gaps_K.reshape(2, -1)
    shifts_R2K = (means_RK - gaps_K).reshape(len(means_RK), 2, -1)
    value = float(np.abs(gaps_2K[0]).sum() - np.abs(gaps_2K[1]).sum())
    signed_R2K = np.sign(gaps_2K) * shifts_R2K
    is_known_2K = np.abs(gaps_2K) > KNOWN_SIGN * shifts_R2K.std(axis=0)
    most_R2 = np.where(is_known_2K, signed_R2K, np.abs(shifts_R2K)).sum(axis=2)
    least_R2 = signed_R2K.sum(axis=2)
    below, above = (
        float(np.quantile(most_R2[:, one] - least_R2[:, other], 1 - tail))
        for one, other in ((0, 1), (1, 0))
    )
    apart_R = np.abs(shifts_R2K[:, 0] - shifts_R2K[:, 1]).sum(axis=1)
    distance = float(np.abs(gaps_2K[0] - gaps_2K[1]).sum() + np.quantile(apart_R, 1 - tail))
    return max(value - below, -distance, -1.0), min(value + above, distance, 1.0)
