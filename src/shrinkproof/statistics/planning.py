"""How many independent units a certificate needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.randomness import stream
from shrinkproof.statistics.tails import (
    BETTING,
    BINOMIAL,
    HOEFFDING_BENTKUS,
    LARGEST_BET,
    METHODS,
    RiskMethod,
    boundary,
    check_error,
    check_range,
    hoeffding_bentkus_p,
)

# Shape suffixes: K points that stand for the distribution of a loss, U units, T tests,
# R simulated data sets.

MAXIMUM_UNITS: Final = 10**9
"""Most units that are ever called needed; more are as good as none."""

_STILL: Final = 1e-12
"""Variance of the capital's logarithm below which it goes straight to its goal."""

_ROUNDING: Final = 1e-9
"""A measured standard deviation may exceed the largest one by this."""

_NODES: Final = 16
"""Points that stand for a Beta variable."""

_BETA: Final = (0.01, 100.0)
"""Parameters of Beta variables that are told from a coin and from a constant."""


def units_needed(
    risk: float,
    limit: float,
    *,
    error: float = 0.05,
    power: float = 0.8,
    sd: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    method: RiskMethod = "auto",
) -> int | None:
    """Return how many independent units certify the limit with probability ``power``.

    * ``binomial``: exact. The smallest count at which the test of right and wrong has this power.
    * ``hoeffding-bentkus``: the mean loss is taken as normal.
    * ``betting``: the logarithm of the capital is taken as Brownian motion. Losses that may be
      negative are ``low``, ``high`` or their mean, as excess errors are; others are spread like a
      Beta variable.

    Args:
        risk: the true risk that is planned for.
        limit: the promised limit.
        error: error of the test; with M candidates under Holm 0.05 / M is the safe choice.
        power: probability of being certified.
        sd: standard deviation of the loss of a unit; None for right and wrong, where the risk
            says it.
        low: smallest loss that is possible.
        high: largest loss that is possible.
        method: as for `risk_test`; ``auto`` is ``binomial`` where losses cannot be negative and
            ``sd`` is not given, else ``betting``.

    Returns:
        The count, or None where no count up to 10**9 is enough: the risk is not below the limit,
        or too little.

    Raises:
        UsageError: a number is out of its range, or betting is planned without ``sd``.
    """
    check_range("units needed", risk, low, high)
    check_range("units needed", limit, low, high)
    check_error("units needed", error)
    check_error("units needed", power)
    chosen = _planned_method(method, low, sd)
    if risk >= limit:
        return None
    width = high - low
    risk, limit = (risk - low) / width, (limit - low) / width
    if chosen == BINOMIAL:
        return _binomial_units(risk, limit, error, power)
    spread = math.sqrt(risk * (1 - risk)) if sd is None else sd / width
    if not 0 <= spread <= 0.5 + _ROUNDING:
        raise UsageError(
            f"units needed: sd must be 0 to half the range of the loss, got {sd} for {low:g} to "
            f"{high:g}"
        )

    if chosen == HOEFFDING_BENTKUS:
        return _smallest(lambda n: _bentkus_power(n, risk, spread, limit, error) >= power, 1)
    shape = _ternary(risk, spread) if low < 0 else _beta(risk, spread)
    return _smallest(lambda n: _betting_power(n, *shape, spread, limit, error) >= power, 1)


SURE: Final = 0.99
"""A second power at which units are planned; between the two, and beyond, a curve stands for it."""

_SIMULATED: Final = 2000
"""Data sets that show how often several tests fail together."""


def loss_ranks(losses: Sequence[NDArray[Any]], name: str) -> NDArray[np.float64]:
    """Return the ranks of the mean losses of several tests of the same units, (R, T), in (0, 1].

    Mean losses of simulated data sets that depend on each other as the given losses do (multiplier
    bootstrap: each unit's deviation times a normal number, the same one in all tests).

    Args:
        losses: per test the loss of each unit, (U,), in the same order.
        name: of the units; other names have other random numbers.
    """
    loss_UT = np.stack([np.asarray(losses_U, dtype=np.float64) for losses_U in losses], axis=1)
    draws_RU = stream("images needed", name).standard_normal((_SIMULATED, len(loss_UT)))
    mean_RT = draws_RU @ (loss_UT - loss_UT.mean(axis=0))
    return np.asarray((mean_RT.argsort(axis=0).argsort(axis=0) + 1) / _SIMULATED)


def units_for_all(
    first_T: NDArray[Any], sure_T: NDArray[Any], rank_RT: NDArray[np.float64], power: float = 0.8
) -> int:
    """Return how many units let all tests succeed together with probability ``power``.

    A test that succeeds with 80 % is one of many that all must: 10 independent ones do so with
    11 %. The power of each test grows with the root of the units on the normal scale.

    Args:
        first_T: units that give each test the power ``power`` alone.
        sure_T: units that give each the power `SURE`.
        rank_RT: which tests fail together, see `loss_ranks`.
        power: of all tests together, below `SURE`.
    """
    from scipy.special import ndtr, ndtri

    root_T = np.sqrt(first_T)
    step_T = np.maximum(np.sqrt(sure_T) - root_T, _STILL)
    start = float(ndtri(power))
    slope_T = (float(ndtri(SURE)) - start) / step_T

    def is_enough(count: int) -> bool:
        power_T = ndtr(start + slope_T * (math.sqrt(count) - root_T))
        succeeds_R = (rank_RT <= power_T + _ROUNDING).all(axis=1)
        return float(succeeds_R.mean()) >= power - _ROUNDING

    return _smallest(is_enough, int(np.max(first_T))) or MAXIMUM_UNITS


def _planned_method(method: RiskMethod, low: float, sd: float | None) -> str:
    if method == "auto":
        method = "binomial" if low >= 0 and sd is None else "betting"
    if method not in METHODS:
        raise UsageError(f"units needed: method must be auto, {', '.join(METHODS)}, got {method}")
    if method == BETTING and sd is None:
        raise UsageError("units needed: betting must have the spread of the loss; give sd")
    return method


def _binomial_units(risk: float, limit: float, error: float, power: float) -> int | None:
    """Return the smallest count whose exact test has the power.

    For each number of tolerated failures the smallest count that certifies is the one with the most
    power, so only these are searched.
    """
    from scipy.special import betainc

    def tail(failures: int, count: int, chance: float) -> float:
        """Return P(Bin(count, chance) <= failures); `bdtr` overflows for planned counts."""
        return float(betainc(count - failures, failures + 1, 1 - chance))

    def count_of(failures: int) -> int | None:
        return _smallest(lambda count: tail(failures, count, limit) <= error, failures + 1)

    def is_enough(failures: int) -> bool:
        count = count_of(failures)
        return count is None or tail(failures, count, risk) >= power

    failures = _smallest(is_enough, 0)
    return None if failures is None else count_of(failures)


def _bentkus_power(count: int, risk: float, sd: float, limit: float, error: float) -> float:
    """Return the probability of being certified, the mean loss being normal."""
    from scipy.special import ndtr

    if hoeffding_bentkus_p(0.0, count, limit) > error:
        return 0.0
    # The mean loss from which on nothing is certified.
    most = boundary(lambda mean: hoeffding_bentkus_p(mean, count, limit) > error, 0.0, 1.0)
    if not sd:
        return float(risk < most)
    return float(ndtr((most - risk) * math.sqrt(count) / sd))


def _betting_power(
    count: int,
    points_K: NDArray[np.float64],
    share_K: NDArray[np.float64],
    sd: float,
    limit: float,
    error: float,
) -> float:
    """Return the probability that the bettor's capital reaches 1 / error.

    The logarithm of the capital is a random walk; a Brownian motion of the same mean and variance
    stands for it.
    """
    from scipy.special import ndtr

    # Early bets are small, since the spread is estimated from a first guess of one half.
    variance = sd**2 + math.log(count + 1) / (4 * count)
    most = LARGEST_BET / (1 - limit) if limit < 1 else math.inf
    bet = min(most, math.sqrt(2 * math.log(1 / error) / (count * variance)))
    gain_K = np.log1p(-bet * (points_K - limit))
    drift = float(share_K @ gain_K)
    jitter = float(share_K @ (gain_K - drift) ** 2)
    goal = math.log(1 / error)
    if jitter * count < _STILL:
        return float(drift * count >= goal)
    step = math.sqrt(jitter * count)
    reached = float(ndtr((drift * count - goal) / step))
    if drift <= 0:
        return reached
    fallen = float(ndtr((-drift * count - goal) / step))
    return reached + (math.exp(min(700.0, 2 * drift * goal / jitter)) * fallen if fallen else 0.0)


def _ternary(risk: float, sd: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a loss that is 0, 1 or its mean, as points and their shares."""
    moved = min(1.0, sd**2 / (risk * (1 - risk))) if 0 < risk < 1 else 0.0
    share_K = np.array([moved * (1 - risk), 1 - moved, moved * risk])
    return np.array([0.0, risk, 1.0]), share_K


def _beta(risk: float, sd: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a loss that is spread like a Beta variable, as points and their shares."""
    strength = risk * (1 - risk) / sd**2 - 1 if sd else math.inf
    smallest = strength * min(risk, 1 - risk)
    if not _BETA[0] < smallest < _BETA[1]:
        return _ternary(risk, sd)
    from scipy.special import roots_sh_jacobi

    points_K, weight_K = roots_sh_jacobi(_NODES, strength - 1, strength * risk)
    return points_K, weight_K / weight_K.sum()


def _smallest(is_enough: Callable[[int], bool], start: int) -> int | None:
    """Return the smallest number from ``start`` on that is enough, None above `MAXIMUM_UNITS`."""
    step = 1
    while not is_enough(start + step - 1):
        step *= 2
        if start + step > 2 * MAXIMUM_UNITS:
            return None
    below, above = start + step // 2 - 1, start + step - 1
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if is_enough(middle) else (middle, above)
    return above
