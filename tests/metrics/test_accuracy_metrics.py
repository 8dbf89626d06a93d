import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.accuracy import NLL, Brier, Top1, TopBrier, WorstClass
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.statistics import estimate

ROUNDING = {np.dtype("float64"): 1e-12, np.dtype("float32"): 1e-6}

OF_CLASSES = [n for n in METRICS.names() if not hasattr(METRICS.get(n), "task")]
"""Metrics of classifiers; those of detectors have tests of their own."""


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


@pytest.mark.parametrize("name", OF_CLASSES)
def test_no_images_are_undefined(name):
    metric = METRICS.create(name)
    empty = random_predictions(0).take(np.zeros(0, dtype=np.int64))
    value, terms = metric(empty), metric.terms(empty)
    assert isinstance(value, Undefined) or math.isnan(value)
    assert terms is None or math.isnan(estimate(terms))


@pytest.mark.parametrize("name", OF_CLASSES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 80), scale=st.sampled_from([0.0, 1.0, 60]))
def test_values_lie_in_range_ignore_order_and_equal_their_terms(name, seed, count, scale):
    metric = METRICS.create(name)
    predictions = random_predictions(seed, count=count, scale=scale)
    value = metric(predictions)
    order = np.random.default_rng(seed).permutation(count)
    shuffled = metric(predictions.take(order))
    if isinstance(value, Undefined):
        assert shuffled == value
        return
    low, high = metric.range
    assert low <= value <= high
    assert shuffled == pytest.approx(value, abs=1e-10)
    terms = metric.terms(predictions)
    assert terms is None or estimate(terms) == pytest.approx(
        value, abs=ROUNDING[terms.values.dtype]
    )


@pytest.mark.parametrize("metric", [Top1(), NLL(), Brier(), TopBrier()], ids=lambda m: m.name)
def test_the_mean_of_two_batches_is_the_whole(metric):
    whole = random_predictions(8, count=50)
    parts = [whole.take(np.arange(0, 20)), whole.take(np.arange(20, 50))]
    merged = (20 * metric(parts[0]) + 30 * metric(parts[1])) / 50
    assert metric(whole) == pytest.approx(merged, abs=1e-12)


def test_the_softmax_is_computed_once(monkeypatch):
    images = []
    original = ClassificationPredictions.log_prob
    monkeypatch.setattr(
        ClassificationPredictions,
        "log_prob",
        lambda self: images.append(len(self)) or original(self),
    )
    predictions = random_predictions(1)
    for name in OF_CLASSES:
        metric = METRICS.create(name)
        metric(predictions)
        metric.terms(predictions)
    assert sum(images) == len(predictions)


def test_blocks_of_images_and_of_classes_change_nothing(monkeypatch):
    predictions = random_predictions(5, count=103, classes=7)
    whole = {name: METRICS.create(name)(predictions) for name in OF_CLASSES}
    monkeypatch.setattr("shrinkproof.metrics.derived._BLOCK", 206)
    again = predictions.take(np.arange(103))
    for name, value in whole.items():
        assert METRICS.create(name)(again) == pytest.approx(value, abs=1e-14), name


def test_the_top_brier_score_looks_at_the_predicted_class_alone():
    predictions = predict([[0.5, 0.25, 0.25], [0.1, 0.6, 0.3]], [0, 2])
    assert TopBrier()(predictions) == pytest.approx((0.5**2 + 0.6**2) / 2, abs=1e-6)
    # With two classes both probabilities are equally far off.
    two = random_predictions(3, classes=2)
    assert TopBrier()(two) == pytest.approx(Brier()(two) / 2, abs=1e-12)


class TestWorstClass:
    def test_the_smallest_recall_counts(self):
        predictions = predict(np.eye(3)[[0, 1, 1, 2, 0]], [0, 1, 1, 2, 2])
        assert WorstClass()(predictions) == 0.5
        assert WorstClass().caveat(predictions) == "worst class: 2 (2 images)"

    def test_classes_without_images_are_named_and_do_not_count(self):
        predictions = predict(np.eye(4)[[1]], [1])
        assert WorstClass()(predictions) == 1.0
        assert WorstClass().caveat(predictions) == (
            "worst class: 1 (1 image); classes 0, 2, 3 of 4 have no images"
        )

    def test_one_missing_class_is_singular(self):
        predictions = predict(np.eye(2)[[1]], [1])
        assert WorstClass().caveat(predictions).endswith("; class 0 of 2 has no images")

    def test_many_missing_classes_are_counted(self):
        predictions = predict(np.eye(9)[[8]], [8])
        assert (
            WorstClass()
            .caveat(predictions)
            .endswith("; 8 of 9 classes have no images (0, 1, 2, 3, 4, 5, ...)")
        )

    def test_no_images_have_no_worst_class(self):
        empty = random_predictions(0).take(np.arange(0))
        assert WorstClass()(empty) == Undefined("there are no images")
        assert WorstClass().caveat(empty) == ""
