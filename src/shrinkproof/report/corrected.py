"""Calibration of detectors: each error with its protocol, and what corrected scores leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shrinkproof.metrics.detection.names import ISOTONIC, PLATT
from shrinkproof.metrics.names import (
    NULL_MEAN,
    SCALED,
    SCALED_BY_BASELINE,
    bare_name,
    without_prefixes,
)
from shrinkproof.report import wording
from shrinkproof.report.calibrated import CalibrationTable, calibration_table
from shrinkproof.report.rows import Cell, Place, cell_of
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View

ERRORS: Final = ("detection.d_ece", "detection.laece", "detection.laace")
"""Calibration errors of detectors, in the order of their tables."""

CORRECTIONS: Final = {
    "": "as it is",
    SCALED: "temperature",
    PLATT: "Platt",
    ISOTONIC: "isotonic",
    SCALED_BY_BASELINE: "baseline's temper\N{SOFT HYPHEN}ature",
}
"""Prefix of the numbers after each correction of the scores, and its name."""

_TEMPERATURE: Final = "calibration.temperature"
_PLACES: Final[tuple[Place, ...]] = (CLEAN, CORRUPTED)


@dataclass(frozen=True, slots=True)
class BoxError:
    """One calibration error on clean images.

    Attributes:
        protocol: how detections were judged, in one sentence.
        table: the error of every candidate, beside chance where that is known.
    """

    protocol: str
    table: CalibrationTable


@dataclass(frozen=True, slots=True)
class CorrectedPart:
    """One condition in a table of corrections: its name, and the corrections that it has."""

    place: str
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CorrectedTable:
    """One calibration error after corrections of the scores.

    Attributes:
        title: name of the error.
        parts: the conditions.
        lines: name, temperature, all numbers in the order of the parts, each with what a
            calibrated detector would show (empty where unknown), and whether it is the choice.
    """

    title: str
    parts: tuple[CorrectedPart, ...]
    lines: tuple[tuple[str, Cell, tuple[tuple[Cell, str], ...], bool], ...]


@dataclass(frozen=True, slots=True)
class BoxCalibration:
    """Everything in numbers about the scores of detectors.

    Attributes:
        errors: the errors on clean images.
        corrected: the same after corrections.
        fitted: what the corrections were fitted on; empty where there are none.
    """

    errors: tuple[BoxError, ...] = ()
    corrected: tuple[CorrectedTable, ...] = ()
    fitted: str = ""


def box_calibration(view: View) -> BoxCalibration:
    """Return the calibration of detectors; empty for classifiers."""
    metrics = errors_of(view)
    tables = [calibration_table(view, metric) for metric in metrics]
    return BoxCalibration(
        errors=tuple(
            BoxError(_protocol(view, metric), table)
            for metric, table in zip(metrics, tables, strict=True)
            if table.lines
        ),
        corrected=tuple(
            table for metric in metrics if (table := _corrected(view, metric)) is not None
        ),
        fitted=_fitted(view),
    )


def errors_of(view: View) -> tuple[str, ...]:
    """Return the calibration errors of detectors as the study spells them."""
    known = [m for m in view.rows.metrics() if bare_name(m) in ERRORS and without_prefixes(m) == m]
    return tuple(sorted(known, key=lambda metric: ERRORS.index(bare_name(metric))))


def _protocol(view: View, metric: str) -> str:
    """Return how detections were judged; the note of the first candidate that has a number."""
    for label in view.labels:
        cell = view.value(label, Column(metric, CLEAN))
        if cell.value is not None and cell.note:
            note = wording.without_interval(cell.note).replace(">=", "\N{GREATER-THAN OR EQUAL TO}")
            return f"{note}."
    return ""


def _corrected(view: View, metric: str) -> CorrectedTable | None:
    parts, columns = [], []
    for place in _PLACES:
        known = [p for p in CORRECTIONS if view.known([Column(p + metric, place)])]
        if len(known) > 1:
            titles = tuple(CORRECTIONS[prefix] for prefix in known)
            parts.append(CorrectedPart(wording.place_name(*place), titles))
            columns += [Column(prefix + metric, place) for prefix in known]
    if not columns:
        return None
    lines = tuple(
        (
            view.short[label],
            cell_of(view.rows.find(label, _TEMPERATURE, CLEAN, ("select",))),
            tuple(_beside_chance(view, label, column) for column in columns),
            label == view.chosen,
        )
        for label in view.labels
    )
    return CorrectedTable(wording.metric_name(metric), tuple(parts), lines)


def _beside_chance(view: View, label: str, column: Column) -> tuple[Cell, str]:
    level = view.value(label, Column(NULL_MEAN + column.metric, column.place))
    return view.value(label, column), f"chance {level.text}" if level.value is not None else ""


def _fitted(view: View) -> str:
    """Return what the baseline's temperature was fitted on; the other ones are alike."""
    for label in _baselines_first(view):
        row = view.rows.find(label, _TEMPERATURE, CLEAN, ("select",))
        if row is not None and row["value"] is not None and "fitted on" in row["reason"]:
            found = row["reason"].partition("fitted on ")[2].split(",")[0].split(";")[0]
            text = found.replace(">=", "\N{GREATER-THAN OR EQUAL TO}")
            return f"those of {view.short[label]} on {text}"
    return ""


def _baselines_first(view: View) -> Iterator[str]:
    yield from sorted(view.labels, key=lambda label: view.by_label[label].role != "baseline")
