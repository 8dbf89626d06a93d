"""Who is chosen on the images that decide, and what that means on those whose numbers are printed.

The choice looks best on the images that made it. So everything that is said about the chosen
candidate, its rules and what its alternatives would trade, is computed on other images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from shrinkproof.decision.choice import Decision, Objective, Option, decide
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Better
from shrinkproof.selectors import Constraint, Selector
from shrinkproof.table import Number

if TYPE_CHECKING:
    from shrinkproof.records import Json
    from shrinkproof.results.reading import Results

_QUALITY: Final = Selector("accuracy.top1", "clean")
"""What every trade tells, whether it is an objective or not."""

_EXACT: Final = ("cost.bytes", "cost.parameters", "cost.nonzero", "cost.macs", "cost.compression")
"""Numbers that are counted, not estimated: they need no interval."""

_SAME: Final = 0.005
"""Costs whose ratio is nearer to 1 than this are called equal."""


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """One hard rule of the study, checked again for the chosen candidate on the printed images.

    Attributes:
        rule: the rule as the study file spells it.
        value: the number, None where it does not exist.
        low: lower end of its 95 % interval, None where none is stated.
        high: upper end.
        is_met: whether the number keeps the rule.
        is_sure: whether the whole interval keeps it; counted numbers need none.
        reason: why there is no number, or its caveat.
    """

    rule: str
    value: float | None
    low: float | None
    high: float | None
    is_met: bool
    is_sure: bool
    reason: str

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return asdict(self)


def decide_on(
    results: Results, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> Decision:
    """Return front and choice for any objectives, computed on the split that decides."""
    selectors = [o.selector for o in objectives] + [c.selector for c in constraints]
    options = []
    for candidate in results.candidates:
        found = {
            str(s): results.numbers.find(candidate.label, results.deciding, s) for s in selectors
        }
        options.append(
            Option(
                candidate.label,
                candidate.key,
                candidate.role,
                {name: number.value for name, number in found.items()},
                {name: n.reason for name, n in found.items() if n.value is None},
            )
        )
    rule = results.spec.select.rule if results.spec.select else "knee"
    return decide(options, objectives, constraints, rule=rule, split=results.deciding)


def rules_on_report(results: Results) -> tuple[RuleCheck, ...]:
    """Return every hard rule, checked for the chosen candidate on the printed images.

    Empty where nothing is chosen, or where there are no rules.
    """
    chosen = None if results.decision is None else results.decision.chosen
    if chosen is None:
        return ()
    return tuple(
        _checked(rule, results.numbers.find(chosen, results.printing, rule.selector))
        for rule in results.constraints
    )


def _checked(rule: Constraint, number: Number) -> RuleCheck:
    is_met = number.value is not None and rule.is_met(number.value)
    ends = (number.low, number.high)
    is_exact = rule.selector.metric.startswith(_EXACT)
    inside = all(end is not None and rule.is_met(end) for end in ends)
    return RuleCheck(
        rule=str(rule),
        value=number.value,
        low=number.low,
        high=number.high,
        is_met=is_met,
        is_sure=is_met and (is_exact or inside) and number.status == "ok",
        reason=number.reason,
    )


def with_trades(results: Results, decision: Decision) -> Decision:
    """Return the decision with what each alternative would trade against the choice, in words."""
    chosen = decision.chosen
    if chosen is None:
        return decision
    return replace(
        decision,
        alternatives=tuple(
            replace(other, trade=trade(results, chosen, other.label))
            for other in decision.alternatives
        ),
    )


def trade(results: Results, chosen: str, other: str) -> str:
    """Return what changes if another candidate is taken instead of the chosen one, in words.

    All numbers are those of the printed split; the sign is that of the other candidate minus the
    chosen one.
    """
    goals = {o.selector: o.better for o in results.objectives}
    wanted = {_QUALITY: Better.HIGHER, **goals}
    said = []
    for selector, better in wanted.items():
        numbers = [results.numbers.find(who, results.printing, selector) for who in (other, chosen)]
        if numbers[0].value is not None and numbers[1].value is not None:
            said += _traded(selector, better, numbers[0].value, numbers[1].value)
    return "; ".join(said)


def _traded(selector: Selector, better: Better, other: float, chosen: float) -> Iterator[str]:
    """Yield the difference of one number in words."""
    known = described(selector.metric)
    unit = known.unit if known else ""
    if unit == "fraction":
        gap = 100 * (other - chosen)
        if abs(gap) < 0.05:
            yield f"the same {selector}"
            return
        verdict = "better" if (gap > 0) == (better is Better.HIGHER) else "worse"
        yield f"{selector} {gap:+.1f} points ({verdict})"
    elif chosen > 0 and other > 0:
        ratio = other / chosen
        if abs(ratio - 1) < _SAME:
            yield f"the same {selector}"
            return
        verdict = "better" if (ratio > 1) == (better is Better.HIGHER) else "worse"
        yield f"{selector} x{ratio:.2f} ({verdict})"
    else:
        yield f"{selector} {other - chosen:+.4g}"
