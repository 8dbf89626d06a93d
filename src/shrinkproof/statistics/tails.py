"""P-values of "the mean loss is at least the limit", for every number of units; see `risk`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError

# Shape suffixes: U independent units.

BINOMIAL: Final = "binomial"
HOEFFDING_BENTKUS: Final = "hoeffding-bentkus"
BETTING: Final = "betting"

RiskMethod = Literal["auto", "binomial", "hoeffding-bentkus", "betting"]

METHODS: Final = (BINOMIAL, HOEFFDING_BENTKUS, BETTING)

LARGEST_BET: Final = 0.75
"""Share of the capital that may be lost on one unit; below 1, so that one unit ruins nobody."""

_HALVINGS: Final = 50
"""Steps of a bisection; it ends within 1e-15 of the range of the loss."""

_SUM_DIGITS: Final = 9
"""Sums of losses are rounded here: rounding errors must not lift a whole number to the next."""


def binomial_p(failures: int, count: int, limit: float) -> float:
    """Return the probability of so few failures where each unit fails with probability ``limit``.

    The exact binomial tail P(Bin(count, limit) <= failures), 0 to 1.

    Raises:
        UsageError: there are no units, more failures than units, or the limit is not in [0, 1].
    """
    if count < 1 or not 0 <= failures <= count or not 0 <= limit <= 1:
        raise UsageError(
            "binomial test: failures must be 0 to count >= 1 and the limit between 0 and 1, got "
            f"{failures} of {count} and {limit}"
        )
    from scipy.special import bdtr

    return float(bdtr(failures, count, limit))


def hoeffding_bentkus_p(mean: float, count: int, limit: float) -> float:
    """Return the Hoeffding-Bentkus p-value of a mean of losses in [0, 1].

    p = min(exp(-n h(min(R, a), a)), e P(Bin(n, a) <= ceil(n R))) with the mean loss R of n units,
    the limit a and the relative entropy h of two coins.

    Raises:
        UsageError: there are no units, or mean or limit are not in [0, 1].

    Reference: Bates et al. 2021, doi:10.1145/3478535; Bentkus 2004, doi:10.1214/009117904000000360.
    """
    if count < 1 or not 0 <= mean <= 1 or not 0 <= limit <= 1:
        raise UsageError(
            "hoeffding-bentkus test: mean and limit must be between 0 and 1 and count at least "
            f"1, got {mean}, {limit} and {count}"
        )
    from scipy.special import bdtr, rel_entr

    low = min(mean, limit)
    entropy = float(rel_entr(low, limit) + rel_entr(1 - low, 1 - limit))
    total = math.ceil(round(mean * count, _SUM_DIGITS))
    return min(1.0, math.exp(-count * entropy), math.e * float(bdtr(total, count, limit)))


def betting_p(values_U: NDArray[Any], limit: float, *, error: float = 0.05) -> float:
    """Return the p-value of a bettor who wagers that the mean of values in [0, 1] is below a limit.

    The capital starts at 1 and is multiplied by 1 - b (x - limit) for each unit. If the mean is at
    least the limit this game is not favorable, so the capital reaches 1 / p with probability at
    most p (Ville's inequality), and p = min(1, 1 / largest capital). The bet b is set from the
    spread of the units *before* this one, b = sqrt(2 log(1 / error) / (n variance)), and at most
    0.75 / (1 - limit). Where the spread is small the bets are large: this is the test for losses
    that are nearly always the same, such as the excess error of two similar models.

    Args:
        values_U: (U,) losses in an order that was fixed before anyone looked at them and has
            nothing to do with them. Sorted by class, score or folder is no such order; `risk_test`
            shuffles.
        limit: the mean to be beaten, 0 to 1.
        error: the level that the bets aim at. The p-value is valid for all levels, whatever it is.

    Raises:
        UsageError: there are no units, a value or the limit is not in [0, 1], or the error is not
            in (0, 1).

    Reference: Waudby-Smith and Ramdas 2024, doi:10.1093/jrsssb/qkad009, section 4.
    """
    values_U = checked("betting test", values_U, 0.0, 1.0)
    check_range("betting test", limit, 0.0, 1.0)
    check_error("betting test", error)
    return capital_p(values_U, bets(values_U, error), limit)


def bets(values_U: NDArray[np.float64], error: float) -> NDArray[np.float64]:
    """Return the bet on each unit, made from the units before it."""
    count = len(values_U)
    seen_U = np.arange(2, count + 2)
    mean_U = (0.5 + np.cumsum(values_U)) / seen_U
    variance_U = (0.25 + np.cumsum((values_U - mean_U) ** 2)) / seen_U
    before_U = np.concatenate([[0.25], variance_U[:-1]])
    return np.asarray(np.sqrt(2 * math.log(1 / error) / (count * before_U)), dtype=np.float64)


def capital_p(values_U: NDArray[np.float64], bets_U: NDArray[np.float64], limit: float) -> float:
    """Return 1 / largest capital; it falls as the limit rises, because every factor does not."""
    if limit < 1:
        bets_U = np.minimum(bets_U, LARGEST_BET / (1 - limit))
    capital_U = np.cumsum(np.log1p(-bets_U * (values_U - limit)))
    return min(1.0, math.exp(-min(700.0, float(capital_U.max()))))


def boundary(is_beyond: Callable[[float], bool], start: float, end: float) -> float:
    """Return the smallest number between ``start`` and ``end`` that is beyond, by halving."""
    for _ in range(_HALVINGS):
        middle = (start + end) / 2
        start, end = (start, middle) if is_beyond(middle) else (middle, end)
    return end


def checked(test: str, values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """Return losses as (U,) floating-point numbers.

    Raises:
        UsageError: there are none, or one is not within its bounds.
    """
    values_U = np.asarray(values).astype(np.float64)
    if values_U.ndim != 1 or not len(values_U):
        raise UsageError(
            f"{test}: must have one loss for each of at least 1 unit, got shape {values_U.shape}"
        )
    is_inside_U = (values_U >= low) & (values_U <= high)
    if not is_inside_U.all():
        first = values_U[int(is_inside_U.argmin())]
        raise UsageError(
            f"{test}: every loss must be between {low:g} and {high:g}, got {first}; a limit on "
            "the mean needs losses with known bounds"
        )
    return values_U


def check_range(test: str, limit: float, low: float, high: float) -> None:
    """Raise an error where a limit or risk is out of its bounds."""
    if not low <= limit <= high:
        raise UsageError(f"{test}: limit must be between {low:g} and {high:g}, got {limit}")


def check_error(test: str, error: float) -> None:
    """Raise an error where an error or power is no probability between 0 and 1."""
    if not 0 < error < 1:
        raise UsageError(f"{test}: error must be between 0 and 1, got {error}")
