import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from shrinkproof.errors import DataError, UsageError
from shrinkproof.metrics.accuracy import NLL, Top1
from shrinkproof.metrics.temperature import HIGHEST, LOWEST, _root, fit_temperature, scaled
from shrinkproof.predictions import ClassificationPredictions


def sample(seed, *, scale=1.0, count=400, classes=4):
    """Return logits that are calibrated at temperature ``scale``, and targets."""
    draws = np.random.default_rng(seed)
    logits = 2 * draws.normal(size=(count, classes))
    target = (logits + draws.gumbel(size=logits.shape)).argmax(axis=1)
    return (scale * logits).astype(np.float32), target


def nll(logits, target, value):
    z = logits.astype(np.float64) / value
    return float((logsumexp(z, axis=1) - z[np.arange(len(z)), target]).mean())


def test_the_planted_temperature_comes_back():
    found = fit_temperature(*sample(0, scale=2.5, count=50_000))
    assert found.converged
    assert found.reason == ""
    assert found.value == pytest.approx(2.5, rel=0.02)
    assert found.nll_after < found.nll_before


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9_999), scale=st.sampled_from([0.01, 0.3, 1.0, 7.0, 300.0]))
def test_it_is_the_minimum(seed, scale):
    logits, target = sample(seed, scale=scale, count=200)
    found = fit_temperature(logits, target)
    assert found.converged
    assert found.nll_before == pytest.approx(nll(logits, target, 1.0), rel=1e-12)
    assert found.nll_after == pytest.approx(nll(logits, target, found.value), rel=1e-12)
    best = minimize_scalar(
        lambda u: nll(logits, target, math.exp(u)),
        bounds=(math.log(found.value) - 1, math.log(found.value) + 1),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert found.nll_after <= best.fun + 1e-12
    assert math.log(found.value) == pytest.approx(best.x, abs=1e-5)  # the valley is flat there


def test_the_search_falls_back_to_bisection():
    assert _root(lambda at: (math.copysign(1, at - 0.3), 0.0), -5.0, 5.0) == pytest.approx(
        0.3, abs=1e-9
    )
    assert _root(lambda at: (at, 1.0), -5.0, 5.0) == 0.0
    # Newton alone runs away from the root of an arctangent.
    assert _root(
        lambda at: (math.atan(at - 3), 1 / (1 + (at - 3) ** 2)), -9.0, 9.0
    ) == pytest.approx(3, abs=1e-9)


def test_it_is_exact_where_a_closed_form_exists():
    # Two classes, margin 2 for all, three quarters right: logit(3/4) = 2 / T.
    logits = np.tile(np.array([[2.0, 0.0]], dtype=np.float32), (4, 1))
    found = fit_temperature(logits, np.array([0, 0, 0, 1]))
    assert found.value == pytest.approx(2 / math.log(3), rel=1e-8)


def test_scaling_all_logits_scales_the_temperature():
    logits, target = sample(3)
    one, ten = fit_temperature(logits, target), fit_temperature(8 * logits, target)
    assert ten.value == pytest.approx(8 * one.value, rel=1e-8)
    assert ten.nll_after == pytest.approx(one.nll_after, abs=1e-12)


def test_perfectly_separated_images_end_at_the_lower_bound():
    logits, _ = sample(1)
    found = fit_temperature(logits, logits.argmax(axis=1))
    assert (found.value, found.converged) == (LOWEST, False)
    assert "every image is classified correctly" in found.reason


def test_logits_worse_than_chance_end_at_the_upper_bound():
    logits, _ = sample(1)
    found = fit_temperature(logits, logits.argmin(axis=1))
    assert (found.value, found.converged) == (HIGHEST, False)
    assert "no better than chance" in found.reason
    assert found.nll_after == pytest.approx(math.log(4), abs=0.01)


def test_equal_logits_leave_the_temperature_at_one():
    found = fit_temperature(np.full((3, 2), 7.0, dtype=np.float32), np.array([0, 1, 1]))
    assert (found.value, found.converged) == (1.0, False)
    assert "changes nothing" in found.reason


@pytest.mark.parametrize(
    ("scale", "bound", "side"), [(1e-4, LOWEST, "below"), (5e3, HIGHEST, "above")]
)
def test_a_minimum_outside_the_range_is_said(scale, bound, side):
    found = fit_temperature(*sample(2, scale=scale))
    assert (found.value, found.converged) == (bound, False)
    assert f"the best temperature is {side} {bound:g}" == found.reason


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=np.int64), "at least one image"),
        (np.zeros((2, 3)), np.zeros(3, dtype=np.int64), r"got \(2, 3\) and \(3,\)"),
        (np.zeros((1, 3)), np.array([3]), "0 to 2, got 3 to 3"),
        (np.full((1, 2), np.nan), np.array([0]), "finite"),
    ],
)
def test_impossible_input_is_refused(logits, target, message):
    with pytest.raises(DataError, match=message):
        fit_temperature(logits, target)


def test_scaled_predictions_keep_their_classes_and_reach_the_fitted_nll():
    logits, target = sample(4, scale=3.0)
    predictions = ClassificationPredictions(
        logits=logits,
        target=target,
        index=np.arange(len(target)),
        groups=np.full(len(target), "a"),
    )
    found = fit_temperature(logits, target)
    after = scaled(predictions, found)
    assert NLL()(after) == pytest.approx(found.nll_after, abs=1e-6)
    assert Top1()(after) == Top1()(predictions)
    assert after.groups is predictions.groups
    assert np.array_equal(after.logits, scaled(predictions, found.value).logits)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_temperatures_are_refused(value):
    logits, target = sample(0, count=2)
    predictions = ClassificationPredictions(logits=logits, target=target, index=np.arange(2))
    with pytest.raises(UsageError, match="finite number above 0"):
        scaled(predictions, value)


def test_an_overflow_is_an_error():
    predictions = ClassificationPredictions(
        logits=np.array([[1e38, 0.0]], dtype=np.float32), target=np.array([0]), index=np.arange(1)
    )
    with pytest.raises(DataError, match="finite"):
        scaled(predictions, 1e-3)
