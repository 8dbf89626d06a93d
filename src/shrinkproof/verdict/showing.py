"""Outcomes as text: amounts with units, shared notes, Markdown tables and plain JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from shrinkproof.records import Json
from shrinkproof.verdict.claims import Claim, Paper
from shrinkproof.verdict.outcomes import Outcome

NOTHING: Final = "-"

_UNITS: Final[Mapping[str, tuple[float, int, str]]] = {
    "points": (100, 2, "points"),
    "slope": (100, 2, "points/1"),
    "share": (100, 1, "%"),
    "relative": (100, 1, "%"),
    "count": (1, 0, ""),
    "": (1, 3, ""),
}
"""Unit -> factor, digits, word."""


def amount(value: float | None, unit: str, *, has_word: bool = True) -> str:
    """Return a value as tables show it; changes carry their sign."""
    if value is None:
        return NOTHING
    factor, digits, word = _UNITS[unit]
    sign = "" if unit in ("share", "count") else "+"
    text = f"{factor * value:{sign}.{digits}f}"
    return f"{text} {word}" if has_word and word else text


def ends(outcome: Outcome) -> str:
    """Return the interval as tables show it; empty without one."""
    if outcome.low is None or outcome.high is None:
        return ""
    low, high = (amount(end, outcome.unit, has_word=False) for end in (outcome.low, outcome.high))
    return f"{low} to {high}"


def p_text(p: float | None) -> str:
    """Return a p-value as tables show it; empty without one."""
    return "" if p is None else "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def decisive_p(outcome: Outcome) -> float | None:
    """Return the corrected p-value of the direction that the data speak for."""
    found = (outcome.adjusted_p, outcome.adjusted_p_against)
    known = [p for p in found if p is not None]
    return min(known) if known else None


def place_of(outcome: Outcome, *, is_one_run: bool) -> str:
    """Return where an outcome was found: the network, with its run where there are several."""
    where = outcome.network or "all networks"
    return where if is_one_run or not outcome.run else f"{where} of {outcome.run}"


def numbered(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return reason -> number of its note, in the order in which reasons come."""
    reasons = dict.fromkeys(reason for outcome in outcomes for reason in outcome.reasons)
    return {reason: number for number, reason in enumerate(reasons, 1)}


def notes_of(outcome: Outcome, notes: Mapping[str, int]) -> str:
    """Return the numbers of the notes of an outcome: ``1-3, 5``."""
    numbers = sorted(notes[reason] for reason in outcome.reasons)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def by_claim(paper: Paper, outcomes: Sequence[Outcome]) -> Iterator[tuple[Claim, list[Outcome]]]:
    """Yield each claim with its outcomes."""
    for claim in paper.claims:
        yield claim, [outcome for outcome in outcomes if outcome.claim == claim.name]


def as_json(paper: Paper, outcomes: Sequence[Outcome]) -> Json:
    """Return everything as plain JSON values, one object for each claim."""
    return {
        "paper": {
            "name": paper.name,
            "title": paper.title,
            "reference": paper.reference,
            "protocol": asdict(paper.protocol),
            "notes": list(paper.notes),
        },
        "claims": [
            {
                "name": claim.name,
                "says": claim.says,
                "published": claim.published,
                "where": claim.where,
                "family": claim.family,
                "unit": claim.unit,
                "task": claim.task,
                "outcomes": [outcome.as_json() for outcome in found],
            }
            for claim, found in by_claim(paper, outcomes)
        ],
    }


def as_markdown(paper: Paper, outcomes: Sequence[Outcome]) -> str:
    """Return the verdicts as Markdown: claims, controls, notes."""
    notes = numbered(outcomes)
    parts = [f"**{paper.title}** ({paper.reference})", ""]
    parts += _table(paper, [o for o in outcomes if not o.is_control], notes)
    controls = [o for o in outcomes if o.is_control]
    if controls:
        parts += ["", "Controls, which decide nothing:", ""]
        parts += _table(paper, controls, notes)
    parts += ["", *(f"{number}. {text}" for text, number in notes.items())]
    return "\n".join(parts)


def _table(paper: Paper, outcomes: Sequence[Outcome], notes: Mapping[str, int]) -> list[str]:
    is_one = len({outcome.run for outcome in outcomes}) < 2
    columns = ("claim", "published", "test", "where", "ours (95 %)", "p", "verdict", "notes")
    rows = [columns, tuple("---" for _ in columns)]
    for claim, found in by_claim(paper, outcomes):
        for outcome in found:
            stated = ends(outcome)
            rows.append(
                (
                    f"{claim.name}: {claim.says}",
                    published_text(claim, outcome),
                    outcome.test,
                    place_of(outcome, is_one_run=is_one),
                    amount(outcome.value, outcome.unit) + (f" ({stated})" if stated else ""),
                    p_text(decisive_p(outcome)),
                    f"**{outcome.verdict}**",
                    notes_of(outcome, notes),
                )
            )
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]


def published_text(claim: Claim, outcome: Outcome) -> str:
    """Return the published number of a test, or else what the claim was published with."""
    if outcome.published is None or outcome.is_control:
        return claim.published
    return amount(outcome.published, outcome.unit)
