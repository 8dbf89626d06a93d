"""Fronts with everything a reader asks of them: ranks, hypervolume, who dominates whom and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.decision.hypervolume import MOST_OBJECTIVES, hypervolume, hypervolume_contributions
from shrinkproof.decision.pareto import domination, oriented, ranks, tolerant_front
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Better
from shrinkproof.records import Json
from shrinkproof.selectors import Selector

# Shape suffixes: N options, K objectives.

Basis = Literal["absolute", "relative"]

Relation = Literal["absolute", "ratio", "difference", "relative by nature"]

Values = Mapping[str, Mapping[str, float]]
"""Label -> selector -> number."""

_SHORT_OF_A_RATIO: Final = 1.1
"""Ratios below this are said in percent."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One objective of a front.

    Attributes:
        selector: spelling of the number.
        better: ``HIGHER`` or ``LOWER``.
        relation: ``absolute``; ``ratio`` to or ``difference`` from the network's own baseline; or
            ``relative by nature``, a number that is defined against the baseline and is shown as
            it is.
    """

    selector: str
    better: Better
    relation: Relation = "absolute"


@dataclass(frozen=True, slots=True)
class Front:
    """One front and what is behind it.

    Attributes:
        name: what it is about, in plain words.
        basis: whether values are ``absolute`` or ``relative`` to each network's own baseline.
        across: whether it pools several networks.
        model: the network; empty where it pools several.
        objectives: what is compared, in which direction, and how it relates to the baseline.
        members: labels of the front, best in the first objective first.
        values: label -> selector -> the value that was compared; every compared option.
        printed: the same numbers on the images whose numbers are printed, without options of which
            one is missing; None where those are the ones that were compared.
        dominated: label -> the members that dominate it; where only the tolerances keep it off the
            front, the member that displaced it or its dominator.
        ranks: label -> 0 for the front, 1 for the front without it, ...
        why: label of a dominated option -> in words, the nearest member that dominates it, with
            printed numbers where there are.
        hypervolume: share of the box between the best and the worst value of each objective that
            the front dominates, 0 to 1; None where it is not computed, and a note says why.
        contributions: label of a member -> by how much the hypervolume shrinks without it.
        reference: selector -> worst value among the compared options, where the box ends.
        tolerances: selector -> difference that earns no place on the front; none where it is 0.
        left_out: label -> why it was not compared.
        notes: what a reader must know.
    """

    name: str
    basis: Basis
    across: bool
    model: str
    objectives: tuple[Axis, ...]
    members: tuple[str, ...]
    values: Mapping[str, Mapping[str, float]]
    dominated: Mapping[str, tuple[str, ...]]
    ranks: Mapping[str, int]
    why: Mapping[str, str]
    hypervolume: float | None
    contributions: Mapping[str, float]
    reference: Mapping[str, float]
    printed: Mapping[str, Mapping[str, float]] | None = None
    tolerances: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> Mapping[str, Mapping[str, float]]:
        """Label -> selector -> the value to print; without options whose printed one is missing."""
        return self.values if self.printed is None else self.printed

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return asdict(self) | {
            "objectives": [{**asdict(a), "better": a.better.value} for a in self.objectives]
        }

    def as_rows(self) -> list[Json]:
        """Return one row per compared option, the front first, with its printed numbers."""
        return [
            {
                "front": self.name,
                "basis": self.basis,
                "candidate": label,
                "rank": rank + 1,
                **{
                    axis.selector: self.shown.get(label, {}).get(axis.selector)
                    for axis in self.objectives
                },
                "why": self.why.get(label, ""),
            }
            for label, rank in sorted(self.ranks.items(), key=lambda item: item[1])
        ]


def make_front(
    values: Values,
    objectives: Sequence[Axis],
    *,
    name: str,
    basis: Basis = "absolute",
    model: str = "",
    printed: Values | None = None,
    tolerances: Mapping[str, float] | None = None,
    left_out: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Front:
    """Return the front of options with its ranks, hypervolume and reasons.

    The result does not depend on the order of the options.

    Args:
        values: label -> selector -> finite number, for every objective.
        objectives: at least one, each with a direction.
        name: what the front is about.
        basis: what the values are.
        model: the network; empty for several.
        printed: the same numbers on the images whose numbers are printed; None where those are
            ``values``.
        tolerances: selector -> difference that earns no place on the front, see
            `pareto.tolerant_front`; 0 where none is given.
        left_out: label -> why it is not among ``values``.
        notes: what a reader must know.

    Raises:
        UsageError: a value is not finite, a tolerance is negative, or an objective has no
            direction.
    """
    margins = {axis.selector: (tolerances or {}).get(axis.selector, 0.0) for axis in objectives}
    labels, points_NK = _table(values, objectives)
    better = [axis.better for axis in objectives]
    costs_NK = oriented(points_NK, better)
    on_front_N, above = _standing(points_NK, better, [*margins.values()])
    order = sorted(
        np.flatnonzero(on_front_N).tolist(), key=lambda i: (*costs_NK[i].tolist(), labels[i])
    )
    behind = np.flatnonzero(~on_front_N)
    rank_N = np.zeros(len(labels), dtype=np.int64)
    rank_N[behind] = 1 + ranks(points_NK[behind], better)
    volume, added, problem = _volume(points_NK, better)
    worst_K = costs_NK.max(axis=0) if len(labels) else []
    return Front(
        name=name,
        basis=basis,
        across=not model,
        model=model,
        objectives=tuple(objectives),
        members=tuple(labels[i] for i in order),
        values={label: dict(values[label]) for label in labels},
        dominated={
            labels[j]: tuple(labels[i] for i in order if i in above[j]) for j in behind.tolist()
        },
        ranks=dict(zip(labels, rank_N.tolist(), strict=True)),
        why=explain_domination(values, objectives, printed, margins),
        hypervolume=volume,
        contributions={labels[i]: float(added[i]) for i in order} if volume is not None else {},
        reference={
            axis.selector: float(-cost if axis.better is Better.HIGHER else cost)
            for axis, cost in zip(objectives, worst_K, strict=len(labels) > 0)
        },
        printed=None
        if printed is None
        else {label: dict(row) for label, row in printed.items() if label in values},
        tolerances={name: margin for name, margin in margins.items() if margin},
        left_out=dict(left_out or {}),
        notes=(*notes, problem) if problem else tuple(notes),
    )


def explain_domination(
    values: Values,
    objectives: Sequence[Axis],
    printed: Values | None = None,
    tolerances: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Return why each dominated option is no member of the front, in words.

    Of the members that dominate it, the nearest one is named (Euclidean distance after every
    objective is divided by its range among all options; ties go to the label that sorts first),
    with how much better it is in which objective. With printed numbers the member may be worse in
    some; then the words say so.

    Args:
        values: label -> selector -> finite number, for every objective; they say who dominates.
        objectives: at least one, each with a direction.
        printed: the same numbers on other images, for the words; where one of the two options has
            none, the words hold no number. None for those of ``values``.
        tolerances: as in `make_front`.

    Raises:
        UsageError: as in `make_front`.
    """
    shown = values if printed is None else printed
    labels, points_NK = _table(values, objectives)
    better = [axis.better for axis in objectives]
    margins = [(tolerances or {}).get(axis.selector, 0.0) for axis in objectives]
    dominating_NN = domination(points_NK, better)
    scaled_NK = _scaled(oriented(points_NK, better))
    said = {}
    for j, winners in _standing(points_NK, better, margins)[1].items():
        gap_M = np.linalg.norm(scaled_NK[winners] - scaled_NK[j], axis=1)
        nearest = winners[int(np.argmin(gap_M.round(12)))]
        pair = (labels[nearest], labels[j])
        if all(label in shown for label in pair):
            words = f"{pair[0]} is {_told(shown[pair[0]], shown[pair[1]], objectives)}"
        else:
            words = f"{pair[0]} dominates it, but a number to print is missing"
        is_within = not dominating_NN[nearest, j]
        said[labels[j]] = f"{words} (within the tolerance)" if is_within else words
    return said


def _standing(
    points_NK: NDArray[np.float64], better: Sequence[Better], margins: Sequence[float]
) -> tuple[NDArray[np.bool_], dict[int, list[int]]]:
    """Return who is on the front, and by whom each of the others is dominated, ascending.

    Where only the tolerances keep an option off the front, that is the member that displaced it;
    where everybody who dominates it was displaced, the member that displaced the first of them.
    """
    found = tolerant_front(points_NK, better, margins)
    dominating_NN = domination(points_NK, better)
    above: dict[int, list[int]] = {}
    for j in np.flatnonzero(~found.members).tolist():
        winners = np.flatnonzero(found.members & dominating_NN[:, j]).tolist()
        if not winners:
            # The plain front holds a dominator of whoever is not on it.
            lost = [j, *np.flatnonzero(dominating_NN[:, j]).tolist()]
            winners = [found.displaced[next(i for i in lost if i in found.displaced)]]
        above[j] = winners
    return found.members, above


def _table(values: Values, objectives: Sequence[Axis]) -> tuple[list[str], NDArray[np.float64]]:
    """Return the labels in alphabetical order and their points, (N, K)."""
    labels = sorted(values)
    rows = [[values[label][axis.selector] for axis in objectives] for label in labels]
    return labels, np.array(rows, dtype=np.float64).reshape(len(labels), len(objectives))


def _scaled(costs_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return costs from 0, the best, to 1, the worst; 0 where there is no range."""
    if not len(costs_NK):
        return costs_NK
    range_K = np.ptp(costs_NK, axis=0)
    return np.asarray((costs_NK - costs_NK.min(axis=0)) / np.where(range_K > 0, range_K, 1.0))


def _volume(
    points_NK: NDArray[np.float64], better: Sequence[Better]
) -> tuple[float | None, NDArray[np.float64], str]:
    """Return the hypervolume in the box of all options, what each adds, and why there is none."""
    none = np.zeros(len(points_NK))
    if not len(points_NK):
        return None, none, ""
    scaled_NK = _scaled(oriented(points_NK, better))
    varying = np.flatnonzero(scaled_NK.max(axis=0) > 0)
    if not len(varying):
        return None, none, "no hypervolume: all options are equal in every objective"
    if len(varying) > MOST_OBJECTIVES:
        reason = f"it is computed for up to {MOST_OBJECTIVES} objectives, these are {len(varying)}"
        return None, none, f"no hypervolume: {reason}"
    down = [Better.LOWER] * len(varying)
    corner = np.ones(len(varying))
    box_NK = scaled_NK[:, varying]
    added_N = hypervolume_contributions(box_NK, down, corner)
    return hypervolume(box_NK, down, corner), added_N, ""


def _told(
    winner: Mapping[str, float], loser: Mapping[str, float], objectives: Sequence[Axis]
) -> str:
    """Return how two options differ: what is better, what is worse, and what is equal."""
    better: list[str] = []
    worse: list[str] = []
    equal: list[str] = []
    for axis in objectives:
        own, other = winner[axis.selector], loser[axis.selector]
        if own == other:
            equal.append(axis.selector)
        else:
            is_better = (own > other) == (axis.better is Better.HIGHER)
            (better if is_better else worse).append(_difference(axis, own, other))
    parts = [_listed(better), _listed(worse), f"equal in {_listed(equal)}" if equal else ""]
    said = " but ".join(part for part in parts[:2] if part)
    return ", ".join(part for part in (said, parts[2]) if part)


def _listed(items: Sequence[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items)


def _difference(axis: Axis, own: float, other: float) -> str:
    """Return how a value differs from another one, in words."""
    selector = Selector.parse(axis.selector)
    known = described(selector.metric)
    unit = known.unit if known else ""
    is_ratio = axis.relation == "ratio" or selector.metric.startswith("cost.")
    if is_ratio and min(own, other) > 0:
        factor = max(own, other) / min(own, other)
        percent = 100 * abs(own / other - 1)
        amount = f"{factor:.2g}x" if factor >= _SHORT_OF_A_RATIO else f"{percent:.2g} %"
    elif unit == "fraction":
        points = 100 * abs(own - other)
        amount = f"{points:.1f} points" if points >= 0.1 else f"{points:.1g} points"
    else:
        amount = f"{abs(own - other):.3g}"
    return f"{amount} {_comparative(axis, selector, unit, is_more=own > other)}"


def _comparative(axis: Axis, selector: Selector, unit: str, *, is_more: bool) -> str:
    """Return the word for more or less of a number, with its name where the word is not enough."""
    if selector.metric == "accuracy.top1":
        where = axis.selector.removeprefix(selector.metric)
        word = "more accurate" if is_more else "less accurate"
        return word if where == "@clean" else f"{word} in {where.lstrip('@')}"
    if unit == "bytes" and selector.metric.startswith("cost.bytes"):
        return "larger" if is_more else "smaller"
    if unit == "seconds":
        return "slower" if is_more else "faster"
    return f"{'higher' if is_more else 'lower'} in {axis.selector}"
