"""Tests against the baseline: what was shown to change, and what was shown to be kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shrinkproof.metrics.names import (
    MCNEMAR_P,
    MCNEMAR_P_HOLM,
    NONINFERIOR_P,
    NONINFERIOR_P_HOLM,
)
from shrinkproof.report import wording
from shrinkproof.report.rows import Place
from shrinkproof.report.view import CLEAN, CORRUPTED, Column, View

LEVEL: Final = 0.05
"""Only a p-value below it shows anything."""

_PLACES: Final[tuple[Place, ...]] = (CLEAN, CORRUPTED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a test says.

    Attributes:
        text: in words.
        style: ``better``, ``worse``, ``same`` or ``open``; empty where the test is undefined.
        p: the p-value that decides; empty where it is undefined.
        note: how the test was made, and what else it says.
    """

    text: str
    style: str
    p: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class VerdictTable:
    """Tests against the baseline.

    Attributes:
        columns: title and condition of each test.
        lines: name of the candidate, its verdicts, whether it is the choice.
        families: how p-values were corrected.
    """

    columns: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, tuple[Verdict, ...], bool], ...]
    families: tuple[str, ...]


def verdicts(view: View, margins: Mapping[str, float]) -> VerdictTable:
    """Return the tests that nothing changed, and those that no more than a margin was lost.

    Only a test that rejects the loss of the margin after Holm's correction is called "kept".
    """
    wanted: list[tuple[str, str, Place]] = [
        (MCNEMAR_P, view.rows.spelled("accuracy.top1"), place) for place in _PLACES
    ]
    wanted += [(NONINFERIOR_P, metric, place) for metric in margins for place in _PLACES]
    shown = [
        (test, metric, place)
        for test, metric, place in wanted
        if any(_found(view, label, test + metric, place) for label in view.labels)
    ]
    takers = [
        label
        for label in view.labels
        if any(_found(view, label, test + metric, place) for test, metric, place in shown)
    ]
    families = dict.fromkeys(
        note
        for label in takers
        for test, metric, place in shown
        for note in [_family(view, label, test, metric, place)]
        if note
    )
    return VerdictTable(
        columns=tuple(
            (_question(view, test, metric, margins), wording.place_name(*place))
            for test, metric, place in shown
        ),
        lines=tuple(
            (
                view.short[label],
                tuple(_verdict(view, label, *test, margins) for test in shown),
                label == view.chosen,
            )
            for label in takers
        ),
        families=tuple(families),
    )


def kept_words(view: View, label: str, margins: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Return what a candidate keeps within its margin, and what was not shown to be kept."""
    kept: list[str] = []
    open_: list[str] = []
    for metric, margin in margins.items():
        for place in _PLACES:
            verdict = _verdict(view, label, NONINFERIOR_P, metric, place, margins)
            if not verdict.style:
                continue
            name = wording.phrase(Column(metric, place).name)
            text = f"{name} within {_margin(view, metric, margin)} ({verdict.p})"
            (kept if verdict.style == "better" else open_).append(text)
    return kept, open_


def _question(view: View, test: str, metric: str, margins: Mapping[str, float]) -> str:
    name = wording.metric_name(metric)
    if test == MCNEMAR_P:
        return f"{name}: changed?"
    return f"{name}: kept within {_margin(view, metric, margins[metric])}?"


def _margin(view: View, metric: str, margin: float) -> str:
    unit = view.rows.unit(metric)[0]
    if wording.is_percent(metric, unit):
        return wording.points(margin)
    return f"{margin:g}{wording.SPACE}{unit}" if unit == "nat" else f"{margin:g}"


def _verdict(
    view: View, label: str, test: str, metric: str, place: Place, margins: Mapping[str, float]
) -> Verdict:
    corrected = {MCNEMAR_P: MCNEMAR_P_HOLM, NONINFERIOR_P: NONINFERIOR_P_HOLM}[test]
    plain = view.value(label, Column(test + metric, place))
    holm = view.value(label, Column(corrected + metric, place))
    if plain.value is None:
        return Verdict(plain.text, "", "", plain.note)
    decisive = plain if holm.value is None else holm
    is_shown = decisive.value is not None and decisive.value < LEVEL
    note = f"alone {plain.text}; {plain.note}".removesuffix("; ")
    if test == MCNEMAR_P:
        direction = _direction(view, label, metric, place)
        style = {"changed": "open"}.get(direction, direction)
        text = direction if is_shown else "no change shown"
        return Verdict(text, style if is_shown else "same", decisive.text, note)
    text = f"kept within {_margin(view, metric, margins[metric])}" if is_shown else "not shown"
    return Verdict(text, "better" if is_shown else "same", decisive.text, note)


def _direction(view: View, label: str, metric: str, place: Place) -> str:
    change = view.change(label, Column(metric, place))
    if change is None or not change.value:
        return "changed"
    return "better" if change.value > 0 else "worse"


def _found(view: View, label: str, metric: str, place: Place) -> bool:
    return view.rows.find(label, metric, place) is not None


def _family(view: View, label: str, test: str, metric: str, place: Place) -> str:
    prefix = MCNEMAR_P_HOLM if test == MCNEMAR_P else NONINFERIOR_P_HOLM
    row = view.rows.find(label, prefix + metric, place)
    return "" if row is None or row["value"] is None else str(row["reason"]).split(";")[0]
