"""Tests that a mean loss is below a limit, valid for every sample size and every distribution.

The null hypothesis is that the risk, the mean loss of the world that the units come from, is at
least the limit. A small p-value certifies a risk below the limit, and so at most the limit. Nothing
is assumed but independent units from one world and losses within known bounds. No p-value here
is an approximation: whatever the world, p <= a happens with probability at most a where the null
hypothesis is true.

The independent unit is the image, or its group; never an image under one condition. 75 conditions
of one image are one unit: their mean is its loss, or each condition has a test of its own.

Reference: Angelopoulos et al. 2021, "Learn then Test", arXiv:2110.01052; Bates et al. 2021,
doi:10.1145/3478535; Waudby-Smith and Ramdas 2024, doi:10.1093/jrsssb/qkad009.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.randomness import stream
from shrinkproof.statistics.planning import units_needed
from shrinkproof.statistics.tails import (
    BETTING,
    BINOMIAL,
    HOEFFDING_BENTKUS,
    METHODS,
    RiskMethod,
    bets,
    betting_p,
    binomial_p,
    boundary,
    capital_p,
    check_error,
    check_range,
    checked,
    hoeffding_bentkus_p,
)

__all__ = [
    "RiskTest",
    "betting_p",
    "binomial_p",
    "hoeffding_bentkus_p",
    "independent_units",
    "risk_test",
    "units_needed",
]

# Shape suffixes: N images, U independent units.


@dataclass(frozen=True, slots=True)
class RiskTest:
    """The outcome of one test that the risk is below a limit.

    Attributes:
        p: p-value of "the risk is at least the limit", 0 to 1.
        risk: mean loss of the units seen.
        upper: upper confidence bound of the risk: every limit above it is certified by the same
            test.
        count: number of independent units.
        method: ``binomial``, ``hoeffding-bentkus`` or ``betting``.
    """

    p: float
    risk: float
    upper: float
    count: int
    method: str


def independent_units(losses_N: NDArray[Any], groups: NDArray[Any] | None) -> NDArray[Any]:
    """Return one loss per independent unit, (U,): the image's own, or the mean of its group.

    The promise about groups is one about the mean over groups: a group of 100 images counts as much
    as a group of one. Losses of images without groups keep their type, so that right and wrong
    stay right and wrong (see `risk_test`). Groups come in sorted order.

    Args:
        losses_N: (N,) loss of each image.
        groups: (N,) group of each image, None where images are independent.

    Raises:
        UsageError: ``groups`` has another length.
    """
    if groups is None:
        return losses_N
    if len(groups) != len(losses_N):
        raise UsageError(
            f"groups: must have one value per image ({len(losses_N)}), got {len(groups)}"
        )
    _, group_N = np.unique(groups, return_inverse=True)
    sums_U = np.bincount(group_N, losses_N.astype(np.float64))
    return np.asarray(sums_U / np.bincount(group_N), dtype=np.float64)


def risk_test(
    losses_U: NDArray[Any],
    limit: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
    method: RiskMethod = "auto",
    error: float = 0.05,
) -> RiskTest:
    """Return the test that the risk is at least ``limit``, with the upper bound of the risk.

    The method must not depend on the losses seen, so ``auto`` goes by their type and bounds alone:
    ``binomial`` for booleans and whole numbers within [0, 1] (right or wrong), else ``betting``,
    which makes use of losses that spread less than their bounds allow. Losses that are right or
    wrong but stored as floating-point numbers need ``method="binomial"``.

    Betting looks at the units one after another. They are shuffled first, by a generator that
    depends on nothing but their number; the caller's order must be the same whenever the test is
    repeated (by image index, as predictions are stored). A bettor may have won early and lost it
    all by the end: where the mean loss is not below the limit the p-value is 1 all the same, so
    that nobody is certified against the measured risk.

    Args:
        losses_U: (U,) loss of each independent unit, see `independent_units`.
        limit: the promised limit, ``low`` to ``high``.
        low: smallest loss that is possible.
        high: largest loss that is possible.
        method: ``auto``, ``binomial``, ``hoeffding-bentkus`` or ``betting``.
        error: the upper bound holds with a confidence of 1 - ``error``.

    Raises:
        UsageError: there are no units, a loss is not finite or out of its bounds, the limit is out
            of the bounds, or ``binomial`` meets a loss that is neither ``low`` nor ``high``.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"risk test: low must be below high, got {low} and {high}")
    values_U = (checked("risk test", losses_U, low, high) - low) / (high - low)
    check_range("risk test", limit, low, high)
    check_error("risk test", error)
    chosen = _method(losses_U, low, method)
    test = _prepared(values_U, chosen, error)
    upper = low + (high - low) * _upper_bound(test, float(values_U.mean()), error)
    return RiskTest(
        p=test((limit - low) / (high - low)),
        risk=float(np.asarray(losses_U, dtype=np.float64).mean()),
        upper=min(high, upper),
        count=len(values_U),
        method=chosen,
    )


def _method(losses_U: NDArray[Any], low: float, method: RiskMethod) -> str:
    if method == "auto":
        is_binary = low >= 0 and np.asarray(losses_U).dtype.kind in "biu"
        return BINOMIAL if is_binary else BETTING
    if method not in METHODS:
        raise UsageError(f"risk test: method must be auto, {', '.join(METHODS)}, got {method!r}")
    return method


def _prepared(values_U: NDArray[np.float64], method: str, error: float) -> Callable[[float], float]:
    """Return the p-value as a function of the limit; it falls as the limit rises."""
    count = len(values_U)
    if method == BETTING:
        shuffled_U = values_U[stream("risk test", count).permutation(count)]
        bets_U = bets(shuffled_U, error)
        mean = float(values_U.mean())
        return lambda limit: capital_p(shuffled_U, bets_U, limit) if mean < limit else 1.0
    if method == HOEFFDING_BENTKUS:
        mean = min(1.0, max(0.0, math.fsum(values_U) / count))
        return lambda limit: hoeffding_bentkus_p(mean, count, limit)
    failures = int((values_U == 1).sum())
    if failures + int((values_U == 0).sum()) < count:
        raise UsageError(
            "risk test: losses must be right or wrong for the binomial test, got others; use "
            "hoeffding-bentkus or betting"
        )
    return lambda limit: binomial_p(failures, count, limit)


def _upper_bound(test: Callable[[float], float], mean: float, error: float) -> float:
    """Return the smallest limit above which every limit is certified, 0 to 1."""
    if test(1.0) > error:
        return 1.0
    return boundary(lambda limit: test(limit) <= error, mean, 1.0)
