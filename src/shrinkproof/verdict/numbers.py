"""A number of a candidate, and what it is on resampled images."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import SCALED, bare_name, without_prefixes
from shrinkproof.metrics.spelling import metric_of, name_of
from shrinkproof.metrics.temperature import scaled
from shrinkproof.predictions import ClassificationPredictions, Predictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate, Condition, Form
from shrinkproof.results.sides import Side
from shrinkproof.selectors import Selector
from shrinkproof.statistics import (
    MINIMUM_UNITS,
    Replicated,
    Terms,
    averaged,
    bootstrap_weights,
    estimate,
    group_count,
    replicates,
)
from shrinkproof.statistics.replicated import left_out_weights
from shrinkproof.summary import CORRUPTED, POOLED
from shrinkproof.table import Number, Numbers
from shrinkproof.verdict.forms import ROBUSTNESS, FormSide

if TYPE_CHECKING:
    from shrinkproof.results import Results

# Shape suffixes: N images, R resampled data sets.

_TEMPERATURE: Final = Selector("calibration.temperature", "clean")
_COSTS: Final = "cost."
_BLOCKS: Final = 200
"""Most parts of the images that are left out one by one, to see on how many a spread rests."""

_FIXED_BINS: Final = "calibration.ece"
_FOREIGN: Final = "foreign."
"""Prefix of imported numbers that are taken as they were published."""


class Reader:
    """The numbers of a run on its printed images, all on the same resampled data sets.

    Args:
        results: the run.

    Attributes:
        results: the run.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self._sides: dict[tuple[str, Form], Side] = {}
        self._kept: dict[str, Predictions | None] = {}
        self._found: dict[tuple[str, Form, Selector], Replicated | Undefined] = {}
        self._tables: dict[Form, Numbers] = {}
        self._weights: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    @property
    def form(self) -> Form:
        """Form in which candidates are measured."""
        return "twin" if self.results.form == "twin" else "artifact"

    @cached_property
    def images(self) -> int:
        """Number of printed images."""
        return int(self.results.data["splits"].get(self.results.printing, {}).get("count", 0))

    def number(
        self, candidate: Candidate, form: Form, selector: Selector
    ) -> Replicated | Undefined:
        """Return a number with its values on resampled images, or why there is none.

        Values are empty, and images unknown, where the number has none: sizes, heat maps, what was
        imported, fewer than 30 independent images.

        Args:
            candidate: of this run.
            form: in which it is measured.
            selector: the number. Where a metric of boxes or heat maps is written without settings
                and was measured only with some, the first of those.
        """
        selector = self._as_measured(selector)
        key = (candidate.key, form, selector)
        if key not in self._found:
            side = self._side(candidate, form)
            found = self._resampled(side, selector) if side.images is not None else None
            self._found[key] = self._stored(candidate, form, selector) if found is None else found
        return self._found[key]

    def places(self, selector: Selector) -> tuple[Condition, ...]:
        """Return the conditions whose images a number is about."""
        conditions = self.results.settings.conditions
        if bare_name(selector.metric).startswith(ROBUSTNESS) and not selector.condition:
            return conditions
        is_all = selector.condition == CORRUPTED
        return tuple(
            c
            for c in conditions
            if (not c.is_clean if is_all else c.corruption == selector.condition)
            and selector.severity in (0, c.severity)
        )

    def _side(self, candidate: Candidate, form: Form) -> Side:
        key = (candidate.key, form)
        if key not in self._sides:
            self._sides[key] = FormSide(self.results, candidate, form, self._kept)
        return self._sides[key]

    def _resampled(self, side: Side, selector: Selector) -> Replicated | None:
        """Return a number from stored predictions; None where it has no values of images."""
        images = side.images
        assert images is not None, "the caller has looked"
        name = name_of(bare_name(selector.metric))
        if name.startswith(ROBUSTNESS):
            if isinstance(images, ClassificationPredictions):
                return self._of_terms(side.terms(selector), images)
            return self._of_boxes(side, selector, images)
        plain = selector.metric.removeprefix(SCALED)
        if name not in METRICS or selector.part or plain != without_prefixes(plain):
            return None
        if selector.condition == POOLED:
            return self._pooled(side, plain) if plain == selector.metric else None
        found = []
        for condition in self.places(selector):
            item = self._at(side, selector.metric, condition)
            if item is None:
                return None
            found.append(item)
        return averaged(*found) if found else None

    def _pooled(self, side: Side, metric: str) -> Replicated | None:
        """Return a number of all corrupted images as one sample.

        Only where the bins are the same for all conditions; an image is resampled with all its
        corrupted forms.
        """
        places = [c for c in self.results.settings.conditions if not c.is_clean]
        made: Any = metric_of(metric)
        seen = [side.predictions(condition) for condition in places]
        known = [p for p in seen if isinstance(p, ClassificationPredictions)]
        if name_of(metric) != _FIXED_BINS or not known or len(known) < len(seen):
            return None
        terms = [made.terms(predictions) for predictions in known]
        values_NK = sum(item.values for item in terms) / len(terms)
        return self._of_terms(Terms(values_NK, terms[0].kind), known[0])

    def _at(self, side: Side, metric: str, condition: Condition) -> Replicated | None:
        """Return a number of one condition."""
        predictions = side.predictions(condition)
        if predictions is None:
            return None
        made: Any = metric_of(metric.removeprefix(SCALED))
        if not isinstance(predictions, ClassificationPredictions):
            is_plain = not metric.startswith(SCALED)
            return self._replicated(made, predictions) if is_plain else None
        if metric.startswith(SCALED):
            cooled = self._cooled(side, predictions)
            return None if cooled is None else self._of_terms(made.terms(cooled), predictions)
        return self._of_terms(made.terms(predictions), predictions)

    def _cooled(
        self, side: Side, predictions: ClassificationPredictions
    ) -> ClassificationPredictions | None:
        """Return predictions at the candidate's own temperature; None where it has none."""
        found = self.results.numbers.find(side.label, "select", _TEMPERATURE)
        if found.value is None or self.results.printing == "select" or found.value <= 0:
            return None
        try:
            return scaled(predictions, found.value)
        except DataError:
            return None  # the stored number says why it is undefined

    def _of_terms(self, terms: Terms | None, images: Predictions) -> Replicated | None:
        if terms is None:
            return None
        value, weights = estimate(terms), self._weights_of(images)
        if weights is None:
            return Replicated(value, np.empty(0))
        values_R, left_out_B = (replicates(terms, matrix) for matrix in weights)
        return Replicated(value, values_R, left_out_B)

    def _of_boxes(self, side: Side, selector: Selector, images: Predictions) -> Replicated | None:
        weights = self._weights_of(images)
        return None if weights is None else side.replicated(selector, weights[0])

    def _replicated(self, made: Any, images: Predictions) -> Replicated | None:
        weights = self._weights_of(images)
        if weights is None or not hasattr(made, "replicated"):
            return None
        found = made.replicated(images, weights[0])
        return found if isinstance(found, Replicated) else None

    def _weights_of(
        self, images: Predictions
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return the weights of resampled data sets and of those that lack a part of the images.

        The same for all candidates, so that everything is paired. None for too few images.
        """
        count = len(images)
        if (group_count(images.groups) or count) < MINIMUM_UNITS:
            return None
        if count not in self._weights:
            settings = self.results.settings
            drawn = bootstrap_weights(
                count, groups=images.groups, replicates=settings.replicates, seed=settings.seed
            )
            self._weights[count] = (drawn, left_out_weights(count, _BLOCKS))
        return self._weights[count]

    def _stored(
        self, candidate: Candidate, form: Form, selector: Selector
    ) -> Replicated | Undefined:
        """Return a number as the tables have it."""
        places = self.places(selector)
        if selector.condition == CORRUPTED and selector.severity:
            # No record is about one severity of all corruptions: it is the mean over them.
            parts = [replace(selector, condition=c.corruption) for c in places]
            if not parts:
                return Undefined(f"{selector} was not measured: the study lacks that severity")
            numbers = [self._find(candidate, form, part) for part in parts]
        else:
            numbers = [self._find(candidate, form, selector)]
        if numbers[0].value is None and selector.metric.startswith(ROBUSTNESS):
            # Where only published means are known, none can be computed.
            foreign = replace(
                selector, metric=_FOREIGN + selector.metric.removeprefix(ROBUSTNESS), condition=""
            )
            published = self._find(candidate, form, foreign)
            numbers = [published] if published.value is not None else numbers
        missing = next((n for n in numbers if n.value is None), None)
        if missing is not None:
            return Undefined(f"{candidate.label}: {missing.reason or missing.status}")
        values = [n.value for n in numbers if n.value is not None]
        return Replicated(sum(values) / len(values), np.empty(0))

    def _find(self, candidate: Candidate, form: Form, selector: Selector) -> Number:
        if form not in self._tables:
            conditions = self.results.spec.conditions_list()
            self._tables[form] = Numbers(self.results.records, form, conditions)
        return self._tables[form].find(candidate.label, self.results.printing, selector)

    def _as_measured(self, selector: Selector) -> Selector:
        """Return the selector with the settings that its metric was measured with."""
        metric, scored = selector.metric, self.results.metrics
        if "[" in metric or metric in scored or metric.startswith((ROBUSTNESS, _COSTS)):
            return selector
        if name_of(bare_name(metric)) in METRICS:
            # What is made of logits is made with the settings that are asked for.
            known = scored if self.results.spec.task == "detection" else ()
        else:
            known = self._names
        same = [name for name in known if name.partition("[")[0] == metric]
        return replace(selector, metric=same[0]) if same and metric not in known else selector

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(record.metric for record in self.results.records))
