"""Methods compared at matched achieved reduction, each along its own sweep.

Two methods at the same nominal setting need not reduce anything by the same amount, and published
comparisons at unlike sizes are the rule (Blalock et al. 2020, "What is the state of neural network
pruning?", arXiv:2003.03033). So each sweep is a curve over the reduction that it achieved, and
curves are compared where both were measured, never beyond.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.detection.names import MPC
from shrinkproof.metrics.robustness import CORRUPTED, mean_error, mean_terms
from shrinkproof.records import CLEAN, Candidate, Json
from shrinkproof.statistics import (
    Interval,
    Replicated,
    Terms,
    calculated,
    difference,
    estimate,
    replicated_interval,
)
from shrinkproof.summary.known import Known
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Split
from shrinkproof.summary.values import Derived, Exhibit

# Shape suffixes: N images.

MATCHED: Final = "matched"

_COSTS: Final = {
    "cost.parameters": "size",
    "cost.macs": "size",
    "cost.bytes_zip": "size",
    "cost.latency_median": "latency",
}
"""Costs over which methods are compared, and who measures them."""

_ONLY_IF_MEASURED: Final = ("cost.latency_median",)

_SAME: Final = 1e-9
"""Logarithms of reductions closer than this are equal."""

_FIRST_ONLY: Final = "of repeated trainings the first one counts"

Errors = Mapping[str, NDArray[Any]]
"""``clean`` or ``corrupted`` -> (N,) error of each image, or (1 + R,) average precision and its
values on the resampled data sets."""

Quantity = Terms | Replicated
"""A number before it has an interval."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The recipes of one method, which differ in one number; or one recipe that stands alone.

    Attributes:
        name: name of the sweep, or of the recipe.
        members: its measured candidates.
        is_sweep: whether the baseline, at reduction 1, is its beginning.
    """

    name: str
    members: tuple[Candidate, ...]
    is_sweep: bool


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A curve over one cost: knots at ascending reductions, and the errors of images there.

    Of detectors these are not errors of images, but their average precision and its values on the
    resampled data sets.

    Attributes:
        curve: whose line it is.
        at: natural logarithm of the reduction of each knot, ascending.
        errors: per knot, (N,) error of each image; the mean of candidates that tie.
        left_out: recipes without a knot: not measured, or they reduce nothing.
    """

    curve: Curve
    at: tuple[float, ...]
    errors: tuple[NDArray[np.float64], ...]
    left_out: tuple[str, ...] = ()

    def errors_at(self, place: float) -> NDArray[np.float64]:
        """Return the error of each image at a reduction between two knots, (N,)."""
        after = next(k for k, at in enumerate(self.at) if place <= at + _SAME)
        if abs(self.at[after] - place) <= _SAME or not after:
            return self.errors[after]
        share = (place - self.at[after - 1]) / (self.at[after] - self.at[after - 1])
        return np.asarray((1 - share) * self.errors[after - 1] + share * self.errors[after])

    def leans_on_baseline(self, place: float) -> bool:
        """Return whether the value there is interpolated between the baseline and a member."""
        return self.curve.is_sweep and 0 < place < self.at[1] - _SAME

    def spread(self) -> str:
        """Return the reductions that were measured, in words."""
        ends = [f"{math.exp(at):.3g}x" for at in (self.at[0], self.at[-1])]
        told = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        return f"{self.curve.name} covers {told}"


def matched(run: Run, rows: Sequence[Derived]) -> Iterator[Exhibit]:
    """Yield how pairs of methods compare at equal reduction, one exhibit for each cost and metric.

    The reduction is the baseline's cost divided by the candidate's. A sweep is piecewise linear in
    its logarithm between neighboring members, and begins at the baseline, whose reduction is 1;
    members that reduce nothing are left out, and members of equal reduction are averaged. A recipe
    outside of all sweeps is a single point. Rows stand at the reductions of the members of both,
    as far as both cover them. ``difference`` is the first minus the second, of accuracy on clean
    images or of the mean error under corruption; of detectors of their average precision and of
    mPC. Interpolated values are means over images of
    interpolated errors, so differences are paired image by image and have 95 % intervals, one for
    each row alone. Intervals are about the images and not about the trainings, of which the first
    one counts, nor about the shape of the curve between members.
    """
    known = Known(run, rows)
    if known.split is None:
        return
    for baseline in known.baselines():
        curves = _curves(known, baseline)
        for first, second in combinations(curves, 2):
            if first.is_sweep or second.is_sweep:
                for value in _compared(run, known.split, baseline, (first, second)):
                    yield Exhibit(MATCHED, value)


def _curves(known: Known, baseline: Candidate) -> list[Curve]:
    """Return the methods of a network: its sweeps, and the recipes outside of them."""
    recipes = {c.recipe: c for c in known.recipes(baseline.model)}
    found, swept = [], set()
    for sweep in known.run.settings.sweeps:
        members = [recipes[name] for _, name in sweep.members if name in recipes]
        swept |= {c.recipe for c in members}
        if members:
            found.append(Curve(sweep.name, tuple(members), is_sweep=True))
    alone = [c for name, c in recipes.items() if name not in swept]
    return [*found, *(Curve(c.recipe, (c,), is_sweep=False) for c in alone)]


def _compared(
    run: Run, split: Split, baseline: Candidate, pair: tuple[Curve, Curve]
) -> Iterator[Json]:
    """Yield the comparison of two methods over every cost and metric."""
    people = {c.key: c for c in (baseline, *pair[0].members, *pair[1].members)}
    errors = {key: _errors(split, key) for key in people}
    found: list[Json] = []
    terms: dict[str, Quantity] = {}
    for axis, evaluator in _COSTS.items():
        costs = {} if run.maps is None else run.maps.numbers(evaluator, axis)
        if axis in _ONLY_IF_MEASURED and not set(costs) & set(people):
            continue
        for place in ("clean", CORRUPTED):
            if any(place in of for of in errors.values()):
                item = _exhibit(run, baseline, axis, place, pair)
                at = {key: of[place] for key, of in errors.items() if place in of}
                _fill(item, pair, baseline, costs, at, terms, len(found))
                found.append(item)
    if _is_repeated(run, people.values()):
        for item in found:
            if item["rows"]:
                item["reason"] = "; ".join(filter(None, (item["reason"], _FIRST_ONLY)))
    stated = _intervals(split, terms)
    none = Interval(reason="there are no images, only numbers, so there is no interval")
    for number, item in enumerate(found):
        for row in item["rows"]:
            interval = stated.get(f"{number}@{row['at']!r}", none)
            row["low"], row["high"] = interval.low, interval.high
            row["reason"] = "; ".join(filter(None, (row["reason"], interval.reason)))
    yield from found


def _is_repeated(run: Run, people: Iterable[Candidate]) -> bool:
    """Return whether one of the recipes was trained several times."""
    known = {(c.model, c.recipe) for c in people}
    return any(c.repeat and (c.model, c.recipe) in known for c in run.candidates)


def _errors(split: Split, key: str) -> Errors:
    """Return the error of each image, on clean images and over all corrupted conditions."""
    totals = split.totals.get(key)
    if totals is None:
        return {}
    if totals.precision:
        return {at: np.append(n.value, n.values) for at, n in totals.precision.items()}
    found = {}
    if CLEAN in totals.errors:
        found["clean"] = totals.errors[CLEAN].astype(np.float64)
    corrupted = {c: e for c, e in totals.errors.items() if not c.is_clean}
    if corrupted and split.is_complete(key):
        found[CORRUPTED] = mean_error(corrupted)
    return found


def _exhibit(
    run: Run, baseline: Candidate, axis: str, place: str, pair: tuple[Curve, Curve]
) -> Json:
    under = MPC if run.settings.task == "detection" else "robustness.mean_error"
    return {
        "model": baseline.model,
        "split": run.printing,
        "axis": axis,
        "metric": run.settings.quality if place == "clean" else under,
        "condition": place,
        "first": pair[0].name,
        "second": pair[1].name,
        "rows": [],
        "overlap": None,
        "reason": "",
    }


def _fill(
    item: Json,
    pair: tuple[Curve, Curve],
    baseline: Candidate,
    costs: Mapping[str, float],
    errors: Errors,
    terms: dict[str, Quantity],
    number: int,
) -> None:
    """Write overlap and rows, or the reason for none; differences wait in ``terms``."""
    lines = [_line(curve, baseline, costs, errors, item["axis"]) for curve in pair]
    problems = [line for line in lines if isinstance(line, str)]
    known = [line for line in lines if isinstance(line, Line)]
    if problems:
        item["reason"] = "; ".join(problems)
        return
    without = [recipe for line in known for recipe in line.left_out]
    if without:
        item["reason"] = f"left out, not measured or not reduced: {', '.join(without)}"
    low, high = max(line.at[0] for line in known), min(line.at[-1] for line in known)
    own = [at for line in known for at in line.at[1 if line.curve.is_sweep else 0 :]]
    places = _distinct([at for at in own if low - _SAME <= at <= high + _SAME])
    if not places:
        spreads = ", ".join(line.spread() for line in known)
        parts = [f"no overlap in {item['axis']}: {spreads}", item["reason"]]
        item["reason"] = "; ".join(filter(None, parts))
        return
    item["overlap"] = [math.exp(low), math.exp(high)]
    for place in places:
        first, second = (_quantity(line.errors_at(place), item["metric"]) for line in known)
        gap = _minus(first, second)
        at = math.exp(place)
        terms[f"{number}@{at!r}"] = gap
        leaning = [line.curve.name for line in known if line.leans_on_baseline(place)]
        item["rows"].append(
            {
                "at": at,
                "first": _value(first),
                "second": _value(second),
                "difference": _value(gap),
                "low": None,
                "high": None,
                "reason": (
                    f"interpolated between the baseline and the mildest of {' and '.join(leaning)}"
                    if leaning
                    else ""
                ),
            }
        )


def _line(
    curve: Curve,
    baseline: Candidate,
    costs: Mapping[str, float],
    errors: Errors,
    axis: str,
) -> Line | str:
    """Return the line of a curve over a cost, or why there is none."""
    if baseline.key not in errors or not costs.get(baseline.key):
        missing = axis if baseline.key in errors else "the error under all these conditions"
        return f"{missing} of the baseline was not measured"
    known = [c for c in curve.members if c.key in errors]
    if not known:
        return f"{curve.name} was not measured under all these conditions"
    reductions = {
        c.key: math.log(costs[baseline.key] / costs[c.key]) for c in known if costs.get(c.key)
    }
    if not reductions:
        return (
            f"{axis} of {curve.name} was not measured, and the values that its recipes ask for "
            "are no achieved reduction"
        )
    reducing = {key: at for key, at in reductions.items() if at > _SAME}
    if not reducing:
        return f"{curve.name} does not reduce {axis}"
    left_out = tuple(c.recipe for c in curve.members if c.key not in reducing)
    knots = _distinct(list(reducing.values()))
    at_knots = [
        _mean([errors[key] for key, at in reducing.items() if abs(at - knot) <= _SAME])
        for knot in knots
    ]
    if not curve.is_sweep:
        return Line(curve, tuple(knots), tuple(at_knots), left_out)
    start = errors[baseline.key].astype(np.float64)
    return Line(curve, (0.0, *knots), (start, *at_knots), left_out)


def _mean(errors: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.asarray(np.mean(np.stack(errors), axis=0, dtype=np.float64))


def _distinct(places: Sequence[float]) -> list[float]:
    """Return places in ascending order, those that are equal but for rounding once."""
    found: list[float] = []
    for place in sorted(places):
        if not found or place - found[-1] > _SAME:
            found.append(place)
    return found


def _quantity(errors_N: NDArray[np.float64], metric: str) -> Quantity:
    if metric == "accuracy.top1":
        return mean_terms(1 - errors_N)
    if metric == "robustness.mean_error":
        return mean_terms(errors_N)
    return Replicated(float(errors_N[0]), errors_N[1:])


def _value(number: Quantity) -> float:
    return number.value if isinstance(number, Replicated) else estimate(number)


def _minus(a: Quantity, b: Quantity) -> Quantity:
    if isinstance(a, Replicated) and isinstance(b, Replicated):
        return calculated(np.subtract, a, b)
    assert isinstance(a, Terms), "both are of one kind"
    assert isinstance(b, Terms), "both are of one kind"
    return difference(a, b)


def _intervals(split: Split, numbers: Mapping[str, Quantity]) -> dict[str, Interval]:
    """Return the interval of each difference."""
    found = {
        name: replicated_interval(number, split.units)
        for name, number in numbers.items()
        if isinstance(number, Replicated)
    }
    return found | dict(split.intervals({n: v for n, v in numbers.items() if isinstance(v, Terms)}))
