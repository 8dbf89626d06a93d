"""Evidence over many candidates: ranks over networks, repeats of trainings, correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from shrinkproof.metrics.names import ACROSS_REPEATS, ACROSS_REPEATS_SD, known_metric
from shrinkproof.report import wording
from shrinkproof.report.plots import Ranking, critical_difference
from shrinkproof.report.rows import Cell
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View
from shrinkproof.selectors import Selector

NAME_LIMIT: Final = 16
"""Recipes that a rank diagram has room for."""

_WIDTH: Final = 560

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ranks:
    """One rank test over networks.

    Attributes:
        title: what was ranked.
        svg: the diagram; empty where there is none.
        text: what the test says.
        caution: what few networks mean; empty for nothing.
    """

    title: str
    svg: str
    text: str
    caution: str


@dataclass(frozen=True, slots=True)
class RepeatTable:
    """Means over repeats of a training, with standard deviations."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[str, tuple[tuple[Cell, str], ...]], ...]
    note: str


@dataclass(frozen=True, slots=True)
class CorrelationLine:
    """How two numbers go together over the candidates of one model."""

    model: str
    what: str
    count: str
    pearson: str
    spearman: str
    matched: str
    note: str


@dataclass(frozen=True, slots=True)
class Correlations:
    """Correlations of one section.

    Attributes:
        has_model: whether lines name their model.
        has_matched: whether some are at matched reduction.
        lines: pairs of numbers; without notes where all have the same.
        note: what must be known of all of them.
    """

    has_model: bool
    has_matched: bool
    lines: tuple[CorrelationLine, ...]
    note: str


def ranks(exhibits: Sequence[Json]) -> list[Ranks]:
    """Return one diagram per rank test that could be made, or one sentence why none could."""
    made = [item for item in exhibits if item["test"] is not None]
    return [_ranks(item, place) for place, item in enumerate(made)]


def _ranks(item: Json, place: int) -> Ranks:
    test = item["test"]
    title = _selector_name(item["metric"])
    names, values = test["names"], test["mean_ranks"]
    best = f"{names[0]} ranks best (mean rank {values[0]:.2f} of {len(names)} recipes"
    over = f", {test['blocks']} networks). Friedman {wording.p_value(test['p'])}; "
    found = "recipes rank differently" if test["p"] < 0.05 else "no difference of ranks shown"
    drawn = Ranking(
        tuple(names),
        tuple(values),
        test["critical_difference"],
        tuple(tuple(clique) for clique in test["cliques"]),
    )
    fits = len(names) <= NAME_LIMIT
    return Ranks(
        title=title,
        svg=critical_difference(
            drawn, name=f"ranks-{place}", description=f"{title}: {best}{over}{found}", width=_WIDTH
        )
        if fits
        else "",
        text=f"{best}{over}{found}.",
        caution=test["caution"],
    )


def _selector_name(text: str) -> str:
    found = Selector.parse(text)
    return Column(found.metric, (found.condition, found.severity)).name


def repeats(view: View) -> RepeatTable:
    """Return the means over repeats with their standard deviations."""
    robust = (column.metric for column in view.robustness)
    metrics = (view.rows.quality, *robust, view.calibration)
    wanted = [
        Column(ACROSS_REPEATS + metric, place)
        for metric in metrics
        for place in (CLEAN, CORRUPTED)
        if place in view.rows.places(ACROSS_REPEATS + metric)
    ]
    columns = view.known(wanted)
    takers = [
        label
        for label in view.labels
        if any(view.rows.find(label, c.metric, c.place) for c in columns)
    ]
    notes = dict.fromkeys(
        view.value(label, column).note.split(";")[0] for label in takers for column in columns
    )
    return RepeatTable(
        columns=tuple(Column(c.metric.removeprefix(ACROSS_REPEATS), c.place) for c in columns),
        lines=tuple(
            (view.short[label], tuple(_repeat(view, label, column) for column in columns))
            for label in takers
        ),
        note="; ".join(note for note in notes if note),
    )


def _repeat(view: View, label: str, column: Column) -> tuple[Cell, str]:
    bare = column.metric.removeprefix(ACROSS_REPEATS)
    spread = view.value(label, Column(ACROSS_REPEATS_SD + bare, column.place))
    return view.value(label, column), "" if spread.value is None else f"sd {spread.text}"


def correlations(exhibits: Sequence[Json], metric: str, *, several_models: bool) -> Correlations:
    """Return the correlations of a metric and its changes.

    Args:
        exhibits: pairs of numbers with their correlation.
        metric: start of the registered name, ``calibration.``, that is correlated.
        several_models: whether lines name their model.
    """
    mine = [item for item in exhibits if metric in item["y"]]
    lines = tuple(_correlation(item) for item in mine if item["candidates"])
    has_matched = any(line.matched for line in lines)
    notes = {line.note for line in lines}
    shared = notes.pop() if len(notes) == 1 else ""
    if shared:
        lines = tuple(replace(line, note="") for line in lines)
    return Correlations(several_models, has_matched, lines, shared)


def _correlation(item: Json) -> CorrelationLine:
    matched = item.get("at_matched_reduction") or {}
    value = matched.get("value")
    return CorrelationLine(
        model=item["model"],
        what=f"{_pair_name(item['y'])} with {wording.phrase(_pair_name(item['x']))}",
        count=str(len(item["candidates"])),
        pearson=_coefficient(item["pearson"]),
        spearman=_coefficient(item["spearman"]),
        matched="" if value is None else wording.number(value, 2, signed=True),
        note="; ".join(filter(None, (item["reason"], item["caveat"]))),
    )


def _pair_name(text: str) -> str:
    metric, _, condition = text.partition("@")
    known = known_metric(metric)
    is_plain = condition == "clean" or (known is not None and not known.per_condition)
    place = "" if is_plain else wording.place_name(condition, 0)
    name = wording.metric_name(metric)
    return f"{name}, {place}" if place else name


def _coefficient(found: Json | None) -> str:
    if found is None:
        return "undefined"
    text = wording.number(found["value"], 2, signed=True)
    if found["low"] is None:
        return text
    ends = (wording.number(found[end], 2, signed=True) for end in ("low", "high"))
    return f"{text} ({' to '.join(ends)})"
