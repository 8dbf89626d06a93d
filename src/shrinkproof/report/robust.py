"""Robustness in numbers: means over corruptions, what they are relative to, and their groups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shrinkproof.metrics.detection.names import MPC, MPC_OF_BASELINE, RPC
from shrinkproof.metrics.robustness import GROUPS
from shrinkproof.report import wording
from shrinkproof.report.rows import Cell, Place
from shrinkproof.report.view import CLEAN, CORRUPTED, PROBLEMS, Column, View

TOTALS: Final = (
    "robustness.mean_error",
    "robustness.mce",
    "robustness.relative_mce",
    "robustness.mce_alexnet",
    "robustness.worst_error",
    "robustness.retention",
    "robustness.relative",
    "robustness.effective",
)
"""Numbers of the table, in its order."""

OF_DETECTORS: Final = (MPC, RPC, MPC_OF_BASELINE)
"""The same for detectors; an mPC never stands without its rPC."""

_JUDGED: Final = ("robustness.relative", "robustness.effective")
"""Differences themselves: their intervals are judged against zero."""

_SINGLE: Final = ("robustness.ce", "robustness.ce_difference")
_DETAIL_LIMIT: Final = 4
"""Candidates whose single corruptions are listed."""

_WORST: Final = re.compile(r"worst of \d+ corruptions: ([^;]+)")


@dataclass(frozen=True, slots=True)
class RobustCell:
    """A number, what it is about, and its change against the baseline."""

    value: Cell
    about: str = ""
    change: Cell | None = None


@dataclass(frozen=True, slots=True)
class RobustLine:
    """One candidate."""

    name: str
    cells: tuple[RobustCell, ...]
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class RobustTable:
    """One table of candidates; no lines where nothing was measured.

    Attributes:
        columns: what stands in it.
        lines: candidates.
        notes: what a reader must know about the numbers.
        gaps: sentences about columns without any value.
    """

    columns: tuple[Column, ...]
    lines: tuple[RobustLine, ...]
    notes: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SingleTable:
    """Corruption errors of some candidates, ratio and difference, one line per corruption."""

    names: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]


def totals(view: View) -> RobustTable:
    """Return the numbers over all corruptions, one line per candidate."""
    wanted = [Column(view.rows.quality, CLEAN)]
    wanted += [Column(metric, place) for metric in TOTALS for place in view.rows.places(metric)[:1]]
    wanted += [Column(metric, CORRUPTED) for metric in OF_DETECTORS if view.rows.places(metric)]
    columns = view.known(wanted)
    if not any(column.place != CLEAN for column in columns):
        return RobustTable((), ())
    return RobustTable(
        columns=columns,
        lines=_lines(view, columns),
        notes=_notes(view, columns),
        gaps=tuple(view.gaps(wanted)),
    )


def groups(view: View) -> RobustTable:
    """Return the means of the groups of corruptions; nothing for fewer than two groups.

    Those of classifiers are errors, those of detectors mPC with rPC beside it.
    """
    metric = MPC if view.detects else "robustness.error"
    known = view.rows.places(metric)
    columns = view.known(Column(metric, (g, 0)) for g in GROUPS if (g, 0) in known)
    return RobustTable(columns, _lines(view, columns)) if len(columns) > 1 else RobustTable((), ())


def single(view: View) -> SingleTable:
    """Return two numbers of each corruption, of the most important candidates.

    Those of classifiers are corruption errors beside their differences, those of detectors mPC
    beside rPC.
    """
    pair = (MPC, RPC) if view.detects else _SINGLE
    names = (*GROUPS, CORRUPTED[0]) if view.detects else ()
    places: list[Place] = [p for p in view.rows.places(pair[0]) if not p[1] and p[0] not in names]
    takers = [
        c.label
        for c in view.candidates
        if c.role in (("recipe", "baseline") if view.detects else ("recipe",))
        and any(view.value(c.label, Column(pair[0], p)).value is not None for p in places)
    ]
    labels = view.important(takers, _DETAIL_LIMIT)
    lines = tuple(
        (
            place[0].replace("_", " "),
            tuple(view.value(label, Column(m, place)) for label in labels for m in pair),
        )
        for place in places
    )
    return SingleTable(tuple(view.short[label] for label in labels), lines if labels else ())


def _lines(view: View, columns: tuple[Column, ...]) -> tuple[RobustLine, ...]:
    return tuple(
        RobustLine(
            name=view.short[label],
            cells=tuple(_cell(view, label, column) for column in columns),
            is_chosen=label == view.chosen,
        )
        for label in view.labels
    )


def _cell(view: View, label: str, column: Column) -> RobustCell:
    value = view.value(label, column)
    worst = _WORST.search(value.note) if column.metric == "robustness.worst_error" else None
    if column.metric in _JUDGED:
        value = _signed(view, label, column)
    changed = ("robustness.mean_error", "robustness.error", *OF_DETECTORS)
    change = view.change(label, column) if column.metric in changed else None
    about = worst.group(1).replace("_", " ") if worst else ""
    if column.metric == MPC and column.place != CORRUPTED:
        relative = Column(RPC, column.place)
        about = f"{relative.title} {view.value(label, relative).text}"
    return RobustCell(value, about, change)


def _signed(view: View, label: str, column: Column) -> Cell:
    """Return a difference with its sign, in points."""
    cell, row = view.value(label, column), view.rows.find(label, column.metric, column.place)
    if row is None or cell.value is None:
        return cell
    text = wording.difference(column.metric, row["unit"], cell.value)
    return Cell(text, cell.interval, cell.note, cell.state, value=cell.value)


def _notes(view: View, columns: tuple[Column, ...]) -> tuple[str, ...]:
    """Return what numbers are relative to, and where a denominator is small; each text once."""
    told: dict[str, list[str]] = {}
    relative = ("robustness.mce", "robustness.relative_mce", "robustness.mce_alexnet", MPC)
    for column in columns:
        for label in view.labels if column.metric in relative else ():
            cell = view.value(label, column)
            if cell.value is not None and cell.note:
                names = told.setdefault(_sentence(view, cell.note), [])
                names += [column.title] if column.title not in names else []
    return (
        *(f"{' and '.join(names)}: {text}" for text, names in told.items()),
        *_undefined(view, columns),
    )


def _undefined(view: View, columns: tuple[Column, ...]) -> Iterator[str]:
    """Yield why the effective robustness of candidates is undefined, a few of them."""
    column = next((c for c in columns if c.metric == "robustness.effective"), None)
    cells = {label: view.value(label, column) for label in view.labels if column is not None}
    gaps = [(label, cell) for label, cell in cells.items() if cell.state == "undefined"]
    if gaps:
        label, cell = gaps[0]
        more = f" ({len(gaps) - 1} more in section {PROBLEMS})" if len(gaps) > 1 else ""
        yield f"Effective robustness of {view.short[label]}: {_sentence(view, cell.note)}{more}"


def _sentence(view: View, note: str) -> str:
    """Return what a note says about the ratio, with the names of corruptions in words."""
    note = wording.without_interval(note)
    if view.detects:
        note = note.replace(view.rows.quality, wording.metric_name(view.rows.quality))
    for name in corruption_names():
        note = note.replace(name, name.replace("_", " "))
    return f"{note.removesuffix('.')}."


def corruption_names() -> tuple[str, ...]:
    """Return the names of all known corruptions."""
    return tuple(name for members in GROUPS.values() for name in members)
