"""Outcomes as text: amounts with units, shared notes, Markdown tables and plain JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from shrinkproof.records import Json
from shrinkproof.verdict.claims import Claim, Paper
from shrinkproof.verdict.outcomes import ALPHA, Outcome

NOTHING: Final = "-"

_UNITS: Final[Mapping[str, tuple[float, int, str]]] = {
    "points": (100, 2, "points"),
    "slope": (100, 2, "points"),
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


def p_text(outcome: Outcome) -> str:
    """Return the corrected p-value of the direction that decides, with its word; empty without one.

    That is ``for`` where both directions are shown, of small improvements, as in the verdict.
    """
    found = [("for", outcome.adjusted_p), ("against", outcome.adjusted_p_against)]
    known = [(word, p) for word, p in found if p is not None]
    if not known:
        return ""
    decisive = [item for item in known if item[1] <= ALPHA]
    word, p = decisive[0] if decisive else min(known, key=lambda item: item[1])
    if p == 1:
        return "1.000"  # of both directions
    return f"{word} <.001" if p < 0.001 else f"{word} {f'{p:.3f}'.removeprefix('0')}"


def place_of(outcome: Outcome, *, is_one_run: bool) -> str:
    """Return where an outcome was found: the network, with its run where there are several."""
    where = outcome.network or "all networks"
    return where if is_one_run or not outcome.run else f"{where} of {outcome.run}"


def has_one_run(outcomes: Iterable[Outcome]) -> bool:
    """Return whether no two runs are spoken of; an outcome of none, where data lack, counts not."""
    return len({outcome.run for outcome in outcomes if outcome.run}) < 2


def numbered(reasons: Iterable[str]) -> dict[str, int]:
    """Return reason -> number of its note, in the order in which reasons come."""
    reasons = dict.fromkeys(reasons)
    return {reason: number for number, reason in enumerate(reasons, 1)}


def notes_of(reasons: Iterable[str], notes: Mapping[str, int]) -> str:
    """Return the numbers of the notes of reasons: ``1-3, 5``."""
    numbers = sorted({notes[reason] for reason in reasons})
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
    """Return the verdicts as Markdown: claims with their notes, legend, controls with theirs."""
    claims = [o for o in outcomes if not o.is_control]
    controls = [o for o in outcomes if o.is_control]
    notes = numbered(reason for outcome in (*claims, *controls) for reason in outcome.reasons)
    listed = [f"{number}. {text}" for text, number in notes.items()]
    first = len(numbered(reason for outcome in claims for reason in outcome.reasons))
    parts = [f"**{paper.title}** ({paper.reference})", ""]
    parts += [*_table(paper, claims, notes, has_claims=True), "", *listed[:first], ""]
    parts += [f"* {line}" for line in legend(paper, outcomes)]
    if controls:
        parts += ["", "Controls, which decide nothing:", ""]
        parts += [*_table(paper, controls, notes, has_claims=False), "", *listed[first:]]
    return "\n".join(parts).rstrip("\n")


def _table(
    paper: Paper, outcomes: Sequence[Outcome], notes: Mapping[str, int], *, has_claims: bool
) -> list[str]:
    """Return a table with a row per outcome; where wanted the first one of a claim states it."""
    is_one = has_one_run(outcomes)
    rows = [("claim", "published", "test", "where", "ours (95 %)", "p", "verdict", "notes")]
    for claim, found in by_claim(paper, outcomes):
        for position, outcome in enumerate(found):
            stated = ends(outcome)
            rows.append(
                (
                    claim.name if position or not has_claims else f"{claim.name}: {claim.says}",
                    published_text(claim, outcome),
                    outcome.test,
                    place_of(outcome, is_one_run=is_one),
                    amount(outcome.value, outcome.unit) + (f" ({stated})" if stated else ""),
                    p_text(outcome),
                    f"**{outcome.verdict}**",
                    notes_of(outcome.reasons, notes),
                )
            )
    shown = [row if has_claims else (row[0], *row[2:]) for row in rows]
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in shown]
    return [lines[0], "| --- " * len(shown[0]) + "|", *lines[1:]]


def published_text(claim: Claim, outcome: Outcome) -> str:
    """Return the published number of a test, or else what the claim was published with."""
    if outcome.published is None:
        return claim.published
    return amount(outcome.published, outcome.unit)


def legend(paper: Paper, outcomes: Sequence[Outcome]) -> list[str]:
    """Return what words and columns mean, as far as they were printed, and what is not known."""
    lines = []
    if any(p_text(outcome) for outcome in outcomes):
        lines.append(
            "p: how likely chance alone shows a claim so well although it is wrong ('for'), or "
            "so badly although it is right ('against'); one-sided, the smaller of the two, "
            "corrected over its family (Holm). At most .025 decides. Intervals hold one at a time."
        )
    if any(" run" in outcome.verdict for outcome in outcomes):
        lines.append(
            "'consistent' and 'contrary' stand for 'reproduced' and 'not reproduced' where there "
            "are fewer than three trainings: nothing is said of other trainings, whatever p is."
        )
    if any(outcome.verdict.startswith(("contrary", "not rep")) for outcome in outcomes):
        lines.append(
            "'contrary' and 'not reproduced' need not mean the opposite, only that what is claimed "
            "is smaller than the margin; a note says which."
        )
    if any(outcome.unit == "slope" for outcome in outcomes):
        lines.append("Slopes are points from ratio 0 to ratio 1.")
    return [*lines, *(f"{paper.name}: {note}" for note in paper.notes)]
