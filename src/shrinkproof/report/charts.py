"""The figures of the page: which numbers go into which chart, and what each caption says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.report import figures, wording
from shrinkproof.report.bands import honest_bands
from shrinkproof.report.rows import Cell, Place, Row, cell_of
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View

WIDE: Final = (1060, 430)
NARROW: Final = (290, 330)
"""Plotting areas in pixels for a wide page and for a telephone."""
_LABEL_LIMIT: Final = 16
_PLOT_LIMIT: Final = 3


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """One trade-off plot in two sizes, and what is not in it."""

    title: str
    wide: str
    narrow: str
    missing: tuple[tuple[str, str], ...]
    is_thinned: bool


@dataclass(frozen=True, slots=True)
class Diagram:
    """One reliability diagram with its calibration error."""

    title: str
    svg: str
    ece: Cell
    outside: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """Both reliability diagrams of one candidate."""

    name: str
    diagrams: tuple[Diagram, ...]


def pairs(view: View) -> list[tuple[Column, Column]]:
    """Return the axes of the trade-off plots: each other objective, and the first one.

    Without two objectives it is quality against size.
    """
    columns = [view.column(selector) for selector in view.objectives]
    size = Column("cost.bytes", ("", 0))
    if len(columns) < 2:
        columns = [
            *columns,
            *(c for c in (Column(view.rows.quality, CLEAN), size) if c not in columns),
        ]
    return [(x, columns[0]) for x in columns[1 : _PLOT_LIMIT + 1]]


def tradeoffs(view: View) -> list[Tradeoff]:
    """Return the first objective against each other one; quality against size without a choice."""
    return [
        plot
        for i, (x, y) in enumerate(pairs(view))
        if (plot := _tradeoff(view, x, y, f"front{i}")) is not None
    ]


def _tradeoff(view: View, x: Column, y: Column, name: str) -> Tradeoff | None:
    pairs: list[tuple[str, Row, Row]] = []
    missing = []
    for label in view.labels:
        rows = [view.rows.find(label, column.metric, column.place) for column in (x, y)]
        gaps = [
            f"{wording.phrase(column.name)} {cell_of(row).text}"
            for column, row in zip((x, y), rows, strict=True)
            if row is None or row["value"] is None
        ]
        if gaps or rows[0] is None or rows[1] is None:
            missing.append((view.short[label], "; ".join(gaps)))
        else:
            pairs.append((label, rows[0], rows[1]))
    if not pairs:
        return None
    x_scale = scale_of(x, [pair[1] for pair in pairs])
    y_scale = scale_of(y, [pair[2] for pair in pairs])
    named = _named(view, [label for label, _, _ in pairs])
    marks = [
        _mark(view, label, across, up, (x_scale, y_scale), named) for label, across, up in pairs
    ]
    titles = {"x_title": title_of(view, x, x_scale), "y_title": title_of(view, y, y_scale)}
    sizes = {"wide": WIDE, "narrow": NARROW}
    drawn = {
        kind: figures.tradeoff(marks, name=f"{name}-{kind}", width=w, height=h, **titles)
        for kind, (w, h) in sizes.items()
    }
    return Tradeoff(
        title=f"{y.name} against {wording.phrase(x.title)}",
        wide=drawn["wide"],
        narrow=drawn["narrow"],
        missing=tuple(missing),
        is_thinned=len(named) < len(pairs),
    )


def scale_of(column: Column, rows: Sequence[Row]) -> wording.Scale:
    """Return how an axis prints its numbers; at least one row, all with values."""
    largest = max(abs(row["value"]) for row in rows)
    return wording.scale(column.metric, rows[0]["unit"], largest)


def title_of(view: View, column: Column, scale: wording.Scale) -> str:
    """Return the title of an axis: name, unit, direction."""
    arrows = {"higher": "higher is better", "lower": "lower is better"}
    parts = [column.name, scale.suffix.strip()]
    hint = arrows.get(view.rows.unit(column.metric)[1], "")
    return ", ".join(part for part in parts if part) + (f" ({hint})" if hint else "")


def _named(view: View, labels: Sequence[str]) -> frozenset[str]:
    """Return which marks get a name: all of a few, otherwise baseline, choice and front."""
    if len(labels) <= _LABEL_LIMIT:
        return frozenset(labels)
    ranked = sorted(
        labels,
        key=lambda label: (
            label != view.chosen,
            view.by_label[label].role != "baseline",
            label not in view.front,
        ),
    )
    important = [
        label
        for label in ranked
        if label == view.chosen or label in view.front or view.by_label[label].role == "baseline"
    ]
    return frozenset(important[:_LABEL_LIMIT])


def _mark(
    view: View,
    label: str,
    across: Row,
    up: Row,
    scales: tuple[wording.Scale, wording.Scale],
    named: frozenset[str],
) -> figures.Mark:
    x, y = scales[0].factor, scales[1].factor
    return figures.Mark(
        label=view.short[label] if label in named else "",
        kind=kind_of(view, label),
        x=across["value"] * x,
        y=up["value"] * y,
        x_low=None if across["low"] is None else across["low"] * x,
        x_high=None if across["high"] is None else across["high"] * x,
        y_low=None if up["low"] is None else up["low"] * y,
        y_high=None if up["high"] is None else up["high"] * y,
        is_chosen=label == view.chosen,
        number=view.labels.index(label),
    )


def kind_of(view: View, label: str) -> str:
    """Return as what a candidate is drawn, see `figures.SYMBOLS`."""
    role = view.by_label[label].role
    if role != "recipe":
        return role
    if view.decision is None or label in view.front:
        return "front"
    return "dominated" if label in view.decision.dominated else "excluded"


def calibration(
    view: View,
    labels: Sequence[str],
    bins: Mapping[tuple[str, Literal["clean", "corrupted"]], figures.ReliabilityBins],
) -> list[Calibration]:
    """Return the reliability diagrams of the given candidates, clean and corrupted."""
    parts = []
    kinds: tuple[tuple[Literal["clean", "corrupted"], Place], ...] = (
        ("clean", CLEAN),
        ("corrupted", CORRUPTED),
    )
    short = "D-ECE" if view.detects else "ECE"
    titles = figures.OF_BOXES if view.detects else figures.OF_CLASSES
    for i, label in enumerate(labels):
        diagrams = []
        for kind, place in kinds:
            found = bins.get((label, kind))
            if found is None:
                continue
            copies = 1.0
            if kind == "corrupted":
                copies = _conditions(view) or _copies(found, bins.get((label, "clean")))
            bands = _bands(found, copies)
            ece = cell_of(view.rows.find(label, view.calibration, place))
            title = wording.place_name(*place)
            svg = figures.reliability(
                found,
                name=f"reliability{i}-{kind}",
                description=f"Reliability diagram of {view.short[label]}, {title}; "
                f"{short} {ece.text}",
                bands=bands,
                titles=titles,
            )
            diagrams.append(Diagram(title, svg, ece, _outside(found, bands)))
        if diagrams:
            parts.append(Calibration(view.short[label], tuple(diagrams)))
    return parts


def _conditions(view: View) -> float:
    """Return how many conditions the boxes of detectors are pooled of; 0 for classifiers.

    Fewer boxes count under corruption than on clean images, so their numbers do not tell.
    """
    places = view.rows.places(view.rows.quality) if view.detects else ()
    return float(sum(severity > 0 for _, severity in places))


def _copies(pooled: figures.ReliabilityBins, clean: figures.ReliabilityBins | None) -> float:
    """Return how often each image stands among the pooled ones."""
    images = 0 if clean is None else int(sum(clean.count))
    return max(1.0, float(sum(pooled.count)) / images) if images else 1.0


def _bands(bins: figures.ReliabilityBins, copies: float) -> NDArray[np.float64]:
    """Return the range of each bin's accuracy under perfect calibration.

    Copies of an image under several conditions are answered alike. How much is unknown, so they
    count as one image: the range is then never too narrow.
    """
    count = np.maximum(np.round(np.asarray(bins.count) / copies), 1).astype(np.int64)
    return honest_bands(count, np.nan_to_num(np.asarray(bins.confidence, dtype=np.float64)))


def _outside(bins: figures.ReliabilityBins, bands: NDArray[np.float64]) -> str:
    """Return in words how many bins lie outside their range."""
    filled = np.flatnonzero(np.asarray(bins.count) > 0)
    accuracy = np.asarray(bins.accuracy, dtype=np.float64)[filled]
    outside = (accuracy < bands[filled, 0]) | (accuracy > bands[filled, 1])
    return f"{int(outside.sum())} of {len(filled)} bins outside"
