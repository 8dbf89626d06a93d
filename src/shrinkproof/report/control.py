"""What compression itself did: each candidate against the dense control of equal training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shrinkproof.metrics.names import FROM_CONTROL
from shrinkproof.report import wording
from shrinkproof.report.rows import Cell
from shrinkproof.report.view import CLEAN, Column, View


@dataclass(frozen=True, slots=True)
class ControlLine:
    """One candidate minus its control."""

    name: str
    control: str
    cells: tuple[Cell, ...]
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Controls:
    """The table of changes against controls; no lines where no candidate has a control.

    Attributes:
        columns: which numbers.
        lines: candidates that have a control.
        others: names of the recipes whose control is the baseline itself.
    """

    columns: tuple[Column, ...]
    lines: tuple[ControlLine, ...]
    others: tuple[str, ...]


def controls(view: View) -> Controls:
    """Return every candidate's difference to its control, with interval and verdict."""
    labels = [label for label in view.labels if view.control(label)]
    wanted = (
        Column(view.rows.quality, CLEAN),
        *view.robustness,
        Column(view.calibration, CLEAN),
    )
    columns = tuple(
        column
        for column in wanted
        if any(_change(view, label, column).value is not None for label in labels)
    )
    lines = tuple(
        ControlLine(
            name=view.short[label],
            control=view.short[view.control(label)],
            cells=tuple(_change(view, label, column) for column in columns),
            is_chosen=label == view.chosen,
        )
        for label in labels
    )
    others = tuple(
        view.short[c.label] for c in view.candidates if c.role == "recipe" and c.label not in labels
    )
    return Controls(columns, lines if columns else (), others)


def compression_alone(view: View, label: str) -> str:
    """Return a candidate's changes against its control in words; empty without a control."""
    found = controls(view)
    for line in found.lines:
        if line.name == view.short[label]:
            parts = [
                f"{wording.phrase(column.name)} {wording.measured(cell.text, cell.interval)}"
                for column, cell in zip(found.columns, line.cells, strict=True)
                if cell.value is not None
            ]
            return f"against {line.control}: {'; '.join(parts)}"
    return ""


def _change(view: View, label: str, column: Column) -> Cell:
    return view.value(label, Column(FROM_CONTROL + column.metric, column.place))


def saying(view: View, column: Column, limit: int = 4) -> str:
    """Return in one sentence what the dense controls changed themselves; empty without any.

    What a control changed is no effect of compression, so it is not credited to the candidates
    that are compared with it.
    """
    parts = []
    controls = [c.label for c in view.candidates if c.role == "control"]
    for label in controls:
        cell = view.change(label, column)
        if cell is None or cell.value is None:
            continue
        takers = [view.short[other] for other in view.labels if view.control(other) == label]
        if takers:
            shown = wording.measured(cell.text, cell.interval)
            shown += ", no difference shown" if cell.verdict == "same" else ""
            parts.append(f"{view.short[label]} {shown}, not credited to {_some(takers)}")
    if not parts:
        return ""
    more = f"; and {len(parts) - limit} more controls" if len(parts) > limit else ""
    return (
        f"Training alone, without compression, changed the {wording.phrase(column.name)}: "
        f"{'; '.join(parts[:limit])}{more}."
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
