"""Our numbers against independent implementations, and the places where they differ on purpose."""

import warnings

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss

from shrinkproof.metrics.accuracy import NLL, Brier
from shrinkproof.metrics.calibration import EqualMassCalibrationError, ExpectedCalibrationError
from shrinkproof.metrics.temperature import fit_temperature
from shrinkproof.predictions import ClassificationPredictions

pytestmark = pytest.mark.parity

COUNT, CLASSES = 3_000, 10
BINS = (10, 15)


@pytest.fixture(scope="module")
def predictions():
    draws = np.random.default_rng(11)
    target = draws.integers(0, CLASSES, COUNT)
    logits = draws.normal(size=(COUNT, CLASSES)) * 1.5
    logits[np.arange(COUNT), target] += 2
    return ClassificationPredictions(
        logits=logits.astype(np.float32), target=target, index=np.arange(COUNT)
    )


@pytest.fixture(scope="module")
def netcal():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gpytorch, pyro and jaxtyping deprecations on import
        return pytest.importorskip("netcal.metrics")


@pytest.fixture(scope="module")
def uncertainty_calibration():
    return pytest.importorskip("calibration")


def prob(predictions):
    return np.exp(predictions.log_prob())


def test_nll_is_scikit_learns(predictions):
    expected = log_loss(predictions.target, prob(predictions), labels=range(CLASSES))
    assert NLL()(predictions) == pytest.approx(expected, abs=1e-12)


def test_brier_is_scikit_learns(predictions):
    expected = brier_score_loss(
        predictions.target, prob(predictions), labels=range(CLASSES), scale_by_half=False
    )
    assert Brier()(predictions) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", BINS)
def test_ece_is_netcals(predictions, netcal, bins):
    expected = netcal.ECE(bins).measure(prob(predictions), predictions.target)
    found = ExpectedCalibrationError(bins=bins)(predictions)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", BINS)
def test_ece_is_uncertainty_calibrations(predictions, uncertainty_calibration, bins):
    expected = uncertainty_calibration.get_ece(prob(predictions), predictions.target, num_bins=bins)
    found = ExpectedCalibrationError(bins=bins)(predictions)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", BINS)
def test_equal_mass_ece_is_netcals(predictions, netcal, bins):
    expected = netcal.ECE(bins, equal_intervals=False).measure(
        prob(predictions), predictions.target
    )
    found = EqualMassCalibrationError(bins=bins)(predictions)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", [*BINS, 7])
def test_equal_mass_ece_is_uncertainty_calibrations(predictions, uncertainty_calibration, bins):
    expected = uncertainty_calibration.get_ece_em(
        prob(predictions), predictions.target, num_bins=bins
    )
    found = EqualMassCalibrationError(bins=bins)(predictions)
    assert found == pytest.approx(expected, abs=1e-12)


def test_netcal_raises_where_we_have_one_bin(netcal):
    tied = ClassificationPredictions(
        logits=np.tile(np.array([[1.0, 0.0, 0.0]], dtype=np.float32), (30, 1)),
        target=np.arange(30) % 3,
        index=np.arange(30),
    )
    with pytest.raises((ValueError, IndexError)):
        netcal.ECE(5, equal_intervals=False).measure(prob(tied), tied.target)
    gap = prob(tied).max() - 1 / 3
    assert EqualMassCalibrationError(bins=5)(tied) == pytest.approx(gap, abs=1e-12)


def test_temperature_minimizes_scikit_learns_loss(predictions):
    found = fit_temperature(predictions.logits, predictions.target)

    def loss(value):
        p = softmax(predictions.logits.astype(np.float64) / value, axis=1)
        return log_loss(predictions.target, p, labels=range(CLASSES))

    around = [loss(found.value * (1 + step)) for step in (-1e-3, 0.0, 1e-3)]
    assert min(around) == around[1]
    assert around[1] == pytest.approx(found.nll_after, abs=1e-12)
