"""How sure a front and a choice are: resampled data sets, and dominance that is shown.

Two questions that must not be mixed:

* On how many resampled data sets is a candidate on the front, or chosen? Everything is computed
  again on each of them by the rules of `choice.decide`.
* Who is *shown* to be dominated? A dominates B if A is no worse than B by the tolerance or more in
  every objective and better in at least one. The first part needs all of its tests, so the largest
  p-value counts (intersection-union test, Berger 1982, doi:10.1080/00401706.1982.10487790); the
  second needs one of them (Bonferroni over the objectives that are estimated). Costs that are
  counted are known and decide without a test. Holm's correction over all ordered pairs that the
  counted costs leave open keeps the probability of any false statement at one minus the level.

Intervals that overlap are no evidence for either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.decision.choice import Objective, Rule
from shrinkproof.decision.pareto import tolerant_front
from shrinkproof.protocols import Better
from shrinkproof.records import Json
from shrinkproof.selectors import Constraint
from shrinkproof.statistics import holm, images_needed

# Shape suffixes: R resampled data sets, C options, K objectives, M rules.

_TIE_DIGITS: Final = 12
"""Distances closer than this are a tie, as in `choice.decide`."""

_PAIRS_AT_ONCE: Final = 2_000_000
"""Pairs of options in memory at a time, over all data sets."""


@dataclass(frozen=True, slots=True)
class Indistinct:
    """An objective in which a member of the front cannot be told from the chosen option.

    Attributes:
        label: the member.
        objective: spelled selector.
        images_needed: images that would tell a difference of the tolerance from none, with a
            probability of 80 %; None where that is unknown.
        why: what was tried, or why there is no number of images.
    """

    label: str
    objective: str
    images_needed: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How sure the front and the choice are.

    Attributes:
        split: the images that decide.
        replicates: number of resampled data sets.
        level: confidence of ``dominated`` and ``indistinct``.
        tolerances: spelled objective -> the smallest difference that matters, in its unit.
        front: label -> share of the resampled data sets in which it is on the front.
        chosen: label -> share in which it is chosen; together below 1 where sometimes no option
            keeps the rules.
        dominated: label -> the options that keep the rules and are shown to dominate it.
        indistinct: front members that cannot be told from the chosen one, by objective.
        notes: what a reader must know.
        reason: why there are no shares; empty where there are.
    """

    split: str
    replicates: int = 0
    level: float = 0.95
    tolerances: Mapping[str, float] = field(default_factory=dict)
    front: Mapping[str, float] = field(default_factory=dict)
    chosen: Mapping[str, float] = field(default_factory=dict)
    dominated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    indistinct: tuple[Indistinct, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """The numbers of all options on every resampled data set.

    Attributes:
        labels: C labels, unique.
        objectives: what decides.
        values: (R, C, K) objectives; NaN where an option has no such number.
        constraints: hard rules.
        rules: (R, C, M) the numbers that the rules are about.
        tolerance: (K,) differences that earn no place on the front, in the unit of the objective.
    """

    labels: tuple[str, ...]
    objectives: tuple[Objective, ...]
    values: NDArray[np.float64]
    constraints: tuple[Constraint, ...]
    rules: NDArray[np.float64]
    tolerance: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PairTests:
    """What is known of every pair of options in one objective; the row against the column.

    Attributes:
        objective: spelled selector.
        no_worse: (C, C) p-value of losing at least the tolerance; NaN where none is stated.
        better: (C, C) p-value of being no better.
        is_counted: whether the objective is known exactly; p-values are then 0 or 1.
        images: number of images behind each test; 0 where there are none.
        spread: (C, C) standard deviation of the difference per image; NaN where unknown.
        why: (row, column) -> why no p-value is stated.
        remedy: what would tell two options apart where no number of images can be named.
    """

    objective: str
    no_worse: NDArray[np.float64]
    better: NDArray[np.float64]
    is_counted: bool
    spread: NDArray[np.float64]
    why: Mapping[tuple[int, int], str] = field(default_factory=dict)
    remedy: str = "how many images would tell them apart is known for means over images only"
    images: int = 0


def shares(draws: Draws, rule: Rule) -> tuple[dict[str, float], dict[str, float]]:
    """Return the shares of the resampled data sets in which each option is on the front, is chosen.

    In each data set options that break a rule or have no number step aside; front and rule are
    those of `choice.decide`.
    """
    order = np.argsort(np.array(draws.labels), kind="stable")  # ties go to the first label
    sign_K = np.array([-1.0 if o.better is Better.HIGHER else 1.0 for o in draws.objectives])
    costs_RCK = draws.values[:, order] * sign_K
    is_left_RC = np.isfinite(costs_RCK).all(axis=2) & _keeps(draws, order)
    costs_RCK = np.where(is_left_RC[:, :, None], costs_RCK, math.inf)
    is_front_RC = _fronts(costs_RCK, is_left_RC, draws.tolerance)
    pick = _knees if rule == "knee" else _firsts
    first_R = pick(costs_RCK, is_front_RC, is_left_RC)
    count = len(costs_RCK)
    times_C = np.bincount(first_R[is_front_RC.any(axis=1)], minlength=len(order))
    names = [draws.labels[position] for position in order.tolist()]
    return (
        dict(zip(names, is_front_RC.mean(axis=0).tolist(), strict=True)),
        dict(zip(names, (times_C / count).tolist(), strict=True)),
    )


def _keeps(draws: Draws, order: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which options keep all rules, (R, C); a missing number keeps none."""
    is_kept_RC = np.ones(draws.values.shape[:2], dtype=np.bool_)
    for position, constraint in enumerate(draws.constraints):
        values_RC = draws.rules[:, order, position]
        # Comparisons of arrays work like those of numbers; NaN is never within a rule.
        is_kept_RC &= np.asarray(constraint.is_met(values_RC), dtype=np.bool_)  # type: ignore[arg-type]
    return is_kept_RC


def _fronts(
    costs_RCK: NDArray[np.float64], is_left_RC: NDArray[np.bool_], tolerance_K: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return who is on the front of each data set, (R, C)."""
    replicates, count, _ = costs_RCK.shape
    is_front_RC = np.empty((replicates, count), dtype=np.bool_)
    step = max(1, _PAIRS_AT_ONCE // max(1, count * count))
    for start in range(0, replicates, step):
        block = slice(start, start + step)
        is_front_RC[block] = _plain_fronts(costs_RCK[block], is_left_RC[block])
    if tolerance_K.any():
        for position in np.flatnonzero(_has_near(costs_RCK, is_front_RC, tolerance_K)).tolist():
            members = np.flatnonzero(is_front_RC[position])
            better = [Better.LOWER] * costs_RCK.shape[2]
            found = tolerant_front(costs_RCK[position, members], better, tolerance_K)
            is_front_RC[position, members] = found.members
    return is_front_RC


def _plain_fronts(
    costs_RCK: NDArray[np.float64], is_left_RC: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    shape = (*is_left_RC.shape, is_left_RC.shape[1])
    no_worse_RCC = np.ones(shape, dtype=np.bool_)
    better_RCC = np.zeros(shape, dtype=np.bool_)
    for cost_RC in np.moveaxis(costs_RCK, 2, 0):
        no_worse_RCC &= cost_RC[:, :, None] <= cost_RC[:, None, :]
        better_RCC |= cost_RC[:, :, None] < cost_RC[:, None, :]
    return np.asarray(is_left_RC & ~(no_worse_RCC & better_RCC).any(axis=1))


def _has_near(
    costs_RCK: NDArray[np.float64],
    is_front_RC: NDArray[np.bool_],
    tolerance_K: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return where two members differ by no more than a tolerance, (R,)."""
    is_near_R = np.zeros(len(costs_RCK), dtype=np.bool_)
    for cost_RC, tolerance in zip(np.moveaxis(costs_RCK, 2, 0), tolerance_K.tolist(), strict=True):
        if tolerance > 0:
            ordered_RC = np.sort(np.where(is_front_RC, cost_RC, math.inf), axis=1)
            with np.errstate(invalid="ignore"):
                gap_RC = np.diff(ordered_RC, axis=1)
            is_near_R |= ((gap_RC > 0) & (gap_RC <= tolerance)).any(axis=1)
    return is_near_R


def _knees(
    costs_RCK: NDArray[np.float64],
    is_front_RC: NDArray[np.bool_],
    is_left_RC: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Return the member closest to the ideal point, (R,); see `choice.decide`."""
    most_RK = np.where(is_left_RC[:, :, None], costs_RCK, -math.inf).max(axis=1)
    with np.errstate(invalid="ignore"):
        range_RK = most_RK - costs_RCK.min(axis=1)
        ideal_RK = np.where(is_front_RC[:, :, None], costs_RCK, math.inf).min(axis=1)
        scale_RK = np.where(range_RK > 0, range_RK, 1.0)
        scaled_RCK = (costs_RCK - ideal_RK[:, None]) / scale_RK[:, None]
        distance_RC = np.sqrt((scaled_RCK**2).sum(axis=2)).round(_TIE_DIGITS)
    return np.asarray(np.where(is_front_RC, distance_RC, math.inf).argmin(axis=1))


def _firsts(
    costs_RCK: NDArray[np.float64],
    is_front_RC: NDArray[np.bool_],
    is_left_RC: NDArray[np.bool_],  # noqa: ARG001 - rules share one signature
) -> NDArray[np.intp]:
    """Return the member that is best in the order of the objectives, (R,)."""
    is_first_RC = is_front_RC.copy()
    for cost_RC in np.moveaxis(costs_RCK, 2, 0):
        cost_RC = np.where(is_first_RC, cost_RC, math.inf)
        is_first_RC &= cost_RC == cost_RC.min(axis=1, keepdims=True)
    return np.asarray(is_first_RC.argmax(axis=1))


def counted(objective: Objective, values_C: NDArray[Any], tolerance: float) -> PairTests:
    """Return what numbers without uncertainty say about every pair: p-values are 0 or 1.

    Args:
        objective: which number, and its direction.
        values_C: (C,) the numbers.
        tolerance: the smallest difference that matters, in its unit.
    """
    sign = 1.0 if objective.better is Better.HIGHER else -1.0
    gain_CC = sign * (values_C[:, None] - values_C[None, :])
    empty_CC = np.full_like(gain_CC, math.nan)
    return PairTests(
        str(objective.selector),
        no_worse=np.where(gain_CC >= -tolerance, 0.0, 1.0),
        better=np.where(gain_CC > tolerance, 0.0, 1.0),
        is_counted=True,
        spread=empty_CC,
    )


def timed(
    objective: Objective,
    values_C: NDArray[Any],
    errors_C: NDArray[Any],
    freedom: int,
    tolerance: float,
) -> PairTests:
    """Return the tests of times, of which less is better: Student's t on their logarithms.

    Both questions are asked beyond the tolerance: a machine never repeats itself more closely.

    Args:
        objective: which number.
        values_C: (C,) times, positive.
        errors_C: (C,) standard errors of their logarithms; NaN where there is no interval.
        freedom: degrees of freedom of each standard error.
        tolerance: the smallest difference that matters, in its unit.
    """
    from scipy.special import stdtr

    own_CC, other_CC = np.broadcast_arrays(values_C[:, None], values_C[None, :])
    error_CC = np.hypot(errors_C[:, None], errors_C[None, :])
    with np.errstate(invalid="ignore", divide="ignore"):
        log_CC = np.log(own_CC)
        no_worse_CC = stdtr(freedom, (log_CC - np.log(other_CC + tolerance)) / error_CC)
        least_CC = np.maximum(other_CC - tolerance, 0)
        better_CC = stdtr(freedom, (log_CC - np.log(least_CC)) / error_CC)
    is_stated_CC = np.isfinite(error_CC) & (error_CC > 0)
    unknown = "a time without an interval over processes shows nothing"
    return PairTests(
        str(objective.selector),
        no_worse=np.where(is_stated_CC, no_worse_CC, math.nan),
        better=np.where(is_stated_CC, better_CC, math.nan),
        is_counted=False,
        spread=np.full_like(error_CC, math.nan),
        why={(i, j): unknown for i, j in np.argwhere(~is_stated_CC).tolist()},
        remedy="more processes tell times apart, more images do not",
    )


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Who is shown to dominate whom.

    Attributes:
        adjusted: (C, C) p-values after Holm's correction: the row dominates the column.
        family: number of ordered pairs that were tested.
    """

    adjusted: NDArray[np.float64]
    family: int


def shown(tests: Sequence[PairTests]) -> Shown:
    """Return the corrected p-values of "the row dominates the column".

    A pair without a stated p-value in some objective cannot be shown and has 1.

    Args:
        tests: one per objective, at least one.
    """
    count = len(tests[0].no_worse)
    is_open_CC = ~np.eye(count, dtype=np.bool_)
    for test in tests:
        if test.is_counted:
            is_open_CC &= test.no_worse == 0
    worst_CC = np.max([np.where(np.isnan(t.no_worse), 1.0, t.no_worse) for t in tests], axis=0)
    p_CC = np.maximum(worst_CC, _any_better(tests))
    adjusted_CC = np.ones((count, count))
    adjusted_CC[is_open_CC] = holm(p_CC[is_open_CC])
    return Shown(adjusted_CC, int(is_open_CC.sum()))


def _any_better(tests: Sequence[PairTests]) -> NDArray[np.float64]:
    """Return the p-value of being better in no objective, (C, C)."""
    estimated = [t for t in tests if not t.is_counted]
    p_CC = np.ones_like(tests[0].better)
    for test in estimated:
        p_CC = np.fmin(p_CC, test.better * len(estimated))
    for test in tests:
        if test.is_counted:
            p_CC = np.minimum(p_CC, test.better)
    return np.asarray(np.minimum(p_CC, 1.0))


def dominated_by(
    labels: Sequence[str], found: Shown, able: Sequence[str], level: float
) -> dict[str, tuple[str, ...]]:
    """Return who is shown to be dominated, and by whom.

    Args:
        labels: C labels.
        found: the corrected p-values.
        able: labels of the options that keep the rules; others dominate nobody.
        level: confidence, 0 to 1.
    """
    is_shown_CC = found.adjusted <= 1 - level
    return {
        label: winners
        for j, label in enumerate(labels)
        if (
            winners := tuple(
                other for i, other in enumerate(labels) if is_shown_CC[i, j] and other in able
            )
        )
    }


def indistinct(
    labels: Sequence[str],
    chosen: str,
    others: Sequence[str],
    tests: Sequence[PairTests],
    tolerances: Mapping[str, float],
    level: float,
) -> tuple[Indistinct, ...]:
    """Return in which objectives members of the front cannot be told from the chosen option.

    Two one-sided tests at half the error each, one comparison at a time: nothing is corrected here,
    so that more would be told apart, never fewer.

    Args:
        labels: C labels.
        chosen: the chosen option.
        others: the other members of the front.
        tests: one per objective.
        tolerances: spelled objective -> the difference that matters.
        level: confidence, 0 to 1.
    """
    own = labels.index(chosen)
    found = []
    for label in others:
        other = labels.index(label)
        for test in tests:
            if test.is_counted:
                continue
            p = np.fmin(test.better[own, other], test.better[other, own])
            if not 2 * p <= 1 - level:
                margin = tolerances.get(test.objective, 0.0)
                needed, why = _needed(test, (own, other), margin, level)
                found.append(Indistinct(label, test.objective, needed, why))
    return tuple(found)


def _needed(
    test: PairTests, pair: tuple[int, int], margin: float, level: float
) -> tuple[int | None, str]:
    if not (np.isfinite(test.better[pair]) and np.isfinite(test.better[pair[::-1]])):
        stated = test.why.get(pair) or test.why.get(pair[::-1], "")
        return None, f"the difference cannot be tested: {stated}"
    spread = float(test.spread[pair])
    if not math.isfinite(spread):
        return None, test.remedy
    if margin <= 0:
        return None, (
            f"no difference that matters is stated; name one in select.tolerance for "
            f"{test.objective}"
        )
    if spread == 0:
        return None, "both give the same on every image"
    needed = images_needed(spread, margin, level=level)
    if needed <= test.images:
        return needed, (
            f"for a difference of {margin:g}, which these {test.images:,} images would have shown "
            "with a probability of 80 % or more; they differ by less, as far as one can tell"
        )
    return needed, f"for a difference of {margin:g}"
