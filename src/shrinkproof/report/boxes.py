"""What detectors miss and invent at the operating point, and which boxes compression exchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shrinkproof.metrics.detection.names import FALSE_PER_IMAGE, FLIPPED, LOST, MISS_RATE, NEW
from shrinkproof.metrics.names import CHANGE
from shrinkproof.report import wording
from shrinkproof.report.rows import ABSENT, Cell, Place, Row, cell_of
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View

PART_LIMIT: Final = 12
"""Classes in one table, those that are missed most."""
CANDIDATE_LIMIT: Final = 7
"""Candidates that are compared class by class."""

_PLACES: Final[tuple[Place, ...]] = (CLEAN, CORRUPTED)
_KINDS: Final = (("class=", "Class"), ("size=", "Size"))
_ROUNDED: Final = 3

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BoxCell:
    """A number, and its change against the baseline."""

    value: Cell
    change: Cell | None = None


@dataclass(frozen=True, slots=True)
class BoxTable:
    """Numbers of all candidates; no lines where there are none."""

    columns: tuple[Column, ...] = ()
    lines: tuple[tuple[str, tuple[BoxCell, ...], bool], ...] = ()


@dataclass(frozen=True, slots=True)
class PartTable:
    """Missed objects by class or by size, under one condition.

    Attributes:
        kind: ``Class`` or ``Size``.
        place: the condition, in words.
        is_clean: whether it is about clean images.
        names: candidates.
        lines: part, and the numbers of all candidates.
        others: parts that are not in it.
    """

    kind: str
    place: str
    is_clean: bool
    names: tuple[str, ...]
    lines: tuple[tuple[str, tuple[BoxCell, ...]], ...]
    others: int


@dataclass(frozen=True, slots=True)
class BoxEvidence:
    """What changed box by box.

    Attributes:
        points: one sentence per model about its operating point, or why it has none.
        protocol: how boxes are judged there; empty where nothing was.
        missed: missed objects and wrong boxes.
        exchanged: boxes that compression exchanged.
        parts: missed objects by class and size.
    """

    points: tuple[str, ...] = ()
    protocol: str = ""
    missed: BoxTable = BoxTable()
    exchanged: BoxTable = BoxTable()
    parts: tuple[PartTable, ...] = ()


def box_evidence(view: View, exhibits: Mapping[str, Sequence[Json]]) -> BoxEvidence:
    """Return what changed box by box; empty for classifiers."""
    if not view.detects:
        return BoxEvidence()
    return BoxEvidence(
        points=tuple(_point(view, item) for item in exhibits.get("operating-point", ())),
        protocol=_protocol(view),
        missed=_table(view, (MISS_RATE, FALSE_PER_IMAGE), view.labels),
        exchanged=_table(
            view,
            (LOST, FLIPPED, NEW),
            [label for label in view.labels if view.by_label[label].role != "baseline"],
        ),
        parts=tuple(
            table
            for start, kind in _KINDS
            for place in _PLACES
            if (table := _parts(view, start, kind, place)) is not None
        ),
    )


def _point(view: View, item: Json) -> str:
    """Return how the operating point of a model was chosen, or why there is none."""
    model = f" of {item['model']}" if len(view.models) > 1 else ""
    if "threshold" not in item:
        return f"No operating point{model}: {item['reason']}."
    numbers = ", ".join(f"{name} {_percent(item[name])}" for name in ("precision", "recall"))
    return (
        f"Boxes{model} count from a score of {item['threshold']:.{_ROUNDED}f}: there F1 is highest "
        f"({_percent(item['f1'])}; {numbers}) for {view.short[item['baseline']]} on clean images "
        f"of the {item['split']} split, and the threshold holds for all candidates and conditions."
    )


def _percent(value: float) -> str:
    return wording.amount("accuracy.top1", "fraction", value)


def _protocol(view: View) -> str:
    for label in view.labels:
        cell = view.value(label, Column(MISS_RATE, CLEAN))
        if cell.value is not None and cell.note:
            note = wording.without_interval(cell.note).replace(">=", "\N{GREATER-THAN OR EQUAL TO}")
            return f"{note}."
    return ""


def _table(view: View, metrics: Sequence[str], labels: Sequence[str]) -> BoxTable:
    wanted = [Column(metric, place) for metric in metrics for place in _PLACES]
    columns = tuple(
        column for column in wanted if any(view.value(n, column).value is not None for n in labels)
    )
    if not columns:
        return BoxTable()
    lines = tuple(
        (
            view.short[label],
            tuple(BoxCell(view.value(label, c), _change(view, label, c)) for c in columns),
            label == view.chosen,
        )
        for label in labels
    )
    return BoxTable(columns, lines)


def _change(view: View, label: str, column: Column) -> Cell | None:
    """Return the change of a number that is no comparison itself."""
    return None if column.metric in (LOST, FLIPPED, NEW) else view.change(label, column)


def _parts(view: View, start: str, kind: str, place: Place) -> PartTable | None:
    """Return the parts of one kind, those missed most first where there are many."""
    takers = [c.label for c in view.candidates if c.role != "control"]
    labels = view.important(takers, CANDIDATE_LIMIT)
    rows = {label: view.rows.slices(label, MISS_RATE, place) for label in labels}
    changes = {label: view.rows.slices(label, CHANGE + MISS_RATE, place) for label in labels}
    every = dict.fromkeys(part for found in rows.values() for part in found)
    parts = [part for part in every if part.startswith(start)]
    known = [part for part in parts if any(_value(r.get(part)) is not None for r in rows.values())]
    if len(known) < 2:
        return None
    shown = known
    if len(known) > PART_LIMIT:
        worst = {p: max(_value(r.get(p)) or 0.0 for r in rows.values()) for p in known}
        shown = sorted(known, key=lambda part: -worst[part])[:PART_LIMIT]
    return PartTable(
        kind=kind,
        place=wording.place_name(*place),
        is_clean=place == CLEAN,
        names=tuple(view.short[label] for label in labels),
        lines=tuple(
            (
                part.removeprefix(start),
                tuple(
                    BoxCell(_cell(rows[n].get(part)), _changed(changes[n].get(part)))
                    for n in labels
                ),
            )
            for part in shown
        ),
        others=len(known) - len(shown),
    )


def _value(row: Row | None) -> float | None:
    return None if row is None else row["value"]


def _cell(row: Row | None) -> Cell:
    return ABSENT if row is None else cell_of(row)


def _changed(row: Row | None) -> Cell | None:
    return None if row is None or row["value"] is None else cell_of(row)
