"""The detections of one split, seen through candidates and conditions, with common resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.metrics.detection.exchanged import Exchanged
from shrinkproof.metrics.detection.names import MPC, MPC_OF_BASELINE, RPC
from shrinkproof.metrics.detection.rates import Rate
from shrinkproof.metrics.names import without_prefixes
from shrinkproof.metrics.spelling import metric_of
from shrinkproof.predictions import DetectionPredictions, Objects
from shrinkproof.protocols import Undefined
from shrinkproof.records import Cell, Condition, Json
from shrinkproof.statistics import Interval, Replicated, replicated_interval
from shrinkproof.summary.detection.numbers import Name, Number, divided, plus, value_of
from shrinkproof.summary.split import Split, Stored, Totals, without
from shrinkproof.summary.values import CORRUPTED, Derived, Settings, measured

# Shape suffixes: N images, R resampled data sets.

ReadDetections = Callable[[str], DetectionPredictions | None]
"""Cell key -> stored detections, or None."""

OF_PRECISION: Final = (MPC, RPC, MPC_OF_BASELINE)
"""Numbers that are made of average precision."""

Place = tuple[str, int]
"""Condition without severity, and severity."""

_DIFFERS: Final = "the classes that count differ between conditions"


@dataclass(eq=False)
class DetectionSight:
    """One candidate under one condition.

    Attributes:
        candidate: key of the candidate.
        condition: what the world did to the images.
        predictions: what it detected; None where only numbers are known.
        numbers: name -> number, also those that are derived from this sight alone.
        caveats: name -> what a reader must know about it.
        stated: name -> interval, for metrics that have a method of their own.
        exchanged: what became of the baseline's boxes; None for a baseline or without detections.
    """

    candidate: str
    condition: Condition
    predictions: DetectionPredictions | None
    numbers: dict[Name, Number] = field(default_factory=dict)
    caveats: dict[Name, str] = field(default_factory=dict)
    stated: dict[Name, Interval] = field(default_factory=dict)
    exchanged: Exchanged | None = None

    @property
    def place(self) -> Place:
        """Condition without severity, and severity."""
        return self.condition.corruption, self.condition.severity


@dataclass(eq=False)
class Tally:
    """What all conditions of one candidate add up to.

    Attributes:
        precision: condition -> average precision, clean included.
        clean: name -> its clean number.
        sums: name -> sum over the corrupted conditions.
        counted: name -> the corrupted conditions under which it has a value.
        seen: the conditions.
        caveats: name -> what readers must know about it, in words that hold for all conditions.
        protocols: metric -> how boxes are judged, in words that hold for all corrupted conditions.
    """

    precision: dict[Condition, Number] = field(default_factory=dict)
    clean: dict[Name, Number] = field(default_factory=dict)
    sums: dict[Name, Number] = field(default_factory=dict)
    counted: dict[Name, list[Condition]] = field(default_factory=dict)
    seen: list[Condition] = field(default_factory=list)
    caveats: dict[Name, str] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)

    def add(self, sight: DetectionSight, precision: str, protocols: Mapping[str, str]) -> None:
        """Count one condition.

        Args:
            sight: the condition.
            precision: name of the average precision that counts.
            protocols: metric -> how boxes are judged under this condition.
        """
        self.seen.append(sight.condition)
        if (precision, "") in sight.numbers:
            self.precision[sight.condition] = sight.numbers[precision, ""]
        if sight.condition.is_clean:
            self.clean |= sight.numbers
            return
        for metric, text in protocols.items():
            self.protocols[metric] = _common(self.protocols.get(metric, text), text)
        for name, text in sight.caveats.items():
            self.caveats[name] = text if self.caveats.get(name, text) == text else ""
        for name, number in sight.numbers.items():
            counted = self.counted.setdefault(name, [])
            if np.isfinite(value_of(number)):
                counted.append(sight.condition)
                known = self.sums.get(name)
                self.sums[name] = number if known is None else plus(known, number)

    @property
    def corrupted(self) -> list[Condition]:
        """The corrupted conditions that were seen."""
        return [condition for condition in self.seen if not condition.is_clean]

    def means(self) -> dict[Name, Number | Undefined]:
        """Return the means over the corrupted conditions, or why there is none."""
        found: dict[Name, Number | Undefined] = {}
        for name, counted in self.counted.items():
            if len(counted) == len(self.corrupted):
                found[name] = divided(self.sums[name], len(counted))
            else:
                found[name] = without(c for c in self.corrupted if c not in counted)
        return found


@dataclass(eq=False)
class Shown:
    """What pictures are made of.

    Attributes:
        hits: candidate -> images in which boxes were lost or added, plain JSON; the worst of each
            condition with all their boxes.
        boxes: candidate, position of an image and condition -> boxes, plain JSON.
    """

    hits: dict[str, list[Json]] = field(default_factory=dict)
    boxes: dict[tuple[str, int, Condition], list[Json]] = field(default_factory=dict)


class DetectionSplit:
    """All candidates on one split, with one matrix of bootstrap weights.

    Args:
        name: name of the split.
        cells: finished cells of all splits.
        read: gives stored detections.
        stored: gives the stored numbers of a cell.
        settings: what else the numbers depend on.

    Attributes:
        common: the resampled data sets, and the numbers that families over all candidates read.
        tallies: candidate -> what its conditions add up to.
        shown: what pictures are made of.
        protocols: candidate -> metric -> how its boxes are judged, for readers.
    """

    def __init__(
        self,
        name: str,
        cells: Iterable[Cell],
        read: ReadDetections,
        stored: Stored,
        settings: Settings,
    ) -> None:
        self.name = name
        self.settings = settings
        self.form = settings.form
        self.common = Split(name, (), lambda _: None, lambda _: {}, settings)
        self.tallies: dict[str, Tally] = {}
        self.shown = Shown()
        self.protocols: dict[str, dict[str, str]] = {}
        self._read = read
        self._stored = stored
        self._cells: dict[tuple[str, Condition, str], Cell] = {
            (c.candidate, c.condition, c.form): c for c in cells if c.split == name
        }
        self._first: DetectionPredictions | None = None

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """The metrics of the study, and the average precision that robustness is made of."""
        names = dict.fromkeys((*self.settings.metrics, self.settings.quality))
        return {name: metric_of(name) for name in names}

    @property
    def count(self) -> int:
        """Number of images."""
        return self.common.count

    @property
    def weights(self) -> NDArray[np.float32]:
        """How often each image stands in each resampled data set, (R, N)."""
        return self.common.weights

    @property
    def first(self) -> DetectionPredictions:
        """The first detections that were read; all are about the same images and objects."""
        assert self._first is not None, "detections were read before"
        return self._first

    @property
    def objects(self) -> Objects:
        """What is true of the images."""
        return self.first.objects

    @property
    def units(self) -> int:
        """Number of independent images, or of their groups."""
        return self.common.units

    @cached_property
    def has_images(self) -> bool:
        """Whether any candidate has detections; otherwise only numbers are known."""
        own = [place for place in self._cells if place[2] == self.form]
        return any(self.predictions(*place) is not None for place in own)

    def predictions(
        self, candidate: str, condition: Condition, form: str = ""
    ) -> DetectionPredictions | None:
        """Return stored detections of at least one image, or None.

        Raises:
            DataError: detections of two cells of a split are about different images.
        """
        cell = self._cells.get((candidate, condition, form or self.form))
        found = None if cell is None else self._read(cell.key)
        if found is None or not len(found):
            return None
        if self._first is None:
            self._first = found
            self.common.draw(len(found), found.groups)
        elif not _is_same(found, self._first):
            raise DataError(
                f"{self.name} split: detections of {candidate} under {condition} are about other "
                "images or objects than those before; measure all on the same images"
            )
        return found

    def sight(self, candidate: str, condition: Condition) -> DetectionSight | None:
        """Return a candidate under a condition, or None where it was not measured."""
        cell = self._cells.get((candidate, condition, self.form))
        if cell is None:
            return None
        predictions = self.predictions(candidate, condition)
        found = DetectionSight(candidate, condition, predictions)
        if predictions is None:
            stored = self._stored(cell.key)
            found.numbers = {(n, ""): stored[n] for n in self.metrics if n in stored}
            return found if found.numbers else None
        protocols = self.protocols.setdefault(candidate, {})
        for name, metric in self.metrics.items():
            protocols[name] = metric.caveat(predictions)
            number = resampled_metric(metric, predictions, self.weights)
            if not isinstance(number, Undefined):
                found.numbers[name, ""] = number
        return found

    def is_complete(self, candidate: str) -> bool:
        """Return whether a candidate was measured under every condition of the study."""
        tally = self.tallies.get(candidate)
        return tally is not None and set(tally.seen) == set(self.settings.conditions)

    def add(self, sight: DetectionSight) -> None:
        """Count a candidate under a condition, for means and for families over all candidates."""
        protocols = self.protocols.get(sight.candidate, {})
        tally = self.tallies.setdefault(sight.candidate, Tally())
        tally.add(sight, self.settings.quality, protocols)
        totals = self.common.totals.setdefault(sight.candidate, Totals())
        totals.seen.append(sight.condition)
        precision = sight.numbers.get((self.settings.quality, ""))
        if sight.condition.is_clean and isinstance(precision, Replicated):
            totals.precision["clean"] = precision
        if sight.condition.is_clean:
            totals.clean = {n: value_of(v) for (n, part), v in sight.numbers.items() if not part}

    def see(self, candidate: str, place: Place, numbers: Mapping[Name, Number | Undefined]) -> None:
        """Keep what the decision needs of some numbers, on the split for that.

        Of numbers whose percentiles are no interval only the values are kept, without a test.
        """
        if self.common.watch is not None:
            known = {
                name: number if self._has_percentiles(name) else number.values.astype(np.float32)
                for name, number in numbers.items()
                if isinstance(number, Replicated)
            }
            self.common.watch.see_replicated(candidate, place, known)

    def _has_percentiles(self, name: Name) -> bool:
        """Return whether percentiles are an interval: not where a metric has a method of its own.

        Binned calibration errors, for example, are biased upward on resampled data sets.
        """
        return not hasattr(self.metrics.get(without_prefixes(name[0])), "interval")

    def emit(
        self,
        candidate: str,
        place: Place,
        numbers: Mapping[Name, Number | Undefined],
        caveats: Mapping[Name, str] | None = None,
        stated: Mapping[Name, Interval] | None = None,
    ) -> list[Derived]:
        """Return numbers of a candidate under one condition as rows, with their intervals.

        Of parts of the objects only those of clean images and of all corrupted conditions have
        rows: there would be as many of each condition.

        Args:
            candidate: its key.
            place: condition and severity.
            numbers: what to state, or why it is undefined.
            caveats: what a reader must know about some of them.
            stated: intervals of a method of their own; others are percentile intervals.
        """
        self.see(candidate, place, numbers)
        known = stated or {}
        return [
            Derived(
                candidate,
                self.name,
                *place,
                self.form,
                measured(
                    name[0],
                    number if isinstance(number, Undefined) else value_of(number),
                    known.get(name) or self.interval(name, number),
                    count=self.count,
                    caveat=""
                    if isinstance(number, Undefined)
                    else self._caveat(candidate, name[0], (caveats or {}).get(name, "")),
                    part=name[1],
                ),
            )
            for name, number in numbers.items()
            if not name[1] or place[0] in ("clean", CORRUPTED)
        ]

    def _caveat(self, candidate: str, metric: str, told: str) -> str:
        """Return what a reader must know of a number, and how its boxes are judged."""
        return "; ".join(filter(None, (told, self.protocol(candidate, metric))))

    def protocol(self, candidate: str, metric: str) -> str:
        """Return how the boxes of a number are judged, for readers."""
        bare = without_prefixes(metric)
        judged = self.settings.quality if bare in OF_PRECISION else bare
        return self.protocols.get(candidate, {}).get(judged, "")

    def interval(self, name: Name, number: Number | Undefined) -> Interval | None:
        """Return the percentile interval of a number; None where it is none or there is none."""
        if isinstance(number, Replicated) and self._has_percentiles(name):
            return replicated_interval(number, self.units)
        return None

    def rate_interval(self, rate: Rate) -> Interval:
        """Return the interval of a share of boxes, or of a number of boxes per image."""
        return rate.interval(self.weights, groups=self.first.groups)


def resampled_metric(
    metric: Any, predictions: DetectionPredictions, weights: NDArray[np.float32]
) -> Number | Undefined:
    """Return a metric with its values on the resampled data sets where it has them.

    Args:
        metric: a metric of detection.
        predictions: N images.
        weights: (R, N) how often each image stands in each resampled data set.
    """
    found = metric.replicated(predictions, weights)
    if isinstance(found, Replicated):
        return found
    value = metric(predictions)
    return value if isinstance(value, Undefined) else float(value)


def own_interval(
    name: Name, metric: Any, predictions: DetectionPredictions, split: DetectionSplit
) -> dict[Name, Interval]:
    """Return the interval of a metric that has a method of its own, by name; else nothing."""
    if not hasattr(metric, "interval"):
        return {}
    return {name: metric.interval(predictions, split.weights, split.units)}


def splits_of(
    cells: Sequence[Cell], read: ReadDetections, stored: Stored, settings: Settings
) -> dict[str, DetectionSplit]:
    """Return every split that has scores."""
    scores = [cell for cell in cells if cell.evaluator == "scores"]
    names = dict.fromkeys(cell.split for cell in scores)
    return {name: DetectionSplit(name, scores, read, stored, settings) for name in names}


def _common(first: str, second: str) -> str:
    """Return what two texts say both, and that the rest differs."""
    if first == second:
        return first
    both = [part for part in first.split("; ") if part in second.split("; ") or part == _DIFFERS]
    return "; ".join(both if _DIFFERS in both else [*both, _DIFFERS])


def _is_same(a: DetectionPredictions, b: DetectionPredictions) -> bool:
    """Return whether detections are about the same images and objects, in the same order."""
    return (
        np.array_equal(a.index, b.index)
        and np.array_equal(a.objects.offsets, b.objects.offsets)
        and np.array_equal(a.objects.label, b.objects.label)
        and np.array_equal(a.objects.boxes, b.objects.boxes)
    )
