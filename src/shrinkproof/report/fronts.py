"""Which fronts there are, how sure membership is, and methods compared at equal reduction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shrinkproof.metrics.names import known_metric
from shrinkproof.protocols import Better
from shrinkproof.report import wording
from shrinkproof.report.rows import Cell
from shrinkproof.report.view import View
from shrinkproof.selectors import Constraint, Selector

Json = Mapping[str, Any]

MATCHED_LIMIT: Final = 24
"""Rows of one comparison at equal reduction; the mildest reductions come first."""

_UNREDUCED: Final = re.compile(r"(.+) does not reduce (.+)")


@dataclass(frozen=True, slots=True)
class FrontLine:
    """One candidate in the table of fronts: its place in each, and what dominates it there."""

    name: str
    places: tuple[tuple[str, str], ...]
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Fronts:
    """All fronts of a study.

    Attributes:
        titles: name of each front, and its hypervolume in words.
        lines: candidates that are compared in at least one, or left out for a reason.
        notes: what must be known of them.
    """

    titles: tuple[tuple[str, str], ...]
    lines: tuple[FrontLine, ...]
    notes: tuple[str, ...]

    @property
    def has_reasons(self) -> bool:
        """Whether some candidate is missing on a front for a reason."""
        return any(why for line in self.lines for _, why in line.places)


def fronts(view: View, found: Sequence[Json]) -> Fronts:
    """Return who stands on which front; empty where no objective is stated."""
    compared = [
        label
        for label in view.labels
        if any(label in one["values"] or label in one["left_out"] for one in found)
    ]
    return Fronts(
        titles=tuple((one["name"], _volume(one)) for one in found),
        lines=tuple(
            FrontLine(
                view.short[label],
                tuple(_place(view, one, label) for one in found),
                label == view.chosen,
            )
            for label in compared
        ),
        notes=tuple(dict.fromkeys(note for one in found for note in one["notes"])),
    )


def _volume(one: Json) -> str:
    volume = one["hypervolume"]
    return "" if volume is None else f"hypervolume {volume:.3f}"


def _place(view: View, one: Json, label: str) -> tuple[str, str]:
    if label in one["members"]:
        return "on the front", ""
    if label in one["dominated"]:
        rank = one["ranks"][label]
        why = one["why"].get(label, "")
        return f"rank {rank}", _shortened(view, why)
    if label in one["left_out"]:
        return "left out", one["left_out"][label]
    return "not compared", ""


def _shortened(view: View, text: str) -> str:
    """Return a sentence with the names of this page."""
    for label in sorted(view.labels, key=len, reverse=True):
        text = text.replace(label, view.short[label])
    return text


@dataclass(frozen=True, slots=True)
class Chance:
    """How often a candidate is on the front, and is chosen, if the images were drawn again."""

    name: str
    front: str
    chosen: str
    dominated: str
    indistinct: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Chances:
    """Uncertainty of front and choice.

    Attributes:
        lines: candidates; empty where it is not known.
        about: how it was found.
        choice: how often the choice is chosen, in one sentence; empty where that is not known.
        notes: which differences count as none, and what else must be known.
        reason: why it is not known.
    """

    lines: tuple[Chance, ...]
    about: str
    choice: str
    notes: tuple[str, ...]
    reason: str


def chances(view: View, found: Json | None) -> Chances:
    """Return how sure front and choice are."""
    if found is None or found.get("reason"):
        return Chances((), "", "", (), "" if found is None else found["reason"])
    known = [label for label in view.labels if label in found["front"]]
    tolerances = {
        selector: _tolerance(view, selector, value)
        for selector, value in found["tolerances"].items()
        if value
    }
    about = f"{found['replicates']} resampled sets of the {found['split']} images"
    listed = "; ".join(f"{selector} {text}" for selector, text in tolerances.items())
    tolerated = f"Smallest differences that matter: {listed}." if listed else ""
    indistinct: dict[str, list[str]] = {}
    for one in found["indistinct"]:
        indistinct.setdefault(one["label"], []).append(_indistinct(one, tolerances))
    return Chances(
        lines=tuple(
            Chance(
                name=view.short[label],
                front=_share(found["front"][label]),
                chosen=_share(found["chosen"].get(label, 0.0)),
                dominated=", ".join(
                    view.short.get(o, o) for o in found["dominated"].get(label, ())
                ),
                indistinct="; ".join(indistinct.get(label, ())),
                is_chosen=label == view.chosen,
            )
            for label in known
        ),
        about=about,
        choice=f"Chosen on {_share(found['chosen'][view.chosen])} of {about}."
        if view.chosen in found["chosen"]
        else "",
        notes=tuple(text for text in [tolerated, *map(_sentence, found["notes"])] if text),
        reason="",
    )


def _sentence(text: str) -> str:
    return f"{text.removesuffix('.')}."


def _share(value: float) -> str:
    if 0 < value < 0.01:
        return f"<{wording.SPACE}1{wording.SPACE}%"
    if 0.99 < value < 1:
        return f">{wording.SPACE}99{wording.SPACE}%"
    return f"{100 * value:.0f}{wording.SPACE}%"


def _tolerance(view: View, selector: str, value: float) -> str:
    metric = Selector.parse(selector).metric
    unit = _unit(view, metric)
    if wording.is_percent(metric, unit):
        return wording.points(value)
    return wording.amount(metric, unit, value)


def _indistinct(one: Json, tolerances: Mapping[str, str]) -> str:
    text = f"not distinguishable in {one['objective']} with these images"
    needed, least = one["images_needed"], tolerances.get(one["objective"], "")
    if needed is not None:
        what = f"of {least} " if least else ""
        often = f"{what}in 80{wording.SPACE}% of draws"
        return f"{text}; about {needed} would show a difference {often}"
    return f"{text}: {one['why']}" if one["why"] else text


@dataclass(frozen=True, slots=True)
class Matched:
    """Two methods at equal achieved reduction.

    Attributes:
        title: which methods of which network.
        axis: what was reduced.
        what: which error is compared.
        overlap: the reductions that both reached; empty where there are none.
        lines: reduction, both values, difference with interval, and a note.
        others: reductions that are not in ``lines``.
        reason: what the comparison leaves out; empty for nothing.
    """

    title: str
    axis: str
    what: str
    first: str
    second: str
    overlap: str
    lines: tuple[tuple[str, str, str, Cell, str], ...]
    others: int
    reason: str


def matched(view: View, exhibits: Sequence[Json]) -> tuple[list[Matched], list[str]]:
    """Return the comparisons that could be made, and sentences about those that could not.

    What a method does not reduce at all is said once per cost, not once per pair of methods.
    """
    several = len(view.models) > 1
    mine = [item for item in exhibits if item["split"] == view.rows.printing]
    unreduced: dict[str, dict[str, None]] = {}
    gaps: dict[str, None] = {}
    for item in mine:
        if item["rows"] or not item["reason"]:
            continue
        parts = [_UNREDUCED.fullmatch(part) for part in item["reason"].split("; ")]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            pair = f"{item['first']} and {item['second']}{_of(item, several=several)}"
            gaps[f"{pair}: {item['reason']}."] = None
            continue
        for part in known:
            what = f"{wording.metric_name(part[2])}{_of(item, several=several)}"
            unreduced.setdefault(what, {})[part[1]] = None
    said = [f"{what}: not reduced by {', '.join(who)}." for what, who in unreduced.items()]
    return [_matched(item, several=several) for item in mine if item["rows"]], [*gaps, *said]


def _of(item: Json, *, several: bool) -> str:
    return f" of {item['model']}" if several else ""


def _matched(item: Json, *, several: bool) -> Matched:
    place = (item["condition"], 0)
    ends = [_times(value) for value in item["overlap"] or ()]
    return Matched(
        title=f"{item['first']} and {item['second']}{_of(item, several=several)}",
        axis=wording.metric_name(item["axis"]),
        what=f"{wording.metric_name(item['metric'])}, {wording.place_name(*place)}",
        first=item["first"],
        second=item["second"],
        overlap=" to ".join(dict.fromkeys(ends)),
        lines=tuple(_matched_lines(item)),
        others=max(0, len(item["rows"]) - MATCHED_LIMIT),
        reason=item["reason"],
    )


def _matched_lines(item: Json) -> Iterator[tuple[str, str, str, Cell, str]]:
    known = known_metric(item["metric"])
    better = Better.NONE if known is None else known.better
    for row in item["rows"][:MATCHED_LIMIT]:
        gap = Cell(_points(row["difference"]), _span(row), verdict=_verdict(row, better))
        yield _times(row["at"]), _percent(row["first"]), _percent(row["second"]), gap, row["reason"]


def _times(value: float) -> str:
    return f"{value:.2f}{wording.SPACE}\N{MULTIPLICATION SIGN}"


def _percent(value: float) -> str:
    return wording.number(100 * value, 1) + f"{wording.SPACE}%"


def _points(value: float) -> str:
    return wording.number(100 * value, 2, signed=True) + f"{wording.SPACE}pp"


def _span(row: Json) -> str:
    if row["low"] is None or row["high"] is None:
        return ""
    low, high = (wording.number(100 * row[end], 2, signed=True) for end in ("low", "high"))
    return f"{low} to {high}"


def _verdict(row: Json, better: Better) -> str:
    if row["low"] is None or row["high"] is None or better is Better.NONE:
        return "open"
    if row["low"] <= 0 <= row["high"]:
        return "same"
    return "better" if (row["low"] > 0) == (better is Better.HIGHER) else "worse"


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule of the study, checked again on the images whose numbers are printed."""

    rule: str
    value: str
    verdict: str
    style: str


def rules(view: View, found: Sequence[Json]) -> list[RuleLine]:
    """Return what became of the rules on the printed images."""
    return [_rule(view, one) for one in found]


def _rule(view: View, one: Json) -> RuleLine:
    rule = Constraint.parse(one["rule"])
    metric = rule.selector.metric
    unit = _unit(view, metric)
    if one["value"] is None:
        return RuleLine(one["rule"], "no value", f"not known: {one['reason']}", "worse")
    text = wording.amount(metric, unit, one["value"])
    if one["low"] is not None and one["high"] is not None:
        ends = (wording.amount(metric, unit, one[end]) for end in ("low", "high"))
        text += f" ({' to '.join(ends)})"
    if one["is_sure"]:
        return RuleLine(one["rule"], text, "kept", "better")
    if one["is_met"]:
        return RuleLine(one["rule"], text, _doubt(rule, one), "same")
    return RuleLine(one["rule"], text, "broken on these images", "worse")


def _doubt(rule: Constraint, one: Json) -> str:
    """Return why a rule that the number keeps is not kept for sure."""
    ends = (one["low"], one["high"])
    if any(end is None for end in ends):
        text = "kept by the number, which has no interval"
    elif not all(rule.is_met(end) for end in ends):
        return "kept, but its interval reaches beyond the limit"
    else:
        text = "kept by a number that must not be trusted"
    return f"{text}: {one['reason']}" if one["reason"] else text


def _unit(view: View, metric: str) -> str:
    """Return the unit of a metric, also of one that the page has for parts of the images only."""
    known = known_metric(metric)
    return view.rows.unit(metric)[0] or ("" if known is None else known.unit)
