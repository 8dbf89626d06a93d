"""Which network of a family is the largest that meets a target."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shrinkproof.compressors.channels.selection import Family
from shrinkproof.errors import CompressionError

PROBES: Final = 10
"""Most files that one search measures; each is an export, or an export and a timing."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A number that a network must not exceed.

    Attributes:
        name: what it is, in the words of the study file.
        limit: the number.
        smallest: how to make smaller networks reachable, for messages.
        noise: part of the limit by which two measurements of one network differ; a network that
            is closer below the limit ends the search.
    """

    name: str
    limit: float
    smallest: str
    noise: float = 0.0

    def unreachable(self, value: float) -> CompressionError:
        """Return the error for a family whose smallest network has too large a value."""
        return CompressionError(
            f"prune.channels: the target {self.name} must be one that can be reached, got "
            f"{self.limit:g} where the smallest network has {value:.6g}; {self.smallest}"
        )


def search_counted(family: Family, cost: Callable[[int], float], goal: Goal) -> int:
    """Return the first member whose counted cost is at most the goal.

    Args:
        family: networks of growing ratio.
        cost: member -> its cost, never growing with the member; takes microseconds.
        goal: what to reach.

    Raises:
        CompressionError: the smallest network costs more.
    """
    last = len(family) - 1
    if cost(last) > goal.limit:
        raise goal.unreachable(cost(last))
    return _first(0, last, lambda member: cost(member) <= goal.limit)


def search_measured(
    family: Family,
    cost: Callable[[int], float],
    measure: Callable[[int], float],
    goal: Goal,
) -> tuple[int, float]:
    """Return the first member that was measured to meet a goal, and its value.

    The measured number is taken for a linear function of a counted one between the two nearest
    networks that were measured, one on each side of the goal (regula falsi; the side that stays
    twice counts half, which is the Illinois rule). It ends where no network lies between the two,
    where the goal is met within the noise, or after `PROBES` measurements, and always with the
    largest network that met the goal.

    Args:
        family: networks of growing ratio.
        cost: member -> parameters or multiply-accumulates, never growing with the member.
        measure: member -> the number that the goal is about; takes seconds.
        goal: what to reach.

    Raises:
        CompressionError: the smallest network measures more.
    """
    low, high = 0, len(family) - 1
    value = measure(low)
    if value <= goal.limit:
        return low, value
    above = value - goal.limit
    value = measure(high)
    if value > goal.limit:
        raise goal.unreachable(value)
    below = value - goal.limit
    probes, met_before = 2, None
    while probes < PROBES and value < goal.limit * (1 - goal.noise):
        middle = _between(cost, low, high, above / (above - below))
        if middle is None:
            break
        found = measure(middle)
        probes += 1
        met = found <= goal.limit
        if met:
            high, value, below = middle, found, found - goal.limit
            above = above / 2 if met_before is True else above
        else:
            low, above = middle, found - goal.limit
            below = below / 2 if met_before is False else below
        met_before = met
    return high, value


def _between(cost: Callable[[int], float], low: int, high: int, part: float) -> int | None:
    """Return the member that lies ``part`` of the way in cost; None if no network is between."""
    top, bottom = cost(low), cost(high)
    first = _first(low, high, lambda m: cost(m) < top)
    last = _first(low, high, lambda m: cost(m) <= bottom) - 1
    if first > last:
        return None
    wanted = top - part * (top - bottom)
    return _first(first, last, lambda m: cost(m) <= wanted)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first number from ``low`` that a condition holds for, ``high`` if none does."""
    return bisect_left(range(high), 1, lo=low, key=lambda number: int(holds(number)))
