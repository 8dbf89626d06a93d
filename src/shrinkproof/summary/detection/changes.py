"""Differences of detectors to the baseline and to the control of equal training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shrinkproof.metrics.detection.names import FLIPPED, LOST, MPC_OF_BASELINE, NEW
from shrinkproof.metrics.names import NULL_MEAN, NULL_P, NULL_Q95, SCALED_BY_BASELINE
from shrinkproof.protocols import Undefined
from shrinkproof.statistics import Interval
from shrinkproof.summary.changes import compared, null_note
from shrinkproof.summary.detection.numbers import Name, Number, minus
from shrinkproof.summary.detection.run import DetectionRun
from shrinkproof.summary.detection.split import DetectionSight, DetectionSplit
from shrinkproof.summary.values import Derived

_UNCOMPARED = (NULL_P, NULL_Q95, LOST, NEW, FLIPPED, MPC_OF_BASELINE)
"""Numbers that are comparisons themselves, or whose difference would say nothing new."""


def differences(
    prefix: str, own: Mapping[Name, Number], other: Mapping[Name, Number]
) -> dict[Name, Number | Undefined]:
    """Return the differences of every number that both have."""
    return {
        (prefix + metric, part): minus(number, other[metric, part])
        for (metric, part), number in own.items()
        if (metric, part) in other
        and not metric.startswith(_UNCOMPARED)
        and SCALED_BY_BASELINE not in metric
    }


def sight_changes(
    run: DetectionRun,
    split: DetectionSplit,
    sight: DetectionSight,
    references: Mapping[str, DetectionSight],
) -> Iterator[Derived]:
    """Yield what changed under one condition."""
    for prefix, key in compared(run.common, sight.candidate, references):
        found = differences(prefix, sight.numbers, references[key].numbers)
        told = notes(split, sight.candidate, key, found)
        stated = tested(split, prefix, sight, references[key])
        yield from split.emit(sight.candidate, sight.place, found, told, stated)


def tested(
    split: DetectionSplit, prefix: str, own: DetectionSight, other: DetectionSight
) -> dict[Name, Interval]:
    """Return the intervals of differences of metrics that have a method of their own for them."""
    if own.predictions is None or other.predictions is None:
        return {}
    return {
        (prefix + name, ""): metric.change_interval(
            own.predictions, other.predictions, split.weights, split.units
        )
        for name, metric in split.metrics.items()
        if hasattr(metric, "change_interval")
    }


def notes(
    split: DetectionSplit, own: str, other: str, numbers: Mapping[Name, Number | Undefined]
) -> dict[Name, str]:
    """Return what readers must know about differences: of null levels, and of unlike numbers.

    Args:
        split: knows how the boxes of each candidate are judged.
        own: key of the candidate.
        other: key of the candidate it is compared with.
        numbers: the differences.
    """
    found = {}
    for name in numbers:
        theirs = split.protocol(other, name[0])
        known = split.protocol(own, name[0]).split("; ")
        unlike = [part for part in theirs.split("; ") if part and part not in known]
        told = [null_note(name[0])] if NULL_MEAN in name[0] else []
        told += [f"of what it is compared with: {'; '.join(unlike)}"] if unlike else []
        found[name] = "; ".join(told)
    return found
