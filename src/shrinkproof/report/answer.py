"""The first section: what to deploy, what it costs against the baseline, and what to distrust."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shrinkproof.report import wording
from shrinkproof.report.rows import Cell, label_of
from shrinkproof.report.view import Column, View

AGREEMENT: Final = "fidelity.agreement"
AGREEMENT_LIMIT: Final = 0.99
"""Below this share of equal answers, file and simulation are two different models."""

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
    alternatives: tuple[tuple[str, str], ...]
    set_aside: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]


def answer(view: View, caveats: Sequence[str]) -> Answer:
    """Return the first section; ``caveats`` come from the study and stand first."""
    decision = view.decision
    facts = _facts(view, view.chosen) if view.chosen else ()
    return Answer(
        headline=_headline(view),
        chosen=view.short.get(view.chosen or "", view.chosen or ""),
        words=_words(facts),
        facts=facts,
        why=decision.why if decision else (),
        alternatives=tuple(
            (view.short.get(other.label, other.label), other.why)
            for other in (decision.alternatives if decision else ())
        ),
        set_aside=_set_aside(view),
        caveats=tuple(dict.fromkeys([*caveats, *_own_caveats(view)])),
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
    facts = [_fact(view, label, column) for column in view.columns()]
    costs: list[str] = [m for m in ("cost.bytes", "cost.bytes_zip") if m in view.rows.metrics()]
    costs += [m for m in ("cost.latency_median", "cost.latency_p95") if view.rows.places(m)][:1]
    return (*facts, *(_cost_fact(view, label, metric) for metric in costs))


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


def _cost_fact(view: View, label: str, metric: str) -> Fact:
    column = Column(metric, ("", 0))
    base = view.baseline(label)
    return Fact(
        name=column.title,
        chosen=view.value(label, column),
        baseline=view.value(base, column) if base else Cell("no baseline", state="absent"),
        change=view.factor(label, metric),
        interval="",
        reading="",
        verdict="",
    )


def _words(facts: Sequence[Fact]) -> tuple[tuple[str, str], ...]:
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
    return tuple((title, "; ".join(texts)) for title, texts in groups.items() if texts)


def _phrase(fact: Fact) -> str:
    name = fact.name if fact.name[:2].isupper() else fact.name[0].lower() + fact.name[1:]
    if not fact.verdict:
        return f"{name} {fact.change} ({fact.chosen.text} instead of {fact.baseline.text})"
    interval = f" (95{wording.SPACE}% interval {fact.interval})" if fact.interval else ""
    return f"{name} {fact.change}{interval}"


def _own_caveats(view: View) -> list[str]:
    return [
        *_contaminated(view),
        *_missing(view),
        *_disagreements(view),
        *_simulated(view),
        *_unproven(view),
    ]


def _contaminated(view: View) -> list[str]:
    groups: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in view.rows.unusual:
        if row["status"] == "contaminated":
            groups[row["split"], row["reason"]][label_of(row)] += 1
    return [
        f"Contaminated: {_count(sum(counts.values()), 'number')} of "
        f"{_count(len(counts), 'candidate')}"
        + (f" on the {split} split" if split else "")
        + f" ({reason or 'no reason was recorded'}). Marked \N{DOUBLE DAGGER}."
        for (split, reason), counts in groups.items()
    ]


def _missing(view: View) -> list[str]:
    counts = {
        state: sum(row["status"] == state for row in view.rows.unusual)
        for state in ("undefined", "failed")
    }
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    return [f"Numbers without a value: {' and '.join(parts)}; reasons in section 7."] * bool(parts)


def _disagreements(view: View) -> list[str]:
    sentences = []
    for label in view.labels:
        rows = [r for r in view.rows.every(label, AGREEMENT) if r["value"] is not None]
        worst = min(rows, key=lambda row: row["value"], default=None)
        if worst is not None and worst["value"] < AGREEMENT_LIMIT:
            where = wording.place_name(worst["condition"], worst["severity"])
            sentences.append(
                f"{view.short[label]}: the exported file and its simulation give the same answer "
                f"for only {wording.amount(AGREEMENT, 'fraction', worst['value'])} of the images"
                + (f" ({where})" if where else "")
                + f", below 99{wording.SPACE}%. Numbers of one do not hold for the other."
            )
    return sentences


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


def _unproven(view: View) -> list[str]:
    sentences = []
    roles = {candidate.role for candidate in view.candidates}
    if "recipe" in roles and "control" not in roles:
        sentences.append(
            "No controls were run, so a change cannot be credited to compression itself: "
            "training alone may have caused it."
        )
    if view.decision is not None and not view.rows.has_split("select"):
        sentences.append(
            "The table has no rows of the select split: selected and measured on the same images, "
            "or the choice cannot be checked from this page."
        )
    return sentences


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
