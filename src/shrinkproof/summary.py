"""Numbers that need several cells: means over conditions, changes, temperature, agreement.

They are functions of the stored predictions, never truth of their own, and can be recomputed from
a run directory alone. Everything about one split uses one matrix of bootstrap weights, so that
changes against the baseline and against a control are paired image by image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.metrics.robustness import Undefined, mce_terms
from shrinkproof.metrics.temperature import fit_temperature, scaled
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Candidate, Cell, Condition
from shrinkproof.statistics import (
    Interval,
    Terms,
    bootstrap_weights,
    difference,
    estimate,
    intervals,
)

CORRUPTED: Final = "corrupted"
"""Name of the condition that stands for all corrupted conditions of the study together."""

CHANGE: Final = "change."
"""Prefix of a metric's difference to the baseline, candidate minus baseline."""

FROM_CONTROL: Final = "change_from_control."
"""Prefix of a metric's difference to the candidate's control."""

SCALED: Final = {
    "calibration.ece_scaled": "calibration.ece",
    "accuracy.nll_scaled": "accuracy.nll",
}

Read = Callable[[str], ClassificationPredictions | None]


@dataclass(frozen=True, slots=True)
class Derived:
    """One derived number.

    Attributes:
        candidate: key of the candidate.
        split: part of the data it is about.
        condition: selector spelling without severity; ``corrupted`` for all of them.
        severity: 1 to 5, or 0.
        form: form of the candidate whose predictions it was computed from.
        measurement: the number.
    """

    candidate: str
    split: str
    condition: str
    severity: int
    form: str
    measurement: Measurement


@dataclass(eq=False)
class _Split:
    """The predictions of all candidates on one split, in one form."""

    name: str
    form: str
    read: Read
    cells: Mapping[tuple[str, Condition], Cell]
    conditions: tuple[Condition, ...]
    metrics: tuple[str, ...]
    replicates: int
    seed: int
    count: int = 0
    _weights: NDArray[np.float32] | None = None
    _groups: int | None = None
    _terms: dict[tuple[str, Condition], dict[str, Terms]] = field(default_factory=dict)

    def predictions(self, candidate: str, condition: Condition) -> ClassificationPredictions | None:
        cell = self.cells.get((candidate, condition))
        return None if cell is None else self.read(cell.key)

    def terms(self, candidate: str, condition: Condition) -> dict[str, Terms]:
        """Return the terms of every metric that has some; empty where nothing is stored."""
        key = (candidate, condition)
        if key not in self._terms:
            predictions = self.predictions(candidate, condition)
            found: dict[str, Terms] = {}
            if predictions is not None and len(predictions):
                self.prepare(predictions)
                for name in self.metrics:
                    terms = METRICS.create(name).terms(predictions)
                    if terms is not None:
                        found[name] = terms
            self._terms[key] = found
        return self._terms[key]

    def prepare(self, predictions: ClassificationPredictions) -> None:
        """Draw the weights, from the first predictions: all are about the same images."""
        if self._weights is None:
            groups = predictions.groups
            self.count = len(predictions)
            self._weights = bootstrap_weights(
                len(predictions), groups=groups, replicates=self.replicates, seed=self.seed
            )
            self._groups = None if groups is None else len(np.unique(groups))

    def intervals(self, terms: Mapping[str, Terms]) -> Mapping[str, Interval]:
        if not terms:
            return {}
        assert self._weights is not None, "terms exist, so predictions were read"
        return intervals(terms, self._weights, group_count=self._groups)


def summarize(
    candidates: Sequence[Candidate],
    cells: Sequence[Cell],
    read: Read,
    *,
    form: str,
    conditions: Sequence[Condition],
    metrics: Sequence[str],
    replicates: int,
    seed: int,
) -> list[Derived]:
    """Return every derived number of a run.

    Args:
        candidates: baselines, controls and recipes.
        cells: finished cells.
        read: cell key -> stored predictions, or None.
        form: form in which candidates are measured.
        conditions: all that the study wants; a mean over them exists only where none is missing,
            because a mean over fewer would be no equal of the other candidates'.
        metrics: names of the metrics that the study scores.
        replicates: bootstrap replicates.
        seed: the study's seed.
    """
    scores = [cell for cell in cells if cell.evaluator == "scores"]
    splits = {
        name: _Split(
            name,
            form,
            read,
            {(c.candidate, c.condition): c for c in scores if c.split == name and c.form == form},
            tuple(conditions),
            tuple(metrics),
            replicates,
            seed,
        )
        for name in dict.fromkeys(cell.split for cell in scores)
    }
    found: list[Derived] = []
    for split in splits.values():
        found += _of_split(split, candidates)
    for candidate in candidates:
        found += _agreement(candidate, scores, read, form, replicates, seed)
        if "select" in splits:
            found += _temperature(candidate, splits)
    return found


def _of_split(split: _Split, candidates: Sequence[Candidate]) -> Iterator[Derived]:
    baselines = {c.model: c for c in candidates if c.role == "baseline"}
    controls = {c.key: c for c in candidates}
    for candidate in candidates:
        baseline = baselines[candidate.model]
        numbers = _numbers(split, candidate.key)
        yield from _means(split, candidate, baseline, numbers)
        if candidate.role == "baseline":
            continue
        reference = _numbers(split, baseline.key)
        yield from _changes(split, candidate, CHANGE, numbers, reference)
        control = controls.get(candidate.control)
        if control is not None and control.key != baseline.key:
            yield from _changes(
                split, candidate, FROM_CONTROL, numbers, _numbers(split, control.key)
            )


def _numbers(split: _Split, candidate: str) -> dict[tuple[str, str, int], Terms | float]:
    """Return (metric, condition, severity) -> terms, pooled over conditions as well.

    Over all corrupted conditions, an additive metric has the mean of its terms per image (so that
    an image is one unit of the bootstrap, however many conditions show it); a binned calibration
    error has the mean of its values, without terms.
    """
    found: dict[tuple[str, str, int], Terms | float] = {}
    pooled: dict[str, list[Terms]] = {}
    corrupted = sorted(c for c in split.conditions if not c.is_clean)
    complete = True
    for condition in [CLEAN, *corrupted]:
        terms = split.terms(candidate, condition)
        for metric, item in terms.items():
            found[metric, condition.corruption, condition.severity] = item
            if not condition.is_clean:
                pooled.setdefault(metric, []).append(item)
        complete = complete and bool(terms)
    if not complete:
        return found
    for metric, items in pooled.items():
        if items[0].kind == "mean":
            values_KN1 = np.stack([item.values for item in items]).astype(np.float64)
            found[metric, CORRUPTED, 0] = _mean_terms(values_KN1.mean(axis=0))
        else:
            found[metric, CORRUPTED, 0] = float(np.mean([estimate(item) for item in items]))
    top1 = found.get(("accuracy.top1", CORRUPTED, 0))
    if isinstance(top1, Terms):
        found["robustness.mean_error", CORRUPTED, 0] = _mean_terms(1 - top1.values)
    return found


def _mean_terms(values_N1: NDArray[np.float64]) -> Terms:
    is_binary = bool(((values_N1 == 0) | (values_N1 == 1)).all())
    return Terms(values=values_N1, kind="mean", is_binary=is_binary)


def _means(
    split: _Split,
    candidate: Candidate,
    baseline: Candidate,
    numbers: Mapping[tuple[str, str, int], Terms | float],
) -> Iterator[Derived]:
    """Yield the means over all corrupted conditions, and the mean corruption error."""
    pooled = {key[0]: value for key, value in numbers.items() if key[1] == CORRUPTED}
    if not pooled:
        return
    stated = split.intervals({k: v for k, v in pooled.items() if isinstance(v, Terms)})
    for metric, value in pooled.items():
        yield _derived(candidate, split, metric, CORRUPTED, 0, value, stated.get(metric))
    yield _mean_corruption_error(split, candidate, baseline)


def _mean_corruption_error(split: _Split, candidate: Candidate, baseline: Candidate) -> Derived:
    def errors(key: str) -> dict[Condition, NDArray[Any]]:
        return {
            condition: 1 - split.terms(key, condition)["accuracy.top1"].values[:, 0]
            for owner, condition in split.cells
            if owner == key and "accuracy.top1" in split.terms(key, condition)
        }

    name = "robustness.mce"
    known = METRIC_NAMES[name]
    terms = mce_terms(errors(candidate.key), errors(baseline.key))
    if isinstance(terms, Undefined):
        missing = Measurement(
            name, None, known.unit, known.better.value, basis="derived", reason=terms.reason
        )
        return Derived(candidate.key, split.name, CORRUPTED, 0, split.form, missing)
    stated = split.intervals({name: terms})[name]
    value = _derived(candidate, split, name, CORRUPTED, 0, terms, stated)
    caveat = f"reference: {baseline.label}"
    return replace(value, measurement=replace(value.measurement, reason=caveat))


def _changes(
    split: _Split,
    candidate: Candidate,
    prefix: str,
    own: Mapping[tuple[str, str, int], Terms | float],
    other: Mapping[tuple[str, str, int], Terms | float],
) -> Iterator[Derived]:
    """Yield the paired differences of every number that both have."""
    both = [key for key in own if key in other]
    paired: dict[str, Terms] = {}
    for key in both:
        a, b = own[key], other[key]
        if isinstance(a, Terms) and isinstance(b, Terms) and a.kind == b.kind == "mean":
            paired["@".join(map(str, key))] = difference(a, b)
    stated = split.intervals(paired)
    for key in both:
        metric, condition, severity = key
        name = "@".join(map(str, key))
        a, b = own[key], other[key]
        value = paired.get(name, _number(a) - _number(b))
        yield _derived(
            candidate,
            split,
            prefix + metric,
            condition,
            severity,
            value,
            stated.get(name),
        )


def _number(value: Terms | float) -> float:
    return value if isinstance(value, float) else estimate(value)


def _derived(
    candidate: Candidate,
    split: _Split,
    metric: str,
    condition: str,
    severity: int,
    value: Terms | float,
    stated: Interval | None,
) -> Derived:
    known = METRIC_NAMES.get(metric.removeprefix(CHANGE).removeprefix(FROM_CONTROL))
    shown = stated or Interval(reason="no interval with tested coverage for this number")
    measurement = Measurement(
        metric=metric,
        value=_number(value),
        unit=known.unit if known else "",
        better=known.better.value if known else "none",
        low=shown.low,
        high=shown.high,
        interval=shown.method,
        count=split.count,
        basis="derived",
        reason=shown.reason,
    )
    return Derived(candidate.key, split.name, condition, severity, split.form, measurement)


def _agreement(
    candidate: Candidate,
    cells: Sequence[Cell],
    read: Read,
    form: str,
    replicates: int,
    seed: int,
) -> Iterator[Derived]:
    """Yield on how many clean images twin and artifact predict the same class."""
    mine = [c for c in cells if c.candidate == candidate.key and c.condition.is_clean]
    others = [c for c in mine if c.form != form]
    for other in others:
        twins = [c for c in mine if c.form == form and c.split == other.split]
        pair = [read(c.key) for c in [other, *twins[:1]]]
        if len(pair) != 2 or pair[0] is None or pair[1] is None or not len(pair[0]):
            continue
        same = (pair[0].prediction() == pair[1].prediction()).astype(np.float32)[:, None]
        split = _Split(other.split, form, read, {}, (), (), replicates, seed)
        split.prepare(pair[0])
        terms = Terms(values=same, kind="mean", is_binary=True)
        stated = split.intervals({"": terms})[""]
        yield _derived(candidate, split, "fidelity.agreement", "clean", 0, terms, stated)


def _temperature(candidate: Candidate, splits: Mapping[str, _Split]) -> Iterator[Derived]:
    """Yield the temperature of the select split, and the calibration of every split with it.

    On the select split itself the scaled numbers would be those of the images that chose the
    temperature, so they are not stated there.
    """
    chosen_on = splits["select"].predictions(candidate.key, CLEAN)
    if chosen_on is None or not len(chosen_on):
        return
    found = fit_temperature(chosen_on.logits, chosen_on.target)
    name = "calibration.temperature"
    facts = METRIC_NAMES[name]
    yield Derived(
        candidate.key,
        "select",
        "clean",
        0,
        splits["select"].form,
        Measurement(
            name,
            found.value,
            facts.unit,
            facts.better.value,
            count=len(chosen_on),
            basis="derived",
            reason=found.reason,
        ),
    )
    for split in splits.values():
        if split.name != "select":
            yield from _scaled(candidate, split, found.value)


def _scaled(candidate: Candidate, split: _Split, temperature: float) -> Iterator[Derived]:
    for owner, condition in split.cells:
        predictions = split.predictions(owner, condition) if owner == candidate.key else None
        if predictions is None or not len(predictions):
            continue
        split.prepare(predictions)
        cooled = scaled(predictions, temperature)
        terms = {name: METRICS.create(of).terms(cooled) for name, of in SCALED.items()}
        stated = split.intervals(terms)
        for name, item in terms.items():
            yield _derived(
                candidate,
                split,
                name,
                condition.corruption,
                condition.severity,
                item,
                stated[name],
            )
