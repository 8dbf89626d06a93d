"""What compression itself did: each candidate against the dense control of equal training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shrinkproof.report import wording
from shrinkproof.report.rows import Cell
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View
from shrinkproof.summary import FROM_CONTROL

_ROBUST: Final = Column("robustness.mean_error", CORRUPTED)
_CALIBRATED: Final = Column("calibration.ece", CLEAN)


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
    wanted = (Column(view.rows.quality, CLEAN), _ROBUST, _CALIBRATED)
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
