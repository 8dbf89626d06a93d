"""What everybody must know about a metric without importing its code."""

from __future__ import annotations

from dataclasses import dataclass

from shrinkproof.protocols import Better


@dataclass(frozen=True, slots=True)
class MetricName:
    """What everybody must know about a metric without importing its code.

    Attributes:
        name: dotted name, as in study files and tables.
        unit: ``fraction`` (0 to 1), ``ratio`` (a plain number), ``nat``, ``count``, ``bytes``,
            ``seconds`` or ``probability`` (a p-value).
        better: which direction is better.
        summary: what it is, in one line.
        per_condition: True where it is measured under one condition (selectors then need
            ``@condition``); False where there is one number per candidate.
    """

    name: str
    unit: str
    better: Better
    summary: str
    per_condition: bool


def table(*rows: MetricName) -> dict[str, MetricName]:
    """Return the rows by name."""
    return {row.name: row for row in rows}


def at_condition(name: str, unit: str, better: Better, summary: str) -> MetricName:
    """Return a metric that is measured under one condition."""
    return MetricName(name, unit, better, summary, per_condition=True)


def alone(name: str, unit: str, better: Better, summary: str) -> MetricName:
    """Return a number of which there is one for each candidate."""
    return MetricName(name, unit, better, summary, per_condition=False)
