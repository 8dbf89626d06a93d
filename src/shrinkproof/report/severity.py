"""Severity curves: how fast each candidate gets worse, over all corruptions and by group.

Of classifiers they show errors, of detectors the average precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from shrinkproof.metrics.robustness import GROUPS, corruptions_of
from shrinkproof.records import Condition
from shrinkproof.report import wording
from shrinkproof.report.figures import CHOSEN, INK
from shrinkproof.report.plots import PALETTE, Curve, Point, severity_curves
from shrinkproof.report.rows import Row
from shrinkproof.report.view import View

CURVE_LIMIT: Final = 6
"""Lines that can be told apart in one figure."""
MODEL_LIMIT: Final = 3
"""Models that get curves of their own."""

_LARGE: Final = (380, 230)
_SMALL: Final = (190, 130)


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the key; the number is the candidate's position on the page."""

    label: str
    color: str
    is_dashed: bool
    is_chosen: bool
    number: int


@dataclass(frozen=True, slots=True)
class Curves:
    """The curves of one model.

    Attributes:
        what: name of the number.
        model: name of the model; empty where the study has one.
        key: which line is whose.
        mean: figure over all corruptions.
        groups: title and figure of each group of corruptions.
        has_intervals: whether single corruptions with intervals are among them.
        others: candidates without a line.
    """

    what: str
    model: str
    key: tuple[Key, ...]
    mean: str
    groups: tuple[tuple[str, str], ...]
    has_intervals: bool
    others: int


def curves(view: View) -> list[Curves]:
    """Return the severity curves of each model; none where fewer than two severities exist."""
    severities = {place[1] for place in view.rows.places(view.rows.quality) if place[1]}
    if len(severities) < 2 or view.rows.unit(view.rows.quality) != ("fraction", "higher"):
        return []
    found = (_of_model(view, model, i) for i, model in enumerate(view.models[:MODEL_LIMIT]))
    return [one for one in found if one is not None]


def _of_model(view: View, model: str, number: int) -> Curves | None:
    takers = [
        c.label
        for c in view.candidates
        if c.model == model and c.role != "control" and _measured(view, c.label)
    ]
    # One of the colors is the baseline's alone.
    has_baseline = any(view.by_label[label].role == "baseline" for label in takers)
    labels = view.important(takers, CURVE_LIMIT if has_baseline else CURVE_LIMIT - 1)
    key = _key(view, labels)
    numbers = {label: _measured(view, label) for label in labels}
    names = corruptions_of(condition for found in numbers.values() for condition in found)
    groups = {group: [n for n in members if n in names] for group, members in GROUPS.items()}
    grouped = {name for members in groups.values() for name in members}
    groups["other"] = [name for name in names if name not in grouped]
    draw = partial(_lines, key, numbers, is_turned=not view.detects)
    everything = draw(names)
    if not everything:
        return None
    parts = {g: draw(members) for g, members in groups.items() if members}
    parts = {group: lines for group, lines in parts.items() if lines} if len(parts) > 1 else {}
    top = _top(list(parts.values()))
    what = wording.metric_name(view.rows.quality) if view.detects else "error"
    return Curves(
        what=what,
        model=model if len(view.models) > 1 else "",
        key=tuple(key.values()),
        mean=severity_curves(
            everything,
            title="all corruptions",
            name=f"severity-{number}",
            size=_LARGE,
            top=_top([everything]),
            what=what,
        ),
        groups=tuple(
            (
                f"{group}, {_count(groups[group])}",
                severity_curves(
                    lines,
                    title=group,
                    name=f"severity-{number}-{group}",
                    size=_SMALL,
                    top=top,
                    what=what,
                ),
            )
            for group, lines in parts.items()
        ),
        has_intervals=any(len(groups[group]) == 1 for group in parts) or len(names) == 1,
        others=len(takers) - len(labels),
    )


def _count(members: Sequence[str]) -> str:
    return members[0].replace("_", " ") if len(members) == 1 else f"{len(members)} corruptions"


def _key(view: View, labels: Sequence[str]) -> dict[str, Key]:
    colors = iter(PALETTE)
    key = {}
    for label in labels:
        is_baseline = view.by_label[label].role == "baseline"
        is_chosen = label == view.chosen
        color = INK if is_baseline else CHOSEN if is_chosen else next(colors)
        key[label] = Key(
            _name(view, label), color, is_baseline, is_chosen, view.labels.index(label)
        )
    return key


def _name(view: View, label: str) -> str:
    """Return a candidate's name without its model, which the heading says."""
    return view.short[label].removeprefix(f"{view.by_label[label].model}/")


def _measured(view: View, label: str) -> dict[Condition, Row]:
    found = {}
    for corruption, severity in view.rows.places(view.rows.quality):
        row = view.rows.find(label, view.rows.quality, (corruption, severity)) if severity else None
        if row is not None and row["value"] is not None:
            found[Condition(corruption, severity)] = row
    return found


def _lines(
    key: Mapping[str, Key],
    numbers: Mapping[str, Mapping[Condition, Row]],
    members: Sequence[str],
    *,
    is_turned: bool,
) -> list[Curve]:
    lines = []
    for label, one in key.items():
        points = _points(numbers[label], members, is_turned=is_turned)
        if points:
            lines.append(
                Curve(one.label, one.color, one.is_dashed, one.is_chosen, points, one.number)
            )
    return lines


def _points(
    numbers: Mapping[Condition, Row], members: Sequence[str], *, is_turned: bool
) -> tuple[Point, ...]:
    """Return the mean over corruptions at each severity at which none of them is missing."""

    def shown(value: float) -> float:
        return 1 - value if is_turned else value

    points = []
    for severity in range(1, 6):
        rows = [numbers.get(Condition(name, severity)) for name in members]
        known = [row for row in rows if row is not None]
        if not known or len(known) < len(rows):
            continue
        value = 100 * sum(shown(row["value"]) for row in known) / len(known)
        only = known[0] if len(known) == 1 else None
        if only is None or only["low"] is None or only["high"] is None:
            points.append(Point(severity, value))
        else:
            ends = sorted(100 * shown(only[end]) for end in ("low", "high"))
            points.append(Point(severity, value, *ends))
    return tuple(points)


def _top(groups: Sequence[Sequence[Curve]]) -> float:
    """Return the end of the axis that all figures of a model share."""
    values = [
        value
        for lines in groups
        for line in lines
        for point in line.points
        for value in (point.value, point.high)
        if value is not None
    ]
    return min(100.0, 10.0 * (int(max(values, default=0.0) / 10) + 1))
