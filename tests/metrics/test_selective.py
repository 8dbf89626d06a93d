import doctest
import importlib
import itertools
import math

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.ranking import ranking, sureness
from shrinkproof.metrics.risk_coverage import (
    AUGRC,
    AURC,
    EAURC,
    CoverageAtRisk,
    RiskAtCoverage,
)
from shrinkproof.metrics.selective import AUROC, FPR95, AUPRError, AUPRSuccess
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined

RANKED = (AUROC, AUPRError, AUPRSuccess, FPR95)
CURVES = (AURC, EAURC, AUGRC, RiskAtCoverage, CoverageAtRisk)
ALL = (*RANKED, *CURVES)


def stated(confidence, correct):
    """Make predictions of two classes with these confidences, above 1/2, to float32."""
    confidence = np.asarray(confidence, dtype=np.float64)
    logits = np.zeros((len(confidence), 2), dtype=np.float32)
    with np.errstate(divide="ignore"):
        logits[:, 0] = np.minimum(np.log(confidence / (1 - confidence)), 200)
    return ClassificationPredictions(
        logits=logits,
        target=1 - np.asarray(correct, dtype=np.int64),
        index=np.arange(len(confidence)),
    )


def drawn(seed, count=60, steps=None):
    draws = np.random.default_rng(seed)
    confidence = draws.uniform(0.5, 1, count)
    if steps:
        confidence = 0.5 + np.floor((confidence - 0.5) * steps) / steps
    return stated(confidence, draws.random(count) < confidence)


def orders(confidence):
    """Yield every order of the images, the surest first, that the confidences allow."""
    runs = [
        [i for i, c in enumerate(confidence) if c == value]
        for value in sorted(set(confidence), reverse=True)
    ]
    for parts in itertools.product(*(itertools.permutations(run) for run in runs)):
        yield [i for part in parts for i in part]


def over_all_orders(confidence, correct, value):
    return np.mean([value([1 - correct[i] for i in order]) for order in orders(confidence)])


def aurc_of(wrong):
    return np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1))


def augrc_of(wrong):
    curve = np.concatenate([[0], np.cumsum(wrong)]) / len(wrong)
    return np.trapezoid(curve, dx=1 / len(wrong))


TIED = (
    ([0.9, 0.9, 0.9, 0.9], [1, 0, 0, 1]),
    ([0.95, 0.9, 0.9, 0.6, 0.6, 0.6], [1, 0, 1, 0, 0, 1]),
    ([0.9, 0.8, 0.8, 0.8, 0.7, 0.7], [0, 1, 1, 0, 1, 0]),
)


class TestByHand:
    def test_auroc_counts_pairs_and_ties_half(self):
        # Right .9 .7, wrong .8 .7: .9 beats both, .7 loses to .8 and ties with .7.
        assert AUROC()(stated([0.9, 0.7, 0.8, 0.7], [1, 1, 0, 0])) == 2.5 / 4

    def test_aupr_of_four_images(self):
        # Unsure first: .6 wrong (1/1), .7 right, .8 wrong (2/3), .9 right.
        predictions = stated([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
        assert AUPRError()(predictions) == pytest.approx((1 + 2 / 3) / 2, abs=1e-12)
        assert AUPRSuccess()(predictions) == pytest.approx((1 + 2 / 3) / 2, abs=1e-12)

    def test_fpr95_keeps_at_least_95_percent_of_the_right(self):
        # 20 right answers: 19 of them are 95 %, and one of two wrong answers is surer than that.
        confidence = np.concatenate([np.linspace(0.99, 0.9, 19), [0.6], [0.95, 0.7]])
        predictions = stated(confidence, [1] * 20 + [0, 0])
        assert FPR95()(predictions) == 0.5

    def test_fpr95_takes_the_next_image_where_95_percent_is_no_whole_number(self):
        # 19 right answers: 18 of them are 94.7 %, so the last one is needed as well.
        confidence = np.concatenate([np.linspace(0.99, 0.9, 18), [0.6], [0.95, 0.7]])
        assert FPR95()(stated(confidence, [1] * 19 + [0, 0])) == 1.0

    def test_aurc_of_three_images(self):
        # Right, wrong, right: 0, 1/2, 1/3.
        predictions = stated([0.9, 0.8, 0.7], [1, 0, 1])
        assert AURC()(predictions) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3, abs=1e-12)
        # Perfect: 0, 0, 1/3.
        assert EAURC()(predictions) == pytest.approx(1 / 6, abs=1e-12)
        # Trapezoids of 0, 0, 1/3, 1/3 at 0, 1/3, 2/3, 1.
        assert AUGRC()(predictions) == pytest.approx((1 / 6 + 1 / 3) / 3, abs=1e-12)

    def test_risk_at_coverage_rounds_the_number_of_images_up(self):
        predictions = stated([0.95, 0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0, 0])
        assert RiskAtCoverage(coverage=0.6)(predictions) == pytest.approx(1 / 3)
        assert RiskAtCoverage(coverage=0.61)(predictions) == pytest.approx(2 / 4)
        assert RiskAtCoverage(coverage=0.01)(predictions) == 0

    def test_a_whole_number_of_images_is_not_rounded_up_by_float_products(self):
        # 0.07 * 100 is 7.000000000000001 in double precision.
        predictions = stated(np.linspace(0.99, 0.51, 100), np.arange(100) < 7)
        assert RiskAtCoverage(coverage=0.07)(predictions) == 0

    def test_coverage_at_risk_takes_the_largest_share_that_fits(self):
        # Error rates 0, 1/2, 1/3, 1/4, 2/5.
        predictions = stated([0.95, 0.9, 0.8, 0.7, 0.6], [1, 0, 1, 1, 0])
        assert CoverageAtRisk(risk=0.25)(predictions) == 0.8
        assert CoverageAtRisk(risk=0.1)(predictions) == 0.2
        assert CoverageAtRisk(risk=0.4)(predictions) == 1
        assert CoverageAtRisk(risk=1.0)(predictions) == 1

    def test_coverage_at_risk_is_zero_where_the_surest_is_wrong_and_nothing_fits(self):
        assert CoverageAtRisk()(stated([0.9, 0.8], [0, 1])) == 0


class TestTies:
    @pytest.mark.parametrize(("confidence", "correct"), TIED)
    def test_curves_are_means_over_all_orders(self, confidence, correct):
        predictions = stated(confidence, correct)
        assert AURC()(predictions) == pytest.approx(
            over_all_orders(confidence, correct, aurc_of), abs=1e-12
        )
        assert AUGRC()(predictions) == pytest.approx(
            over_all_orders(confidence, correct, augrc_of), abs=1e-12
        )
        for answered in range(1, len(correct)):
            risk = RiskAtCoverage(coverage=answered / len(correct))(predictions)
            expected = over_all_orders(
                confidence, correct, lambda wrong, n=answered: np.mean(wrong[:n])
            )
            assert risk == pytest.approx(expected, abs=1e-12)

    def test_all_tied_has_the_closed_forms(self):
        predictions = stated(np.full(40, 0.8), np.arange(40) < 30)
        assert AUROC()(predictions) == 0.5
        assert AUPRError()(predictions) == 0.25
        assert AUPRSuccess()(predictions) == 0.75
        assert FPR95()(predictions) == 1
        assert AURC()(predictions) == pytest.approx(0.25, abs=1e-12)
        assert AUGRC()(predictions) == pytest.approx(0.125, abs=1e-12)
        assert RiskAtCoverage(coverage=0.3)(predictions) == pytest.approx(0.25, abs=1e-12)
        assert CoverageAtRisk(risk=0.25)(predictions) == 1
        assert CoverageAtRisk(risk=0.24)(predictions) == 0

    def test_saturated_confidences_are_one_tie(self):
        # Logits 40 and 45 apart: both confidences are 1 to 12 digits.
        logits = np.array([[45, 0], [40, 0], [0, 1]], dtype=np.float32)
        predictions = ClassificationPredictions(logits, np.array([1, 0, 1]), np.arange(3))
        assert ranking(predictions).count.tolist() == [2, 1]
        # The right one among the saturated ties with the wrong one, the last is below it.
        assert AUROC()(predictions) == 0.25

    def test_another_order_of_classes_is_no_other_score(self):
        draws = np.random.default_rng(3)
        rows = draws.normal(size=(200, 1, 7)).astype(np.float32)
        logits = np.concatenate([draws.permuted(rows, axis=2) for _ in range(3)], axis=1)
        predictions = ClassificationPredictions(
            logits=logits.reshape(600, 7), target=np.zeros(600, np.int64), index=np.arange(600)
        )
        for score in ("confidence", "margin", "entropy"):
            assert ranking(predictions, score).count.tolist() == [3] * 200


class TestUndefined:
    @pytest.mark.parametrize("cls", RANKED)
    @pytest.mark.parametrize(("correct", "which"), [(1, "right"), (0, "wrong")])
    def test_one_kind_of_answer_cannot_be_told_apart(self, cls, correct, which):
        found = cls()(stated([0.9, 0.8, 0.7], [correct] * 3))
        assert isinstance(found, Undefined)
        assert f"all 3 answers are {which}" in found.reason

    @pytest.mark.parametrize("cls", CURVES)
    def test_curves_are_defined_for_one_kind_of_answer(self, cls):
        right, wrong = (cls()(stated([0.9, 0.8, 0.7], [c] * 3)) for c in (1, 0))
        expected = {"coverage_at_risk": (1, 0), "augrc": (0, 0.5), "eaurc": (0, 0)}
        assert (right, wrong) == expected.get(cls.name.removeprefix("selective."), (0, 1))

    @pytest.mark.parametrize("cls", ALL)
    def test_no_image_is_nan(self, cls):
        assert math.isnan(cls()(stated([], [])))
        assert len(ranking(stated([], [])).count) == 0

    @pytest.mark.parametrize("cls", CURVES)
    def test_one_image_is_defined(self, cls):
        assert not math.isnan(cls()(stated([0.9], [1])))

    def test_one_class_only_is_always_right_and_certain(self):
        predictions = ClassificationPredictions(
            np.zeros((4, 1), np.float32), np.zeros(4, np.int64), np.arange(4)
        )
        for score in ("confidence", "margin", "entropy"):
            assert AURC(score=score)(predictions) == 0
            assert isinstance(AUROC(score=score)(predictions), Undefined)

    @pytest.mark.parametrize("wrong", ["softmax", 1, None])
    def test_unknown_scores_are_refused(self, wrong):
        with pytest.raises(pydantic.ValidationError, match="score"):
            AUROC(score=wrong)

    @pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1, 80])
    def test_impossible_coverages_are_refused(self, wrong):
        with pytest.raises(pydantic.ValidationError, match="coverage"):
            RiskAtCoverage(coverage=wrong)


class TestScores:
    def test_the_three_scores_by_hand(self):
        prob = np.array([[0.5, 0.3, 0.2], [0.45, 0.45, 0.1]])
        predictions = ClassificationPredictions(
            np.log(prob).astype(np.float32), np.zeros(2, np.int64), np.arange(2)
        )
        assert sureness(predictions, "confidence") == pytest.approx([0.5, 0.45], abs=1e-7)
        assert sureness(predictions, "margin") == pytest.approx([0.2, 0.0], abs=1e-7)
        minus_entropy = (prob * np.log(prob)).sum(axis=1)
        assert sureness(predictions, "entropy") == pytest.approx(minus_entropy, abs=1e-7)

    def test_a_score_can_change_the_order(self):
        # The surest by probability is the less sure by margin.
        prob = np.array([[0.52, 0.46, 0.02], [0.5, 0.25, 0.25]])
        predictions = ClassificationPredictions(
            np.log(prob).astype(np.float32), np.array([0, 1]), np.arange(2)
        )
        assert AUROC(score="confidence")(predictions) == 1
        assert AUROC(score="margin")(predictions) == 0

    def test_pieces_do_not_change_a_score(self, monkeypatch):
        draws = np.random.default_rng(0)
        logits = draws.normal(size=(101, 9)).astype(np.float32)
        predictions = ClassificationPredictions(logits, np.zeros(101, np.int64), np.arange(101))
        whole = {score: sureness(predictions, score) for score in ("margin", "entropy")}
        monkeypatch.setattr("shrinkproof.metrics.ranking._PIECE", 90)
        for score, expected in whole.items():
            assert np.array_equal(sureness(predictions, score), expected)


class TestProperties:
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 9_999), steps=st.sampled_from([None, 1, 4, 20]))
    def test_augrc_is_traubs_function_of_auroc_and_error(self, seed, steps):
        predictions = drawn(seed, steps=steps)
        auroc = AUROC()(predictions)
        if isinstance(auroc, Undefined):
            return
        order = ranking(predictions)
        error = order.wrong.sum() / order.count.sum()
        expected = error * (1 - error) * (1 - auroc) + error**2 / 2
        assert AUGRC()(predictions) == pytest.approx(expected, abs=1e-12)

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 9_999), steps=st.sampled_from([None, 4]))
    def test_curves_without_ties_are_those_of_one_sorted_list(self, seed, steps):
        predictions = drawn(seed, steps=steps)
        order = ranking(predictions)
        assert order.count.sum() == len(predictions)
        if steps is None:
            assert AURC()(predictions) == pytest.approx(aurc_of(order.wrong), abs=1e-12)
        assert 0 <= EAURC()(predictions) <= AURC()(predictions)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 9_999))
    def test_a_perfect_order_has_no_excess(self, seed):
        correct = np.sort(np.random.default_rng(seed).integers(0, 2, 50))[::-1]
        predictions = stated(np.linspace(0.99, 0.51, 50), correct)
        assert EAURC()(predictions) == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("cls", ALL)
    def test_the_order_of_the_images_does_not_count(self, cls):
        predictions = drawn(1, steps=8)
        order = np.random.default_rng(2).permutation(len(predictions))
        assert cls()(predictions.take(order)) == pytest.approx(cls()(predictions), abs=1e-12)

    @pytest.mark.parametrize("cls", ALL)
    def test_rank_metrics_have_no_terms_and_run_afterwards(self, cls):
        assert cls().terms(drawn(0)) is None
        assert cls.is_fast is False
        assert METRICS.get(cls.name) is cls


@pytest.mark.parametrize("module", ["selective", "risk_coverage"])
def test_examples_in_docstrings_run(module):
    found = doctest.testmod(importlib.import_module(f"shrinkproof.metrics.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
