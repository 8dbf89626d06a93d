"""Means over all corrupted conditions, mPC and rPC, and what changed in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from shrinkproof.metrics.detection.names import MPC, MPC_OF_BASELINE, RPC
from shrinkproof.metrics.names import CHANGE, FROM_CONTROL, NULL_P, NULL_Q95
from shrinkproof.metrics.robustness import GROUPS, averaged, corruptions_of
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, Candidate, Condition
from shrinkproof.statistics import Replicated
from shrinkproof.summary.detection.changes import differences, notes
from shrinkproof.summary.detection.numbers import Name, Number, mean, ratio, value_of
from shrinkproof.summary.detection.run import DetectionRun
from shrinkproof.summary.detection.split import OF_PRECISION, DetectionSplit, Place
from shrinkproof.summary.split import without
from shrinkproof.summary.values import CORRUPTED, Derived

_ALL: Place = (CORRUPTED, 0)
_WITHOUT_MEAN = (NULL_P, NULL_Q95)
"""Numbers whose mean over conditions is no such number."""


@dataclass(eq=False)
class Totals:
    """The numbers of one candidate over several conditions.

    Attributes:
        numbers: place -> name -> number, or why it is undefined.
        caveats: place -> name -> what a reader must know about it.
    """

    numbers: dict[Place, dict[Name, Number | Undefined]] = field(default_factory=dict)
    caveats: dict[Place, dict[Name, str]] = field(default_factory=dict)

    def add(self, place: Place, metric: str, number: Number | Undefined, caveat: str = "") -> None:
        """Add a number about all objects."""
        self.numbers.setdefault(place, {})[metric, ""] = number
        self.caveats.setdefault(place, {})[metric, ""] = caveat

    def known(self, place: Place) -> dict[Name, Number]:
        """Return the numbers of a place that are defined."""
        found = self.numbers.get(place, {})
        return {n: v for n, v in found.items() if not isinstance(v, Undefined)}


def totals_of(run: DetectionRun, split: DetectionSplit, candidate: Candidate) -> Iterator[Derived]:
    """Yield means over conditions, and their differences to baseline and control."""
    if all(condition.is_clean for condition in run.settings.conditions):
        return
    # Every condition of every candidate was seen, so only words that hold for all are needed.
    split.protocols |= {key: tally.protocols for key, tally in split.tallies.items()}
    own = _totals(run, split, candidate)
    mpc = own.numbers[_ALL].get((MPC, ""))
    if isinstance(mpc, Replicated):
        split.common.totals[candidate.key].precision[CORRUPTED] = mpc
    for place, numbers in own.numbers.items():
        yield from split.emit(candidate.key, place, numbers, own.caveats.get(place))
    if candidate.role == "baseline":
        return
    baseline, control = run.common.baseline(candidate), run.common.control(candidate)
    for prefix, other in ((CHANGE, baseline), (FROM_CONTROL, control)):
        if other is not None and other.key in split.tallies:
            theirs = _totals(run, split, other)
            for place in own.numbers:
                found = differences(prefix, own.known(place), theirs.known(place))
                told = notes(split, candidate.key, other.key, found)
                yield from split.emit(candidate.key, place, found, told)


def _totals(run: DetectionRun, split: DetectionSplit, candidate: Candidate) -> Totals:
    """Return all numbers over several conditions; none where a condition is missing."""
    found, tally = Totals(), split.tallies[candidate.key]
    missing = [c for c in run.settings.conditions if c not in tally.seen]
    if missing:
        gap = without(missing)
        for metric in (*split.metrics, *OF_PRECISION):
            found.add(_ALL, metric, gap)
        return found
    means = tally.means()
    found.numbers[_ALL] = {n: v for n, v in means.items() if not n[0].startswith(_WITHOUT_MEAN)}
    found.caveats[_ALL] = dict(tally.caveats)
    baseline = split.tallies.get(run.common.baseline(candidate).key)
    _add_robustness(found, run, tally.precision, {} if baseline is None else baseline.precision)
    return found


def _add_robustness(
    found: Totals,
    run: DetectionRun,
    precision: Mapping[Condition, Number],
    baseline: Mapping[Condition, Number],
) -> None:
    """Add mPC of each corruption, each group and all of them, always beside its rPC.

    mPC is the mean over the corruptions of the mean over their severities; rPC is mPC divided by
    the clean average precision of the same network.

    Reference: Michaelis et al. 2019, "Benchmarking robustness in object detection",
    arXiv:1907.07484.
    """
    metric = run.settings.quality
    corrupted = {c: v for c, v in precision.items() if not c.is_clean and _is_finite(v)}
    problem = _problem(run, metric, precision, corrupted)
    if problem is not None:
        for name in OF_PRECISION:
            found.add(_ALL, name, problem)
        return
    clean, names = precision[CLEAN], corruptions_of(corrupted)
    groups = {g: tuple(n for n in members if n in names) for g, members in GROUPS.items()}
    for at, members in {**{n: (n,) for n in names}, **groups, CORRUPTED: names}.items():
        if not members:
            continue
        about = averaged({c: np.zeros(0) for c in corrupted}, members, at)
        caveat = f"P is {metric}" + (f"; {about}" if about else "")
        mpc = mean([mean([v for c, v in corrupted.items() if c.corruption == n]) for n in members])
        found.add((at, 0), MPC, mpc, caveat)
        found.add((at, 0), RPC, ratio(mpc, clean), caveat)
        found.add((at, 0), MPC_OF_BASELINE, _of_baseline(mpc, metric, baseline), caveat)


def _problem(
    run: DetectionRun,
    metric: str,
    precision: Mapping[Condition, Number],
    corrupted: Mapping[Condition, Number],
) -> Undefined | None:
    """Return why there is neither mPC nor rPC; they are never stated apart."""
    wanted = [condition for condition in run.settings.conditions if not condition.is_clean]
    missing = [condition for condition in wanted if condition not in corrupted]
    if missing:
        return without(missing)
    clean = precision.get(CLEAN)
    if clean is None or not _is_finite(clean):
        return Undefined(f"mPC stands beside rPC, which needs {metric} of the clean images")
    if value_of(clean) == 0:
        return Undefined(f"mPC stands beside rPC, and {metric} of the clean images is 0")
    return None


def _of_baseline(
    mpc: Number, metric: str, baseline: Mapping[Condition, Number]
) -> Number | Undefined:
    clean = baseline.get(CLEAN)
    if clean is None or not _is_finite(clean):
        return Undefined(f"{metric} of the baseline on clean images is not known")
    if value_of(clean) == 0:
        return Undefined(f"{metric} of the baseline on clean images is 0")
    return ratio(mpc, clean)


def _is_finite(number: Number) -> bool:
    return bool(np.isfinite(value_of(number)))
