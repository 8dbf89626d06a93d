"""Calibration errors beside the expected one: other norms, sweep, without bins, of every class."""

import doctest
import importlib
import math
from itertools import pairwise

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from shrinkproof.metrics.binned import (
    DebiasedCalibrationError,
    MaximumCalibrationError,
    Overconfidence,
    RootMeanSquareCalibrationError,
    Underconfidence,
)
from shrinkproof.metrics.binning import tied, upper_edges
from shrinkproof.metrics.calibration import (
    ConfidenceGap,
    EqualMassCalibrationError,
    ExpectedCalibrationError,
)
from shrinkproof.metrics.classwise import (
    MOST_TERMS,
    AdaptiveCalibrationError,
    ClasswiseCalibrationError,
)
from shrinkproof.metrics.derived import _KNOWN, Derived
from shrinkproof.metrics.sweep import SweepCalibrationError
from shrinkproof.metrics.unbinned import (
    KolmogorovSmirnovCalibrationError,
    SmoothCalibrationError,
    smoothed_error,
)
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.statistics import bootstrap_weights, estimate, interval

TOP = (
    RootMeanSquareCalibrationError(),
    RootMeanSquareCalibrationError(binning="equal-mass"),
    MaximumCalibrationError(),
    DebiasedCalibrationError(),
    DebiasedCalibrationError(binning="equal-width"),
    SweepCalibrationError(),
    SweepCalibrationError(norm=2),
    SmoothCalibrationError(),
    KolmogorovSmirnovCalibrationError(),
    Overconfidence(),
    Underconfidence(),
    ConfidenceGap(),
)
ALL = (*TOP, ClasswiseCalibrationError(), AdaptiveCalibrationError())
GRIDS = st.sampled_from([2, 8, 256, 10**9])


def stated(confidence, correct):
    """Return predictions of two classes with exactly the given confidences."""
    count = len(confidence)
    predictions = ClassificationPredictions(
        logits=np.zeros((count, 2), dtype=np.float32),
        target=np.zeros(count, dtype=np.int64),
        index=np.arange(count),
    )
    _KNOWN[predictions] = Derived(
        correct=np.asarray(correct, dtype=np.float64),
        confidence=np.asarray(confidence, dtype=np.float64),
        nll=np.zeros(count),
        brier=np.zeros(count),
    )
    return predictions


def predict(prob, target):
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(np.asarray(prob, dtype=np.float64)), -1e4)
    return ClassificationPredictions(
        logits=logits.astype(np.float32),
        target=np.asarray(target, dtype=np.int64),
        index=np.arange(len(target)),
    )


def from_seed(seed, count=200, scale=3.0, classes=5):
    draws = np.random.default_rng(seed)
    return ClassificationPredictions(
        logits=(scale * draws.normal(size=(count, classes))).astype(np.float32),
        target=draws.integers(0, classes, count),
        index=np.arange(count),
    )


def on_a_grid(seed, count, levels):
    """Return confidences on a grid, 0 and 1 among them, and whether they are right."""
    draws = np.random.default_rng(seed)
    confidence = np.round(draws.random(count) * levels) / levels
    return confidence, (draws.random(count) < confidence ** draws.choice([0.2, 1, 5])) * 1.0


class TestRootMeanSquare:
    def test_four_images_in_two_bins_by_hand(self):
        # (0, .5]: confidence .45, accuracy .5; (.5, 1]: confidence .85, accuracy .5.
        predictions = stated([0.4, 0.5, 0.8, 0.9], [1, 0, 1, 0])
        found = RootMeanSquareCalibrationError(bins=2)(predictions)
        assert found == pytest.approx(math.sqrt(0.5 * 0.05**2 + 0.5 * 0.35**2), abs=1e-12)
        same = RootMeanSquareCalibrationError(bins=2, binning="equal-mass")(predictions)
        assert same == pytest.approx(found, abs=1e-12)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 9_999), count=st.integers(1, 90), levels=GRIDS)
    def test_it_lies_between_the_mean_gap_and_the_largest(self, seed, count, levels):
        predictions = stated(*on_a_grid(seed, count, levels))
        middle = RootMeanSquareCalibrationError()(predictions)
        assert ExpectedCalibrationError()(predictions) <= middle + 1e-12
        assert middle <= MaximumCalibrationError()(predictions) + 1e-12
        equal_mass = RootMeanSquareCalibrationError(binning="equal-mass")(predictions)
        assert EqualMassCalibrationError()(predictions) <= equal_mass + 1e-12


class TestMaximum:
    def test_small_bins_can_be_left_out(self):
        predictions = stated([0.3, 0.8, 0.9], [1, 1, 1])
        assert MaximumCalibrationError(bins=2)(predictions) == pytest.approx(0.7, abs=1e-12)
        without = MaximumCalibrationError(bins=2, minimum_count=2)(predictions)
        assert without == pytest.approx(0.15, abs=1e-12)

    def test_no_bin_left_is_undefined(self):
        predictions = stated([0.3, 0.8, 0.9], [1, 1, 1])
        assert MaximumCalibrationError(bins=2, minimum_count=3)(predictions) == Undefined(
            "no bin holds 3 images, the fullest one 2"
        )

    def test_a_minimum_below_one_is_refused(self):
        with pytest.raises(pydantic.ValidationError, match="minimum_count"):
            MaximumCalibrationError(minimum_count=0)


class TestDebiased:
    def test_what_chance_explains_is_taken_away(self):
        # Four images at .9, three of them right: gap .15, chance .75 * .25 / 3.
        found = DebiasedCalibrationError(bins=1)(stated([0.9] * 4, [1, 1, 1, 0]))
        assert found == 0.0
        # One of four right: gap .65.
        found = DebiasedCalibrationError(bins=1)(stated([0.9] * 4, [1, 0, 0, 0]))
        assert found == pytest.approx(math.sqrt(0.65**2 - 0.0625), abs=1e-12)

    def test_bins_with_one_image_add_nothing_but_count(self):
        predictions = stated([0.2, 0.8, 0.8], [1, 1, 1])
        found = DebiasedCalibrationError(bins=2, binning="equal-width")(predictions)
        assert found == pytest.approx(math.sqrt(2 / 3 * 0.04), abs=1e-12)

    def test_a_bias_that_cannot_be_estimated_is_undefined(self):
        assert DebiasedCalibrationError()(stated([0.2, 0.8], [1, 1])) == Undefined(
            "no bin holds two images, so the bias cannot be estimated"
        )

    def test_its_square_is_unbiased_where_the_plain_one_is_not(self):
        draws = np.random.default_rng(0)
        plain, debiased = [], []
        for _ in range(300):
            confidence = draws.uniform(0.3, 1, 300)
            predictions = stated(confidence, draws.random(300) < confidence - 0.1)
            debiased.append(DebiasedCalibrationError(binning="equal-width")(predictions) ** 2)
            plain.append(RootMeanSquareCalibrationError()(predictions) ** 2)
        assert np.mean(debiased) == pytest.approx(0.01, abs=0.001)
        assert np.mean(plain) > 0.013


class TestSweep:
    def test_it_stops_before_accuracy_falls(self):
        # Two bins: 1/2, 1/2. Three bins: {.2}, ... fall: 1, 0, 1/2.
        predictions = stated([0.2, 0.4, 0.6, 0.8], [1, 0, 0, 1])
        found = SweepCalibrationError()(predictions)
        assert found == pytest.approx((abs(0.6 - 1) + abs(1.4 - 1)) / 4, abs=1e-12)
        squared = SweepCalibrationError(norm=2)(predictions)
        assert squared == pytest.approx(math.sqrt((0.2**2 + 0.2**2) / 2), abs=1e-12)

    @settings(max_examples=100, deadline=None)
    @given(seed=st.integers(0, 9_999), count=st.integers(1, 40), levels=GRIDS)
    def test_it_is_the_brute_force_search(self, seed, count, levels):
        confidence, correct = on_a_grid(seed, count, levels)
        expected = math.nan
        for bins in range(1, count + 1):
            upper = upper_edges(np.sort(tied(confidence)), bins)
            member = [np.searchsorted(upper, tied(confidence)) == k for k in range(len(upper))]
            accuracy = [correct[in_bin].mean() for in_bin in member]
            if any(b < a for a, b in pairwise(accuracy)):
                break
            gaps = [abs((confidence - correct)[in_bin].sum()) for in_bin in member]
            expected = sum(gaps) / count
        found = SweepCalibrationError()(stated(confidence, correct))
        assert found == pytest.approx(expected, abs=1e-12)

    def test_perfectly_separated_images_have_a_bin_each(self):
        predictions = stated([0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1])
        found = SweepCalibrationError()(predictions)
        assert found == pytest.approx((0.1 + 0.2 + 0.3 + 0.1) / 4, abs=1e-12)

    def test_other_norms_are_refused(self):
        with pytest.raises(pydantic.ValidationError, match="norm"):
            SweepCalibrationError(norm=3)


class TestSmooth:
    @pytest.mark.parametrize("bandwidth", [0.02, 0.1, 0.5])
    def test_it_is_the_integral_of_reflected_kernels(self, bandwidth):
        confidence, correct = on_a_grid(3, 60, 10**9)
        at = (np.arange(4_000) + 0.5)[:, None] / 4_000
        smoothed = sum(
            norm.pdf(at, 2 * k + sign * confidence, bandwidth) @ (confidence - correct)
            for k in range(-3, 4)
            for sign in (1, -1)
        )
        expected = np.abs(smoothed / 60).mean()
        assert smoothed_error(stated(confidence, correct), bandwidth) == pytest.approx(
            expected, abs=1e-6
        )

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 9_999), count=st.integers(1, 90), levels=GRIDS)
    def test_it_is_its_own_bandwidth(self, seed, count, levels):
        predictions = stated(*on_a_grid(seed, count, levels))
        found = SmoothCalibrationError()(predictions)
        assert smoothed_error(predictions, found) == pytest.approx(found, abs=1e-8)

    def test_one_sign_everywhere_is_the_mean_gap(self):
        confidence = np.linspace(0.3, 1, 500)
        found = SmoothCalibrationError()(stated(confidence, np.zeros(500)))
        assert found == pytest.approx(confidence.mean(), abs=1e-9)

    def test_certain_and_right_is_zero(self):
        assert SmoothCalibrationError()(stated([0.0, 1.0, 1.0], [0, 1, 1])) == 0.0

    def test_gaps_that_are_far_apart_do_not_cancel_and_near_ones_do(self):
        far = stated(np.repeat([0.2, 0.9], 50), np.tile(np.arange(10) < 5, 10))
        near = stated(np.repeat([0.499, 0.501], 50), np.tile(np.arange(10) < 5, 10))
        assert SmoothCalibrationError()(far) > 0.2
        assert SmoothCalibrationError()(near) < 0.005


class TestKolmogorovSmirnov:
    def test_three_images_by_hand(self):
        # Correct minus confidence, ascending: -.5, +.3, +.1; cumulated -.5, -.2, -.1.
        found = KolmogorovSmirnovCalibrationError()(stated([0.9, 0.5, 0.7], [1, 0, 1]))
        assert found == pytest.approx(0.5 / 3, abs=1e-12)

    def test_ties_enter_together(self):
        found = KolmogorovSmirnovCalibrationError()(stated([0.5, 0.5], [0, 1]))
        assert found == pytest.approx(0.0, abs=1e-12)

    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 9_999), count=st.integers(1, 90), levels=GRIDS)
    def test_it_is_the_largest_sum_up_to_any_threshold(self, seed, count, levels):
        confidence, correct = on_a_grid(seed, count, levels)
        sums = [(correct - confidence)[confidence <= t].sum() / count for t in confidence]
        found = KolmogorovSmirnovCalibrationError()(stated(confidence, correct))
        assert found == pytest.approx(np.abs(sums).max(), abs=1e-12)
        assert abs(ConfidenceGap()(stated(confidence, correct))) <= found + 1e-12


class TestOverAndUnder:
    def test_bins_keep_their_sign(self):
        predictions = stated([0.4, 0.5, 0.8, 0.9], [1, 0, 1, 0])
        assert Underconfidence(bins=2)(predictions) == pytest.approx(0.5 * 0.05, abs=1e-12)
        assert Overconfidence(bins=2)(predictions) == pytest.approx(0.5 * 0.35, abs=1e-12)

    @settings(max_examples=50, deadline=None)
    @given(
        seed=st.integers(0, 9_999),
        count=st.integers(1, 90),
        levels=GRIDS,
        bins=st.sampled_from([1, 2, 15, 40]),
    )
    def test_their_sum_is_the_error_and_their_difference_the_mean_gap(
        self, seed, count, levels, bins
    ):
        predictions = stated(*on_a_grid(seed, count, levels))
        over = Overconfidence(bins=bins)(predictions)
        under = Underconfidence(bins=bins)(predictions)
        total = ExpectedCalibrationError(bins=bins)(predictions)
        assert over + under == pytest.approx(total, abs=1e-12)
        assert over - under == pytest.approx(ConfidenceGap()(predictions), abs=1e-12)


class TestClasswise:
    def test_two_images_and_two_classes_by_hand(self):
        # Class 0: .75 and .5, bins of halves: |.75 - 1|, |.5 - 0|; class 1: .25 + .5 - 1.
        predictions = predict([[0.75, 0.25], [0.5, 0.5]], [0, 1])
        found = ClasswiseCalibrationError(bins=2)(predictions)
        assert found == pytest.approx((0.75 + 0.25) / 4, abs=1e-6)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 9_999), count=st.integers(1, 60), scale=st.sampled_from([0, 2, 200]))
    def test_it_is_the_mean_of_binary_errors(self, seed, count, scale):
        predictions = from_seed(seed, count, scale)
        prob = np.exp(predictions.log_prob())
        errors = [
            ExpectedCalibrationError()(stated(prob[:, k], predictions.target == k))
            for k in range(5)
        ]
        found = ClasswiseCalibrationError()(predictions)
        assert found == pytest.approx(np.mean(errors), abs=1e-9)

    def test_a_class_without_images_counts_and_is_named(self):
        predictions = predict([[0.5, 0.2, 0.3], [0.5, 0.2, 0.3]], [0, 2])
        found = ClasswiseCalibrationError(bins=1)(predictions)
        assert found == pytest.approx((0.0 + 0.2 + 0.2) / 3, abs=1e-6)
        assert ClasswiseCalibrationError().caveat(predictions) == "class 1 of 3 has no images"
        assert AdaptiveCalibrationError().caveat(predictions) == "class 1 of 3 has no images"

    def test_terms_end_where_memory_would(self):
        count = MOST_TERMS // (15 * 1_000) + 1
        predictions = ClassificationPredictions(
            logits=np.zeros((count, 1_000), dtype=np.float32),
            target=np.zeros(count, dtype=np.int64),
            index=np.arange(count),
        )
        assert ClasswiseCalibrationError().terms(predictions) is None
        terms = ClasswiseCalibrationError(bins=2).terms(predictions.take(np.arange(50)))
        assert terms.values.shape == (50, 2_000)

    def test_it_has_no_interval_because_none_was_tested_widely(self):
        draws = np.random.default_rng(0)
        logits = draws.normal(size=(3_000, 10)).astype(np.float32)
        target = draws.integers(0, 10, 3_000)
        terms = ClasswiseCalibrationError().terms(
            ClassificationPredictions(logits, target, np.arange(3_000))
        )
        found = interval(terms, bootstrap_weights(3_000, seed=1))
        assert not found.is_stated
        assert found.reason == "no interval for errors of all classes has a tested coverage"


class TestAdaptive:
    def test_four_images_in_two_ranges_by_hand(self):
        probability = np.array([0.1, 0.3, 0.6, 0.8])
        predictions = predict(np.stack([probability, 1 - probability], axis=1), [1, 0, 1, 0])
        # Class 0: {.1, .3} one true: |.4 - 1|; {.6, .8} one true: |1.4 - 1|; class 1 mirrors it.
        found = AdaptiveCalibrationError(ranges=2)(predictions)
        assert found == pytest.approx((0.6 + 0.4) / 4, abs=1e-6)

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 9_999),
        count=st.integers(1, 60),
        scale=st.sampled_from([0.0, 2.0, 200.0]),
        ranges=st.sampled_from([1, 4, 15]),
    )
    def test_it_is_the_mean_of_binary_equal_mass_errors(self, seed, count, scale, ranges):
        predictions = from_seed(seed, count, scale)
        prob = np.exp(predictions.log_prob())
        metric = EqualMassCalibrationError(bins=ranges)
        errors = [metric(stated(prob[:, k], predictions.target == k)) for k in range(5)]
        found = AdaptiveCalibrationError(ranges=ranges)(predictions)
        assert found == pytest.approx(np.mean(errors), abs=1e-9)

    def test_probabilities_below_the_threshold_are_left_out(self):
        predictions = predict([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1])
        found = AdaptiveCalibrationError(ranges=1, threshold=0.5)(predictions)
        # Class 0: (.9 + .8 - 1) / 2; class 1: .7 - 1.
        assert found == pytest.approx((0.35 + 0.3) / 2, abs=1e-6)

    def test_no_probability_left_is_undefined(self):
        predictions = predict([[0.5, 0.5]], [0])
        assert AdaptiveCalibrationError(threshold=0.9)(predictions) == Undefined(
            "no probability reaches the threshold 0.9"
        )


class TestUnusualConfidences:
    @pytest.mark.parametrize("metric", ALL, ids=repr)
    def test_no_images_are_undefined(self, metric):
        value = metric(from_seed(0).take(np.arange(0)))
        assert isinstance(value, Undefined) or math.isnan(value)

    @pytest.mark.parametrize("metric", ALL, ids=repr)
    def test_one_image_has_its_own_gap(self, metric):
        value = metric(predict([[0.75, 0.25]], [1]))
        if isinstance(metric, DebiasedCalibrationError):
            assert isinstance(value, Undefined)
        else:
            expected = 0.0 if isinstance(metric, Underconfidence) else 0.75
            assert value == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("metric", TOP, ids=repr)
    def test_all_tied_is_one_gap(self, metric):
        value = metric(stated(np.full(8, 0.75), np.arange(8) < 4))
        expected = {
            "calibration.underconfidence": 0.0,
            "calibration.ece_debiased": math.sqrt(0.0625 - 0.25 / 7),
        }
        assert value == pytest.approx(expected.get(metric.name, 0.25), abs=1e-9)

    @pytest.mark.parametrize("metric", TOP, ids=repr)
    def test_certain_and_right_is_zero_and_certain_and_wrong_is_one(self, metric):
        right, wrong = stated(np.ones(5), np.ones(5)), stated(np.ones(5), np.zeros(5))
        assert metric(right) == pytest.approx(0.0, abs=1e-12)
        expected = 0.0 if isinstance(metric, Underconfidence) else 1.0
        assert metric(wrong) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("metric", ALL, ids=repr)
    def test_one_class_alone_is_always_right_and_certain(self, metric):
        assert metric(from_seed(1, classes=1)) == pytest.approx(0.0, abs=1e-12)

    @pytest.mark.parametrize("metric", ALL, ids=repr)
    def test_saturated_softmax_is_exactly_0_or_1(self, metric):
        logits = np.zeros((6, 3), dtype=np.float32)
        logits[:, 0] = 1e30
        predictions = ClassificationPredictions(logits, np.array([0, 0, 0, 1, 2, 2]), np.arange(6))
        expected = {
            "calibration.underconfidence": 0.0,
            "calibration.classwise_ece": (3 / 6 + 1 / 6 + 2 / 6) / 3,
            "calibration.ace": (3 / 6 + 1 / 6 + 2 / 6) / 3,
            "calibration.ece_debiased": math.sqrt(0.25 - 0.25 / 5),
        }
        assert metric(predictions) == pytest.approx(expected.get(metric.name, 0.5), abs=1e-12)

    @pytest.mark.parametrize("metric", TOP, ids=repr)
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 9_999), count=st.integers(1, 90))
    def test_probabilities_of_8_bit_do_not_depend_on_the_order(self, metric, seed, count):
        confidence, correct = on_a_grid(seed, count, 256)
        value = metric(stated(confidence, correct))
        order = np.random.default_rng(seed).permutation(count)
        again = metric(stated(confidence[order], correct[order]))
        if isinstance(value, Undefined):
            assert again == value
        else:
            low, high = metric.range
            assert low <= value <= high
            assert again == pytest.approx(value, abs=1e-9)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 9_999), steps=st.sampled_from([0.25, 0.1]))
    def test_logits_of_8_bit_are_ties_in_any_order_of_classes(self, seed, steps):
        draws = np.random.default_rng(seed)
        logits = (np.float32(steps) * draws.integers(-3, 4, size=(60, 4))).astype(np.float32)
        shuffled = draws.permuted(logits, axis=1)
        right = draws.random(60) < 0.5
        values = []
        for table in (logits, shuffled):
            top = table.argmax(axis=1)
            predictions = ClassificationPredictions(
                table, np.where(right, top, (top + 1) % 4).astype(np.int64), np.arange(60)
            )
            values.append([metric(predictions) for metric in TOP])
        assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_calibrated_models_tend_to_zero():
    draws = np.random.default_rng(0)
    confidence = draws.uniform(0.2, 1, 100_000)
    predictions = stated(confidence, draws.random(100_000) < confidence)
    for metric in TOP:
        if not isinstance(metric, MaximumCalibrationError):
            assert abs(metric(predictions)) < 0.012, metric


@pytest.mark.parametrize("metric", [ConfidenceGap(), ClasswiseCalibrationError()], ids=repr)
def test_terms_give_the_value(metric):
    predictions = from_seed(2, count=300)
    assert estimate(metric.terms(predictions)) == pytest.approx(metric(predictions), abs=1e-6)


@pytest.mark.parametrize("module", ["binned", "classwise", "corp", "murphy", "sweep", "unbinned"])
def test_examples_run(module):
    found = doctest.testmod(importlib.import_module(f"shrinkproof.metrics.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
