"""Numbers that need several cells: means over conditions, changes, temperature, agreement.

They are functions of the stored predictions, never truth of their own, and can be recomputed from
a run directory alone. Everything about one split uses one matrix of bootstrap weights, so that
changes against the baseline and against a control are paired image by image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.metrics.robustness import Undefined, mce_terms, mean_error_terms
from shrinkproof.metrics.temperature import fit_temperature, scaled
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, STANDARD_15, Candidate, Cell, Condition
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

SMALL_REFERENCE: Final = 0.05
"""Errors of the reference below this, mean over severities, are named beside mCE."""

SCALED: Final = {
    "calibration.ece_scaled": "calibration.ece",
    "accuracy.nll_scaled": "accuracy.nll",
}

Read = Callable[[str], ClassificationPredictions | None]
Key = tuple[str, str, int]
"""Metric, condition without severity, severity."""


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


@dataclass(frozen=True, slots=True)
class Settings:
    """What derived numbers depend on besides the predictions.

    Attributes:
        form: form in which candidates are measured.
        conditions: all that the study wants; a mean over them exists only where none is missing,
            because a mean over fewer would be no equal of the other candidates'.
        metrics: names of the metrics that the study scores.
        replicates: bootstrap replicates.
        seed: the study's seed.
    """

    form: str
    conditions: tuple[Condition, ...]
    metrics: tuple[str, ...]
    replicates: int
    seed: int


def summarize(
    candidates: Sequence[Candidate], cells: Sequence[Cell], read: Read, settings: Settings
) -> list[Derived]:
    """Return every derived number of a run.

    Args:
        candidates: baselines, controls and recipes.
        cells: finished cells.
        read: cell key -> stored predictions, or None.
        settings: what else the numbers depend on.
    """
    scores = [cell for cell in cells if cell.evaluator == "scores"]
    names = dict.fromkeys(cell.split for cell in scores)
    splits = {name: _Split(name, scores, candidates, read, settings) for name in names}
    found: list[Derived] = []
    for split in splits.values():
        found += _of_split(split, candidates)
    for candidate in candidates:
        for split in splits.values():
            found += _agreement(split, candidate)
        if "select" in splits:
            found += _temperature(candidate, splits)
    return found


def winner_optimism(
    candidates: Sequence[Candidate],
    cells: Sequence[Cell],
    read: Read,
    settings: Settings,
    split: str,
) -> float | None:
    """Return by how much the winner's error looks too small on the split that chose it, at most.

    Whoever takes the candidate with the smallest mean error and quotes that error on the same
    images is too optimistic, most of all where all candidates are equal: then the bias is the
    expected minimum of the deviations of their means, -E min_k (m*_k - m_k), estimated from the
    resampled data sets (after Efron 1983, doi:10.2307/2288636). Correlation between candidates
    makes it smaller and is accounted for.

    The error is the mean over the corrupted conditions, or the clean one where there are none.
    None where fewer than two candidates can be chosen.
    """
    scores = [cell for cell in cells if cell.evaluator == "scores"]
    images = _Split(split, scores, candidates, read, settings)
    errors = []
    for candidate in candidates:
        numbers = images.numbers(candidate.key) if candidate.role != "control" else {}
        top1 = numbers.get(
            ("accuracy.top1", CORRUPTED, 0), numbers.get(("accuracy.top1", "clean", 0))
        )
        if isinstance(top1, Terms):
            errors.append(1 - top1.values[:, 0])
    return images.optimism(np.stack(errors)) if len(errors) > 1 else None


class _Split:
    """The predictions of all candidates on one split, with one matrix of bootstrap weights."""

    def __init__(
        self,
        name: str,
        cells: Sequence[Cell],
        candidates: Sequence[Candidate],
        read: Read,
        settings: Settings,
    ) -> None:
        self.name = name
        self.read = read
        self.settings = settings
        self.form = settings.form
        self.cells: dict[tuple[str, Condition, str], Cell] = {
            (c.candidate, c.condition, c.form): c for c in cells if c.split == name
        }
        self.count = 0
        self._weights: NDArray[np.float32] | None = None
        self._groups: int | None = None
        # Every candidate is compared with its baseline and its control; only theirs are kept.
        self._references = {c.key for c in candidates if c.role != "recipe"}
        self._kept: dict[str, dict[Key, Terms | float]] = {}

    def predictions(
        self, candidate: str, condition: Condition, form: str = ""
    ) -> ClassificationPredictions | None:
        """Return stored predictions with at least one image, or None."""
        cell = self.cells.get((candidate, condition, form or self.form))
        found = None if cell is None else self.read(cell.key)
        if found is None or not len(found):
            return None
        self._draw_weights(found)
        return found

    def _draw_weights(self, predictions: ClassificationPredictions) -> None:
        """Draw the weights from the first predictions: all are about the same images."""
        if self._weights is None:
            groups = predictions.groups
            self.count = len(predictions)
            self._groups = None if groups is None else len(np.unique(groups))
            self._weights = bootstrap_weights(
                self.count,
                groups=groups,
                replicates=self.settings.replicates,
                seed=self.settings.seed,
            )

    def intervals(self, terms: Mapping[str, Terms]) -> Mapping[str, Interval]:
        """Return the interval of each metric; the predictions behind the terms have been read."""
        if not terms:
            return {}
        assert self._weights is not None, "terms exist, so predictions were read"
        return intervals(terms, self._weights, group_count=self._groups)

    def optimism(self, errors_KN: NDArray[Any]) -> float:
        """Return how optimistic the smallest of several mean errors is, see `winner_optimism`."""
        assert self._weights is not None, "errors exist, so predictions were read"
        means_RK = (self._weights @ errors_KN.T) / self._weights.sum(axis=1, keepdims=True)
        return float(-(means_RK - errors_KN.mean(axis=1)).min(axis=1).mean())

    def numbers(self, candidate: str) -> dict[Key, Terms | float]:
        """Return every number of a candidate: terms where it is a mean over images, else a value.

        Over all corrupted conditions, an additive metric has the mean of its terms per image (so
        that an image is one unit of the bootstrap, however many conditions show it); a binned
        calibration error has the mean of its values.
        """
        found = self._kept.get(candidate)
        if found is None:
            found = self._numbers(candidate)
            if candidate in self._references:
                self._kept[candidate] = found
        return found

    def _numbers(self, candidate: str) -> dict[Key, Terms | float]:
        found: dict[Key, Terms | float] = {}
        is_complete = True
        for condition in self.settings.conditions:
            predictions = self.predictions(candidate, condition)
            is_complete = is_complete and predictions is not None
            if predictions is not None:
                place = (condition.corruption, condition.severity)
                found |= {(name, *place): n for name, n in self._of_metrics(predictions).items()}
        if is_complete:
            found |= _pooled(found)
        return found

    def _of_metrics(self, predictions: ClassificationPredictions) -> dict[str, Terms | float]:
        terms = {name: METRICS.create(name).terms(predictions) for name in self.settings.metrics}
        return {
            name: item if item.kind == "mean" else estimate(item)
            for name, item in terms.items()
            if item is not None
        }


def _pooled(numbers: Mapping[Key, Terms | float]) -> dict[Key, Terms | float]:
    """Return the means over all corrupted conditions."""
    found: dict[Key, Terms | float] = {}
    groups: dict[str, list[Terms | float]] = {}
    for (metric, _, severity), number in numbers.items():
        if severity:
            groups.setdefault(metric, []).append(number)
    for metric, group in groups.items():
        terms = [item.values for item in group if isinstance(item, Terms)]
        found[metric, CORRUPTED, 0] = (
            _mean_terms(np.mean(np.stack(terms), axis=0, dtype=np.float64))
            if terms
            else float(np.mean([item for item in group if isinstance(item, float)]))
        )
    errors = _errors(numbers)
    if errors:
        found["robustness.mean_error", CORRUPTED, 0] = mean_error_terms(errors)
    return found


def _mean_terms(values_N1: NDArray[np.float64]) -> Terms:
    is_binary = bool(((values_N1 == 0) | (values_N1 == 1)).all())
    return Terms(values=values_N1, kind="mean", is_binary=is_binary)


def _of_split(split: _Split, candidates: Sequence[Candidate]) -> Iterator[Derived]:
    baselines = {c.model: c for c in candidates if c.role == "baseline"}
    keys = {c.key for c in candidates}
    for candidate in candidates:
        baseline = baselines[candidate.model]
        numbers, reference = split.numbers(candidate.key), split.numbers(baseline.key)
        if not numbers:
            continue
        yield from _means(split, candidate, numbers)
        yield from _mean_corruption_error(split, candidate, numbers, reference, baseline.label)
        if candidate.role == "baseline":
            continue
        yield from _changes(split, candidate, CHANGE, numbers, reference)
        if candidate.control in keys and candidate.control != baseline.key:
            control = split.numbers(candidate.control)
            yield from _changes(split, candidate, FROM_CONTROL, numbers, control)


def _means(
    split: _Split, candidate: Candidate, numbers: Mapping[Key, Terms | float]
) -> Iterator[Derived]:
    """Yield the means over all corrupted conditions."""
    pooled = {key[0]: value for key, value in numbers.items() if key[1] == CORRUPTED}
    stated = split.intervals({k: v for k, v in pooled.items() if isinstance(v, Terms)})
    for metric, value in pooled.items():
        yield _derived(candidate, split, (metric, CORRUPTED, 0), value, stated.get(metric))


def _mean_corruption_error(
    split: _Split,
    candidate: Candidate,
    own: Mapping[Key, Terms | float],
    reference: Mapping[Key, Terms | float],
    label: str,
) -> Iterator[Derived]:
    """Yield mCE against the baseline, or why it is undefined."""
    if all(condition.is_clean for condition in split.settings.conditions):
        return
    name = "robustness.mce"
    terms = mce_terms(_errors(own), _errors(reference))
    if isinstance(terms, Undefined):
        known = METRIC_NAMES[name]
        missing = Measurement(
            name, None, known.unit, known.better.value, basis="derived", reason=terms.reason
        )
        yield Derived(candidate.key, split.name, CORRUPTED, 0, split.form, missing)
        return
    stated = split.intervals({name: terms})[name]
    value = _derived(candidate, split, (name, CORRUPTED, 0), terms, stated)
    caveats = [f"reference: {label}", _small_references(terms)]
    text = "; ".join(caveat for caveat in caveats if caveat)
    yield replace(value, measurement=replace(value.measurement, reason=text))


def _small_references(terms: Terms) -> str:
    """Return under which corruptions the reference errs so rarely that the ratio says little."""
    means = terms.values.mean(axis=0)[len(STANDARD_15) :]
    small = [name for name, mean in zip(STANDARD_15, means, strict=True) if mean < SMALL_REFERENCE]
    if not small:
        return ""
    return (
        f"its error is below {100 * SMALL_REFERENCE:g} % under {', '.join(small)}: there a few "
        "images change the ratio by much, so compare mean errors too"
    )


def _errors(numbers: Mapping[Key, Terms | float]) -> dict[Condition, NDArray[Any]]:
    """Return the error of each image under each corrupted condition."""
    return {
        Condition(corruption, severity): 1 - number.values[:, 0]
        for (metric, corruption, severity), number in numbers.items()
        if metric == "accuracy.top1" and severity and isinstance(number, Terms)
    }


def _changes(
    split: _Split,
    candidate: Candidate,
    prefix: str,
    own: Mapping[Key, Terms | float],
    other: Mapping[Key, Terms | float],
) -> Iterator[Derived]:
    """Yield the differences of every number that both have, paired where it is a mean."""
    values: dict[Key, Terms | float] = {}
    for key in (key for key in own if key in other):
        a, b = own[key], other[key]
        if isinstance(a, Terms) and isinstance(b, Terms):
            values[key] = difference(a, b)
        else:
            values[key] = _number(a) - _number(b)
    paired = {"@".join(map(str, k)): v for k, v in values.items() if isinstance(v, Terms)}
    stated = split.intervals(paired)
    for key, value in values.items():
        interval = stated.get("@".join(map(str, key)))
        yield _derived(candidate, split, (prefix + key[0], *key[1:]), value, interval)


def _number(value: Terms | float) -> float:
    return value if isinstance(value, float) else estimate(value)


def _derived(
    candidate: Candidate, split: _Split, key: Key, value: Terms | float, stated: Interval | None
) -> Derived:
    metric, condition, severity = key
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


def _agreement(split: _Split, candidate: Candidate) -> Iterator[Derived]:
    """Yield on which share of the clean images twin and artifact predict the same class."""
    twin = split.predictions(candidate.key, CLEAN, "twin")
    artifact = split.predictions(candidate.key, CLEAN, "artifact")
    if twin is None or artifact is None:
        return
    same_N1 = (twin.prediction() == artifact.prediction()).astype(np.float32)[:, None]
    terms = Terms(values=same_N1, kind="mean", is_binary=True)
    name = "fidelity.agreement"
    stated = split.intervals({name: terms})[name]
    yield _derived(candidate, split, (name, "clean", 0), terms, stated)


def _temperature(candidate: Candidate, splits: Mapping[str, _Split]) -> Iterator[Derived]:
    """Yield the temperature of the select split, and the calibration of every split with it.

    On the select split itself the scaled numbers would be those of the images that chose the
    temperature, so they are not stated there.
    """
    chosen_on = splits["select"].predictions(candidate.key, CLEAN)
    if chosen_on is None:
        return
    found = fit_temperature(chosen_on.logits, chosen_on.target)
    name = "calibration.temperature"
    value = _derived(candidate, splits["select"], (name, "clean", 0), found.value, None)
    reason = found.reason or "fitted, without an interval of its own"
    yield replace(value, measurement=replace(value.measurement, reason=reason))
    for split in splits.values():
        if split.name != "select":
            yield from _scaled(candidate, split, found.value)


def _scaled(candidate: Candidate, split: _Split, temperature: float) -> Iterator[Derived]:
    for condition in split.settings.conditions:
        predictions = split.predictions(candidate.key, condition)
        if predictions is None:
            continue
        cooled = scaled(predictions, temperature)
        terms = {name: METRICS.create(of).terms(cooled) for name, of in SCALED.items()}
        stated = split.intervals(terms)
        place = (condition.corruption, condition.severity)
        for name, item in terms.items():
            yield _derived(candidate, split, (name, *place), item, stated[name])
