"""Calibration in numbers: which error is more than chance, and what a temperature repairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shrinkproof.metrics.names import (
    CHANGE,
    NULL_MEAN,
    NULL_P,
    NULL_Q95,
    SCALED,
    SCALED_BY_BASELINE,
)
from shrinkproof.report.rows import Cell, Place, cell_of
from shrinkproof.report.view import CLEAN, CORRUPTED, POOLED, Column, View

LEVEL: Final = 0.05
"""A p-value from here on shows nothing."""

_TEMPERATURE: Final = "calibration.temperature"
_GAP: Final = Column("calibration.confidence_gap", CLEAN)
_SCORES: Final = ("accuracy.nll", "accuracy.brier")

CHANCE: Final = "no more than a calibrated model would show"
BEYOND: Final = "more than a calibrated model would show"


@dataclass(frozen=True, slots=True)
class Chance:
    """What a perfectly calibrated model would show with these confidences and images.

    Attributes:
        mean: the error that it shows on average, in words.
        limit: what it exceeds in one of 20 cases; empty where unknown.
        p: p-value of the error that was measured.
        verdict: whether the error is more than that, in words; empty where unknown.
        style: ``worse`` where it is more, ``same`` where it is not.
    """

    mean: Cell
    limit: str
    p: Cell
    verdict: str
    style: str


@dataclass(frozen=True, slots=True)
class CalibrationLine:
    """One candidate on clean images.

    Attributes:
        name: of the candidate.
        error: its calibration error.
        chance: what chance alone does.
        change: of the error, against the baseline; None for the baseline.
        chance_change: how much of it two calibrated models would show; None for the baseline.
        scores: negative log-likelihood and Brier score.
        is_chosen: whether it is the choice of the study.
    """

    name: str
    error: Cell
    chance: Chance
    change: Cell | None
    chance_change: Cell | None
    scores: tuple[Cell, ...]
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class CalibrationTable:
    """Calibration of all candidates on clean images; no lines where nobody has an error."""

    error: Column
    scores: tuple[Column, ...]
    has_chance: bool
    lines: tuple[CalibrationLine, ...]


@dataclass(frozen=True, slots=True)
class ScaledPart:
    """One place of the table of temperatures.

    Attributes:
        place: where, in words.
        titles: what its columns are.
    """

    place: str
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScalingTable:
    """Calibration errors with temperatures; no lines where none were judged.

    Attributes:
        parts: places that were judged.
        lines: name, temperature, and all numbers in the order of the parts.
    """

    parts: tuple[ScaledPart, ...]
    lines: tuple[tuple[str, Cell, tuple[Cell, ...]], ...]


def calibration_table(view: View, metric: str = "") -> CalibrationTable:
    """Return errors, what chance does, and the scores, one line per candidate.

    Args:
        view: the numbers.
        metric: which error; that of the page where empty.
    """
    error = Column(metric or view.calibration, CLEAN)
    scores = view.known(Column(view.rows.spelled(name), CLEAN) for name in _SCORES)
    lines = tuple(_line(view, label, error, scores) for label in view.labels)
    if not view.known([error]):
        lines = ()
    return CalibrationTable(
        error=error,
        scores=scores,
        has_chance=any(line.chance.p.value is not None for line in lines),
        lines=lines,
    )


def chance(view: View, label: str, place: Place = CLEAN, metric: str = "") -> Chance:
    """Return what a perfectly calibrated model would show in place of a candidate.

    Args:
        view: the numbers.
        label: the candidate.
        place: under which condition.
        metric: which error; that of the page where empty.
    """
    name = metric or view.calibration
    mean, limit, p = (
        view.value(label, Column(prefix + name, place)) for prefix in (NULL_MEAN, NULL_Q95, NULL_P)
    )
    verdict = style = ""
    if p.value is not None:
        is_chance = p.value >= LEVEL
        verdict = CHANCE if is_chance else BEYOND + _direction(view, label)
        style = "same" if is_chance else "worse"
    return Chance(mean, limit.text if limit.value is not None else "", p, verdict, style)


def scaling_table(view: View) -> ScalingTable:
    """Return the errors as they are, with each candidate's temperature, and with the baseline's.

    Temperatures are fitted on the select split (Guo et al. 2017); errors are printed ones.
    """
    name = view.calibration
    titles = ("as it is", "own temperature", "baseline's temperature")
    metrics = (name, SCALED + name, SCALED_BY_BASELINE + name)
    places = ((CLEAN, "Clean images"), (CORRUPTED, "Mean over corrupted conditions"))
    parts, columns = [], []
    for place, words in (*places, (POOLED, "Corrupted conditions pooled")):
        known = [metric for metric in metrics if view.known([Column(metric, place)])]
        if not known:
            continue
        parts.append(ScaledPart(words, tuple(titles[metrics.index(m)] for m in known)))
        columns += [Column(metric, place) for metric in known]
    lines = tuple(
        (
            view.short[label],
            cell_of(view.rows.find(label, _TEMPERATURE, CLEAN, ("select",))),
            tuple(view.value(label, column) for column in columns),
        )
        for label in view.labels
    )
    is_scaled = any(column.metric != name for column in columns)
    return ScalingTable(tuple(parts), lines if is_scaled else ())


def in_words(view: View, label: str) -> str:
    """Return how much of a candidate's calibration error is chance; empty where unknown."""
    error, found = view.value(label, Column(view.calibration, CLEAN)), chance(view, label)
    if error.value is None or not found.verdict:
        return ""
    level = f"{found.mean.text} on average"
    if found.limit:
        level += f", up to {found.limit} in 19 of 20 cases"
    return (
        f"calibration error on clean images {error.text}: {found.verdict} ({level}; {found.p.text})"
    )


def _line(view: View, label: str, error: Column, scores: tuple[Column, ...]) -> CalibrationLine:
    moved = view.value(label, Column(CHANGE + NULL_MEAN + error.metric, CLEAN))
    return CalibrationLine(
        name=view.short[label],
        error=view.value(label, error),
        chance=chance(view, label, metric=error.metric),
        change=view.change(label, error),
        chance_change=None if moved.value is None else moved,
        scores=tuple(view.value(label, column) for column in scores),
        is_chosen=label == view.chosen,
    )


def _direction(view: View, label: str) -> str:
    gap = view.value(label, _GAP).value
    return "" if gap is None or gap == 0 else ", too sure" if gap > 0 else ", too unsure"


def spelled_errors(view: View) -> tuple[str, ...]:
    """Return the metrics that these tables show on clean images."""
    return (view.calibration, *(view.rows.spelled(name) for name in _SCORES), _TEMPERATURE)
