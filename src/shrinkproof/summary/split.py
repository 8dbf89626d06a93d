"""The predictions of one split, seen through candidates and conditions, with common resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.derived import derived
from shrinkproof.metrics.effective import Effective
from shrinkproof.metrics.names import NULL_P, NULL_Q95, bare_name
from shrinkproof.metrics.robustness import Quantity
from shrinkproof.metrics.spelling import metric_of
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import Cell, Condition
from shrinkproof.statistics import (
    Interval,
    Replicated,
    Terms,
    bootstrap_weights,
    group_count,
    intervals,
)
from shrinkproof.summary.values import (
    CORRUPTED,
    NO_INTERVAL,
    POOLED,
    Derived,
    Key,
    Number,
    Read,
    Settings,
    measured,
    value_of,
)
from shrinkproof.summary.watched import Watch, parts_of

Stored = Callable[[str], Mapping[str, float]]
"""Cell key -> the numbers of all its images that were stored with it."""

_WITHOUT_MEAN = (NULL_P, NULL_Q95)
"""Numbers whose mean over conditions is no such number."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Which images the predictions of a split are about.

    Attributes:
        candidate: key of the candidate whose predictions named them first.
        condition: under which condition.
        index: (N,) index of each image in its data set.
        target: (N,) its true class.
        num_classes: number of classes.
        groups: (N,) group of each image; None where images are independent.
    """

    candidate: str
    condition: Condition
    index: NDArray[np.int64]
    target: NDArray[np.int64]
    num_classes: int
    groups: NDArray[np.str_] | None


@dataclass(eq=False)
class Sight:
    """One candidate under one condition.

    Attributes:
        candidate: key of the candidate.
        condition: what the world did to the images.
        predictions: what it said; None where only numbers are known.
        numbers: metric -> number, also those that are derived from this sight alone.
        caveats: metric -> what a reader must know about it.
    """

    candidate: str
    condition: Condition
    predictions: ClassificationPredictions | None
    numbers: dict[str, Number] = field(default_factory=dict)
    caveats: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, int]:
        """Condition without severity, and severity."""
        return self.condition.corruption, self.condition.severity

    def errors(self) -> NDArray[Any] | None:
        """Return the error of each image, (N,), or the error rate alone, (1,); None for neither.

        Which metrics the study scores does not matter: predictions say who is right.
        """
        if self.predictions is not None:
            is_wrong_N = np.not_equal(self.predictions.prediction(), self.predictions.target)
            return np.asarray(is_wrong_N, dtype=np.float32)
        top1 = self.numbers.get("accuracy.top1")
        return None if top1 is None else np.array([1 - value_of(top1)])


@dataclass(eq=False)
class Totals:
    """What all conditions of one candidate add up to; one row per image, however many show it.

    Attributes:
        errors: condition -> (N,) error of each image, clean included; one value, the error rate,
            where only numbers are known.
        sums: metric -> sum of its per-image terms over the corrupted conditions, (N, 1).
        values: metric -> its values under the corrupted conditions, where it has no such terms.
        pooled: metric -> sum of its columns over the corrupted conditions, (N, bins).
        clean: metric -> its clean number; a value alone where it is no mean over images.
        predicted: condition -> (N,) predicted class of each image, clean included.
        true_probability: sum over all conditions of the probability of the true class, (N,); 0
            where only numbers are known.
        seen: the conditions.
        counted: metric -> the corrupted conditions under which it has a value.
        precision: ``clean`` or ``corrupted`` -> average precision, of detectors alone.
    """

    errors: dict[Condition, NDArray[Any]] = field(default_factory=dict)
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)
    pooled: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    clean: dict[str, Number] = field(default_factory=dict)
    predicted: dict[Condition, NDArray[np.unsignedinteger[Any]]] = field(default_factory=dict)
    true_probability: NDArray[np.float64] | float = 0.0
    seen: list[Condition] = field(default_factory=list)
    counted: dict[str, list[Condition]] = field(default_factory=dict)
    precision: dict[str, Replicated] = field(default_factory=dict)

    def add(self, sight: Sight) -> None:
        """Count one condition."""
        self.seen.append(sight.condition)
        errors = sight.errors()
        if errors is not None:
            self.errors[sight.condition] = errors
        self._add_predictions(sight)
        for metric, number in sight.numbers.items():
            if not sight.condition.is_clean:
                self._add(metric, number, sight.condition)
            elif isinstance(number, Terms) and number.kind == "mean":
                self.clean[metric] = number
            else:
                self.clean[metric] = value_of(number)

    def _add_predictions(self, sight: Sight) -> None:
        predictions = sight.predictions
        if predictions is None:
            return
        smallest = np.min_scalar_type(predictions.logits.shape[1])
        self.predicted[sight.condition] = predictions.prediction().astype(smallest)
        self.true_probability = self.true_probability + np.exp(-derived(predictions).nll)

    def _add(self, metric: str, number: Number, condition: Condition) -> None:
        if metric.startswith(_WITHOUT_MEAN):
            return
        counted = self.counted.setdefault(metric, [])
        if np.isfinite(value_of(number)):
            counted.append(condition)
        if isinstance(number, Terms) and number.kind == "mean":
            known = self.sums.get(metric)
            values_N1 = number.values.astype(np.float64)
            self.sums[metric] = values_N1 if known is None else known + values_N1
            return
        self.values.setdefault(metric, []).append(value_of(number))
        if isinstance(number, Terms) and bare_name(metric) == "calibration.ece":
            before = self.pooled.get(metric)
            self.pooled[metric] = number.values if before is None else before + number.values

    def numbers(self) -> dict[Key, Number]:
        """Return the means over the corrupted conditions, and what pools their images."""
        corrupted = sum(not condition.is_clean for condition in self.seen)
        found: dict[Key, Number] = {}
        for metric, counted in self.counted.items():
            if len(counted) < corrupted:
                continue
            if metric in self.sums:
                found[metric, CORRUPTED, 0] = _mean_terms(self.sums[metric] / corrupted)
            else:
                found[metric, CORRUPTED, 0] = float(np.mean(self.values[metric]))
            if metric in self.pooled:
                # No interval: its coverage for rows that mix conditions was never measured.
                pooled = Terms(values=self.pooled[metric] / corrupted, kind="absolute-sum")
                found[metric, POOLED, 0] = value_of(pooled)
        return found

    def gaps(self) -> dict[Key, Undefined]:
        """Return why metrics that some corrupted conditions have are no mean over all of them."""
        corrupted = [condition for condition in self.seen if not condition.is_clean]
        return {
            (metric, CORRUPTED, 0): without(c for c in corrupted if c not in counted)
            for metric, counted in self.counted.items()
            if len(counted) < len(corrupted)
        }


def without(missing: Iterable[Condition]) -> Undefined:
    """Return that a mean over all corrupted conditions does not exist without some of them."""
    names = ", ".join(map(str, missing))
    return Undefined(f"a mean over all conditions of the study needs every one; missing: {names}")


def _mean_terms(values_N1: NDArray[np.float64]) -> Terms:
    is_binary = bool(((values_N1 == 0) | (values_N1 == 1)).all())
    return Terms(values=values_N1, kind="mean", is_binary=is_binary)


class Split:
    """All candidates on one split, with one matrix of bootstrap weights.

    Args:
        name: name of the split.
        cells: finished cells of all splits.
        read: gives stored predictions.
        stored: gives the stored numbers of a cell.
        settings: what else the numbers depend on.
    """

    def __init__(
        self, name: str, cells: Iterable[Cell], read: Read, stored: Stored, settings: Settings
    ) -> None:
        self.name = name
        self.settings = settings
        self.form = settings.form
        self.count = 0
        self.images: Images | None = None
        self.totals: dict[str, Totals] = {}
        self.watch: Watch | None = None
        if settings.watched and settings.deciding == name:
            self.watch = Watch(settings.watched, settings.conditions)
        self._read = read
        self._stored = stored
        self._cells: dict[tuple[str, Condition, str], Cell] = {
            (c.candidate, c.condition, c.form): c for c in cells if c.split == name
        }
        self._weights: NDArray[np.float32] | None = None
        self._groups: int | None = None

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """The metrics that the study scores, by their spelled names."""
        return {name: metric_of(name) for name in self.settings.metrics}

    def has(self, candidate: str, condition: Condition) -> bool:
        """Return whether a candidate was measured under a condition."""
        return (candidate, condition, self.form) in self._cells

    def predictions(
        self, candidate: str, condition: Condition, form: str = ""
    ) -> ClassificationPredictions | None:
        """Return stored predictions with at least one image, or None."""
        cell = self._cells.get((candidate, condition, form or self.form))
        found = None if cell is None else self._read(cell.key)
        if not isinstance(found, ClassificationPredictions) or not len(found):
            return None
        assert cell is not None, "only the predictions of a cell are read"
        self._draw_weights(found, cell)
        return found

    def _draw_weights(self, predictions: ClassificationPredictions, cell: Cell) -> None:
        """Draw the weights from the first predictions: all are about the same images."""
        if self._weights is None:
            groups = predictions.groups
            self.images = Images(
                cell.candidate,
                cell.condition,
                predictions.index,
                predictions.target,
                predictions.logits.shape[1],
                groups,
            )
            self.draw(len(predictions), groups)

    def draw(self, count: int, groups: NDArray[np.str_] | None) -> None:
        """Draw the resampled data sets.

        Args:
            count: number of images, N.
            groups: (N,) group of each image; None where images are independent.
        """
        self.count = count
        self._groups = group_count(groups)
        self._weights = bootstrap_weights(
            count, groups=groups, replicates=self.settings.replicates, seed=self.settings.seed
        )

    @property
    def is_drawn(self) -> bool:
        """Whether there are images, and so resampled data sets."""
        return self._weights is not None

    @cached_property
    def has_images(self) -> bool:
        """Whether any candidate has predictions; results of others are numbers alone."""
        own = [place for place in self._cells if place[2] == self.form]
        return any(self.predictions(*place) is not None for place in own)

    @property
    def weights(self) -> NDArray[np.float32]:
        """How often each image stands in each resampled data set, (R, N)."""
        assert self._weights is not None, "predictions were read before"
        return self._weights

    @property
    def group_count(self) -> int | None:
        """Number of groups of images; None where images are independent."""
        return self._groups

    @property
    def units(self) -> int:
        """Number of independent images, or of their groups."""
        return self.count if self._groups is None else self._groups

    def sight(self, candidate: str, condition: Condition) -> Sight | None:
        """Return a candidate under a condition, or None where it was not measured."""
        cell = self._cells.get((candidate, condition, self.form))
        if cell is None:
            return None
        predictions = self.predictions(candidate, condition)
        stored = self._stored(cell.key)
        found = Sight(candidate, condition, predictions)
        for name, metric in self.metrics.items():
            terms = None if predictions is None else metric.terms(predictions)
            if terms is not None:
                found.numbers[name] = terms
            elif name in stored:
                found.numbers[name] = stored[name]
        return found if found.numbers or predictions is not None else None

    def see(self, sight: Sight) -> None:
        """Keep what the decision needs of a candidate under a condition, on the split for that."""
        predictions = sight.predictions
        if self.watch is None or predictions is None:
            return
        numbers: dict[Key, Number | Undefined] = {
            (metric, *sight.place): number for metric, number in sight.numbers.items()
        }
        parts = {}
        if self.watch.parts:
            is_right_N1 = np.equal(predictions.prediction(), predictions.target)[:, None]
            numbers["accuracy.recall", *sight.place] = Terms(
                values=is_right_N1.astype(np.float32), is_binary=True
            )
            parts = parts_of(self.watch.parts, predictions, self.settings.classes)
        self.watch.see(sight.candidate, numbers, self.weights, parts)

    def intervals(self, terms: Mapping[str, Terms]) -> Mapping[str, Interval]:
        """Return the interval of each metric; where only numbers are known there is none."""
        known = {name: item for name, item in terms.items() if len(item) == self.count}
        if not known or self._weights is None:
            return {}
        return intervals(known, self._weights, group_count=self._groups)

    def emit(
        self,
        candidate: str,
        numbers: Mapping[Key, Number | Undefined],
        caveats: Mapping[Key, str] | None = None,
    ) -> list[Derived]:
        """Return numbers of a candidate as rows, those with terms with their intervals."""
        if self.watch is not None:
            self.watch.see(candidate, numbers, self._weights)
        labels = {key: "@".join(map(str, key)) for key in numbers}
        stated = self.intervals(
            {labels[key]: number for key, number in numbers.items() if isinstance(number, Terms)}
        )
        told = caveats or {}
        return [
            Derived(
                candidate,
                self.name,
                *key[1:],
                self.form,
                measured(
                    key[0],
                    number,
                    stated.get(labels[key]),
                    count=self.count,
                    caveat=told.get(key, ""),
                ),
            )
            for key, number in numbers.items()
        ]

    def emit_quantities(self, candidate: str, quantities: Mapping[Key, Quantity]) -> list[Derived]:
        """Return numbers with caveats of their own as rows."""
        numbers = {key: found.terms for key, found in quantities.items()}
        return self.emit(candidate, numbers, {k: q.caveat for k, q in quantities.items()})

    def interval_of(self, found: Effective) -> Interval:
        """Return the interval of an effective robustness."""
        if self._weights is None or len(found.accuracies) != self.count:
            return NO_INTERVAL
        return found.interval(self._weights, group_count=self._groups)

    def is_complete(self, candidate: str) -> bool:
        """Return whether a candidate was measured under every condition of the study."""
        totals = self.totals.get(candidate)
        return totals is not None and set(totals.seen) == set(self.settings.conditions)

    def optimism(self, errors_KN: NDArray[Any]) -> float:
        """Return how optimistic the smallest of several mean errors is."""
        means_RK = (self.weights @ errors_KN.T) / self.weights.sum(axis=1, keepdims=True)
        return float(-(means_RK - errors_KN.mean(axis=1)).min(axis=1).mean())


def splits_of(
    cells: Sequence[Cell], read: Read, stored: Stored, settings: Settings
) -> dict[str, Split]:
    """Return every split that has scores."""
    scores = [cell for cell in cells if cell.evaluator == "scores"]
    names = dict.fromkeys(cell.split for cell in scores)
    return {name: Split(name, scores, read, stored, settings) for name in names}
