"""Conformance of metrics."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.randomness import stream
from shrinkproof.statistics import Terms, estimate
from shrinkproof.testing.component import check_component, example_settings
from shrinkproof.testing.toys import tiny_predictions

UNITS: Final = ("fraction", "ratio", "nat", "count", "bytes", "seconds")

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
    for predictions in _cases():
        _check_case(name, metric, predictions)
    value = metric(tiny_predictions().take(np.arange(0)))
    assert _is_undefined(value), f"{name}: must be nan without images, or Undefined, got {value}"


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


def _check_case(name: str, metric: Any, predictions: ClassificationPredictions) -> None:
    kept = (predictions.logits.copy(), predictions.target.copy())
    value = metric(predictions)
    _check_value(name, metric, value)
    order = stream("order", len(predictions)).permutation(len(predictions))
    shuffled = metric(predictions.take(order))
    assert _agree(value, shuffled, _ROUNDING), (
        f"{name}: must not depend on the order of the images, got {value!r} and {shuffled!r}"
    )
    untouched = np.array_equal(kept[0], predictions.logits) and np.array_equal(
        kept[1], predictions.target
    )
    assert untouched, f"{name}: the predictions must stay untouched"
    _check_caveat(name, metric, predictions)
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


def _check_caveat(name: str, metric: Any, predictions: ClassificationPredictions) -> None:
    if not hasattr(metric, "caveat"):
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
