"""The calibration family against independent implementations, and where these deviate.

A deviation of another library is pinned by a test of its own: it fails when that library changes.
"""

import warnings

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.isotonic import IsotonicRegression

from shrinkproof.metrics.accuracy import NLL, Brier
from shrinkproof.metrics.binned import (
    DebiasedCalibrationError,
    MaximumCalibrationError,
    RootMeanSquareCalibrationError,
)
from shrinkproof.metrics.calibration import EqualMassCalibrationError, ExpectedCalibrationError
from shrinkproof.metrics.classwise import AdaptiveCalibrationError, ClasswiseCalibrationError
from shrinkproof.metrics.corp import CorpDiscrimination, CorpMiscalibration
from shrinkproof.metrics.derived import derived
from shrinkproof.metrics.unbinned import SmoothCalibrationError, smoothed_error
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.torchvision_ops import ensure

pytestmark = pytest.mark.parity

COUNT, CLASSES = 3_000, 10
BINS = (10, 15)


def imported(name):
    """Return a package whose import may emit deprecation warnings of others; skip without it."""
    ensure()  # netcal, torchmetrics and probmetrics import torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            name, reason=f"{name} or a package that it needs is not installed"
        )


@pytest.fixture(scope="module")
def netcal():
    return imported("netcal.metrics")


@pytest.fixture(scope="module")
def library():
    return imported("calibration")


@pytest.fixture(scope="module")
def relplot():
    return imported("relplot")


@pytest.fixture(scope="module")
def error():
    """The calibration error of torchmetrics."""
    functional = imported("torchmetrics.functional.classification")
    torch = imported("torch")

    def measure(prob, target, norm, bins):
        stated, truth = torch.from_numpy(prob), torch.from_numpy(target)
        return float(
            functional.multiclass_calibration_error(
                stated, truth, num_classes=prob.shape[1], n_bins=bins, norm=norm
            )
        )

    return measure


@pytest.fixture(scope="module")
def value():
    """Any metric of probmetrics."""
    metrics = imported("probmetrics.metrics")
    distributions = imported("probmetrics.distributions")
    torch = imported("torch")

    def measure(name, predictions):
        truth = distributions.CategoricalDistribution.from_labels(
            torch.from_numpy(predictions.target), n_classes=CLASSES
        )
        stated = distributions.CategoricalLogits(torch.from_numpy(predictions.logits).double())
        return float(getattr(metrics, name)().compute(truth, stated))

    return measure


SOFT = {"lead": 2.0, "scale": 1.5}
SATURATED = {"lead": 6.0, "scale": 5.0}


@pytest.fixture(scope="module", params=[SOFT, SATURATED], ids=["soft", "saturated"])
def predictions(request):
    """Ordinary predictions, and some of which many are all but certain, yet never exactly 1."""
    return predictions_of(**request.param)


@pytest.fixture(scope="module")
def soft():
    return predictions_of(**SOFT)


def predictions_of(*, lead, scale):
    draws = np.random.default_rng(11)
    target = draws.integers(0, CLASSES, COUNT)
    logits = draws.normal(size=(COUNT, CLASSES)) * scale
    logits[np.arange(COUNT), target] += lead
    return ClassificationPredictions(
        logits=logits.astype(np.float32), target=target, index=np.arange(COUNT)
    )


@pytest.fixture(scope="module")
def prob(predictions):
    return softmax(predictions.logits.astype(np.float64), axis=1)


@pytest.fixture(scope="module")
def top(predictions):
    return top_of(predictions)


def top_of(predictions):
    values = derived(predictions)
    return values.confidence, values.correct


class TestNetcal:
    @pytest.mark.parametrize("bins", BINS)
    def test_largest_gap(self, predictions, prob, netcal, bins):
        expected = netcal.MCE(bins).measure(prob, predictions.target)
        found = MaximumCalibrationError(bins=bins)(predictions)
        assert found == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("bins", BINS)
    def test_every_class_by_itself(self, predictions, prob, netcal, bins):
        errors = [
            netcal.ECE(bins).measure(prob[:, k], (predictions.target == k).astype(int))
            for k in range(CLASSES)
        ]
        found = ClasswiseCalibrationError(bins=bins)(predictions)
        assert found == pytest.approx(np.mean(errors), abs=1e-12)

    def test_its_ace_is_no_adaptive_error_but_an_unweighted_mean_over_bins(
        self, predictions, prob, netcal
    ):
        theirs = netcal.ACE(15).measure(prob, predictions.target)
        assert theirs != pytest.approx(AdaptiveCalibrationError()(predictions), abs=5e-3)
        means = derived(predictions).binned("equal-width", 15)
        assert theirs == pytest.approx(np.abs(means.gap).mean(), abs=1e-12)

    def test_it_raises_where_all_confidences_are_tied(self, netcal):
        tied = np.tile(softmax([1.0, 0.0, 0.0]), (30, 1))
        with pytest.raises((ValueError, IndexError)):
            netcal.ECE(5, equal_intervals=False).measure(tied, np.arange(30) % 3)


class TestUncertaintyCalibration:
    @pytest.mark.parametrize("bins", [*BINS, 7])
    def test_debiased_error_of_the_predicted_class(self, predictions, prob, library, bins):
        expected = library.lower_bound_scaling_ce(
            prob, predictions.target, p=2, debias=True, num_bins=bins, mode="top-label"
        )
        found = DebiasedCalibrationError(bins=bins)(predictions)
        assert found == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize("bins", BINS)
    def test_root_mean_square_over_equal_mass(self, predictions, prob, library, bins):
        expected = library.lower_bound_scaling_ce(
            prob, predictions.target, p=2, debias=False, num_bins=bins, mode="top-label"
        )
        found = RootMeanSquareCalibrationError(bins=bins, binning="equal-mass")(predictions)
        assert found == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("bins", BINS)
    def test_both_expected_errors(self, predictions, prob, library, bins):
        target = predictions.target
        assert ExpectedCalibrationError(bins=bins)(predictions) == pytest.approx(
            library.get_ece(prob, target, num_bins=bins), abs=1e-12
        )
        assert EqualMassCalibrationError(bins=bins)(predictions) == pytest.approx(
            library.get_ece_em(prob, target, num_bins=bins), abs=1e-12
        )

    def test_its_marginal_equal_mass_error_is_our_adaptive_one(self, predictions, prob, library):
        expected = library.get_ece_em(prob, predictions.target, num_bins=15, mode="marginal")
        assert AdaptiveCalibrationError()(predictions) == pytest.approx(expected, abs=1e-10)


class TestTorchmetrics:
    @pytest.mark.parametrize("predictions", [SOFT], indirect=True, ids=["soft"])
    @pytest.mark.parametrize("bins", BINS)
    def test_all_norms(self, predictions, prob, error, bins):
        ours = {
            "l1": ExpectedCalibrationError(bins=bins),
            "l2": RootMeanSquareCalibrationError(bins=bins),
            "max": MaximumCalibrationError(bins=bins),
        }
        for norm, metric in ours.items():
            expected = error(prob, predictions.target, norm, bins)
            assert metric(predictions) == pytest.approx(expected, abs=1e-6), norm

    def test_it_gives_confidence_1_a_bin_of_its_own(self, error):
        logits = np.array([[200.0, 0.0], [np.log(19.0), 0.0]], dtype=np.float32)
        target = np.array([1, 0])
        predictions = ClassificationPredictions(logits, target, np.arange(2))
        assert derived(predictions).confidence[0] == 1.0
        # Both lie in (.5, 1]: mean confidence .975, accuracy .5.
        assert ExpectedCalibrationError(bins=2)(predictions) == pytest.approx(0.475, abs=1e-6)
        theirs = error(softmax(logits.astype(np.float64), axis=1), target, "l1", 2)
        assert theirs == pytest.approx((1.0 + 0.05) / 2, abs=1e-6)

    @pytest.mark.parametrize("predictions", [SATURATED], indirect=True, ids=["saturated"])
    def test_its_single_precision_makes_confidences_exactly_1(self, predictions, prob, error):
        confidence = derived(predictions).confidence
        assert confidence.max() < 1
        assert (confidence.astype(np.float32) == 1).any()
        ours = RootMeanSquareCalibrationError(bins=15)(predictions)
        assert ours < error(prob, predictions.target, "l2", 15) - 1e-6


class TestProbmetrics:
    def test_brier_and_log_loss(self, predictions, value):
        assert Brier()(predictions) == pytest.approx(value("BrierLoss", predictions), abs=1e-6)
        assert NLL()(predictions) == pytest.approx(value("LogLoss", predictions), rel=1e-6)

    def test_smooth_error(self, predictions, value, relplot):  # it calls relplot
        found = value("SmoothCalibrationError", predictions)
        assert found == pytest.approx(relplot.smECE(*top_of(predictions)), abs=1e-6)


class TestScikitLearn:
    def test_recalibration_is_isotonic_regression(self, predictions, top):
        confidence, correct = top
        fitted = IsotonicRegression().fit(confidence, correct).predict(confidence)
        recalibrated = np.mean((fitted - correct) ** 2)
        stated = np.mean((confidence - correct) ** 2)
        base = np.mean((correct.mean() - correct) ** 2)
        miscalibration = CorpMiscalibration()(predictions)
        assert miscalibration == pytest.approx(stated - recalibrated, abs=1e-12)
        assert CorpDiscrimination()(predictions) == pytest.approx(base - recalibrated, abs=1e-12)

    def test_recalibration_of_every_class(self, predictions, prob):
        expected = 0.0
        for k in range(CLASSES):
            came_true = (predictions.target == k) * 1.0
            fitted = IsotonicRegression().fit(prob[:, k], came_true).predict(prob[:, k])
            expected += np.mean((prob[:, k] - came_true) ** 2 - (fitted - came_true) ** 2)
        found = CorpMiscalibration(of="classes")(predictions)
        assert found == pytest.approx(expected, abs=1e-10)


class TestRelplot:
    """Its license is not an open one, so nothing here installs it."""

    def test_smooth_error_at_the_same_bandwidth(self, soft, relplot):
        expected, bandwidth = relplot.smECE(*top_of(soft), return_width=True)
        assert smoothed_error(soft, bandwidth) == pytest.approx(expected, abs=1e-4)

    def test_smooth_error(self, soft, relplot):
        # It searches the bandwidth in steps of 1/1024.
        found = SmoothCalibrationError()(soft)
        assert found == pytest.approx(relplot.smECE(*top_of(soft)), abs=1e-3)

    def test_its_grid_is_coarse_where_the_bandwidth_is_wide(self, relplot):
        # All residuals smooth to one sign, so every smoothed error is the mean gap itself.
        sure = predictions_of(lead=30.0, scale=20.0)
        confidence, correct = top_of(sure)
        gap = abs(np.mean(confidence - correct))
        assert SmoothCalibrationError()(sure) == pytest.approx(gap, abs=1e-6)
        assert relplot.smECE(confidence, correct) > gap + 0.01
