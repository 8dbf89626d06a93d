"""What the script needs to let readers choose axes, point, sort and copy: the page's own numbers.

Texts are those of the tables, so that a number reads the same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import altair as alt

from shrinkproof.metrics.names import without_prefixes
from shrinkproof.report import charts, figures
from shrinkproof.report.tables import Line
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View

if TYPE_CHECKING:
    from shrinkproof.report.rows import Row

COLUMN_LIMIT: Final = 28
"""Numbers of a candidate that can be an axis."""
MARK: Final = "\N{DOUBLE DAGGER}"
"""What stands beside numbers that must not be trusted, as in the tables."""
_DIGITS: Final = 9
_FADED: Final = 0.2
"""Opacity of the other candidates while one is highlighted."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes that readers can choose, and the two that stand at first.

    Attributes:
        columns: the columns of the candidate table first.
        first: positions of the horizontal and the vertical axis.
    """

    columns: tuple[Column, ...]
    first: tuple[int, int]


def axes(view: View, table: Sequence[Column]) -> Axes | None:
    """Return the axes of the interactive front; None where no two numbers are known."""
    columns = tuple(dict.fromkeys([*table, *_further(view, table)]))
    pairs = charts.pairs(view)
    if len(columns) < 2 or not pairs:
        return None
    columns = tuple(dict.fromkeys([*columns, *pairs[0]]))
    x, y = (columns.index(column) for column in pairs[0])
    return Axes(columns, (x, y))


def _further(view: View, table: Sequence[Column]) -> tuple[Column, ...]:
    """Return other numbers of whole candidates, costs first, as many as there is room for."""
    metrics = [m for m in view.rows.metrics() if without_prefixes(m) == m]
    wanted = [
        Column(metric, place)
        for metric in sorted(metrics, key=lambda metric: not metric.startswith("cost."))
        for place in view.rows.places(metric)
        if place in (("", 0), CLEAN, CORRUPTED)
    ]
    known = view.known(column for column in wanted if column not in table)
    return known[: max(0, COLUMN_LIMIT - len(table))]


def data(view: View, table: Sequence[Column], lines: Sequence[Line], found: Axes | None) -> Json:
    """Return what the script reads.

    Args:
        view: the numbers.
        table: columns of the candidate table.
        lines: its lines, in the order of the page.
        found: axes that can be chosen.
    """
    columns = found.columns if found else tuple(table)
    return {
        "candidates": [_candidate(view, line) for line in lines],
        "columns": [_column(view, column) for column in columns],
        "headline": len(table),
        "axes": list(found.first) if found else [],
        "spec": front_spec() if found else {},
    }


def _candidate(view: View, line: Line) -> Json:
    return {
        "label": line.label,
        "name": line.name,
        "kind": charts.kind_of(view, line.label),
        "chosen": line.is_chosen,
        "tags": list(line.tags),
        "steps": list(line.changes),
    }


def _column(view: View, column: Column) -> Json:
    unit = view.rows.unit(column.metric)[0]
    rows = [view.rows.find(label, column.metric, column.place) for label in view.labels]
    known = [row for row in rows if row is not None and row["value"] is not None]
    scale = charts.scale_of(column, known) if known else None
    return {
        "name": column.name,
        "title": charts.title_of(view, column, scale) if scale else column.name,
        "unit": unit,
        "factor": scale.factor if scale else 1.0,
        "cells": [
            _cell(view, label, column, row) for label, row in zip(view.labels, rows, strict=True)
        ],
    }


def _cell(view: View, label: str, column: Column, row: Row | None) -> Json:
    cell = view.value(label, column)
    ends = [None if row is None else _short(row[end]) for end in ("value", "low", "high")]
    return {
        "text": cell.text + (MARK if cell.state == "contaminated" else ""),
        "interval": cell.interval,
        **dict(zip(("value", "low", "high"), ends, strict=True)),
    }


def _short(value: float | None) -> float | None:
    """Return a number with as many digits as a figure needs; counts keep all of theirs."""
    if value is None or float(value).is_integer():
        return value
    return float(f"{value:.{_DIGITS}g}")


def front_spec() -> Json:
    """Return the front as a specification without data, axes and size: the script adds them."""
    lit = alt.param(name="lit", value=-1)
    is_lit = "lit < 0 || datum.c === lit"
    faded = alt.condition(is_lit, alt.value(1), alt.value(_FADED))
    symbols = [*_interval_layers(faded), *_symbol_layers(faded), _ring_layer(faded), _halo_layer()]
    chart = alt.layer(*symbols, _label_layer(faded), _target_layer()).add_params(lit)
    spec: Json = chart.to_dict(validate=False)
    del spec["$schema"]  # an address; this page has none
    return figures.themed(spec)


def _marks(name: str = "marks") -> alt.Chart:
    return alt.Chart(alt.NamedData(name))


def _at(x: str = "x", y: str = "y") -> dict[str, Any]:
    return {
        "x": alt.X(f"{x}:Q", axis=alt.Axis(domain=False, ticks=False)),
        "y": alt.Y(f"{y}:Q", axis=alt.Axis(domain=False, ticks=False)),
    }


def _interval_layers(faded: Any) -> Iterator[Any]:
    for axis, end in (("y", "y2"), ("x", "x2")):
        rule = (
            _marks()
            .transform_filter(f"datum.{axis}_low !== null")
            .mark_rule(color=figures.DIM, strokeWidth=1.25)
        )
        at = _at(**{axis: f"{axis}_low"})
        yield rule.encode(**at, **{end: f"{axis}_high"}, opacity=faded)


def _symbol_layers(faded: Any) -> Iterator[Any]:
    for kind, look in figures.SYMBOLS.items():
        points = _marks().transform_filter(f"datum.kind === '{kind}'")
        yield points.mark_point(**look).encode(**_at(), opacity=faded)


def _ring_layer(faded: Any) -> Any:
    ring = _marks().transform_filter("datum.chosen")
    return ring.mark_point(size=330, stroke=figures.CHOSEN, strokeWidth=2.5).encode(
        **_at(), opacity=faded
    )


def _halo_layer() -> Any:
    """Return the ring of the highlighted candidate: dashed, so that it is no second choice."""
    halo = _marks().mark_point(
        size=560, stroke=figures.INK, strokeWidth=1.5, strokeDash=[3, 2], fill=None
    )
    shown = alt.condition("datum.c === lit", alt.value(1), alt.value(0))
    return halo.encode(**_at(), opacity=shown)


def _label_layer(faded: Any) -> Any:
    strong = "datum.kind === 'baseline' || datum.kind === 'front'"
    text = _marks("labels").mark_text(
        align=alt.ExprRef("datum.align"),
        baseline="middle",
        clip=False,
        fontSize=11,
        fontWeight=alt.ExprRef("datum.chosen ? 'bold' : 'normal'"),
    )
    return text.encode(
        **_at(),
        text="text:N",
        color=alt.condition(strong, alt.value(figures.INK), alt.value(figures.MUTED)),
        opacity=faded,
    )


def _target_layer() -> Any:
    """Return what is pointed at and focused: 24 pixels wide, whatever the mark below looks like."""
    target = _marks().mark_point(
        shape="circle", size=452, fill="transparent", stroke="transparent", cursor="pointer"
    )
    return target.encode(**_at()).properties(name="target")
