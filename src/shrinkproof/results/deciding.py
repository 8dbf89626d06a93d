"""Who is chosen on the images that decide, and what that means on those whose numbers are printed.

The choice looks best on the images that made it. So everything that is said about the chosen
candidate, its rules and what its alternatives would trade, is computed on other images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from shrinkproof.decision.choice import Decision, Objective, Option, decide
from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Better
from shrinkproof.results.naming import find_candidate
from shrinkproof.results.pairs import Pair
from shrinkproof.results.sides import Side
from shrinkproof.results.uncertain import tolerances
from shrinkproof.selectors import Constraint, Selector
from shrinkproof.spec.tolerance import COSTS
from shrinkproof.table import Number

if TYPE_CHECKING:
    from shrinkproof.records import Json
    from shrinkproof.results.reading import Results

_EXACT: Final = ("cost.bytes", "cost.parameters", "cost.nonzero", "cost.macs", "cost.compression")
"""Numbers that are counted, not estimated: they need no interval."""

TRADES: Final = 5
"""Alternatives, nearest to the choice first, whose trade is computed; each reads predictions."""


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """One hard rule of the study, checked again for the chosen candidate on the printed images.

    Attributes:
        rule: the rule as the study file spells it.
        value: the number, None where it does not exist.
        low: lower end of its 95 % interval, None where none is stated.
        high: upper end.
        is_met: whether the number keeps the rule.
        is_sure: whether the whole interval keeps it, and these images did not choose; counted
            numbers need no interval.
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
    """Return front and choice for any objectives, computed on the split that decides.

    Costs that differ by no more than their tolerance, the study's or the usual one, make no front;
    numbers that are estimated are compared as they are, and how sure that is stands in
    ``Results.uncertainty``.
    """
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
    return decide(
        options,
        objectives,
        constraints,
        rule=results.spec.select.rule if results.spec.select else "knee",
        split=results.deciding,
        tolerances={
            t: x for t, x in tolerances(results, objectives).items() if t.startswith(COSTS)
        },
    )


def objectives_of(minimize: Sequence[str], maximize: Sequence[str]) -> tuple[Objective, ...]:
    """Return the objectives that spelled selectors mean, minimized ones first.

    Raises:
        UnknownNameError: there is no such metric.
        UsageError: one of them is no selector, or is better in the other direction.
    """
    found = []
    for better, texts in ((Better.LOWER, minimize), (Better.HIGHER, maximize)):
        for text in texts:
            try:
                selector = Selector.parse(text)
            except ValueError as error:
                raise UsageError(f"objective {text!r}: {error}") from error
            known = described(selector.metric)
            if known is None:
                raise UnknownNameError("metric", selector.metric, {*METRIC_NAMES, *METRICS.names()})
            if known.per_condition and not selector.condition:
                raise UsageError(
                    f"objective {text!r}: must name a condition, got none; write for example "
                    f"{text}@clean"
                )
            if known.better is not better:
                raise UsageError(
                    f"objective {text!r}: must be a metric that is better when {better.value}, got "
                    f"one whose better direction is {known.better.value}"
                )
            found.append(Objective(selector, better))
    return tuple(dict.fromkeys(found))


def rules_on_report(results: Results) -> tuple[RuleCheck, ...]:
    """Return every hard rule, checked for the chosen candidate on the printed images.

    Empty where nothing is chosen, or where there are no rules.
    """
    chosen = None if results.decision is None else results.decision.chosen
    if chosen is None:
        return ()
    is_apart = results.printing != results.deciding
    return tuple(
        _checked(
            rule, results.numbers.find(chosen, results.printing, rule.selector), is_apart=is_apart
        )
        for rule in results.constraints
    )


def _checked(rule: Constraint, number: Number, *, is_apart: bool = True) -> RuleCheck:
    """Check a rule; what the images that chose say of an estimated number is never sure."""
    is_met = number.value is not None and rule.is_met(number.value)
    ends = (number.low, number.high)
    is_exact = rule.selector.metric.startswith(_EXACT)
    inside = all(end is not None and rule.is_met(end) for end in ends)
    is_flattered = not is_apart and not rule.selector.metric.startswith(COSTS)
    flattery = "the same images chose it" if is_flattered else ""
    return RuleCheck(
        rule=str(rule),
        value=number.value,
        low=number.low,
        high=number.high,
        is_met=is_met,
        is_sure=is_met and (is_exact or inside) and number.status == "ok" and not flattery,
        reason="; ".join(filter(None, (flattery, number.reason))),
    )


def with_trades(results: Results, decision: Decision) -> Decision:
    """Return the decision with what the next-best alternatives would trade, in words."""
    if decision.chosen is None:
        return decision
    chosen = Side(results, find_candidate(results, decision.chosen))
    nearest, others = decision.alternatives[:TRADES], decision.alternatives[TRADES:]
    told = (
        replace(other, trade=trade(results, chosen, Side(results, candidate)))
        for other in nearest
        for candidate in [find_candidate(results, other.label)]
    )
    return replace(decision, alternatives=(*told, *others))


def trade(results: Results, chosen: Side, other: Side) -> str:
    """Return what changes if another candidate is taken instead of the chosen one, in words.

    All numbers are those of the printed split, the other candidate's minus the chosen one's, or
    divided by it for costs; intervals are paired, image by image.
    """
    pair = Pair(chosen, other)
    goals = {o.selector: o.better for o in results.objectives}
    # What every trade tells, whether it is an objective or not.
    quality = Selector(results.spec.quality, "clean")
    wanted = {quality: Better.HIGHER, **goals}
    return "; ".join(said for s, better in wanted.items() if (said := _traded(pair, s, better)))


def _traded(pair: Pair, selector: Selector, better: Better) -> str:
    """Return the difference of one number in words; empty where one of them has none."""
    known = described(selector.metric)
    if known is not None and known.unit == "fraction":
        found, unit, form = pair.change(selector), 100.0, "{:+.2f}"
        after, neutral = " points", 0.0
    elif selector.metric.startswith("cost."):
        found, unit, form = pair.ratio(selector), 1.0, "{:.2f}"
        after, neutral = " times", 1.0
    else:
        found, unit, form = pair.change(selector), 1.0, "{:+.4g}"
        after, neutral = "", 0.0
    if found.value is None:
        return ""
    low, high = found.interval.low, found.interval.high
    text = f"{selector} {form.format(unit * found.value)}{after}"
    if low is None or high is None:
        return f"{text} (no interval)"
    if low < high:
        text += f" [{form.format(unit * low)}, {form.format(unit * high)}]"
    return f"{text} ({_verdict(low, high, neutral, better)})"


def _verdict(low: float, high: float, neutral: float, better: Better) -> str:
    """Return what an interval says about a change."""
    if low == high == neutral:
        return "equal"
    if low <= neutral <= high:
        return "no difference shown"
    return "better" if (low > neutral) == (better is Better.HIGHER) else "worse"


def decision_rows(results: Results, decision: Decision) -> list[Json]:
    """Return one row per candidate: its state, why, and its objectives on the printed split.

    States: ``front``, ``dominated``, ``infeasible``, ``undefined`` and ``control``.
    """
    uncertainty = results.uncertainty
    on_front = uncertainty.front if uncertainty else {}
    is_chosen = uncertainty.chosen if uncertainty else {}
    rows = []
    for candidate in results.candidates:
        label = candidate.label
        state, why = _state(decision, label)
        row: Json = {
            "candidate": label,
            "model": candidate.model,
            "role": candidate.role,
            "state": state,
            "chosen": label == decision.chosen,
            "why": why,
            "share_front": on_front.get(label),
            "share_chosen": is_chosen.get(label),
        }
        for selector in dict.fromkeys(o.selector for o in results.objectives):
            number = results.numbers.find(label, results.printing, selector)
            row |= {
                str(selector): number.value,
                f"{selector} low": number.low,
                f"{selector} high": number.high,
            }
        row["study"] = results.spec.full_name
        rows.append(row)
    return rows


def _state(decision: Decision, label: str) -> tuple[str, str]:
    """Return what the decision says about a candidate, and why."""
    if label in decision.front:
        return "front", ""
    if label in decision.dominated:
        return "dominated", f"by {', '.join(decision.dominated[label])}"
    if label in decision.infeasible:
        return "infeasible", "; ".join(decision.infeasible[label])
    if label in decision.undefined:
        return "undefined", decision.undefined[label]
    return "control", "a yardstick, not a candidate"
