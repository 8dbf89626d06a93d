"""Which fronts there are, how sure membership is, and methods compared at equal reduction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shrinkproof.report import wording
from shrinkproof.report.rows import Cell
from shrinkproof.report.view import View
from shrinkproof.selectors import Selector

Json = Mapping[str, Any]

MATCHED_LIMIT: Final = 24
"""Rows of one comparison at equal reduction that stand open."""


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
        lines: candidates that are compared in at least one.
        notes: what must be known of them.
    """

    titles: tuple[tuple[str, str], ...]
    lines: tuple[FrontLine, ...]
    notes: tuple[str, ...]


def fronts(view: View, found: Sequence[Json]) -> Fronts:
    """Return who stands on which front; empty where no objective is stated."""
    compared = [label for label in view.labels if any(label in one["values"] for one in found)]
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
    return "not compared", one["left_out"].get(label, "")


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
        notes: which differences count as none, and what else must be known.
        reason: why it is not known.
    """

    lines: tuple[Chance, ...]
    about: str
    notes: tuple[str, ...]
    reason: str


def chances(view: View, found: Json | None) -> Chances:
    """Return how sure front and choice are."""
    if found is None or found.get("reason"):
        return Chances((), "", (), "" if found is None else found["reason"])
    known = [label for label in view.labels if label in found["front"]]
    tolerances = "; ".join(
        f"{selector} {value:.4g}" for selector, value in found["tolerances"].items() if value
    )
    about = f"{found['replicates']} resampled sets of the {found['split']} images"
    tolerated = f"Differences up to these count as none: {tolerances}." if tolerances else ""
    indistinct: dict[str, list[str]] = {}
    for one in found["indistinct"]:
        indistinct.setdefault(one["label"], []).append(_indistinct(one))
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


def _indistinct(one: Json) -> str:
    text = f"not distinguishable in {one['objective']}"
    needed = one["images_needed"]
    if needed is not None:
        return f"{text}: about {needed} images needed"
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
        reason: why there is no line.
    """

    title: str
    axis: str
    what: str
    first: str
    second: str
    overlap: str
    lines: tuple[tuple[str, str, str, Cell, str], ...]
    reason: str


def matched(view: View, exhibits: Sequence[Json]) -> tuple[list[Matched], list[str]]:
    """Return the comparisons that could be made, and a sentence for each that could not."""
    several = len(view.models) > 1
    made = [item for item in exhibits if item["rows"] and item["split"] == view.rows.printing]
    gaps = dict.fromkeys(
        f"{item['first']} and {item['second']}{_of(item, several=several)}: {item['reason']}."
        for item in exhibits
        if not item["rows"] and item["reason"] and item["split"] == view.rows.printing
    )
    return [_matched(item, several=several) for item in made], list(gaps)


def _of(item: Json, *, several: bool) -> str:
    return f" of {item['model']}" if several else ""


def _matched(item: Json, *, several: bool) -> Matched:
    place = (item["condition"], 0)
    ends = [_times(value) for value in item["overlap"] or ()]
    what = (
        "Top-1 error" if item["metric"] == "accuracy.top1" else wording.metric_name(item["metric"])
    )
    return Matched(
        title=f"{item['first']} and {item['second']}{_of(item, several=several)}",
        axis=wording.metric_name(item["axis"]),
        what=f"{what}, {wording.place_name(*place)}",
        first=item["first"],
        second=item["second"],
        overlap=" to ".join(ends),
        lines=tuple(_matched_lines(item)),
        reason=item["reason"],
    )


def _matched_lines(item: Json) -> Iterator[tuple[str, str, str, Cell, str]]:
    for row in item["rows"][:MATCHED_LIMIT]:
        gap = Cell(_points(row["difference"]), _span(row), verdict=_verdict(row))
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


def _verdict(row: Json) -> str:
    if row["low"] is None or row["high"] is None:
        return "open"
    if row["low"] <= 0 <= row["high"]:
        return "same"
    return "better" if row["high"] < 0 else "worse"


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
    metric = Selector.parse(one["rule"].split(" ")[0]).metric
    unit = view.rows.unit(metric)[0]
    if one["value"] is None:
        return RuleLine(one["rule"], "no value", f"not known: {one['reason']}", "worse")
    text = wording.amount(metric, unit, one["value"])
    if one["low"] is not None and one["high"] is not None:
        ends = (wording.amount(metric, unit, one[end]) for end in ("low", "high"))
        text += f" ({' to '.join(ends)})"
    if one["is_sure"]:
        return RuleLine(one["rule"], text, "kept", "better")
    if one["is_met"]:
        return RuleLine(
            one["rule"], text, "kept, but its interval reaches beyond the limit", "same"
        )
    return RuleLine(one["rule"], text, "broken on these images", "worse")
