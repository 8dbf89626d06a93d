"""Ranking of right above wrong answers against scikit-learn and sums written out."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from shrinkproof.metrics.ranking import sureness
from shrinkproof.metrics.risk_coverage import AUGRC, AURC, EAURC, CoverageAtRisk, RiskAtCoverage
from shrinkproof.metrics.selective import AUROC, FPR95, AUPRError, AUPRSuccess
from shrinkproof.predictions import ClassificationPredictions

pytestmark = pytest.mark.parity

SCORES = ("confidence", "margin", "entropy")


def make(places=None, count=3_000):
    draws = np.random.default_rng(11)
    target = draws.integers(0, 10, count)
    logits = draws.normal(size=(count, 10)) * 1.5
    logits[np.arange(count), target] += 2
    logits = logits if places is None else np.round(logits, places)
    return ClassificationPredictions(logits.astype(np.float32), target, np.arange(count))


@pytest.fixture(scope="module")
def continuous():
    return make()


@pytest.fixture(scope="module")
def tied():
    """Logits of whole numbers: many images have the same softmax in another order of classes."""
    return make(places=0)


def facts(predictions, score):
    right = predictions.logits.argmax(axis=1) == predictions.target
    return right, np.round(sureness(predictions, score), 12)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("which", ["continuous", "tied"])
def test_auroc_is_scikit_learns(request, which, score):
    predictions = request.getfixturevalue(which)
    right, sure = facts(predictions, score)
    assert AUROC(score=score)(predictions) == pytest.approx(roc_auc_score(right, sure), abs=1e-12)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("which", ["continuous", "tied"])
def test_aupr_is_scikit_learns_average_precision(request, which, score):
    predictions = request.getfixturevalue(which)
    right, sure = facts(predictions, score)
    success = average_precision_score(right, sure)
    error = average_precision_score(~right, -sure)
    assert AUPRSuccess(score=score)(predictions) == pytest.approx(success, abs=1e-12)
    assert AUPRError(score=score)(predictions) == pytest.approx(error, abs=1e-12)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("which", ["continuous", "tied"])
def test_fpr95_is_a_point_of_scikit_learns_curve(request, which, score):
    predictions = request.getfixturevalue(which)
    right, sure = facts(predictions, score)
    false_T, true_T, _ = roc_curve(right, sure, drop_intermediate=False)
    expected = false_T[np.flatnonzero(true_T >= 0.95)[0]]
    assert FPR95(score=score)(predictions) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_risk_coverage_is_a_sum_over_a_sorted_list(continuous, score):
    right, sure = facts(continuous, score)
    wrong = ~right[np.argsort(-sure)]
    count = len(wrong)
    risks = [wrong[:n].mean() for n in range(1, count + 1)]
    best = np.sort(wrong)
    perfect = np.mean([best[:n].mean() for n in range(1, count + 1)])
    assert AURC(score=score)(continuous) == pytest.approx(np.mean(risks), abs=1e-12)
    assert EAURC(score=score)(continuous) == pytest.approx(np.mean(risks) - perfect, abs=1e-12)
    unnoticed = np.concatenate([[0], np.cumsum(wrong)]) / count
    area = np.trapezoid(unnoticed, dx=1 / count)
    assert AUGRC(score=score)(continuous) == pytest.approx(area, abs=1e-12)
    found = RiskAtCoverage(score=score, coverage=0.7)(continuous)
    assert found == pytest.approx(risks[2_099], abs=1e-12)
    fits = [n for n, risk in enumerate(risks, start=1) if risk <= 0.1]
    found = CoverageAtRisk(score=score, risk=0.1)(continuous)
    assert found == pytest.approx(max(fits, default=0) / count, abs=1e-12)


def test_risk_coverage_with_ties_is_the_mean_over_random_orders(tied):
    right, sure = facts(tied, "confidence")
    draws = np.random.default_rng(0)
    areas = []
    for _ in range(400):
        order = np.lexsort((draws.random(len(sure)), -sure))
        areas.append(np.mean(np.cumsum(~right[order]) / np.arange(1, len(sure) + 1)))
    error = np.std(areas) / np.sqrt(len(areas))
    assert abs(AURC()(tied) - np.mean(areas)) < 4 * error


def test_the_published_approximation_of_the_perfect_area_is_close(continuous):
    right, _ = facts(continuous, "confidence")
    rate = 1 - right.mean()
    perfect = AURC()(continuous) - EAURC()(continuous)
    assert perfect == pytest.approx(rate + (1 - rate) * np.log(1 - rate), abs=1e-3)
