"""Which rules a candidate breaks, on which images, and who else breaks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shrinkproof.metrics.names import NONINFERIOR_P_HOLM, bare_name
from shrinkproof.metrics.robustness import CORRUPTED, GROUPS
from shrinkproof.records import Candidate, Condition
from shrinkproof.results import Results
from shrinkproof.selectors import Constraint, Selector
from shrinkproof.table import Number

_ERRORS: Final = frozenset(
    {
        *("accuracy.top1", "accuracy.recall", "accuracy.error"),
        *("robustness.error", "robustness.mean_error"),
    }
)
"""Metrics that are means of errors over images, so that losses add up to them."""

_KEPT: Final = 0.05
"""A margin is shown to be kept where the corrected p-value is below."""

_PLACES: Final = ("clean", CORRUPTED)


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """One rule on one split.

    Attributes:
        rule: as the study file spells it.
        split: part of the data; empty for costs.
        value: the candidate's number; None where there is none.
        low: lower end of its 95 % interval; None where none is stated.
        high: upper end.
        is_met: whether it keeps the rule.
        is_sure: whether both ends of the interval agree with that.
        baseline: the baseline's number.
        control: the dense control's number; None where there is no control but the baseline.
        reason: why there is no number, or its caveat.
    """

    rule: str
    split: str
    value: float | None
    low: float | None
    high: float | None
    is_met: bool
    is_sure: bool
    baseline: float | None
    control: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MarginFinding:
    """A metric that is not shown to be kept within its margin.

    Attributes:
        metric: the metric.
        condition: ``clean`` or ``corrupted``.
        margin: by how much it may be worse.
        p: p-value of being worse by the margin, corrected for its family (Holm); None where it
            cannot be tested.
        reason: why not, or what limits the test.
    """

    metric: str
    condition: str
    margin: float
    p: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule is about.

    Attributes:
        name: as a selector spells it, ``clean`` or ``fog:3``, with its part in braces.
        conditions: the conditions; empty for costs.
        part: ``class=cat`` or ``weather=night``; empty for all images.
        metric: the metric of the rule.
    """

    name: str
    conditions: tuple[Condition, ...]
    part: str = ""
    metric: str = ""

    @property
    def is_of_errors(self) -> bool:
        """Whether the rule is about errors, so that what is lost adds up to its number."""
        return bare_name(self.metric) in _ERRORS


def check_rules(
    results: Results, candidate: Candidate, rules: Sequence[Constraint]
) -> tuple[RuleFinding, ...]:
    """Return every rule on the split that decides and on the printed one; costs have no split."""
    splits = tuple(dict.fromkeys((results.deciding, results.printing)))
    return tuple(
        _checked(results, candidate, rule, split)
        for rule in rules
        for split in (("",) if is_of_costs(rule.selector) else splits)
    )


def is_of_costs(selector: Selector) -> bool:
    """Return whether a number is about a file or its speed, not about images."""
    return selector.metric.startswith("cost.")


def _checked(results: Results, candidate: Candidate, rule: Constraint, split: str) -> RuleFinding:
    def find(label: str) -> Number:
        return results.numbers.find(label, split, rule.selector)

    number = find(candidate.label)
    is_met = number.value is not None and rule.is_met(number.value)
    ends = [end for end in (number.low, number.high) if end is not None]
    is_exact = is_of_costs(rule.selector) and not ends
    control = results.by_key.get(candidate.control)
    return RuleFinding(
        rule=str(rule),
        split=split,
        value=number.value,
        low=number.low,
        high=number.high,
        is_met=is_met,
        is_sure=is_exact or (bool(ends) and all(rule.is_met(end) == is_met for end in ends)),
        baseline=find(baseline_of(results, candidate).label).value,
        control=None if control is None or control.role != "control" else find(control.label).value,
        reason=number.reason,
    )


def baseline_of(results: Results, candidate: Candidate) -> Candidate:
    """Return the uncompressed network of a candidate."""
    return next(
        c for c in results.candidates if c.model == candidate.model and c.role == "baseline"
    )


def unkept_margins(results: Results, candidate: Candidate) -> Iterator[MarginFinding]:
    """Yield the metrics that are not shown to be kept within the study's margins."""
    for metric, margin in results.settings.margins.items():
        for place in _PLACES:
            selector = Selector(f"{NONINFERIOR_P_HOLM}{metric}", place)
            found = results.numbers.find(candidate.label, results.printing, selector)
            if found.status == "missing" or (found.value is not None and found.value < _KEPT):
                continue
            yield MarginFinding(metric, place, margin, found.value, found.reason)


def scope_of(selector: Selector, conditions: Sequence[Condition]) -> Scope:
    """Return what a rule is about: which conditions of the study, and which part of the images."""
    place = selector.condition
    if is_of_costs(selector):
        return Scope("costs", (), metric=selector.metric)
    if not place or place in (CORRUPTED, "pooled"):
        place, kept = CORRUPTED, [c for c in conditions if not c.is_clean]
    elif selector.severity:
        place = f"{place}:{selector.severity}"
        kept = [c for c in conditions if str(c) == place]
    else:
        members = GROUPS.get(place, (place,))
        kept = [c for c in conditions if c.corruption in members]
    name = f"{place}{{{selector.part}}}" if selector.part else place
    return Scope(name, tuple(kept), selector.part, selector.metric)
