"""Numbers of detection: values with what they are on the resampled data sets, and their means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shrinkproof.statistics import Replicated, calculated

Number = Replicated | float
"""A number with its values on the resampled data sets where it has them, else its value alone."""

Name = tuple[str, str]
"""Name of a metric, and the part of the objects or images it is about; empty for all."""


def value_of(number: Number) -> float:
    """Return a number's value; ``nan`` where it is undefined."""
    return number if isinstance(number, float) else number.value


def minus(a: Number, b: Number) -> Number:
    """Return the difference of two numbers, on each resampled data set where both are known."""
    if isinstance(a, Replicated) and isinstance(b, Replicated):
        return calculated(np.subtract, a, b)
    return value_of(a) - value_of(b)


def plus(a: Number, b: Number) -> Number:
    """Return the sum of two numbers, on each resampled data set where both are known."""
    if isinstance(a, Replicated) and isinstance(b, Replicated):
        return calculated(np.add, a, b)
    return value_of(a) + value_of(b)


def ratio(a: Number, b: Number) -> Number:
    """Return the ratio of two numbers, on each resampled data set where both are known."""
    if isinstance(a, Replicated) and isinstance(b, Replicated):
        return calculated(np.divide, a, b)
    return value_of(a) / value_of(b)


def mean(numbers: Sequence[Number]) -> Number:
    """Return the mean of at least one number, each with the same weight."""
    total = numbers[0]
    for number in numbers[1:]:
        total = plus(total, number)
    return divided(total, len(numbers))


def divided(number: Number, count: int) -> Number:
    """Return a number divided by a count."""
    if isinstance(number, Replicated):
        return calculated(lambda values: values / count, number)
    return number / count
