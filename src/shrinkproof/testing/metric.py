"""Conformance of metrics."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Predictions,
)
from shrinkproof.protocols import Better, Undefined
from shrinkproof.randomness import stream
from shrinkproof.statistics import Replicated, Terms, bootstrap_weights, estimate
from shrinkproof.testing.boxes import altered, tiny_detections
from shrinkproof.testing.component import check_component, example_settings
from shrinkproof.testing.toys import tiny_predictions

UNITS: Final = ("fraction", "ratio", "nat", "count", "bytes", "seconds")

TASKS: Final = ("classification", "detection")

_ROUNDING: Final = 1e-9
"""Sums in another order differ by a few units in the last place of float64."""

_SINGLE: Final = 1e-5
"""Terms may be float32."""


def check_metric(cls: type[Any], **settings: Any) -> None:
    """Check a number computed from predictions.

    It lies in its declared range, or is undefined with a reason (``nan`` where there are no
    images), does not depend on the order of the images, leaves the predictions alone, and agrees
    with its per-image terms where it has them. ``is_fast`` says when it is computed; where it has
    a caveat, that is one line of text.

    A metric whose ``task`` is ``detection`` gets detections, also of images without objects, of no
    images with detections, of crowd regions alone and of equal scores in an image. It must have a
    caveat, which states the protocol, and its value must be that of ``replicated``.

    Args:
        cls: the class.
        settings: values of its fields; required ones that are left out are guessed.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    settings = example_settings(cls, **settings)
    metric = check_component(cls, settings, METRICS, ("Input", "Output", "Reference", "Example"))
    name = cls.__name__
    assert cls.unit in UNITS, f"{name}: unit must be one of {UNITS}, got {cls.unit!r}"
    assert isinstance(cls.better, Better), f"{name}: better must be a Better, got {cls.better!r}"
    is_fast = getattr(cls, "is_fast", None)
    assert isinstance(is_fast, bool), f"{name}: is_fast must be True or False, got {is_fast!r}"
    low, high = cls.range
    assert low < high, f"{name}: range must be (low, high), got {cls.range}"
    known = METRIC_NAMES.get(cls.name)
    assert known is None or (known.unit, known.better) == (cls.unit, cls.better), (
        f"{name}: unit and direction must be those of the table of metric names, {known}"
    )
    task = getattr(cls, "task", "classification")
    assert task in TASKS, f"{name}: task must be one of {TASKS}, got {task!r}"
    cases = _cases() if task == "classification" else _detection_cases()
    for predictions in cases:
        _check_case(name, metric, predictions)
    value = metric(cases[0].take(np.arange(0)))
    assert _is_undefined(value), f"{name}: must be nan without images, or Undefined, got {value}"


def _detection_cases() -> list[DetectionPredictions]:
    usual = tiny_detections()
    objects = usual.objects
    none = np.zeros(len(usual.score), dtype=bool)
    # Equal within an image: between images COCO's own rule depends on their order.
    tied = 0.9 - 0.02 * usual.image
    return [
        usual,
        tiny_detections(count=1),
        tiny_detections(count=9, classes=10, seed=1),
        altered(usual, keep=none),
        altered(usual, without_objects=True),
        altered(usual, keep=none, without_objects=True),
        altered(usual, crowd=np.ones(len(objects.label), dtype=bool)),
        altered(usual, score=tied.astype(np.float32)),
    ]


def _cases() -> list[ClassificationPredictions]:
    usual = tiny_predictions()
    rows = np.arange(len(usual))
    sure = usual.logits.copy()
    sure[rows, usual.target] += 200
    wrong = usual.logits.copy()
    wrong[rows, (usual.target + 1) % 4] += 200
    extremes = [
        ClassificationPredictions(logits, usual.target, usual.index)
        for logits in (sure, wrong, np.zeros_like(sure))
    ]
    few, many = tiny_predictions(count=1), tiny_predictions(count=37, classes=10, seed=1)
    return [usual, few, many, *extremes]


def _columns(predictions: Predictions) -> tuple[bytes, ...]:
    """Return what a metric must not write into, as bytes."""
    if isinstance(predictions, DetectionPredictions):
        own = (predictions.boxes, predictions.score, predictions.label, predictions.offsets)
        return (*(column.tobytes() for column in own), predictions.objects.tobytes())
    return predictions.logits.tobytes(), predictions.target.tobytes()


def _check_case(name: str, metric: Any, predictions: Predictions) -> None:
    kept = _columns(predictions)
    value = metric(predictions)
    _check_value(name, metric, value)
    order = stream("order", len(predictions)).permutation(len(predictions))
    shuffled = metric(predictions.take(order))
    assert _agree(value, shuffled, _ROUNDING), (
        f"{name}: must not depend on the order of the images, got {value!r} and {shuffled!r}"
    )
    assert _columns(predictions) == kept, f"{name}: the predictions must stay untouched"
    _check_caveat(name, metric, predictions)
    _check_replicated(name, metric, predictions, value)
    terms = metric.terms(predictions)
    if terms is None or isinstance(value, Undefined):
        return
    assert isinstance(terms, Terms), f"{name}: terms must return Terms or None, got {terms!r}"
    assert len(terms.values) == len(predictions), f"{name}: must have one row of terms per image"
    assert _agree(value, estimate(terms), _SINGLE), (
        f"{name}: value and terms must agree, got {value!r} and {estimate(terms)!r}"
    )


def _check_value(name: str, metric: Any, value: Any) -> None:
    if isinstance(value, Undefined):
        assert value.reason.strip(), f"{name}: an undefined value must have a reason"
        return
    assert isinstance(value, float), (
        f"{name}: must return a float, got {type(value).__name__}; return Undefined for no value"
    )
    low, high = metric.range
    assert math.isnan(value) or low <= value <= high, (
        f"{name}: must be within its range [{low:g}, {high:g}], got {value!r}"
    )


def _check_replicated(
    name: str, metric: Any, predictions: Predictions, value: float | Undefined
) -> None:
    """Check the values on resampled data sets, and that the first number is that of all images."""
    if not hasattr(metric, "replicated"):
        return
    weights = bootstrap_weights(len(predictions), replicates=100, seed=0)
    found = metric.replicated(predictions, weights)
    if isinstance(found, Undefined) or isinstance(value, Undefined):
        both = isinstance(found, Undefined) and isinstance(value, Undefined)
        assert both, f"{name}: value and replicated must be undefined together"
        return
    assert isinstance(found, Replicated), (
        f"{name}: replicated must return Replicated or Undefined, got {found!r}"
    )
    assert found.values.shape == (100,), (
        f"{name}: must have one value for each resampled data set, got {found.values.shape}"
    )
    assert _agree(value, found.value, _SINGLE), (
        f"{name}: value and replicated must agree, got {value!r} and {found.value!r}"
    )


def _check_caveat(name: str, metric: Any, predictions: Predictions) -> None:
    if not hasattr(metric, "caveat"):
        is_silent = getattr(metric, "task", "classification") == "classification"
        assert is_silent, f"{name}: must have a caveat that states the protocol of its numbers"
        return
    caveat = metric.caveat(predictions)
    assert isinstance(caveat, str), f"{name}: caveat must return a str, got {caveat!r}"
    assert "\n" not in caveat, f"{name}: caveat must be one line, got {caveat!r}"


def _is_undefined(value: Any) -> bool:
    return isinstance(value, Undefined) or math.isnan(value)


def _agree(a: float | Undefined, b: float | Undefined, tolerance: float) -> bool:
    if isinstance(a, Undefined) or isinstance(b, Undefined):
        return a == b
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance) or (
        math.isnan(a) and math.isnan(b)
    )
