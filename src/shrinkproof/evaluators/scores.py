"""Predictions of every candidate on the same images, and the metrics computed from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.engines.inline import attempt
from shrinkproof.errors import ModelError
from shrinkproof.evaluators.subject import Subject
from shrinkproof.metrics.spelling import metric_of
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement, Undefined
from shrinkproof.records import Condition, Failure
from shrinkproof.registry import Strings, component
from shrinkproof.statistics import Interval, bootstrap_weights, group_count, intervals

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
        logits, failures = _predict_together(subjects)
        weights: NDArray[np.float32] | None = None
        for subject in subjects:
            if subject.key in failures:
                yield subject, failures[subject.key]
                continue
            scene = subject.scene
            assert scene is not None, "scores are measured on images"
            if weights is None:
                weights = self.weights(len(scene.images), scene.images.groups)
            yield subject, attempt(self._finish(subject, weights), logits.pop(subject.key))

    def weights(self, count: int, groups: NDArray[np.str_] | None) -> NDArray[np.float32]:
        """Return the bootstrap weights of a split, (replicates, N)."""
        return bootstrap_weights(count, groups=groups, replicates=self.replicates, seed=self.seed)

    def _finish(
        self, subject: Subject, weights: NDArray[np.float32]
    ) -> Callable[[NDArray[np.float32]], list[Measurement]]:
        def finish(logits_NC: NDArray[np.float32]) -> list[Measurement]:
            assert subject.scene is not None, "scores are measured on images"
            images = subject.scene.images
            predictions = ClassificationPredictions(
                logits_NC, images.target, images.index, images.groups, images.slices
            )
            subject.keep(predictions)
            return self.score(predictions, weights)

        return finish

    def score(
        self, predictions: ClassificationPredictions, weights: NDArray[np.float32]
    ) -> list[Measurement]:
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
        self, predictions: ClassificationPredictions, weights: NDArray[np.float32], part: str
    ) -> list[Measurement]:
        groups = predictions.groups
        metrics = {name: metric_of(name) for name in self.metrics}
        terms = {name: metric.terms(predictions) for name, metric in metrics.items()}
        stated = intervals(
            {name: item for name, item in terms.items() if item is not None},
            weights,
            group_count=group_count(groups),
        )
        return [
            _measurement(name, metric, predictions, stated.get(name, NO_INTERVAL), part)
            for name, metric in metrics.items()
        ]


def _measurement(
    name: str, metric: Any, predictions: ClassificationPredictions, stated: Interval, part: str
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
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Failure]]:
    """Return the logits of every subject, and why others have none."""
    scene = subjects[0].scene
    assert scene is not None, "scores are measured on images"
    count = len(scene.images)
    logits = {s.key: np.empty((count, s.num_classes), dtype=np.float32) for s in subjects}
    failures: dict[str, Failure] = {}
    for positions, images in scene.batches():
        inputs: dict[Any, NDArray[np.float32]] = {}
        for subject in subjects:
            if subject.key in failures:
                continue
            if subject.preprocess not in inputs:
                inputs[subject.preprocess] = subject.preprocess(images)
            outcome = attempt(_predict(subject), inputs[subject.preprocess])
            if isinstance(outcome, Failure):
                failures[subject.key] = outcome
                logits.pop(subject.key)
            else:
                logits[subject.key][positions] = outcome
    return logits, failures


def _predict(subject: Subject) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    def predict(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs = subject.predict(inputs)
        expected = (len(inputs), subject.num_classes)
        if outputs.shape != expected:
            raise ModelError(
                f"{subject.cell.candidate}: logits must be {expected} (images, classes), "
                f"got {outputs.shape}"
            )
        return outputs

    return predict
