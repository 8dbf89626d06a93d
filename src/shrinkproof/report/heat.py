"""Heat maps of corruption by severity, as tables: the numbers stay readable without color.

Of classifiers they show errors, of detectors the average precision: nobody reads its complement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shrinkproof.report import wording
from shrinkproof.report.rows import Place, cell_of
from shrinkproof.report.view import Column, View

_STEPS: Final = 9
"""Color steps from no error to the largest one on the page."""
_SIDES: Final = 4
"""Color steps on each side of no change."""
_NOTHING: Final = 0.0005
"""Changes that print as zero have no color."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One colored cell: text, style class, and the full wording for pointer and screen reader."""

    text: str
    style: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class HeatLine:
    """One corruption: numbers by severity, and their changes against the baseline."""

    corruption: str
    values: tuple[Tile, ...]
    changes: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One candidate: corruption x severity."""

    name: str
    severities: tuple[int, ...]
    lines: tuple[HeatLine, ...]
    worst: str
    largest: str


@dataclass(frozen=True, slots=True)
class Robustness:
    """All heat maps of the page and the ends of their shared color scales.

    Attributes:
        maps: one per candidate.
        measure: what their numbers are.
        short: the same in one word.
        harm: what is said of the change that harms most.
        limit: the largest number.
        change_limit: the largest change, either way.
    """

    maps: tuple[HeatMap, ...]
    measure: str
    short: str
    harm: str
    limit: str
    change_limit: str


@dataclass(frozen=True, slots=True)
class _Sense:
    """How a metric is shown.

    Attributes:
        is_turned: as its complement, an error.
        harm: sign of a change that harms, as it is shown.
    """

    is_turned: bool
    harm: int


@dataclass(frozen=True, slots=True)
class _Change:
    value: float
    is_certain: bool
    text: str


def robustness(view: View, labels: Sequence[str]) -> Robustness:
    """Return one heat map per label; all share the same color scales."""
    metric = view.rows.quality
    places = [place for place in view.rows.places(metric) if place[1] > 0]
    unit, better = view.rows.unit(metric)
    is_score = better == "higher" and unit == "fraction" and not view.detects
    sense = _Sense(is_score, -1 if view.detects else 1)
    values = {label: _values(view, label, places, sense) for label in labels}
    changes = {label: _changes(view, label, places, sense) for label in labels}
    top = max((e for by in values.values() for e in by.values() if e is not None), default=0.0)
    gap = max((abs(c.value) for by in changes.values() for c in by.values()), default=0.0)
    name = wording.metric_name(metric)
    return Robustness(
        maps=tuple(
            _map(view, label, places, values[label], changes[label], (top, gap), sense)
            for label in labels
            if places
        ),
        measure=f"error, 100{wording.SPACE}% minus {name[0].lower()}{name[1:]}"
        if is_score
        else name,
        short=name if view.detects else "error",
        harm="Lost most" if view.detects else "Most added error",
        limit=wording.amount("accuracy.top1", "fraction", top),
        change_limit=f"{wording.number(gap * 100, 1)}{wording.SPACE}pp",
    )


def _values(
    view: View, label: str, places: Sequence[Place], sense: _Sense
) -> dict[Place, float | None]:
    values: dict[Place, float | None] = {}
    for place in places:
        row = view.rows.find(label, view.rows.quality, place)
        value = None if row is None else row["value"]
        values[place] = None if value is None else 1 - value if sense.is_turned else value
    return values


def _changes(
    view: View, label: str, places: Sequence[Place], sense: _Sense
) -> dict[Place, _Change]:
    """Return the changes as they are shown: those of an error are those of the score, turned."""
    sign = -1.0 if sense.is_turned else 1.0
    changes = {}
    for place in places:
        column = Column(view.rows.quality, place)
        cell = view.change(label, column)
        if cell is not None and cell.value is not None:
            certain = view.judged(label, column) in ("better", "worse")
            text = f"{wording.number(sign * cell.value * 100, 2, signed=True)}{wording.SPACE}pp"
            changes[place] = _Change(sign * cell.value, certain, text)
    return changes


def _map(
    view: View,
    label: str,
    places: Sequence[Place],
    values: dict[Place, float | None],
    changes: dict[Place, _Change],
    limits: tuple[float, float],
    sense: _Sense,
) -> HeatMap:
    top, gap = limits
    severities = tuple(sorted({severity for _, severity in places}))
    lines = []
    for corruption in dict.fromkeys(place[0] for place in places):
        row = [(corruption, severity) for severity in severities]
        lines.append(
            HeatLine(
                corruption=corruption.replace("_", " "),
                values=tuple(_value_tile(view, label, p, values.get(p), top) for p in row),
                changes=tuple(_change_tile(changes.get(p), gap, sense) for p in row)
                if changes
                else (),
            )
        )
    return HeatMap(
        name=view.short[label],
        severities=severities,
        lines=tuple(lines),
        worst=_worst(values, sense),
        largest=_largest(changes, sense),
    )


def _value_tile(view: View, label: str, place: Place, value: float | None, top: float) -> Tile:
    if value is None:
        cell = cell_of(view.rows.find(label, view.rows.quality, place))
        return Tile("none", "gap", cell.note or cell.text)
    step = round(value / top * _STEPS) if top > 0 else 0
    return Tile(wording.number(value * 100, 1), f"e{step}")


def _change_tile(change: _Change | None, gap: float, sense: _Sense) -> Tile:
    if change is None:
        return Tile("none", "gap", wording.NOT_MEASURED)
    step = math.ceil(abs(change.value) / gap * _SIDES) if abs(change.value) >= _NOTHING else 0
    step = int(math.copysign(step, sense.harm * change.value))
    style = f"w{step}" if step > 0 else f"b{-step}" if step < 0 else "z"
    return Tile(
        wording.number(change.value * 100, 1, signed=True),
        f"{style} sure" if change.is_certain else style,
    )


def _worst(values: dict[Place, float | None], sense: _Sense) -> str:
    known = {place: value for place, value in values.items() if value is not None}
    if not known:
        return wording.NOT_MEASURED
    place = max(known, key=lambda p: sense.harm * known[p])
    value = wording.amount("accuracy.top1", "fraction", known[place])
    return f"{wording.place_name(*place)}: {value}"


def _largest(changes: dict[Place, _Change], sense: _Sense) -> str:
    if not changes:
        return ""
    place = max(changes, key=lambda p: sense.harm * changes[p].value)
    return f"{wording.place_name(*place)}: {changes[place].text}"
