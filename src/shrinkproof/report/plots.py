"""Charts of the evidence: errors over severity, damage per class, ranks of recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import altair as alt

from shrinkproof.report.figures import (
    CHOSEN,
    DIM,
    FRONT,
    INK,
    MUTED,
    candidate_mark,
    chart_of,
    numbered,
    svg,
)

PALETTE: Final = (FRONT, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colors of candidates that are neither baseline nor choice (Okabe and Ito)."""

_RECALL: Final = "change of recall, points"
_ROW: Final = 21
"""Height of a class in pixels."""
_APART: Final = 4
"""Pixels between the two marks of a class and its middle."""


@dataclass(frozen=True, slots=True)
class Point:
    """The number at one severity, in percent, with its interval where one is stated."""

    severity: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """One candidate: its number over severity.

    Attributes:
        label: name of the candidate.
        color: of its line.
        is_dashed: the baseline is dashed.
        is_chosen: the choice has a thicker line.
        points: ascending in severity.
        number: position of the candidate on the page, for the script; None for none.
    """

    label: str
    color: str
    is_dashed: bool
    is_chosen: bool
    points: tuple[Point, ...]
    number: int | None = None


def severity_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    name: str,
    size: tuple[int, int],
    top: float,
    what: str = "error",
) -> str:
    """Return a number over severity, one line per candidate.

    Args:
        curves: in drawing order.
        title: what the numbers are about; stands in the text alternative.
        name: identifier of the figure.
        size: width and height of the plotting area in pixels.
        top: end of the vertical axis, in percent.
        what: name of the number.
    """
    severities = sorted({point.severity for curve in curves for point in curve.points})
    pad = 0.15 if len(severities) > 1 else 0.5
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[severities[0] - pad, severities[-1] + pad], nice=False, zero=False),
        axis=alt.Axis(values=severities, format="d", domain=False, ticks=False, grid=False),
        title="severity",
    )
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(domain=[0, top], nice=False),
        axis=alt.Axis(tickCount=4, domain=False, ticks=False),
        title=f"{what}, %",
    )
    color = alt.Color("color:N", scale=None, legend=None)
    rows: list[dict[str, Any]] = [
        {
            "line": place,
            "who": candidate_mark(curve.number),
            "color": curve.color,
            "x": p.severity,
            "y": round(p.value, 2),
        }
        for place, curve in enumerate(curves)
        for p in curve.points
    ]
    ends = [
        {
            "who": candidate_mark(curve.number),
            "color": curve.color,
            "x": p.severity,
            "y": round(p.low, 2),
            "end": round(p.high, 2),
        }
        for curve in curves
        for p in curve.points
        if p.low is not None and p.high is not None
    ]
    layers: list[Any] = []
    if ends:
        rule = numbered(chart_of(ends).mark_rule(strokeWidth=1, opacity=0.6, aria=True))
        layers.append(rule.encode(x=x, y=y, y2="end", color=color))
    for look in dict.fromkeys(map(_look, curves)):
        mine = [row for row in rows if _look(curves[int(row["line"])]) == look]
        width, dash = look
        line = numbered(chart_of(mine)).mark_line(
            strokeWidth=width, strokeDash=list(dash) if dash else alt.Undefined, aria=True
        )
        layers.append(line.encode(x=x, y=y, color=color, detail="line:N"))
    dots = numbered(chart_of(rows).mark_circle(size=26, opacity=1, aria=True))
    layers.append(dots.encode(x=x, y=y, color=color))
    named = what[:1].upper() + what[1:]
    last = "; ".join(f"{curve.label} {curve.points[-1].value:.1f} %" for curve in curves)
    return svg(
        alt.layer(*layers).properties(width=size[0], height=size[1]),
        name=name,
        description=f"{named} over severity, {title}. At severity {severities[-1]}: {last}",
    )


def _look(curve: Curve) -> tuple[float, tuple[int, ...]]:
    """Return width and dashes of a line."""
    return 3.0 if curve.is_chosen else 1.75, (5, 3) if curve.is_dashed else ()


@dataclass(frozen=True, slots=True)
class Damage:
    """What changed in one class, in percentage points.

    Attributes:
        name: of the class.
        clean: change on clean images with its interval; None where it was not measured.
        corrupted: mean change over the corrupted conditions.
    """

    name: str
    clean: tuple[float, float | None, float | None] | None
    corrupted: tuple[float, float | None, float | None] | None


def class_damage(
    classes: Sequence[Damage], *, title: str, name: str, width: int, span: tuple[float, float]
) -> str:
    """Return the change of each class's recall: clean as rings, under corruption as dots.

    Args:
        classes: from top to bottom.
        title: whose classes these are; stands in the text alternative.
        name: identifier of the figure.
        width: of the plotting area in pixels.
        span: both ends of the axis, in percentage points.
    """
    height = _ROW * len(classes)
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=list(span), nice=False),
        axis=alt.Axis(tickCount=4, domain=False, ticks=False),
        title=_RECALL,
    )
    y = alt.Y("y:Q", scale=alt.Scale(domain=[height, 0], nice=False, zero=False), axis=None)
    layers: list[Any] = [chart_of([{"x": 0}]).mark_rule(color=MUTED, strokeWidth=1).encode(x=x)]
    rings: dict[str, Any] = {"filled": False, "stroke": MUTED, "strokeWidth": 1.75, "size": 46}
    dots: dict[str, Any] = {"filled": True, "color": FRONT, "size": 52}
    for kind, shift, look in (("clean", -_APART, rings), ("corrupted", _APART, dots)):
        rows = _damage_rows(classes, kind, shift)
        if not rows:
            continue
        ends = [row for row in rows if row["low"] is not None]
        if ends:
            rule = chart_of(ends).mark_rule(color=DIM, strokeWidth=1.25)
            layers.append(rule.encode(x=alt.X("low:Q", title=_RECALL), x2="high", y=y))
        layers.append(chart_of(rows).mark_point(opacity=1, **look).encode(x=x, y=y))
    names = [
        {"text": _short(one.name), "y": place * _ROW + _ROW / 2}
        for place, one in enumerate(classes)
    ]
    text = chart_of(names).mark_text(
        align="right", baseline="middle", clip=False, color=INK, fontSize=11
    )
    layers.append(text.encode(x=alt.value(-8), y=y, text="text:N"))
    worst = ", ".join(f"{one.name} {_words(one)}" for one in classes[:3])
    return svg(
        alt.layer(*layers).properties(width=width, height=height),
        name=name,
        description=f"Change of recall per class, {title}. Largest losses: {worst}",
    )


def _damage_rows(classes: Sequence[Damage], kind: str, shift: float) -> list[dict[str, Any]]:
    rows = []
    for place, one in enumerate(classes):
        found = getattr(one, kind)
        if found is not None:
            value, low, high = found
            y = place * _ROW + _ROW / 2 + shift
            rows.append({"x": round(value, 3), "low": low, "high": high, "y": y})
    return rows


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "\N{HORIZONTAL ELLIPSIS}"


def _words(one: Damage) -> str:
    found = one.corrupted or one.clean
    return "not measured" if found is None else f"{found[0]:+.1f} points"


@dataclass(frozen=True, slots=True)
class Ranking:
    """Mean ranks of recipes, best first, and what is nearer than the critical difference."""

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    critical: float
    cliques: tuple[tuple[str, ...], ...]


def critical_difference(ranking: Ranking, *, name: str, description: str, width: int) -> str:
    """Return the diagram of Demsar 2006: mean ranks on a line, bars join what chance may explain.

    Args:
        ranking: recipes with their mean ranks.
        name: identifier of the figure.
        description: text alternative.
        width: of the whole figure in pixels.
    """
    count = len(ranking.names)
    left, right = 130.0, width - 130.0
    scale = (right - left) / max(count - 1, 1)
    at = {n: left + (r - 1) * scale for n, r in zip(ranking.names, ranking.ranks, strict=True)}
    bar = min(ranking.critical, count - 1) * scale
    tall = 62 + 11 * len(ranking.cliques)
    parts = [
        _text(left, 12, f"critical difference {ranking.critical:.2f}", MUTED, "start"),
        _line(left, 20, left + bar, 20, INK, 2),
        _line(left, 44, right, 44, MUTED, 1),
    ]
    for rank in range(1, count + 1):
        x = left + (rank - 1) * scale
        parts += [_line(x, 40, x, 44, MUTED, 1), _text(x, 36, str(rank), MUTED, "middle")]
    for place, clique in enumerate(ranking.cliques):
        bar_y = 54 + 11 * place
        parts.append(_line(at[clique[0]] - 4, bar_y, at[clique[-1]] + 4, bar_y, CHOSEN, 4))
    half = (count + 1) // 2
    for place, (label, mean) in enumerate(zip(ranking.names, ranking.ranks, strict=True)):
        is_left = place < half
        down = tall + 20 * (place if is_left else count - 1 - place)
        end, anchor = (left - 8, "end") if is_left else (right + 8, "start")
        path = f"M{at[label]:.1f},44V{down:.1f}H{end + (2 if is_left else -2):.1f}"
        parts.append(f'<path d="{path}" fill="none" stroke="{DIM}"/>')
        parts.append(_text(end, down + 4, f"{_short(label)} {mean:.2f}", INK, anchor))
    height = tall + 20 * half
    return (
        f'<svg id="{name}" role="img" aria-label="{escape(description, quote=True)}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-size="11">'
        f"{''.join(parts)}</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{color}" stroke-width="{width}"/>'
    )


def _text(x: float, y: float, text: str, color: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}">{escape(text)}</text>'
    )
