"""The first section: what to deploy, what it costs against the baseline, and what to distrust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shrinkproof.metrics.names import without_prefixes
from shrinkproof.report import wording
from shrinkproof.report.calibrated import in_words
from shrinkproof.report.control import compression_alone
from shrinkproof.report.rows import Cell
from shrinkproof.report.verdicts import kept_words
from shrinkproof.report.view import PROBLEMS, Column, View

_UNSTEADY: Final = "a few images change the ratio by much"
"""What stands beside ratios to small errors."""

READINGS: Final = {
    "better": "better",
    "worse": "worse",
    "same": "no difference shown",
    "open": "not judged, no interval",
    "": "",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One number of the chosen candidate beside the baseline's."""

    name: str
    chosen: Cell
    baseline: Cell
    change: str
    interval: str
    reading: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The first section as the template prints it."""

    headline: str
    chosen: str
    words: tuple[tuple[str, str], ...]
    facts: tuple[Fact, ...]
    why: tuple[str, ...]
    alternatives: tuple[tuple[str, str, str], ...]
    set_aside: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]


def answer(view: View, caveats: Sequence[str], margins: Mapping[str, float]) -> Answer:
    """Return the first section; ``caveats`` come from the results and stand first."""
    decision = view.decision
    facts = _facts(view, view.chosen) if view.chosen else ()
    return Answer(
        headline=_headline(view),
        chosen=view.short.get(view.chosen or "", view.chosen or ""),
        words=(*_words(view, facts), *_evidence(view, margins)),
        facts=facts,
        why=decision.why if decision else (),
        alternatives=tuple(
            (view.short.get(other.label, other.label), other.why, other.trade)
            for other in (decision.alternatives if decision else ())
        ),
        set_aside=_set_aside(view),
        caveats=tuple(dict.fromkeys([*caveats, *_valueless(view), *_simulated(view)])),
    )


def _headline(view: View) -> str:
    if view.decision is None:
        return "No choice was asked for; the study has no selection rules."
    if view.chosen is None:
        return "No candidate keeps all rules, so nothing is recommended."
    candidate = view.by_label.get(view.chosen)
    if candidate is not None and candidate.role == "baseline":
        return "is the choice: the uncompressed model itself"
    return "is the choice under the rules of this study"


def _set_aside(view: View) -> tuple[tuple[str, str], ...]:
    if view.decision is None:
        return ()
    broken = [(label, "; ".join(rules)) for label, rules in view.decision.infeasible.items()]
    gaps = list(view.decision.undefined.items())
    return tuple((view.short.get(label, label), text) for label, text in [*broken, *gaps])


def _facts(view: View, label: str) -> tuple[Fact, ...]:
    return (
        *(_fact(view, label, column) for column in view.known(view.headline())),
        *(_cost_fact(view, label, column) for column in view.known(view.costs())),
    )


def _fact(view: View, label: str, column: Column) -> Fact:
    base = view.baseline(label)
    change = view.change(label, column)
    missing = change is None or change.value is None
    return Fact(
        name=column.name,
        chosen=view.value(label, column),
        baseline=view.value(base, column) if base else Cell("no baseline", state="absent"),
        change="" if change is None or missing else change.text,
        interval="" if change is None else change.interval,
        reading="" if change is None else READINGS[change.verdict],
        verdict="" if change is None else change.verdict,
    )


def _cost_fact(view: View, label: str, column: Column) -> Fact:
    base = view.baseline(label)
    return Fact(
        name=column.title,
        chosen=view.value(label, column),
        baseline=view.value(base, column) if base else Cell("no baseline", state="absent"),
        change=view.factor(label, column.metric),
        interval="",
        reading="",
        verdict="",
    )


def _words(view: View, facts: Sequence[Fact]) -> tuple[tuple[str, str], ...]:
    """Return the facts in words, by what they mean: gains in cost first, then the judged ones."""
    groups: dict[str, list[str]] = {
        "Cost": [],
        "Worse": [],
        "Better": [],
        "No difference shown": [],
        "Not judged, no interval": [],
    }
    titles = {
        "": "Cost",
        "worse": "Worse",
        "better": "Better",
        "same": "No difference shown",
        "open": "Not judged, no interval",
    }
    for fact in facts:
        if fact.change:
            groups[titles[fact.verdict]].append(_phrase(fact))
    words = [(title, "; ".join(texts)) for title, texts in groups.items() if texts]
    alone = compression_alone(view, view.chosen) if view.chosen else ""
    return (*words, *([("Compression alone", alone)] if alone else []))


def _evidence(view: View, margins: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    """Return what tests say about the choice: what it keeps, and which error is chance."""
    candidate = view.by_label.get(view.chosen or "")
    if candidate is None or candidate.role == "baseline":
        return ()
    kept, open_ = kept_words(view, candidate.label, margins)
    words = (
        ("Shown to be kept", "; ".join(kept)),
        ("Not shown to be kept", "; ".join(open_)),
        ("Chance", in_words(view, candidate.label)),
    )
    return tuple((title, text) for title, text in words if text)


def _phrase(fact: Fact) -> str:
    name = wording.phrase(fact.name)
    if _UNSTEADY in fact.chosen.note:
        name += " (divides by small errors, see section 4)"
    if fact.verdict:
        return f"{name} {wording.measured(fact.change, fact.interval)}"
    if fact.chosen.text == fact.baseline.text or fact.change.endswith(")"):
        return f"{name} {fact.change}"
    return f"{name} {fact.change} ({fact.chosen.text} instead of {fact.baseline.text})"


def _valueless(view: View) -> list[str]:
    """Return how many numbers have no value, without those that are computed from others."""
    counts = dict.fromkeys(("undefined", "failed"), 0)
    for item in view.rows.unusual:
        row = item.row
        if row["status"] in counts and without_prefixes(row["metric"]) == row["metric"]:
            counts[row["status"]] += len(item.places)
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    said = f"Numbers without a value: {' and '.join(parts)}; reasons in section {PROBLEMS}."
    return [said] * bool(parts)


def _simulated(view: View) -> list[str]:
    names = []
    for label in view.labels:
        row = view.rows.find(label, view.rows.quality, ("clean", 0))
        if row is not None and row["basis"] == "simulated":
            names.append(view.short[label])
    if not names:
        return []
    return [
        f"Simulated arithmetic, not the deployed file: {', '.join(names)}. The accuracy of the "
        "real file may differ."
    ]
