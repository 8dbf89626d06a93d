from dataclasses import replace

import numpy as np
import pytest

from shrinkproof.errors import UsageError
from shrinkproof.metrics.detection.calibration import DetectionCalibrationError
from shrinkproof.metrics.detection.localization import LocalizationAwareCalibrationError
from shrinkproof.metrics.detection.null import CAVEAT, detection_null, detection_nulls
from shrinkproof.metrics.null import NullLevel
from shrinkproof.protocols import Undefined

from ..calibrated_boxes import claims

METRIC = DetectionCalibrationError()


def planted(*, shift=0.0, seed=0, count=600, classes=1):
    """Detections that are right with their score minus a shift as probability."""
    draws = np.random.default_rng(seed)
    score = draws.uniform(0.3, 1, count).astype(np.float32).astype(np.float64)
    return claims(score, draws.random(count) < score - shift, classes=classes)


def test_null_level_is_what_calibrated_detectors_show():
    level = detection_null(planted(), METRIC, replicates=300, seed=0)
    shown = np.array([METRIC(planted(seed=seed)) for seed in range(60)])
    assert level.mean == pytest.approx(shown.mean(), abs=0.004)
    assert level.q95 == pytest.approx(np.quantile(shown, 0.95), abs=0.008)
    assert level.replicates == 300
    assert level.caveat == CAVEAT


def test_p_value_tells_calibrated_from_over_confident_detectors():
    p_values = [
        detection_null(planted(seed=seed, count=300), METRIC, replicates=49, seed=1).p_value
        for seed in range(40)
    ]
    assert np.mean(np.array(p_values) <= 0.1) < 0.25
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.15)
    assert detection_null(planted(shift=0.2), METRIC, replicates=99, seed=1).p_value == 0.01


def test_certain_scores_leave_nothing_to_chance():
    score = np.array([1.0, 1.0, 0.0, 0.0])
    predictions = claims(score, np.array([True, True, False, True]), per_image=2)
    level = detection_null(predictions, replace(METRIC, score=0.0), replicates=20, seed=0)
    assert level == NullLevel(mean=0.0, q95=0.0, p_value=1 / 21, replicates=20, caveat=CAVEAT)


def test_more_bins_raise_the_null_level():
    predictions = planted()
    coarse, fine = (
        detection_null(predictions, replace(METRIC, of=of), replicates=50, seed=0)
        for of in ("confidence", "all")
    )
    assert fine.mean > 2 * coarse.mean


def test_null_level_depends_on_the_seed_but_not_on_the_order_of_images():
    predictions = planted()
    level = detection_null(predictions, METRIC, replicates=50, seed=0)
    shuffled = predictions.take(np.random.default_rng(0).permutation(len(predictions)))
    again = detection_null(shuffled, METRIC, replicates=50, seed=0)
    assert again.mean == pytest.approx(level.mean, abs=1e-12)
    assert detection_null(predictions, METRIC, replicates=50, seed=1).mean != level.mean


def test_only_detection_errors_have_a_null_level():
    other = LocalizationAwareCalibrationError()
    levels = detection_nulls(planted(), [other, METRIC, replace(METRIC, bins=10)], seed=0)
    assert list(levels) == ["detection.d_ece", "detection.d_ece[bins=10]"]
    with pytest.raises(UsageError, match=r"must be asked of detection.d_ece, got detection.laece"):
        detection_null(planted(), other, seed=0)
    with pytest.raises(UsageError, match="replicates must be at least 1, got 0"):
        detection_null(planted(), METRIC, replicates=0, seed=0)


def test_null_level_of_nothing_is_undefined():
    reason = Undefined("no detection with a score of at least 1 counts")
    assert detection_null(planted(), replace(METRIC, score=1.0), seed=0) == reason
