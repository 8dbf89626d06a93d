"""The Brier score split into parts, by bins (Murphy) and by isotonic recalibration (CORP)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from shrinkproof.metrics.accuracy import Brier, TopBrier
from shrinkproof.metrics.binned import RootMeanSquareCalibrationError
from shrinkproof.metrics.corp import (
    CorpDiscrimination,
    CorpMiscalibration,
    CorpUncertainty,
    recalibrated,
)
from shrinkproof.metrics.murphy import (
    MurphyReliability,
    MurphyResolution,
    MurphyUncertainty,
    MurphyWithin,
    murphy_parts,
)
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined

PARTS = (
    *(MurphyReliability, MurphyResolution, MurphyUncertainty, MurphyWithin),
    *(CorpMiscalibration, CorpDiscrimination, CorpUncertainty),
)
WHOLE = {"top": TopBrier(), "classes": Brier()}

KINDS = {
    "seed": st.integers(0, 9_999),
    "count": st.integers(1, 120),
    "classes": st.sampled_from([1, 2, 5]),
    "scale": st.sampled_from([0.0, 1.0, 5.0, 200.0, 1e30]),
    "step": st.sampled_from([0.0, 0.5]),
}
"""Ordinary, all tied, saturated, and quantized predictions."""


def make(seed, count, classes, scale, step):
    draws = np.random.default_rng(seed)
    logits = scale * draws.normal(size=(count, classes))
    logits = logits if not step else np.round(logits / step) * step
    return ClassificationPredictions(
        logits=logits.astype(np.float32),
        target=draws.integers(0, classes, count),
        index=np.arange(count),
    )


@pytest.mark.parametrize("of", ["top", "classes"])
@pytest.mark.parametrize("bins", [1, 15])
@settings(max_examples=60, deadline=None)
@given(**KINDS)
def test_the_parts_by_bins_are_the_brier_score(of, bins, seed, count, classes, scale, step):
    predictions = make(seed, count, classes, scale, step)
    given_ = {"bins": bins, "of": of}
    total = (
        MurphyReliability(**given_)(predictions)
        - MurphyResolution(**given_)(predictions)
        + MurphyUncertainty(**given_)(predictions)
        + MurphyWithin(**given_)(predictions)
    )
    assert total == pytest.approx(WHOLE[of](predictions), abs=1e-12)


@pytest.mark.parametrize("of", ["top", "classes"])
@settings(max_examples=60, deadline=None)
@given(**KINDS)
def test_the_parts_by_recalibration_are_the_brier_score(of, seed, count, classes, scale, step):
    predictions = make(seed, count, classes, scale, step)
    parts = [part(of=of)(predictions) for part in PARTS[4:]]
    assert parts[0] - parts[1] + parts[2] == pytest.approx(WHOLE[of](predictions), abs=1e-12)
    assert min(parts) >= 0
    assert parts[1] <= parts[2] + 1e-12
    same = MurphyUncertainty(of=of)(predictions)
    assert parts[2] == pytest.approx(same, abs=1e-15)


@pytest.mark.parametrize("of", ["top", "classes"])
def test_the_identities_hold_for_many_images(of):
    predictions = make(0, 20_000, 7, 2.0, 0.0)
    whole = WHOLE[of](predictions)
    murphy = [part(of=of)(predictions) for part in PARTS[:4]]
    corp = [part(of=of)(predictions) for part in PARTS[4:]]
    assert murphy[0] - murphy[1] + murphy[2] + murphy[3] == pytest.approx(whole, abs=1e-12)
    assert corp[0] - corp[1] + corp[2] == pytest.approx(whole, abs=1e-12)


def test_reliability_is_the_squared_calibration_error():
    predictions = make(1, 500, 4, 2.0, 0.0)
    found = RootMeanSquareCalibrationError()(predictions) ** 2
    assert MurphyReliability()(predictions) == pytest.approx(found, abs=1e-12)


def test_four_images_in_two_bins_by_hand():
    # (0, .5]: confidences .5, .5, right 1 of 2; (.5, 1]: .75, .75, right 2 of 2.
    prob = np.array([[0.5, 0.5], [0.5, 0.5], [0.75, 0.25], [0.75, 0.25]])
    predictions = ClassificationPredictions(
        np.log(prob).astype(np.float32), np.array([0, 1, 0, 0]), np.arange(4)
    )
    found = murphy_parts(predictions, 2, "top")
    assert found.reliability == pytest.approx(0.5 * 0.25**2, abs=1e-7)
    assert found.resolution == pytest.approx(0.25**2, abs=1e-12)
    assert found.uncertainty == pytest.approx(0.75 * 0.25, abs=1e-12)
    assert found.within == pytest.approx(0.0, abs=1e-12)
    # Recalibration states .5 and 1: what remains is the variance of the first two.
    assert CorpMiscalibration()(predictions) == pytest.approx(0.5 * 0.25**2, abs=1e-7)
    assert CorpDiscrimination()(predictions) == pytest.approx(0.1875 - 0.125, abs=1e-12)


def test_one_spread_within_a_bin_by_hand():
    # One bin: variance of .6 and .8 is .01, covariance with 0 and 1 is .05.
    prob = np.array([[0.6, 0.4], [0.8, 0.2]])
    predictions = ClassificationPredictions(
        np.log(prob).astype(np.float32), np.array([1, 0]), np.arange(2)
    )
    assert MurphyWithin(bins=1)(predictions) == pytest.approx(0.01 - 2 * 0.05, abs=1e-6)


@pytest.mark.parametrize("levels", [1, 4, 256, 10**9])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9_999), count=st.integers(1, 200))
def test_recalibration_is_scikit_learns_isotonic_regression(levels, seed, count):
    draws = np.random.default_rng(seed)
    prob = np.round(draws.random(count) * levels) / levels
    came_true = draws.random(count) < prob ** draws.choice([0.3, 1, 4])
    expected = IsotonicRegression().fit(prob, came_true * 1.0).predict(np.sort(prob))
    counts, hits = recalibrated(prob, np.flatnonzero(came_true))
    assert np.repeat(hits / counts, counts) == pytest.approx(expected, abs=1e-12)
    assert (np.diff(hits / counts) > 0).all()


def test_a_recalibrated_model_has_no_miscalibration_and_keeps_its_discrimination():
    draws = np.random.default_rng(0)
    prob = draws.random(3_000)
    came_true = draws.random(3_000) < prob**2
    counts, hits = recalibrated(prob, np.flatnonzero(came_true))
    again = np.empty(3_000)
    again[np.argsort(prob)] = np.repeat(hits / counts, counts)
    twice = recalibrated(again, np.flatnonzero(came_true))
    assert np.array_equal(twice[0], counts)
    assert np.array_equal(twice[1], hits)


def test_discrimination_ignores_what_keeps_the_order():
    predictions = make(3, 400, 3, 2.0, 0.0)
    cooled = ClassificationPredictions(
        predictions.logits / np.float32(4), predictions.target, predictions.index
    )
    two = [
        ClassificationPredictions(p.logits[:, :2], p.target % 2, p.index)
        for p in (predictions, cooled)
    ]
    found = [CorpDiscrimination()(p) for p in two]
    assert found[0] == pytest.approx(found[1], abs=1e-12)
    assert CorpMiscalibration()(two[0]) != pytest.approx(CorpMiscalibration()(two[1]), abs=1e-3)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_no_images_are_undefined(part):
    empty = make(0, 10, 3, 1.0, 0.0).take(np.arange(0))
    for of in ("top", "classes"):
        assert part(of=of)(empty) == Undefined("there are no images")
        assert part(of=of).terms(empty) is None
