import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from shrinkproof.errors import UsageError
from shrinkproof.metrics.detection.calibration import DetectionCalibrationError
from shrinkproof.metrics.detection.calibrators import KINDS, Calibrator, fit
from shrinkproof.metrics.detection.counted import counted
from shrinkproof.metrics.detection.localization import LocalizationAwareAdaptiveError
from shrinkproof.protocols import Undefined

from ..calibrated_boxes import claims, random_detections

METRIC = DetectionCalibrationError()


def over_confident(seed=0, count=2_000):
    """Detections whose scores are twice as sure as they should be, in the logit."""
    draws = np.random.default_rng(seed)
    score = draws.uniform(0.05, 0.99, count).astype(np.float32).astype(np.float64)
    return claims(score, draws.random(count) < expit(np.log(score / (1 - score)) / 2))


def loss(prob, right):
    return -np.mean(np.log(np.where(right, prob, 1 - prob)))


def expit(logit):
    return 1 / (1 + np.exp(-logit))


def counting(predictions):
    found = counted(predictions, iou=0.5, score=0.3)
    return found.score, np.log(found.score / (1 - found.score)), found.right


@pytest.mark.parametrize("kind", KINDS)
def test_corrections_remove_most_of_the_error_on_other_images(kind):
    calibrator = fit(kind, over_confident())
    metric, corrected = calibrator.on_same(METRIC, over_confident(1))
    assert METRIC(over_confident(1)) > 0.08
    assert metric(corrected) < 0.05


def test_isotonic_is_the_pooled_share_of_right_detections():
    score = np.repeat([0.375, 0.5, 0.625, 0.75], 10)
    right = np.repeat([False, True, False, True], 10)
    right[[0, 1]] = True
    calibrator = fit("isotonic", claims(score, right))
    asked = np.array([0.0, 0.1875, 0.375, 0.5, 0.625, 0.6875, 0.75, 0.875, 1.0])
    # 0.5 and 0.625 are pooled; below the first score a line to 0, beyond the last one constant.
    np.testing.assert_allclose(
        calibrator.correction(asked), [0, 0.1, 0.2, 0.5, 0.5, 0.75, 1, 1, 1], atol=1e-12
    )
    assert (calibrator.right, calibrator.wrong) == (22, 18)


def test_platt_has_the_largest_likelihood():
    predictions = over_confident()
    _, logit, right = counting(predictions)
    best = minimize(
        lambda line: loss(expit(line[0] * logit + line[1]), right),
        [1, 0],
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-14},
    )
    line = fit("platt", predictions).correction
    np.testing.assert_allclose([line.slope, line.shift], best.x, atol=1e-5)


def test_temperature_has_the_largest_likelihood():
    predictions = over_confident()
    _, logit, right = counting(predictions)
    best = minimize_scalar(
        lambda slope: loss(expit(slope * logit), right),
        bounds=(0.01, 10),
        method="bounded",
        options={"xatol": 1e-10},
    )
    line = fit("temperature", predictions).correction
    assert line.slope == pytest.approx(best.x, abs=1e-5)
    assert line.shift == 0


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 30))
@settings(max_examples=5, deadline=None)
def test_corrections_keep_boxes_order_and_range(kind, seed):
    predictions = random_detections(seed, images=30)
    calibrator = fit(kind, predictions)
    corrected = calibrator.apply(predictions)
    np.testing.assert_array_equal(corrected.boxes, predictions.boxes)
    np.testing.assert_array_equal(corrected.label, predictions.label)
    assert corrected.score.dtype == np.float32
    assert 0 <= corrected.score.min() <= corrected.score.max() <= 1
    by_score = np.argsort(predictions.score, kind="stable")
    assert (np.diff(corrected.score[by_score]) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_boxes_count_before_and_after(kind):
    predictions = over_confident()
    calibrator = fit(kind, predictions)
    metric, corrected = calibrator.on_same(METRIC, predictions)
    assert metric == replace(METRIC, score=0.0)
    assert len(corrected.score) == (predictions.score >= 0.3).sum()
    assert metric(corrected) < METRIC(predictions)
    laace, again = calibrator.on_same(LocalizationAwareAdaptiveError(score=0.5), predictions)
    assert laace.score == 0
    assert len(again.score) == (predictions.score >= 0.5).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_fitted_is_told_and_plain(kind):
    calibrator = fit(kind, over_confident(), iou=0.6, score=0.4)
    assert isinstance(calibrator, Calibrator)
    plain = calibrator.as_json()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["kind"], plain["iou"], plain["score"]) == (kind, 0.6, 0.4)
    for part in (kind, "scores >= 0.4", "IoU >= 0.6", f"{calibrator.right} right"):
        assert part in calibrator.caveat


def test_saturated_scores_stay_finite():
    score = np.concatenate([np.ones(30), np.full(30, 0.5)])
    right = np.concatenate([np.arange(30) > 2, np.arange(30) > 14])
    predictions = claims(score, right)
    for kind in KINDS:
        assert np.isfinite(fit(kind, predictions).apply(predictions).score).all()


FEW = "needs at least 10 right and 10 wrong detections, got 4 right and 16 wrong"


@pytest.mark.parametrize(
    ("kind", "score", "right", "reason"),
    [
        ("platt", [0.5] * 20, [1] * 4 + [0] * 16, FEW),
        ("isotonic", [0.5] * 20, [1] * 10 + [0] * 10, "so a correction makes all equal"),
        ("platt", [0.75] * 20, [1] * 10 + [0] * 10, "all scores are equal"),
        ("platt", [0.75] * 10 + [0.5] * 10, [1] * 10 + [0] * 10, "do not overlap"),
        ("platt", [0.75, 0.5] * 20, [0, 1] * 9 + [1, 0] * 11, "no line rises"),
        ("temperature", [0.5] * 20, [1] * 10 + [0] * 10, "all scores are 0.5"),
        ("temperature", [0.75] * 10 + [0.4] * 10, [1] * 10 + [0] * 10, "no temperature is best"),
        ("temperature", [0.75, 0.4] * 20, [0, 1] * 20, "no better than chance"),
    ],
)
def test_what_cannot_be_fitted_is_undefined_with_a_reason(kind, score, right, reason):
    is_right = np.array(right, dtype=bool)
    if reason == "no line rises":
        is_right = ~is_right
    fitted = fit(kind, claims(np.array(score), is_right))
    assert isinstance(fitted, Undefined)
    assert reason in fitted.reason


def test_nothing_to_fit_is_undefined_and_unknown_kinds_are_refused():
    silent = random_detections(0).above(1.0)
    assert "got 0 right and 0 wrong" in fit("platt", silent).reason
    with pytest.raises(UsageError, match="kind must be one of isotonic, platt, temperature"):
        fit("beta", silent)
