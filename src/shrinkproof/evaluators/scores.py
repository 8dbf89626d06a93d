"""Predictions of every candidate on the same images, and the metrics computed from them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.engines.inline import attempt
from shrinkproof.evaluators.answers import Answers, BoxAnswers, LogitAnswers
from shrinkproof.evaluators.prefetch import prefetched
from shrinkproof.evaluators.subject import Subject
from shrinkproof.metrics.spelling import metric_of
from shrinkproof.predictions import Predictions
from shrinkproof.predictions.half import as_stored
from shrinkproof.protocols import Measurement, Undefined
from shrinkproof.records import Condition, Failure
from shrinkproof.registry import Strings, component
from shrinkproof.statistics import (
    Interval,
    Replicated,
    bootstrap_weights,
    group_count,
    intervals,
    replicated_interval,
)

NO_INTERVAL: Final = Interval(reason="no interval with tested coverage for this metric")


@component
class Scores:
    """Predictions of every candidate on the same images, and the metrics from them.

    One pass reads and corrupts each batch once; every candidate predicts it while it is in
    memory. The metrics see complete predictions, so that adding a metric costs no inference:
    a pass computes the fast ones, all others come from the stored predictions afterwards.

    Attributes:
        metrics: names of the metrics, with their settings: ``calibration.ece[bins=10]``.
        replicates: bootstrap replicates of the intervals.
        seed: seed of the bootstrap; one matrix of weights serves all candidates, conditions and
            metrics of a split, so that comparisons are paired.
    """

    name: ClassVar[str] = "scores"
    version: ClassVar[int] = 1
    exclusive: ClassVar[bool] = False

    metrics: Strings
    replicates: Annotated[int, pydantic.Field(ge=100)] = 1000
    seed: int = 0

    def versions(self) -> dict[str, int]:
        """Return what made the numbers: the metrics' versions, and the resampled data sets."""
        made = {name: int(metric_of(name).version) for name in self.metrics}
        return {**made, "replicates": self.replicates, "seed": self.seed}

    def fast(self) -> Scores:
        """Return what a pass computes while it evaluates images."""
        return replace(self, metrics=tuple(n for n in self.metrics if metric_of(n).is_fast))

    def measure(
        self,
        subjects: Sequence[Subject],
        condition: Condition,  # noqa: ARG002 - the subjects' scene knows it
    ) -> Iterator[tuple[Subject, Sequence[Measurement] | Failure]]:
        """Yield each subject with its numbers; all subjects share one scene."""
        weights: NDArray[np.float32] | None = None
        for subject, found in self.predict(subjects):
            if isinstance(found, Failure):
                yield subject, found
                continue
            if weights is None:
                weights = self.weights(len(found), found.groups)
            yield subject, attempt(self._finish(subject, weights), found)

    def predict(
        self, subjects: Sequence[Subject]
    ) -> Iterator[tuple[Subject, Predictions | Failure]]:
        """Yield each subject with what it says of all images; all subjects share one scene."""
        answers, failures = _predict_together(subjects)
        for subject in subjects:
            if subject.key in failures:
                yield subject, failures[subject.key]
            else:
                yield subject, attempt(_predictions, answers.pop(subject.key))

    def weights(self, count: int, groups: NDArray[np.str_] | None) -> NDArray[np.float32]:
        """Return the bootstrap weights of a split, (replicates, N); read them, never write."""
        names = None if groups is None else tuple(groups.tolist())
        return _weights(count, names, self.replicates, self.seed)

    def _finish(
        self, subject: Subject, weights: NDArray[np.float32]
    ) -> Callable[[Predictions], list[Measurement]]:
        def finish(predictions: Predictions) -> list[Measurement]:
            stored = as_stored(predictions)
            subject.keep(stored)
            return self.score(stored, weights)

        return finish

    def score(self, predictions: Predictions, weights: NDArray[np.float32]) -> list[Measurement]:
        """Return all metrics of complete predictions, for all images and for each slice."""
        measurements = self._score(predictions, weights, "")
        for column in sorted(predictions.slices):
            values = predictions.slices[column]
            for value in np.unique(values):
                positions = np.flatnonzero(values == value)
                measurements += self._score(
                    predictions.take(positions), weights[:, positions], f"{column}={value}"
                )
        return measurements

    def _score(
        self, predictions: Predictions, weights: NDArray[np.float32], part: str
    ) -> list[Measurement]:
        units = group_count(predictions.groups)
        metrics = {name: metric_of(name) for name in self.metrics}
        terms = {name: metric.terms(predictions) for name, metric in metrics.items()}
        stated = dict(
            intervals(
                {name: item for name, item in terms.items() if item is not None},
                weights,
                group_count=units,
            )
        )
        for name, metric in metrics.items():
            if hasattr(metric, "replicated"):
                units_or_images = len(predictions) if units is None else units
                stated[name] = _of_replicates(metric, predictions, weights, units_or_images)
        return [
            _measurement(name, metric, predictions, stated.get(name, NO_INTERVAL), part)
            for name, metric in metrics.items()
        ]


@functools.lru_cache(maxsize=1)
def _weights(
    count: int, groups: tuple[str, ...] | None, replicates: int, seed: int
) -> NDArray[np.float32]:
    """Return the bootstrap weights of a split; one matrix serves all its cells and conditions."""
    names = None if groups is None else np.array(groups)
    weights = bootstrap_weights(count, groups=names, replicates=replicates, seed=seed)
    weights.setflags(write=False)
    return weights


def _of_replicates(
    metric: Any, predictions: Predictions, weights: NDArray[np.float32], units: int
) -> Interval:
    """Return the interval of a metric that is computed anew on each resampled data set."""
    if hasattr(metric, "interval"):
        stated: Interval = metric.interval(predictions, weights, units)
        return stated
    found: Replicated | Undefined = metric.replicated(predictions, weights)
    if isinstance(found, Undefined):
        return Interval(reason=found.reason)
    return replicated_interval(found, units)


def _measurement(
    name: str, metric: Any, predictions: Predictions, stated: Interval, part: str
) -> Measurement:
    value = metric(predictions)
    if not isinstance(value, Undefined) and not math.isfinite(value):
        is_nan = math.isnan(value)
        value = Undefined("undefined for these images" if is_nan else "infinite for these images")
    is_undefined = isinstance(value, Undefined)
    shown = Interval(reason=value.reason) if is_undefined else stated
    caveat = metric.caveat(predictions) if hasattr(metric, "caveat") and not is_undefined else ""
    return Measurement(
        metric=name,
        value=None if is_undefined else float(value),
        unit=metric.unit,
        better=metric.better.value,
        low=shown.low,
        high=shown.high,
        interval=shown.method,
        count=len(predictions),
        reason="; ".join(text for text in (caveat, shown.reason) if text),
        slice=part,
    )


def _predict_together(
    subjects: Sequence[Subject],
) -> tuple[dict[str, Answers], dict[str, Failure]]:
    """Return what every subject says of all images, and why others say nothing."""
    scene = subjects[0].scene
    assert scene is not None, "scores are measured on images"
    answers = {s.key: _answers(s, scene.images) for s in subjects}
    failures: dict[str, Failure] = {}
    with prefetched(scene, [s.input_kind for s in subjects]) as batches:
        for batch in batches:
            for subject in subjects:
                if subject.key in failures:
                    continue
                taken = attempt(
                    _listen(subject, answers[subject.key], batch.positions, batch.shape),
                    batch.inputs[subject.input_kind],
                )
                if isinstance(taken, Failure):
                    failures[subject.key] = taken
                    answers.pop(subject.key)
            if not answers:
                break
    return answers, failures


def _predictions(answers: Answers) -> Predictions:
    return answers.predictions()


def _answers(subject: Subject, images: ImageSet) -> Answers:
    if subject.detector is None:
        return LogitAnswers(images, subject.num_classes)
    return BoxAnswers(images, subject.detector, subject.preprocess)


def _listen(
    subject: Subject, answers: Answers, positions: NDArray[np.int64], shape: tuple[int, int]
) -> Callable[[Any], None]:
    def listen(inputs: Any) -> None:
        answers.add(positions, subject.predict(inputs), shape)

    return listen
