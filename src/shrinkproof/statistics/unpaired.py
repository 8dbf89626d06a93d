"""Differences of numbers that were measured on different images."""

from __future__ import annotations

import math
from typing import Final

from shrinkproof.errors import UsageError
from shrinkproof.statistics.intervals import Interval

UNPAIRED: Final = "unpaired-recovered-variances"


def unpaired_interval(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """Return the interval of a difference, a minus b, of two independent samples.

    Each end recovers the variances from the intervals of the two numbers (MOVER); for two
    accuracies with their exact intervals it is Newcombe's hybrid. The level is that of the two
    intervals. It is wider than an interval over the same images would be: what both models share
    is not removed.

    Args:
        a: the first number.
        of_a: its interval.
        b: the second number.
        of_b: its interval, at the same level.

    Raises:
        UsageError: a number lies outside its interval.

    Reference: Newcombe 1998,
    doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I;
    Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    for found in (of_a, of_b):
        if found.low is None or found.high is None:
            return Interval(reason=found.reason or "one of the two numbers has no interval")
    below_a, above_a = _arms(a, of_a)
    below_b, above_b = _arms(b, of_b)
    return Interval(
        a - b - math.hypot(below_a, above_b), a - b + math.hypot(above_a, below_b), UNPAIRED
    )


def _arms(value: float, found: Interval) -> tuple[float, float]:
    """Return how far an interval reaches below and above its number."""
    assert found.low is not None, "the caller has looked"
    assert found.high is not None, "the caller has looked"
    if not found.low <= value <= found.high:
        raise UsageError(
            f"unpaired interval: a number must lie in its interval, got {value!r} and "
            f"{found.low!r} to {found.high!r}"
        )
    return value - found.low, found.high - value
