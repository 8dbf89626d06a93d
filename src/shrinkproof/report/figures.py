"""Charts as static SVG text: pure functions of plain data, drawn by Altair and vl-convert.

Colors are those of the light page; the page's style sheet recolors exactly these values in the
dark. Every figure carries a text alternative, and every identifier in it starts with its own name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Literal, Protocol

import altair as alt
import vl_convert
from numpy.typing import NDArray

INK: Final = "#1f2933"
MUTED: Final = "#66727f"
GRID: Final = "#e4e8ed"
FRONT: Final = "#0072b2"
CHOSEN: Final = "#d55e00"
DIM: Final = "#9aa6b2"
PAPER: Final = "#fefefe"
BAND: Final = "#dde4eb"

_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
_CONFIG: Final = {
    "aria": False,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "domainColor": MUTED,
        "gridColor": GRID,
        "labelColor": MUTED,
        "labelFontSize": 11,
        "tickColor": MUTED,
        "titleColor": INK,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
}
_SPARE: Final = re.compile(
    r'<path class="(?:back|fore)ground"[^>]*/>|<rect[^>]*fill="transparent"[^>]*/>'
    r'| (?:aria-hidden|aria-roledescription|role|pointer-events|class|font-family)="[^"]*"'
    r'| opacity="1"'
)
"""What the renderer writes for its own viewer; half of the file, and nothing that is seen."""

_TAG: Final = re.compile(r"<[^>]+>")
_NUMBERED: Final = re.compile(r'aria-label="candidate-(\d+)"')
"""What `numbered` leaves at the marks of a candidate."""
_LONG: Final = re.compile(r"-?\d+\.\d{3,}")
"""Coordinates of more than two decimals; nobody sees a hundredth of a pixel."""

_LOG_FROM: Final = 6.0
"""Costs that span more than this factor are drawn on a logarithmic axis."""
_LETTER: Final = 6.4
"""Width of a letter of the labels in pixels, to place them without measuring."""


OF_CLASSES: Final = ("confidence, %", "accuracy, %")
OF_BOXES: Final = ("score, %", "precision, %")
"""Titles of the axes of reliability diagrams."""


class ReliabilityBins(Protocol):
    """Confidence bins of a reliability diagram; K bins, arrays of length K."""

    @property
    def low(self) -> NDArray[Any]:
        """Lower edge of each bin, 0 to 1."""
        ...

    @property
    def high(self) -> NDArray[Any]:
        """Upper edge of each bin, 0 to 1."""
        ...

    @property
    def count(self) -> NDArray[Any]:
        """Number of images in each bin."""
        ...

    @property
    def confidence(self) -> NDArray[Any]:
        """Mean confidence in each bin; ignored where the bin is empty."""
        ...

    @property
    def accuracy(self) -> NDArray[Any]:
        """Share of right answers in each bin; ignored where the bin is empty."""
        ...


@dataclass(frozen=True, slots=True)
class Mark:
    """One candidate in the trade-off plot, in display units.

    Attributes:
        label: name beside the mark; empty for none.
        kind: ``baseline``, ``control``, ``front``, ``dominated`` or ``excluded``.
        x: cost, with ``x_low`` and ``x_high`` where an interval is stated.
        y: quality, with ``y_low`` and ``y_high`` where an interval is stated.
        is_chosen: draw the ring of the chosen candidate.
        number: position of the candidate on the page, for the script; None for none.
    """

    label: str
    kind: str
    x: float
    y: float
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None
    is_chosen: bool = False
    number: int | None = None


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    log: bool

    def at(self, value: float) -> float:
        """Return the position of a value, 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def scale(self) -> alt.Scale:
        return alt.Scale(
            domain=[self.low, self.high],
            type="log" if self.log else "linear",
            nice=False,
            zero=False,
        )


def svg(chart: Any, *, name: str, description: str) -> str:
    """Return a chart as an ``<svg>`` element that can stand in a page.

    Args:
        chart: an Altair chart.
        name: unique among the figures of the page; letters, digits and hyphens.
        description: text alternative for readers who do not see the figure.
    """
    text: str = vl_convert.vegalite_to_svg(themed(chart.to_dict(validate=False)))
    text = _NUMBERED.sub(r'data-c="\1"', _SPARE.sub("", text))
    text = _TAG.sub(lambda tag: _LONG.sub(_rounded, tag.group()), text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'xlink:href="#{name}-')
    opening = (
        f'<svg id="{name}" role="img" aria-label="{escape(description, quote=True)}" '
        f'font-family="{_FONT}" '
    )
    return text.replace("<svg ", opening, 1)


def themed(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a specification with the look of this page; changes and returns the argument."""
    spec["config"] = _CONFIG
    spec["background"] = "transparent"
    spec["padding"] = 4
    return spec


def numbered(chart: Any) -> Any:
    """Return a chart whose marks carry the candidate's number, the field ``who`` of each row.

    The renderer has no other way to name a mark than its text alternative; `svg` turns that into
    an attribute which readers do not hear.
    """
    return chart.encode(description=alt.Description("who:N"))


def candidate_mark(number: int | None) -> str:
    """Return the field ``who`` of a row for `numbered`."""
    return "" if number is None else f"candidate-{number}"


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number.group()):.2f}".rstrip("0").rstrip(".")


def tradeoff(
    marks: Sequence[Mark], *, x_title: str, y_title: str, name: str, width: int, height: int
) -> str:
    """Return the trade-off plot: one mark per candidate, intervals as thin lines.

    Args:
        marks: at least one; values in display units.
        x_title: axis title with unit and direction.
        y_title: axis title with unit and direction.
        name: identifier of the figure.
        width: of the plotting area in pixels.
        height: of the plotting area in pixels.
    """
    x = _axis([v for m in marks for v in (m.x, m.x_low, m.x_high) if v is not None])
    y = _axis([v for m in marks for v in (m.y, m.y_low, m.y_high) if v is not None])
    x_field = alt.X("x:Q", scale=x.scale(), title=x_title, axis=_ticks(x, width))
    y_field = alt.Y("y:Q", scale=y.scale(), title=y_title, axis=_ticks(y, height))
    layers = [
        *_intervals(marks, x_field, y_field),
        *_symbols(marks, x_field, y_field),
        *_labels(marks, x, y, width, height),
    ]
    chart = alt.layer(*layers).properties(width=width, height=height)
    names = ", ".join(mark.label for mark in marks if mark.label)
    return svg(chart, name=name, description=f"{y_title} against {x_title} for {names}")


def _axis(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOG_FROM:
        pad = (high / low) ** 0.09
        return _Axis(low / pad, high * pad, log=True)
    pad = (high - low) * 0.09 or abs(high) * 0.1 or 1.0
    return _Axis(low - pad, high + pad, log=False)


def _ticks(axis: _Axis, length: int) -> alt.Axis:
    count = max(3, length // 80)
    if not axis.log:
        return alt.Axis(tickCount=count, domain=False, ticks=False)
    span = axis.high / axis.low
    bases = (1, 2, 3, 4, 5, 6, 8) if span < 12 else (1, 2, 5) if span < 300 else (1,)
    decades = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    values = [b * 10.0**d for d in decades for b in bases if axis.low <= b * 10.0**d <= axis.high]
    return alt.Axis(values=values, domain=False, ticks=False, format="~r")


def _intervals(marks: Sequence[Mark], x: alt.X, y: alt.Y) -> list[Any]:
    layers = []
    for low, high, at, second in (
        ("y_low", "y_high", "y", {"y2": "end"}),
        ("x_low", "x_high", "x", {"x2": "end"}),
    ):
        rows = [
            {
                "x": mark.x,
                "y": mark.y,
                at: getattr(mark, low),
                "end": getattr(mark, high),
                "who": candidate_mark(mark.number),
            }
            for mark in marks
            if getattr(mark, low) is not None and getattr(mark, high) is not None
        ]
        if rows:
            rule = numbered(chart_of(rows).mark_rule(color=DIM, strokeWidth=1.25, aria=True))
            layers.append(rule.encode(x=x, y=y, **second))
    return layers


SYMBOLS: Final[dict[str, dict[str, Any]]] = {
    "dominated": {"shape": "circle", "fill": DIM, "stroke": PAPER, "strokeWidth": 1, "size": 64},
    "excluded": {"shape": "M-1,-1L1,1M1,-1L-1,1", "stroke": MUTED, "strokeWidth": 2, "size": 44},
    "control": {"shape": "circle", "fill": PAPER, "stroke": MUTED, "strokeWidth": 1.5, "size": 64},
    "front": {"shape": "circle", "fill": FRONT, "stroke": PAPER, "strokeWidth": 1, "size": 110},
    "baseline": {"shape": "diamond", "fill": INK, "stroke": PAPER, "strokeWidth": 1, "size": 130},
}
"""How each kind of candidate is drawn, in drawing order; shape and fill tell as much as color."""


def _symbols(marks: Sequence[Mark], x: alt.X, y: alt.Y) -> list[Any]:
    layers = []
    for kind, look in SYMBOLS.items():
        rows = [_spot(mark) for mark in marks if mark.kind == kind]
        if rows:
            points = numbered(chart_of(rows).mark_point(opacity=1, aria=True, **look))
            layers.append(points.encode(x=x, y=y))
    rows = [_spot(mark) for mark in marks if mark.is_chosen]
    if rows:
        ring = chart_of(rows).mark_point(
            size=330, stroke=CHOSEN, strokeWidth=2.5, opacity=1, aria=True
        )
        layers.append(numbered(ring).encode(x=x, y=y))
    return layers


def _spot(mark: Mark) -> dict[str, Any]:
    return {"x": mark.x, "y": mark.y, "who": candidate_mark(mark.number)}


Side = Literal["left", "right", "center"]
_COVERED: Final = 0.1
"""Share of a label that may lie on marks and other labels; the script knows the same."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


def _labels(marks: Sequence[Mark], x: _Axis, y: _Axis, width: int, height: int) -> list[Any]:
    """Put each label where it covers no mark and no other label, the important ones first.

    A label without a free place is left out, unless it is the choice's.
    """
    centers = [(x.at(mark.x) * width, (1 - y.at(mark.y)) * height) for mark in marks]
    taken: list[Box] = [(cx - 7, cy - 7, cx + 7, cy + 7) for cx, cy in centers]
    importance = {"baseline": 1, "front": 2, "control": 4}
    order = sorted(
        (i for i, mark in enumerate(marks) if mark.label),
        key=lambda i: (not marks[i].is_chosen, importance.get(marks[i].kind, 3), i),
    )
    layers = []
    for i in order:
        mark, (cx, cy) = marks[i], centers[i]
        length = len(mark.label) * _LETTER
        gap = 14 if mark.is_chosen else 10
        left, top, align = _best_spot(cx, cy, length, gap, taken, (width, height))
        box = (left, top, left + length, top + 13)
        if not mark.is_chosen and sum(_overlap(box, b) for b in taken) > _COVERED * length * 13:
            continue
        taken.append(box)
        anchor = {"left": left, "right": left + length, "center": left + length / 2}[align]
        row = {"text": mark.label, "who": candidate_mark(mark.number)}
        text = numbered(chart_of([row])).mark_text(
            align=align,
            aria=True,
            baseline="middle",
            clip=False,
            color=INK if mark.kind in ("baseline", "front") else MUTED,
            fontSize=11,
            fontWeight="bold" if mark.is_chosen else "normal",
        )
        layers.append(
            text.encode(x=alt.value(anchor), y=alt.value(top + 6.5), text=alt.Text("text:N"))
        )
    return layers


def _best_spot(
    cx: float, cy: float, length: float, gap: float, taken: Sequence[Box], size: tuple[int, int]
) -> tuple[float, float, Side]:
    spots: list[tuple[float, float, Side]] = [
        (cx + gap, cy - 6.5, "left"),
        (cx - gap - length, cy - 6.5, "right"),
        (cx - length / 2, cy - gap - 13, "center"),
        (cx - length / 2, cy + gap, "center"),
        (cx + gap * 0.7, cy - gap - 9, "left"),
        (cx + gap * 0.7, cy + gap - 4, "left"),
        (cx - gap * 0.7 - length, cy - gap - 9, "right"),
        (cx - gap * 0.7 - length, cy + gap - 4, "right"),
        (cx - length / 2, cy - gap - 27, "center"),
        (cx - length / 2, cy + gap + 14, "center"),
    ]

    def cost(spot: tuple[float, float, Side]) -> float:
        left, top, _ = spot
        outside = max(0.0, -left) + max(0.0, left + length - size[0])
        outside += max(0.0, -top) + max(0.0, top + 13 - size[1])
        return outside * 40 + sum(_overlap((left, top, left + length, top + 13), b) for b in taken)

    return min(spots, key=cost)


def _overlap(first: Box, second: Box) -> float:
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    return across * down if across > 0 and down > 0 else 0.0


def reliability(
    bins: ReliabilityBins,
    *,
    name: str,
    description: str,
    size: int = 190,
    bands: NDArray[Any] | None = None,
    titles: tuple[str, str] = OF_CLASSES,
) -> str:
    """Return a reliability diagram: accuracy over confidence, one dot per non-empty bin.

    The area of a dot grows with its share of the images, and its stem shows the gap between
    confidence and accuracy, so bins with few images do not shout. A stem is colored where the
    accuracy lies outside its band.

    Args:
        bins: the bins; empty ones are not drawn.
        name: identifier of the figure.
        description: text alternative.
        size: width and height of the plotting area in pixels.
        bands: (K, 2) range of each bin's accuracy under perfect calibration, 0 to 1; None for none.
        titles: of the horizontal and the vertical axis.
    """
    rows = _points(bins, bands)
    domain = alt.Scale(domain=[0, 100], nice=False)
    axis = alt.Axis(values=[0, 25, 50, 75, 100], domain=False, ticks=False)
    x = alt.X("x:Q", scale=domain, axis=axis, title=titles[0])
    y = alt.Y("y:Q", scale=domain, axis=axis, title=titles[1])
    diagonal = chart_of([{"x": 0, "y": 0}, {"x": 100, "y": 100}])
    layers: list[Any] = []
    if rows and bands is not None:
        area = chart_of(rows).mark_rect(color=BAND, opacity=1)
        edges = {"x": alt.X("left:Q", scale=domain), "x2": alt.X2("right:Q")}
        ends = {"y": alt.Y("low:Q", scale=domain), "y2": alt.Y2("high:Q")}
        layers.append(area.encode(**edges, **ends))
    line = diagonal.mark_line(color=MUTED, strokeDash=[4, 3], strokeWidth=1)
    layers.append(line.encode(x=x, y=y))
    for color, is_outside in ((DIM, False), (CHOSEN, True)):
        part = [row for row in rows if row["outside"] == is_outside]
        if part:
            stems = chart_of(part).mark_rule(color=color, strokeWidth=1.5)
            layers.append(stems.encode(x=x, y=y, y2=alt.Y2("x:Q")))
    if rows:
        dots = chart_of(rows).mark_circle(color=FRONT, opacity=0.9)
        layers.append(dots.encode(x=x, y=y, size=alt.Size("size:Q", scale=None, legend=None)))
    return svg(
        alt.layer(*layers).properties(width=size, height=size), name=name, description=description
    )


def _points(bins: ReliabilityBins, bands: NDArray[Any] | None) -> list[dict[str, Any]]:
    """Return the dots of the bins with images, in percent."""
    total = float(sum(bins.count)) or 1.0
    rows = []
    for place, count in enumerate(bins.count):
        if count <= 0:
            continue
        ends = (0.0, 0.0) if bands is None else tuple(bands[place])
        accuracy = float(bins.accuracy[place])
        rows.append(
            {
                "x": round(float(bins.confidence[place]) * 100, 2),
                "y": round(accuracy * 100, 2),
                "size": round(12 + 320 * float(count) / total, 1),
                "left": round(float(bins.low[place]) * 100, 2),
                "right": round(float(bins.high[place]) * 100, 2),
                "low": round(float(ends[0]) * 100, 2),
                "high": round(float(ends[1]) * 100, 2),
                "outside": not float(ends[0]) <= accuracy <= float(ends[1]),
            }
        )
    return rows


def chart_of(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    """Return a chart of rows, before it has marks."""
    return alt.Chart(alt.InlineData(values=list(rows)))
