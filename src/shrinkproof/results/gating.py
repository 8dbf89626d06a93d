"""The gate of a run: rules checked on its printed split, against the candidate of another run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shrinkproof.decision.gate import Finding, Gate, Outcome, Rule, judge
from shrinkproof.decision.ledger import Ledger, Look
from shrinkproof.errors import UsageError
from shrinkproof.metrics.spelling import described
from shrinkproof.records import Candidate, key_of
from shrinkproof.results.naming import find_candidate
from shrinkproof.results.pairs import LEVEL, Pair, is_counted, trusted
from shrinkproof.results.sides import Side
from shrinkproof.selectors import Selector

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

PURPOSE: Final = "gate"
"""What a ledger says a look was for."""


@dataclass(frozen=True, slots=True)
class Looks:
    """The ledger that a gate writes its looks to.

    Attributes:
        path: the file.
        planned: how many looks at these images are planned, at least 1.
    """

    path: Path
    planned: int


def gate(
    results: Results,
    rules: Sequence[str],
    *,
    candidate: str = "",
    against: Results | None = None,
    baseline: str = "",
    sure: bool = False,
    looks: Looks | None = None,
) -> Gate:
    """Return which rules a candidate keeps.

    Numbers are those of the printed split. Changes and ratios are those to the candidate of the
    other run, paired where both runs measured the same images. A number that does not exist, is
    undefined, contaminated or failed breaks its rule.

    With a ledger the look is written before a number is read, the ends of the intervals must keep
    the rules, and the intervals of each of N looks have the confidence 1 - 0.05 / N; those of times
    keep 0.95, as each run measures them anew. That all rules hold at once needs no further
    correction: each of them could have stopped the candidate.

    Args:
        results: the run.
        rules: at least one, such as ``change(accuracy.top1@clean) >= -0.01``.
        candidate: which candidate; empty for the chosen one.
        against: the run of the baseline; None where no rule needs one.
        baseline: which candidate of it; empty for the chosen one.
        sure: demand that the ends of the intervals keep the rules.
        looks: the ledger; None for none.

    Raises:
        UsageError: there is no rule, one cannot be read or lacks its condition or its baseline, a
            candidate is unknown or was never chosen, or a ledger is given for numbers alone.
        StoreError: the ledger is damaged.
    """
    parsed = _parsed(rules, against)
    side = _side(results, candidate, "CANDIDATE")
    other = None if against is None else _side(against, baseline, "--baseline")
    look = None if looks is None else _spend(results, side, other, parsed, looks)
    level = LEVEL if look is None or not look.is_valid else 1 - look.error
    is_sure = sure or looks is not None
    pair = Pair(side if other is None else other, side) if side is not None else None
    asked = _Asked(results, against, pair, other is not None, level)
    return Gate(
        study=results.spec.full_name,
        run=str(results.store.path),
        against="" if against is None else str(against.store.path),
        candidate="" if side is None else side.label,
        baseline="" if other is None else other.label,
        split=results.printing,
        count=int(results.data["splits"].get(results.printing, {}).get("count", 0)),
        level=level,
        is_sure=is_sure,
        outcomes=tuple(_outcome(rule, asked, is_sure=is_sure) for rule in parsed),
        look=None if look is None else look.as_json(),
        notes=tuple(_notes(asked, parsed, look)),
    )


@dataclass(frozen=True)
class _Asked:
    """Whom the rules are about.

    Attributes:
        results: the run of the candidate.
        against: the run of the baseline.
        pair: baseline and candidate; twice the candidate without a baseline; None where nothing was
            chosen.
        has_baseline: whether there is a baseline.
        level: confidence of the intervals.
    """

    results: Results
    against: Results | None
    pair: Pair | None
    has_baseline: bool
    level: float

    @property
    def runs(self) -> tuple[Results, ...]:
        """The run of the candidate and that of the baseline, each once."""
        found = {run.store.path: run for run in (self.results, self.against) if run is not None}
        return tuple(found.values())


def _parsed(rules: Sequence[str], against: Results | None) -> list[Rule]:
    if not rules:
        raise UsageError("--rule: a gate needs at least one rule, got none")
    parsed = [Rule.parse(text) for text in rules]
    for rule in parsed:
        selector = rule.constraint.selector
        known = described(selector.metric)
        if known is not None and known.per_condition and not selector.condition:
            raise UsageError(
                f"rule {str(rule)!r}: {selector.metric} must have a condition, got none; write "
                f"{Selector(selector.metric, 'clean', part=selector.part)}"
            )
        if rule.kind != "number" and against is None:
            raise UsageError(
                f"rule {str(rule)!r}: a {rule.kind} must have a run to compare with, got none; "
                "give --against BASELINE_DIR"
            )
    return parsed


def _side(results: Results, name: str, option: str) -> Side | None:
    """Return the named candidate, or the chosen one; None where nothing could be chosen."""
    if name:
        return Side(results, find_candidate(results, name))
    decision = results.decision
    if decision is None:
        raise UsageError(
            f"{results.store.path}: must say which candidate, because its study has no 'select' "
            f"section to choose one, got none; give {option}"
        )
    if decision.chosen is None:
        return None
    return Side(results, _labeled(results, decision.chosen))


def _labeled(results: Results, label: str) -> Candidate:
    return next(c for c in results.candidates if c.label == label)


def _spend(
    results: Results, side: Side | None, other: Side | None, rules: Sequence[Rule], looks: Looks
) -> Look | None:
    """Write the look down; the same candidates and rules on the same images are the same look."""
    if side is None:
        return None  # there is nothing to look at
    if side.images is None:
        raise UsageError(
            f"--ledger: must know the images of {side.label}, got numbers without predictions; "
            "leave it out"
        )
    split = results.data["splits"][results.printing]
    digests = {
        hashlib.sha256(f"{split['source']}:{index}".encode()).hexdigest()
        for index in side.images.index.tolist()
    }
    plan = key_of(
        PURPOSE,
        {
            "images": [split["source"], split["fingerprint"]],
            "cells": [[shard.cell.key for shard in s.shards.values()] for s in (side, other) if s],
            "candidates": [s.candidate.key for s in (side, other) if s],
            "rules": [str(rule) for rule in rules],
        },
    )
    return Ledger.open(looks.path).spend(
        purpose=PURPOSE, digests=digests, plan=plan, looks=looks.planned, error=1 - LEVEL
    )


def _outcome(rule: Rule, asked: _Asked, *, is_sure: bool) -> Outcome:
    start = time.perf_counter()
    finding = _finding(rule, asked)
    return judge(rule, finding, sure=is_sure, seconds=time.perf_counter() - start)


def _finding(rule: Rule, asked: _Asked) -> Finding:
    pair, selector = asked.pair, rule.constraint.selector
    if pair is None:
        return Finding(None, broken=f"{asked.results.store.path}: no candidate keeps its rules")
    own = pair.second.number(selector)
    why = trusted(own)
    # Looks at images cost no confidence of a time: each run measures it anew.
    level = LEVEL if selector.metric.startswith("cost.") else asked.level
    if rule.kind == "number":
        found = pair.alone(pair.second, selector, level)
        note = found.reason or ("" if is_counted(selector.metric) else own.reason)
        method = found.method
        return Finding(
            own.value, found.low, found.high, method, own.value, None, _of(pair.second, why), note
        )
    if not asked.has_baseline or asked.against is None:
        where = "" if asked.against is None else f"{asked.against.store.path}: "
        return Finding(None, candidate=own.value, broken=f"{where}no candidate keeps its rules")
    other = pair.first.number(selector)
    broken = _of(pair.second, why) or _of(pair.first, trusted(other))
    compared = (pair.change if rule.kind == "change" else pair.ratio)(selector, level)
    return Finding(
        value=compared.value,
        low=compared.interval.low,
        high=compared.interval.high,
        method=compared.interval.method,
        candidate=own.value,
        baseline=other.value,
        broken=broken,
        note=compared.reason,
    )


def _of(side: Side, why: str) -> str:
    return f"{side.label}: {why}" if why else ""


def _notes(asked: _Asked, rules: Sequence[Rule], look: Look | None) -> list[str]:
    pair = asked.pair
    notes = [f"{run.store.path}: {run.spec.scale_note}" for run in asked.runs if run.spec.scale]
    if pair is not None and asked.has_baseline:
        compared = [rule.constraint.selector for rule in rules if rule.kind != "number"]
        sampled = [s for s in compared if not s.metric.startswith("cost.") and not pair.foreign(s)]
        reasons = [pair.other_images, *map(pair.apart, sampled)]
        notes += [f"not paired: {why}" for why in dict.fromkeys(filter(None, reasons))]
        forms = [side.results.form for side in (pair.first, pair.second)]
        if sampled and forms[0] != forms[1]:
            notes.append(
                f"the baseline was measured as {forms[0]}, the candidate as {forms[1]}: part of a "
                "change may come from the form"
            )
    sides = () if pair is None else (pair.second, pair.first)
    for run in {side.results.store.path: side.results for side in sides}.values():
        if run.spec.select is not None and run.deciding == run.printing:
            notes.append(
                f"{run.store.path} has chosen and measured on the same images ({run.printing}): "
                "the numbers of a chosen candidate are optimistic"
            )
    if look is None and pair is not None:
        notes.append(
            "without a ledger nobody knows how often these images were looked at: a gate that runs "
            "on every commit becomes optimistic; give --ledger FILE --looks N"
        )
    elif look is not None and look.why:
        notes.append(look.why)
    return notes
