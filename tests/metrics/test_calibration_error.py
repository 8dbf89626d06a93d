import json

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.errors import UsageError
from shrinkproof.metrics.calibration import (
    EqualMassCalibrationError,
    ExpectedCalibrationError,
    reliability,
)
from shrinkproof.metrics.derived import _KNOWN, Derived
from shrinkproof.predictions import ClassificationPredictions


@pytest.fixture
def stated():
    """Make predictions of two classes with exactly the given confidences."""

    def make(confidence, correct):
        count = len(confidence)
        predictions = ClassificationPredictions(
            logits=np.zeros((count, 2), dtype=np.float32),
            target=np.zeros(count, dtype=np.int64),
            index=np.arange(count),
        )
        zeros = np.zeros(count)
        _KNOWN[predictions] = Derived(
            correct=np.asarray(correct, dtype=np.float64),
            confidence=np.asarray(confidence, dtype=np.float64),
            nll=zeros,
            brier=zeros,
        )
        return predictions

    return make


def ece(predictions, bins=15):
    return ExpectedCalibrationError(bins=bins)(predictions)


def equal_mass(predictions, bins=15):
    return EqualMassCalibrationError(bins=bins)(predictions)


def from_seed(seed, count=200, scale=3.0):
    draws = np.random.default_rng(seed)
    return ClassificationPredictions(
        logits=(scale * draws.normal(size=(count, 5))).astype(np.float32),
        target=draws.integers(0, 5, count),
        index=np.arange(count),
    )


class TestEqualWidth:
    def test_four_images_in_two_bins_by_hand(self, stated):
        # (0, .5]: confidence .45, accuracy .5; (.5, 1]: confidence .85, accuracy .5.
        found = ece(stated([0.4, 0.5, 0.8, 0.9], [1, 0, 1, 0]), bins=2)
        assert found == pytest.approx(0.5 * 0.05 + 0.5 * 0.35, abs=1e-12)

    def test_confidence_one_belongs_to_the_last_bin(self, stated):
        # torchmetrics opens a phantom bin for 1.0 and says 0.525.
        assert ece(stated([1.0, 0.95], [1, 0]), bins=2) == pytest.approx(0.475, abs=1e-12)

    def test_confidence_zero_belongs_to_the_first_bin(self, stated):
        assert ece(stated([0.0, 0.1], [0, 0]), bins=2) == pytest.approx(0.05, abs=1e-12)
        assert reliability(stated([0.0, 0.1], [0, 0]), bins=2).count.tolist() == [2]

    def test_an_upper_edge_belongs_to_its_bin(self, stated):
        for bins in (2, 3, 5, 7, 10, 15):
            edges = np.arange(1, bins + 1) / bins
            found = reliability(stated(edges, np.ones(bins)), bins=bins)
            assert found.count.tolist() == [1] * bins
            assert np.array_equal(found.high, found.confidence)

    def test_the_mean_confidence_counts_not_the_center(self, stated):
        assert ece(stated([0.9, 0.9], [1, 1]), bins=1) == pytest.approx(0.1, abs=1e-12)

    def test_signs_cancel_within_a_bin_only(self, stated):
        predictions = stated([0.6, 0.6, 0.9, 0.9], [1, 1, 1, 0])
        assert ece(predictions, bins=1) == pytest.approx(0.0, abs=1e-12)
        assert ece(predictions, bins=4) == pytest.approx(0.4, abs=1e-12)

    def test_always_right_and_certain_is_zero(self, stated):
        assert ece(stated(np.ones(9), np.ones(9))) == 0

    def test_a_calibrated_constant_is_zero(self, stated):
        assert ece(stated(np.full(10, 0.7), np.arange(10) < 7)) == pytest.approx(0, abs=1e-12)

    def test_a_calibrated_model_tends_to_zero(self, stated):
        draws = np.random.default_rng(0)
        confidence = draws.uniform(0.2, 1, 100_000)
        predictions = stated(confidence, draws.random(100_000) < confidence)
        assert ece(predictions) < 0.006
        assert equal_mass(predictions) < 0.006

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 9_999), scale=st.sampled_from([0.0, 2.0, 200.0]))
    def test_more_bins_never_lower_it(self, seed, scale):
        predictions = from_seed(seed, scale=scale)
        coarse, fine = ece(predictions, bins=5), ece(predictions, bins=15)
        assert 0 <= coarse <= fine + 1e-12
        assert fine <= 1

    @pytest.mark.parametrize("bins", [0, 1_001, 1.5, "15", True])
    def test_impossible_bins_are_refused(self, bins):
        with pytest.raises(pydantic.ValidationError, match="bins"):
            ExpectedCalibrationError(bins=bins)


class TestEqualMass:
    def test_six_images_in_three_bins_by_hand(self, stated):
        confidence = [0.9, 0.5, 0.6, 0.8, 0.95, 0.7]
        correct = [1, 0, 1, 1, 0, 1]
        # {.5, .6}: .55 - .5; {.7, .8}: .75 - 1; {.9, .95}: .925 - .5
        found = equal_mass(stated(confidence, correct), bins=3)
        assert found == pytest.approx((0.05 + 0.25 + 0.425) / 3, abs=1e-12)

    def test_the_first_bins_take_the_rest(self, stated):
        terms = EqualMassCalibrationError(bins=3).terms(
            stated([0.1, 0.2, 0.3, 0.4, 0.5], np.ones(5))
        )
        assert (terms.values != 0).sum(axis=0).tolist() == [2, 2, 1]

    def test_equal_values_are_never_split(self, stated):
        confidence = [0.5, 0.8, 0.8, 0.8, 0.8, 0.9]
        terms = EqualMassCalibrationError(bins=3).terms(stated(confidence, np.zeros(6)))
        # The first run {.5, .8} ends at .8 and takes every .8; the second run is empty.
        assert (terms.values != 0).sum(axis=0).tolist() == [5, 1]

    def test_all_tied_is_one_bin(self, stated):
        found = equal_mass(stated(np.full(8, 0.75), np.arange(8) < 4))
        assert found == pytest.approx(0.25, abs=1e-12)

    def test_fewer_images_than_bins(self, stated):
        assert equal_mass(stated([0.6, 0.8], [1, 0])) == pytest.approx(0.6, abs=1e-12)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 9_999), places=st.integers(1, 4))
    def test_it_lies_between_the_mean_gap_and_one(self, seed, places):
        logits = np.round(from_seed(seed).logits, places)
        predictions = from_seed(seed)
        predictions = ClassificationPredictions(
            logits=logits, target=predictions.target, index=predictions.index
        )
        assert equal_mass(predictions, bins=1) - 1e-12 <= equal_mass(predictions) <= 1


class TestReliability:
    def test_its_bins_give_the_error(self):
        predictions = from_seed(4)
        found = reliability(predictions)
        gap = np.abs(found.confidence - found.accuracy) @ found.count / found.count.sum()
        assert gap == pytest.approx(ece(predictions), abs=1e-12)
        assert found.count.min() >= 1
        assert ((found.low < found.confidence) & (found.confidence <= found.high)).all()

    def test_conditions_are_pooled_as_if_they_were_one(self):
        whole = from_seed(5)
        parts = (whole.take(np.arange(start, start + 50)) for start in range(0, 200, 50))
        pooled, single = reliability(parts), reliability(whole)
        for name in ("low", "high", "count"):
            assert np.array_equal(getattr(pooled, name), getattr(single, name))
        assert pooled.accuracy == pytest.approx(single.accuracy, abs=1e-12)
        assert pooled.confidence == pytest.approx(single.confidence, abs=1e-12)

    def test_no_images_have_no_bins(self):
        assert len(reliability([]).count) == 0

    def test_it_is_plain_json(self):
        value = reliability(from_seed(6), bins=3).as_json()
        assert list(json.loads(json.dumps(value))) == [
            "low",
            "high",
            "count",
            "confidence",
            "accuracy",
        ]

    def test_no_bins_are_refused(self):
        with pytest.raises(UsageError, match="bins must be at least 1, got 0"):
            reliability(from_seed(0), bins=0)


def test_equal_logits_in_another_order_of_classes_are_a_tie():
    # Both images have the softmax (.55, .15, .15, .15), summed in another order.
    logits = np.log(np.array([[0.55, 0.15, 0.15, 0.15], [0.15, 0.15, 0.15, 0.55]]))
    predictions = ClassificationPredictions(
        logits=np.tile(logits, (50, 1)).astype(np.float32),
        target=np.tile(np.array([0, 0]), 50),
        index=np.arange(100),
    )
    # One bin: half are right, so the gap is |.55 - .5|; split by noise it would be larger.
    assert EqualMassCalibrationError(bins=2)(predictions) == pytest.approx(0.05, abs=1e-6)
