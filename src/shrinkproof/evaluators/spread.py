"""What several fresh processes say together about a time or a ratio of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

FEWEST: Final = 5
"""Processes below which no interval is stated."""

METHOD: Final = "t-log-processes"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, or the reason why there is no interval.

    Attributes:
        value: the number.
        low: lower end, None where no interval is stated.
        high: upper end, None where no interval is stated.
        method: how the interval was made; empty where there is none.
        reason: why there is none; empty where there is one.
    """

    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""
    reason: str = ""


def over_processes(values: Sequence[float]) -> Estimate:
    """Return the median of one positive number per process, with its 95 % interval.

    Inferences of one process resemble each other, so a process counts once. Its numbers vary by
    factors, so the interval is Student's on the logarithms, ``exp(mean +- t(n - 1) s / sqrt(n))``;
    the rare one that misses the median, which outliers move less, is widened to it.

    Args:
        values: one per process, above 0.
    """
    value = float(np.median(values))
    if len(values) < FEWEST:
        reason = f"no interval: it needs {FEWEST} processes, got {len(values)}"
        return Estimate(value, reason=reason)
    # scipy.special costs 0.1 s to import; commands that only read tables never come here.
    from scipy.special import stdtrit

    logs = np.log(np.asarray(values, dtype=np.float64))
    half = float(stdtrit(len(values) - 1, 0.975) * logs.std(ddof=1) / np.sqrt(len(values)))
    low, high = (float(np.exp(logs.mean() + end)) for end in (-half, half))
    return Estimate(value, min(low, value), max(high, value), METHOD)
