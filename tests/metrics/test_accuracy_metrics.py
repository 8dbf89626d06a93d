import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.accuracy import NLL, Brier, Top1
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.statistics import estimate


def predict(prob, target):
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(np.asarray(prob, dtype=np.float64)), -1e4)
    return ClassificationPredictions(
        logits=logits.astype(np.float32),
        target=np.asarray(target, dtype=np.int64),
        index=np.arange(len(target)),
    )


def random_predictions(seed, count=60, classes=4, scale=3.0):
    draws = np.random.default_rng(seed)
    return ClassificationPredictions(
        logits=(scale * draws.normal(size=(count, classes))).astype(np.float32),
        target=draws.integers(0, classes, count),
        index=np.arange(count),
    )


def test_three_images_by_hand():
    predictions = predict([[0.5, 0.25, 0.25], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]], [0, 2, 2])
    assert Top1()(predictions) == pytest.approx(2 / 3)
    assert NLL()(predictions) == pytest.approx(-math.log(0.5 * 0.3 * 0.6) / 3, abs=1e-6)
    first = 0.5**2 + 0.25**2 + 0.25**2
    second = 0.1**2 + 0.6**2 + 0.7**2
    third = 0.2**2 + 0.2**2 + 0.4**2
    assert Brier()(predictions) == pytest.approx((first + second + third) / 3, abs=1e-6)


def test_certain_and_right_is_zero_and_certain_and_wrong_is_two():
    assert Brier()(predict([[1, 0]], [0])) == 0
    assert Brier()(predict([[1, 0]], [1])) == 2
    assert NLL()(predict([[1, 0]], [1])) == 1e4


def test_the_lowest_class_wins_a_tie():
    assert Top1()(predict([[0.5, 0.5], [0.5, 0.5]], [0, 1])) == 0.5


def test_huge_logits_stay_finite():
    predictions = ClassificationPredictions(
        logits=np.array([[3e38, -3e38]], dtype=np.float32),
        target=np.array([1]),
        index=np.arange(1),
    )
    assert NLL()(predictions) == pytest.approx(6e38, rel=1e-6)
    assert Brier()(predictions) == 2


@pytest.mark.parametrize("name", METRICS.names())
def test_no_images_are_undefined(name):
    metric = METRICS.create(name)
    empty = random_predictions(0).take(np.zeros(0, dtype=np.int64))
    assert math.isnan(metric(empty))
    assert math.isnan(estimate(metric.terms(empty)))


@pytest.mark.parametrize("name", METRICS.names())
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 80), scale=st.sampled_from([0.0, 1.0, 60]))
def test_values_lie_in_range_ignore_order_and_equal_their_terms(name, seed, count, scale):
    metric = METRICS.create(name)
    predictions = random_predictions(seed, count=count, scale=scale)
    value = metric(predictions)
    low, high = metric.range
    assert low <= value <= high
    order = np.random.default_rng(seed).permutation(count)
    assert metric(predictions.take(order)) == pytest.approx(value, abs=1e-12)
    assert estimate(metric.terms(predictions)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("metric", [Top1(), NLL(), Brier()], ids=lambda m: m.name)
def test_the_mean_of_two_batches_is_the_whole(metric):
    whole = random_predictions(8, count=50)
    parts = [whole.take(np.arange(0, 20)), whole.take(np.arange(20, 50))]
    merged = (20 * metric(parts[0]) + 30 * metric(parts[1])) / 50
    assert metric(whole) == pytest.approx(merged, abs=1e-12)


def test_the_softmax_is_computed_once(monkeypatch):
    calls = []
    original = ClassificationPredictions.log_prob
    monkeypatch.setattr(
        ClassificationPredictions, "log_prob", lambda self: calls.append(1) or original(self)
    )
    predictions = random_predictions(1)
    for name in METRICS:
        metric = METRICS.create(name)
        metric(predictions)
        metric.terms(predictions)
    assert len(calls) == 1
