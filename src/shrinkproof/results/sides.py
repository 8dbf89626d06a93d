"""One candidate of a run as a comparison sees it: what each image adds to any of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.detection.names import MPC, RPC
from shrinkproof.metrics.names import bare_name
from shrinkproof.metrics.robustness import GROUPS, mean_terms
from shrinkproof.metrics.spelling import metric_of, name_of
from shrinkproof.predictions import ClassificationPredictions, Predictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate, Condition
from shrinkproof.selectors import Selector
from shrinkproof.statistics import Replicated, Terms, averaged, calculated
from shrinkproof.store import Shard
from shrinkproof.summary import CORRUPTED, POOLED
from shrinkproof.summary.classes import class_names
from shrinkproof.summary.robustness import corrupted_numbers
from shrinkproof.summary.split import Sight, Totals
from shrinkproof.table import Number

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

# Shape suffixes: N images.

ACCURACY: Final = "accuracy.top1"
RECALL: Final = "accuracy.recall"
_ROBUSTNESS: Final = "robustness."


class Side:
    """One of two candidates that are compared, on the printed split of its run.

    Args:
        results: the run.
        candidate: one of its candidates.

    Attributes:
        results: the run.
        candidate: the candidate.
    """

    def __init__(self, results: Results, candidate: Candidate) -> None:
        self.results = results
        self.candidate = candidate

    @property
    def label(self) -> str:
        """Readable name."""
        return self.candidate.label

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions of the study."""
        return self.results.settings.conditions

    @cached_property
    def shards(self) -> Mapping[Condition, Shard]:
        """What was measured under each condition on the printed split."""
        return self.results.scored(self.candidate.key, self.results.printing)

    @cached_property
    def images(self) -> Predictions | None:
        """The first stored predictions: which images there are; None where only numbers are."""
        found = (self.predictions(condition) for condition in self.shards)
        return next((predictions for predictions in found if predictions is not None), None)

    def predictions(self, condition: Condition) -> Predictions | None:
        """Return stored predictions with at least one image, or None."""
        shard = self.shards.get(condition)
        found = None if shard is None else self.results.store.read_predictions(shard.cell.key)
        return found if found is not None and len(found) else None

    def sight(self, condition: Condition, metrics: Sequence[str]) -> Sight | None:
        """Return the candidate under a condition; None where its predictions are not stored."""
        predictions = self.predictions(condition)
        if not isinstance(predictions, ClassificationPredictions):
            return None
        stored = {
            m.metric: m.value
            for m in self.shards[condition].measurements
            if m.value is not None and not m.slice
        }
        found = Sight(self.candidate.key, condition, predictions)
        for name in metrics:
            metric = metric_of(name)
            terms = metric.terms(predictions) if metric.is_fast else None
            if terms is not None:
                found.numbers[name] = terms
            elif name in stored:
                found.numbers[name] = stored[name]
        return found

    def number(self, selector: Selector) -> Number:
        """Return the printed number that a selector means."""
        return self.results.numbers.find(self.label, self.results.printing, selector)

    def machines(self, metric: str) -> frozenset[str]:
        """Return the keys of the machines that a number was measured on."""
        name = (self.candidate.model, self.candidate.recipe, self.candidate.repeat)
        return frozenset(
            record.environment
            for record in self.results.records
            if record.metric == metric and (record.model, record.recipe, record.repeat) == name
        )

    def positions(self, part: str) -> NDArray[np.int64] | None:
        """Return where the images of a part stand, ``class=cat``; None where nobody knows."""
        images = self.images
        if images is None:
            return None
        name, _, value = part.partition("=")
        if name != "class":
            values = images.slices.get(name)
            return None if values is None else np.flatnonzero(values.astype(str) == value)
        if not isinstance(images, ClassificationPredictions):
            return None
        names = class_names(self.results.settings, images.logits.shape[1])
        return np.flatnonzero(images.target == names.index(value)) if value in names else None

    def places(self, selector: Selector) -> tuple[Condition, ...]:
        """Return the conditions whose images a number is about; none for sizes and times."""
        is_error = bare_name(selector.metric).startswith(_ROBUSTNESS)
        if is_error and not selector.condition:
            return self.conditions
        if selector.condition in (CORRUPTED, POOLED):
            return tuple(c for c in self.conditions if not c.is_clean)
        place = selector.condition
        members = GROUPS.get(place, (place,)) if is_error else (place,)
        return tuple(
            c
            for c in self.conditions
            if c.corruption in members
            and (not selector.severity or c.severity == selector.severity)
        )

    def terms(self, selector: Selector) -> Terms | None:
        """Return what each image adds to a number, over all images or those of a part.

        None where the number has no such terms: sizes, times, what carries a prefix, means of
        binned errors over conditions, numbers relative to a network, lost predictions.
        """
        name = name_of(selector.metric)
        if self.images is None or bare_name(selector.metric) != name:
            return None
        if name.startswith(_ROBUSTNESS):
            return None if selector.part else self._of_errors(selector)
        metric = ACCURACY if name == RECALL else selector.metric
        if name_of(metric) not in METRICS:
            return None
        places = self.places(selector)
        found = [self._at(metric, condition, selector.part) for condition in places]
        return _mean(found) if found else None

    @cached_property
    def totals(self) -> Totals:
        """Errors of each image under every condition."""
        totals = Totals()
        for condition in self.conditions:
            sight = self.sight(condition, ())
            if sight is not None:
                totals.add(sight)
        return totals

    def is_complete(self, totals: Totals) -> bool:
        """Return whether every condition of the study is in the totals, corrupted ones too."""
        return set(totals.seen) == set(self.conditions) and not all(
            condition.is_clean for condition in self.conditions
        )

    def _at(self, metric: str, condition: Condition, part: str) -> Terms | None:
        predictions = self.predictions(condition)
        if predictions is None:
            return None
        if part:
            positions = self.positions(part)
            if positions is None or not len(positions):
                return None
            predictions = predictions.take(positions)
        found: Terms | None = metric_of(metric).terms(predictions)
        return found

    def replicated(self, selector: Selector, weights: NDArray[np.float32]) -> Replicated | None:
        """Return a number of boxes with its values on resampled data sets.

        None where it has none: sizes, times, what carries a prefix or a part, numbers relative to a
        network, metrics whose interval comes from elsewhere, lost predictions.

        Args:
            selector: the number.
            weights: (R, N) how often each image stands in each resampled data set.
        """
        if selector.metric == RPC:
            parts = (replace(selector, metric=MPC), Selector(self.results.spec.quality, "clean"))
            mpc, clean = (self.replicated(part, weights) for part in parts)
            return None if mpc is None or clean is None else calculated(np.divide, mpc, clean)
        metric = self.results.spec.quality if selector.metric == MPC else selector.metric
        made: Any = metric_of(metric) if name_of(metric) in METRICS else None
        if selector.part or not hasattr(made, "replicated") or hasattr(made, "interval"):
            return None
        corrupted = replace(selector, condition=selector.condition or CORRUPTED)
        places = self.places(corrupted if selector.metric == MPC else selector)
        numbers: dict[str, list[Replicated]] = {}
        for condition in places:
            predictions = self.predictions(condition)
            found = None if predictions is None else made.replicated(predictions, weights)
            if not isinstance(found, Replicated):
                return None
            place = condition.corruption if selector.metric == MPC else ""
            numbers.setdefault(place, []).append(found)
        # mPC is the mean over corruptions of the mean over their severities.
        means = [averaged(*each) for each in numbers.values()]
        return averaged(*means) if means else None

    def _of_errors(self, selector: Selector) -> Terms | None:
        """Return the terms of an error under corruption; none for those relative to others."""
        if not self.is_complete(self.totals):
            return None
        numbers = corrupted_numbers(self.totals.errors)
        found = numbers.get((selector.metric, selector.condition or CORRUPTED, 0))
        return None if found is None or isinstance(found.terms, Undefined) else found.terms


def _mean(found: Sequence[Terms | None]) -> Terms | None:
    """Return the mean over conditions; one condition alone may have terms of any kind."""
    terms = [item for item in found if item is not None]
    if len(terms) < len(found):
        return None
    if len(terms) == 1:
        return terms[0]
    if any(item.kind != "mean" for item in terms):
        return None
    return mean_terms(np.mean([item.values[:, 0] for item in terms], axis=0, dtype=np.float64))
