"""Calibration errors of detectors against independent implementations on shared inputs."""

import warnings

import numpy as np
import pytest

from shrinkproof.metrics.detection.calibration import DetectionCalibrationError
from shrinkproof.metrics.detection.calibrators import fit
from shrinkproof.metrics.detection.counted import counted
from shrinkproof.metrics.detection.localization import (
    LocalizationAwareAdaptiveError,
    LocalizationAwareCalibrationError,
)
from shrinkproof.metrics.detection.matching import match
from shrinkproof.torchvision_ops import ensure

from ..calibrated_boxes import SIZE, random_detections

pytestmark = pytest.mark.parity

COLUMNS = {"confidence": [0], "position": [0, 1, 2], "size": [0, 3, 4], "all": [0, 1, 2, 3, 4]}


def imported(name):
    """Return a package whose import may emit deprecation warnings of others; skip without it."""
    ensure()  # netcal imports torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            name, reason=f"{name} or a package that it needs is not installed"
        )


@pytest.fixture(scope="module")
def netcal():
    return imported("netcal.metrics")


@pytest.fixture(scope="module")
def uq_detr():
    return imported("uq_detr")


def features(predictions):
    """Score, relative center and relative size of each detection, (M, 5)."""
    height, width = SIZE
    x1, y1, x2, y2 = predictions.boxes.astype(np.float64).T
    columns = [
        (x1 + x2) / 2 / width,
        (y1 + y2) / 2 / height,
        (x2 - x1) / width,
        (y2 - y1) / height,
    ]
    return np.stack([predictions.score.astype(np.float64), *columns], axis=1)


@pytest.mark.parametrize("of", COLUMNS)
@pytest.mark.parametrize(("bins", "box_bins", "score"), [(25, 5, 0.3), (10, 10, 0.0), (20, 8, 0.5)])
def test_detection_error_equals_netcal(netcal, of, bins, box_bins, score):
    predictions = random_detections(1, images=60)
    counts = predictions.score >= score
    values = features(predictions)[counts][:, COLUMNS[of]]
    right = match(predictions, iou=0.5).right[counts].astype(int)
    theirs = netcal.ECE([bins, *[box_bins] * (len(COLUMNS[of]) - 1)], detection=True)
    ours = DetectionCalibrationError(bins=bins, box_bins=box_bins, of=of, score=score)
    assert ours(predictions) == pytest.approx(theirs.measure(values, right), abs=1e-9)


def test_detection_error_equals_netcal_on_edges_of_bins(netcal):
    predictions = random_detections(2)
    rounded = np.round(predictions.boxes / 16) * 16
    rounded[:, 2:] = np.maximum(rounded[:, 2:], rounded[:, :2] + 16)
    on_edges = type(predictions)(
        boxes=rounded,
        score=np.round(predictions.score * 8) / 8,
        label=predictions.label,
        offsets=predictions.offsets,
        objects=predictions.objects,
        index=predictions.index,
        num_classes=predictions.num_classes,
    )
    right = match(on_edges, iou=0.5).right.astype(int)
    ours = DetectionCalibrationError(bins=8, box_bins=5, of="all", score=0.0)
    theirs = netcal.ECE([8, 5, 5, 5, 5], detection=True)
    assert ours(on_edges) == pytest.approx(theirs.measure(features(on_edges), right), abs=1e-9)


def anchored(seed, *, steps=None, classes=3):
    """Random detections in which each class has the scores 0 and 1, between which uq-detr bins.

    With steps, no two detections of a class have their score in the same of so many bins.
    """
    predictions = random_detections(seed, images=40, classes=classes)
    draws = np.random.default_rng(seed)
    score = draws.random(len(predictions.score)).astype(np.float32)
    for label in range(classes):
        rows = np.flatnonzero(predictions.label == label)
        if steps:
            score[rows] = (draws.permutation(steps)[: len(rows)] + 0.5) / steps
        score[rows[:2]] = 0, 1
    order = np.lexsort((-score, predictions.image))
    return type(predictions)(
        boxes=predictions.boxes[order],
        score=score[order],
        label=predictions.label[order],
        offsets=predictions.offsets,
        objects=predictions.objects,
        index=predictions.index,
        num_classes=classes,
    )


def theirs(uq_detr, predictions):
    """The same boxes in the classes of uq-detr."""
    found, truth = [], []
    for image in range(len(predictions)):
        one = predictions.take(np.array([image]))
        found.append(uq_detr.Detections(boxes=one.boxes, scores=one.score, labels=one.label))
        truth.append(uq_detr.GroundTruth(boxes=one.objects.boxes, labels=one.objects.label))
    return found, truth


@pytest.mark.parametrize("iou", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("bins", [10, 25])
def test_localization_aware_error_equals_uq_detr(uq_detr, iou, bins):
    predictions = anchored(3)
    other = uq_detr.laece(
        *theirs(uq_detr, predictions), tp_criterion="greedy", iou_threshold=iou, n_bins=bins
    )
    ours = LocalizationAwareCalibrationError(iou=iou, bins=bins, score=0.0)
    assert ours(predictions) == pytest.approx(other.score, abs=1e-9)


def test_adaptive_error_equals_uq_detr_with_a_bin_for_each_detection(uq_detr):
    predictions = anchored(4, steps=400)
    # An IoU of exactly 0 would let uq-detr match boxes that do not overlap.
    other = uq_detr.laece(
        *theirs(uq_detr, predictions), tp_criterion="greedy", iou_threshold=1e-9, n_bins=400
    )
    ours = LocalizationAwareAdaptiveError(score=0.0)
    assert ours(predictions) == pytest.approx(other.score, abs=1e-9)


def test_detection_error_equals_uq_detr(uq_detr):
    predictions = anchored(5, classes=1)
    other = uq_detr.dece(*theirs(uq_detr, predictions), tp_criterion="greedy", n_bins=20)
    ours = DetectionCalibrationError(bins=20, score=0.0)
    assert ours(predictions) == pytest.approx(other.score, abs=1e-9)


def test_isotonic_correction_equals_scikit_learn_on_the_scores_it_was_fitted_on():
    isotonic = imported("sklearn.isotonic")
    predictions = random_detections(3)
    found = counted(predictions, iou=0.5, score=0.3)
    other = isotonic.IsotonicRegression(out_of_bounds="clip").fit(found.score, found.right)
    asked = np.linspace(found.score.min(), 1, 500)
    ours = fit("isotonic", predictions).correction(asked)
    np.testing.assert_allclose(ours, other.predict(asked), atol=1e-7)
