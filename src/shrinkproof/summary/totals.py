"""Means over all corrupted conditions, and what changed in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shrinkproof.metrics.names import CHANGE, FROM_CONTROL
from shrinkproof.metrics.robustness import Quantity
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate
from shrinkproof.summary.changes import changes
from shrinkproof.summary.robustness import compared_numbers, corrupted_numbers
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Split, without
from shrinkproof.summary.values import CORRUPTED, Derived, Key, Number


def totals_of(run: Run, split: Split, candidate: Candidate) -> Iterator[Derived]:
    """Yield means over conditions, and their differences to baseline and control."""
    numbers, quantities = _numbers(split, candidate.key)
    yield from split.emit(candidate.key, numbers)
    yield from split.emit(candidate.key, _gaps(split, candidate.key))
    yield from split.emit_quantities(candidate.key, quantities)
    if candidate.role == "baseline":
        return
    own = {**numbers, **compared_numbers(quantities)}
    baseline, control = run.baseline(candidate), run.control(candidate)
    for prefix, other in ((CHANGE, baseline), (FROM_CONTROL, control)):
        if other is not None and other.key in split.totals:
            theirs = compared_totals(split, other.key)
            yield from changes(split, candidate.key, prefix, own, theirs)


def _gaps(split: Split, candidate: str) -> Mapping[Key, Undefined]:
    """Return which means do not exist, and why."""
    totals, settings = split.totals[candidate], split.settings
    missing = [c for c in settings.conditions if c not in totals.seen]
    if not missing:
        return totals.gaps()
    if all(condition.is_clean for condition in settings.conditions):
        return {}
    return dict.fromkeys(
        ((name, CORRUPTED, 0) for name in (*settings.metrics, "robustness.mean_error")),
        without(missing),
    )


def compared_totals(split: Split, candidate: str) -> Mapping[Key, Number]:
    """Return the numbers over all corrupted conditions that can be compared with others'."""
    numbers, quantities = _numbers(split, candidate)
    return {**numbers, **compared_numbers(quantities)}


def _numbers(split: Split, candidate: str) -> tuple[Mapping[Key, Number], Mapping[Key, Quantity]]:
    """Return the numbers over all corrupted conditions; none where one is missing."""
    if not split.is_complete(candidate):
        return {}, {}
    totals = split.totals[candidate]
    is_corrupted = any(not condition.is_clean for condition in totals.errors)
    return totals.numbers(), corrupted_numbers(totals.errors) if is_corrupted else {}
