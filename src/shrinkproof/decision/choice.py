"""From measured options to a front, a choice, and the reasons in plain words.

1. Controls step aside: they are yardsticks. The baseline takes part.
2. Options that break a rule, or whose numbers are undefined, are set aside with the reason.
3. The front is what no other remaining option dominates; a difference within a stated tolerance
   earns no place on it.
4. The rule picks one member of the front; ties go to the label that sorts first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.decision.pareto import TolerantFront, domination, oriented, tolerant_front
from shrinkproof.errors import UsageError
from shrinkproof.protocols import Better
from shrinkproof.selectors import Constraint, Selector

# Shape suffixes: F members of the front, K objectives.

Rule = Literal["knee", "lexicographic"]

_TIE_DIGITS: Final = 12
"""Distances closer than this are a tie; rounding errors must not decide what is deployed."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One number to improve, and in which direction.

    Attributes:
        selector: which number.
        better: ``HIGHER`` or ``LOWER``.
    """

    selector: Selector
    better: Better

    def __str__(self) -> str:
        """Return plain words, ``minimize cost.bytes``."""
        verb = "maximize" if self.better is Better.HIGHER else "minimize"
        return f"{verb} {self.selector}"


@dataclass(frozen=True, slots=True)
class Option:
    """One candidate with the numbers that the decision may use.

    Attributes:
        label: readable name, unique among the options.
        key: identity of the candidate.
        role: ``baseline``, ``control`` or ``recipe``.
        values: spelled selector -> number, or None where it is undefined.
        reasons: spelled selector -> why its value is None.
    """

    label: str
    key: str
    role: str
    values: Mapping[str, float | None]
    reasons: Mapping[str, str] = field(default_factory=dict)

    def missing(self, selector: str) -> str:
        """Return why the number does not exist; empty where it does."""
        if self.values.get(selector) is not None:
            return ""
        state = "undefined" if selector in self.values else "not measured"
        reason = self.reasons.get(selector, "")
        if reason.startswith(selector):
            return reason
        return f"{selector} is {state}" + (f": {reason}" if reason else "")

    def number(self, selector: str) -> float:
        """Return the number; ask `missing` first.

        Raises:
            UsageError: it does not exist.
        """
        value = self.values.get(selector)
        if value is None:
            raise UsageError(f"{self.label}: {self.missing(selector)}; leave the option out")
        return value


@dataclass(frozen=True, slots=True)
class Alternative:
    """A member of the front that was not chosen.

    Attributes:
        label: its name.
        why: what speaks for it.
        trade: what would change if it were taken instead, with numbers of images that did not
            decide; empty until somebody looks them up.
    """

    label: str
    why: str
    trade: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is on the front, what is chosen, and why everything else is not.

    Every option that is not a control is in exactly one of ``front``, ``dominated``,
    ``infeasible`` and ``undefined``.

    Attributes:
        front: labels, best in the first objective first.
        dominated: label -> the members of the front that dominate it.
        infeasible: label -> the rules it breaks, each with its value.
        undefined: label -> why it cannot be compared.
        chosen: label, or None where no option is left.
        why: sentences in plain words. They hold no number of a candidate: those of the images that
            decide look too good for whoever they chose.
        alternatives: the rest of the front, in the order of the rule.
    """

    front: tuple[str, ...]
    dominated: Mapping[str, tuple[str, ...]]
    infeasible: Mapping[str, tuple[str, ...]]
    undefined: Mapping[str, str]
    chosen: str | None
    why: tuple[str, ...]
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Members of the front in the order of a rule, and the rule's own sentence."""

    members: tuple[Option, ...]
    sentence: str


def decide(
    options: Sequence[Option],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
    rule: Rule = "knee",
    *,
    split: str = "select",
    tolerances: Mapping[str, float] | None = None,
) -> Decision:
    """Return the front among the options that keep all rules, and the one to take.

    ``knee`` takes the member of the front with the smallest Euclidean distance to the ideal point
    (the best value of each objective on the front) after every objective is divided by its range
    among the options that keep the rules; an objective without range counts nothing (compromise
    programming, Zeleny 1973, with p = 2). The range is not the front's own: with two objectives
    and two members every front would tie. ``lexicographic`` takes the best first objective and
    uses the next ones for ties. The result does not depend on the order of the options.

    Args:
        options: candidates with their numbers; labels are unique.
        objectives: at least one; the first one also orders the front.
        constraints: hard rules, checked before anything is compared.
        rule: how to pick from the front.
        split: name of the split the numbers come from, for the sentences.
        tolerances: spelled objective -> difference that earns no place on the front, in its unit;
            0 where none is given, see `pareto.tolerant_front`.

    Raises:
        UsageError: no objective, an objective without direction, an unknown rule, equal labels, or
            a value that is not finite.
    """
    _check(options, objectives, rule)
    takers = sorted((o for o in options if o.role != "control"), key=lambda option: option.label)
    infeasible = {o.label: broken for o in takers if (broken := _broken(o, constraints))}
    needed = dict.fromkeys(
        [*(str(c.selector) for c in constraints), *(str(o.selector) for o in objectives)]
    )
    undefined = {
        o.label: "; ".join(gaps)
        for o in takers
        if o.label not in infeasible and (gaps := [g for s in needed if (g := o.missing(s))])
    }
    left = [o for o in takers if o.label not in infeasible and o.label not in undefined]
    front, dominated, displaced = _front(left, objectives, tolerances or {})
    ranked = (_by_knee if rule == "knee" else _by_order)(front, objectives, left)
    chosen = ranked.members[0] if ranked.members else None
    why = (
        *_opening(options, takers, split),
        *_screening(takers, constraints, infeasible, undefined),
        *_verdict(left, front, objectives, ranked),
        *_near(displaced),
    )
    return Decision(
        front=tuple(option.label for option in front),
        dominated=dominated,
        infeasible=infeasible,
        undefined=undefined,
        chosen=None if chosen is None else chosen.label,
        why=why,
        alternatives=tuple(
            Alternative(option.label, _praise(option, front, objectives))
            for option in ranked.members[1:]
        ),
    )


def _check(options: Sequence[Option], objectives: Sequence[Objective], rule: str) -> None:
    if not objectives:
        raise UsageError(
            "objectives: a decision needs at least one number to minimize or maximize, got none"
        )
    for objective in objectives:
        if objective.better is Better.NONE:
            raise UsageError(
                f"objectives: {objective.selector} has no better direction, so it cannot be an "
                "objective; use it in a rule or choose another metric"
            )
    if rule not in ("knee", "lexicographic"):
        raise UsageError(f"rule: must be 'knee' or 'lexicographic', got {rule!r}")
    labels = [option.label for option in options]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(f"options: labels must be unique, got {twice[0]!r} more than once")
    for option in options:
        for selector, value in option.values.items():
            if value is not None and not math.isfinite(value):
                raise UsageError(
                    f"{option.label}: {selector} must be finite, or None with a reason, "
                    f"got {value!r}"
                )


def _broken(option: Option, constraints: Sequence[Constraint]) -> tuple[str, ...]:
    return tuple(
        f"{constraint}, got {value:.6g}"
        for constraint in constraints
        if (value := option.values.get(str(constraint.selector))) is not None
        and not constraint.is_met(value)
    )


def _table(options: Sequence[Option], objectives: Sequence[Objective]) -> list[list[float]]:
    return [[o.number(str(objective.selector)) for objective in objectives] for o in options]


def _directions(objectives: Sequence[Objective]) -> list[Better]:
    return [objective.better for objective in objectives]


def _front(
    options: Sequence[Option], objectives: Sequence[Objective], tolerances: Mapping[str, float]
) -> tuple[list[Option], dict[str, tuple[str, ...]], dict[str, str]]:
    """Return the front, who is dominated by whom, and who is only within tolerance displaced."""
    table, directions = _table(options, objectives), _directions(objectives)
    dominating = domination(table, directions)
    margins = [tolerances.get(str(objective.selector), 0.0) for objective in objectives]
    found = tolerant_front(table, directions, margins)
    costs = oriented(table, directions)
    order = sorted(
        np.flatnonzero(found.members).tolist(), key=lambda i: (*costs[i].tolist(), options[i].label)
    )
    dominated = {
        options[j].label: tuple(options[i].label for i in order if dominating[i, j])
        or (options[_winner(found, dominating, j)].label,)
        for j in np.flatnonzero(~found.members).tolist()
    }
    displaced = {options[j].label: options[i].label for j, i in found.displaced.items()}
    return [options[i] for i in order], dominated, displaced


def _winner(found: TolerantFront, dominating: NDArray[np.bool_], position: int) -> int:
    """Return the member that stands for whoever dominates an option, within the tolerances."""
    while position in found.displaced or not found.members[position]:
        if position in found.displaced:
            position = found.displaced[position]
        else:
            above = np.flatnonzero(dominating[:, position]).tolist()
            position = next((i for i in above if i in found.displaced), above[0])
    return position


def _distances(costs_FK: NDArray[np.float64], range_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each member to the ideal point in the given ranges, (F,)."""
    ideal_K = costs_FK.min(axis=0)
    scaled_FK = (costs_FK - ideal_K) / np.where(range_K > 0, range_K, 1.0)
    return np.asarray(np.sqrt((scaled_FK**2).sum(axis=1)).round(_TIE_DIGITS))


def _by_knee(
    front: Sequence[Option], objectives: Sequence[Objective], left: Sequence[Option]
) -> _Ranked:
    if not front:
        return _Ranked((), "")
    directions = _directions(objectives)
    range_K = np.ptp(oriented(_table(left, objectives), directions), axis=0)
    distances = _distances(oriented(_table(front, objectives), directions), range_K).tolist()
    pairs = sorted(zip(distances, front, strict=True), key=lambda pair: (pair[0], pair[1].label))
    members = tuple(option for _, option in pairs)
    first = members[0].label
    if len(members) == 1:
        return _Ranked(members, f"{first} is the only member of the front.")
    sentence = (
        f"Rule knee: {first} lies closest to the ideal point, which has the best value of each "
        "objective on the front; distances are in ranges of the options that keep the rules. "
        f"{_next(members[1].label, pairs[0][0], pairs[1][0])}"
    )
    ties = [option.label for distance, option in pairs if distance == pairs[0][0]]
    return _Ranked(members, sentence + _tie(ties, "equally close"))


def _next(label: str, nearest: float, second: float) -> str:
    if nearest == second:
        return f"{label} is as close."
    if not nearest:
        return f"It is the ideal point itself; {label} comes next."
    return f"{label} comes next, {second / nearest:.3g} times as far."


def _by_order(
    front: Sequence[Option],
    objectives: Sequence[Objective],
    left: Sequence[Option],  # noqa: ARG001 - rules share one signature
) -> _Ranked:
    if not front:
        return _Ranked((), "")
    costs = oriented(_table(front, objectives), _directions(objectives)).tolist()
    pairs = sorted(zip(costs, front, strict=True), key=lambda pair: (pair[0], pair[1].label))
    members = tuple(option for _, option in pairs)
    first = members[0].label
    if len(members) == 1:
        return _Ranked(members, f"{first} is the only member of the front.")
    names = ", then ".join(str(objective.selector) for objective in objectives)
    sentence = f"Rule lexicographic: {first} is best in the order {names}."
    ties = [option.label for cost, option in pairs if cost == pairs[0][0]]
    return _Ranked(members, sentence + _tie(ties, "equal in all objectives"))


def _tie(labels: Sequence[str], how: str) -> str:
    if len(labels) < 2:
        return ""
    return (
        f" {' and '.join(labels)} are {how}; only the alphabetical order of their labels "
        "decided, so look at both."
    )


def _opening(options: Sequence[Option], takers: Sequence[Option], split: str) -> list[str]:
    sentences = [f"Everything here was decided on the {split} split."]
    controls = len(options) - len(takers)
    if controls:
        sentences.append(
            f"{_count(controls, 'control')} served as a yardstick only and could not be chosen."
        )
    return sentences


def _screening(
    takers: Sequence[Option],
    constraints: Sequence[Constraint],
    infeasible: Mapping[str, tuple[str, ...]],
    undefined: Mapping[str, str],
) -> list[str]:
    sentences = []
    if constraints:
        rules = "; ".join(str(constraint) for constraint in constraints)
        kept = len(takers) - len(infeasible) - len(undefined)
        sentences.append(f"{kept} of {_count(len(takers), 'option')} keep the rules: {rules}.")
    if undefined:
        sentences.append(
            f"{_count(len(undefined), 'option')} could not be compared because a number is "
            f"missing: {', '.join(undefined)}."
        )
    return sentences


def _verdict(
    left: Sequence[Option],
    front: Sequence[Option],
    objectives: Sequence[Objective],
    ranked: _Ranked,
) -> list[str]:
    if not front:
        return ["No option is left, so nothing is chosen. Relax a rule or add recipes."]
    goals = ", ".join(str(objective) for objective in objectives)
    sentences = [
        f"{len(front)} of {_count(len(left), 'option')} {'is' if len(front) == 1 else 'are'} on "
        f"the front ({goals}): for each of the others, some option is at least as good in every "
        "objective and better in one.",
        ranked.sentence,
    ]
    if ranked.members[0].role == "baseline":
        sentences.append("The chosen option is the baseline itself: no compression is advised.")
    return sentences


def _near(displaced: Mapping[str, str]) -> list[str]:
    """Return who lost its place on the front to a difference that counts as none."""
    return [
        f"{label} is dominated within the stated tolerances only: {winner} is no worse beyond them "
        "and better by more than they allow."
        for label, winner in displaced.items()
    ]


def _praise(option: Option, front: Sequence[Option], objectives: Sequence[Objective]) -> str:
    """Return what this member of the front is best at, or that it is a compromise."""
    best = []
    for objective in objectives:
        name = str(objective.selector)
        pick: Callable[..., float] = max if objective.better is Better.HIGHER else min
        if option.number(name) == pick(member.number(name) for member in front):
            best.append(name)
    return f"best on the front in {' and '.join(best)}" if best else "another compromise"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
