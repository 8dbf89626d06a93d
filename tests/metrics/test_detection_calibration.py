import doctest
import importlib
from dataclasses import replace

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.metrics.detection.calibration import DetectionCalibrationError
from shrinkproof.metrics.detection.gaps import cells, in_cells, mean_gap, resampled, resampled_cells
from shrinkproof.metrics.detection.intervals import carrying_images
from shrinkproof.metrics.detection.localization import (
    LocalizationAwareAdaptiveError,
    LocalizationAwareCalibrationError,
)
from shrinkproof.metrics.spelling import metric_of, spelled
from shrinkproof.protocols import Undefined
from shrinkproof.statistics import DEVIATION, bootstrap_weights

from ..boxes_builder import detections_of, objects_of
from ..calibrated_boxes import claims, random_detections

D_ECE, LAECE, LAACE = (
    DetectionCalibrationError,
    LocalizationAwareCalibrationError,
    LocalizationAwareAdaptiveError,
)
EVERY = [D_ECE(), D_ECE(of="position"), D_ECE(of="size"), D_ECE(of="all"), LAECE(), LAACE()]
IDS = ["d_ece", "position", "size", "all", "laece", "laace"]

HERE = (0, 0, 20, 20)
HALF = (0, 0, 20, 10)
THERE = (60, 60, 80, 80)


def found(*detections, objects=((HERE, 0),), crowd=(), classes=3, size=(100, 100)):
    """One image with some objects and some detections."""
    truth = objects_of([objects], crowd=crowd, size=size)
    return detections_of([detections], truth, classes=classes)


def renamed(predictions, label_of):
    objects = replace(predictions.objects, label=label_of[predictions.objects.label])
    return replace(predictions, label=label_of[predictions.label], objects=objects)


def test_detection_error_is_the_weighted_gap_of_score_and_precision():
    predictions = found((HERE, 0, 0.85), (THERE, 0, 0.81), (THERE, 1, 0.45))
    # Bin 0.8 to 1: mean score 0.83, precision 0.5, two of three; bin 0.4 to 0.6: 0.45 and 0.
    expected = 2 / 3 * 0.33 + 1 / 3 * 0.45
    assert D_ECE(bins=5)(predictions) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("detection", "is_right"),
    [((HERE, 0), True), ((HALF, 0), True), ((HERE, 1), False), ((THERE, 0), False)],
    ids=["exact", "iou at the threshold", "other class", "elsewhere"],
)
def test_a_detection_is_right_with_class_and_overlap(detection, is_right):
    predictions = found((*detection, 0.75))
    assert D_ECE()(predictions) == (0.25 if is_right else 0.75)
    assert D_ECE(iou=0.6)(found((HALF, 0, 0.75))) == 0.75


def test_an_object_is_found_only_once():
    assert D_ECE(bins=1)(found((HERE, 0, 0.75), (HERE, 0, 0.5))) == 0.125


def test_what_lies_on_a_crowd_does_not_count():
    objects = ((HERE, 0), (THERE, 0))
    predictions = found((HERE, 0, 0.75), (THERE, 0, 0.5), objects=objects, crowd=[(0, 1)])
    assert D_ECE(bins=1)(predictions) == 0.25
    assert LAACE()(predictions) == 0.25


def test_only_scores_from_the_threshold_on_count():
    alone = found((HERE, 0, 0.75))
    more = found((HERE, 0, 0.75), *[(THERE, 0, 0.29)] * 50)
    for metric in EVERY:
        assert metric(more) == metric(alone)
    assert D_ECE(score=0.0)(more) > D_ECE(score=0.0)(alone)
    at = found((HERE, 0, 0.75), (THERE, 0, 0.3))
    assert D_ECE()(at) == pytest.approx((0.25 + 0.3) / 2, abs=1e-7)


def test_lower_edges_of_bins_belong_to_them():
    objects = ((HERE, 0),)
    apart = found((HERE, 0, 0.5), (THERE, 0, 0.4375), objects=objects)
    assert D_ECE(bins=2)(apart) == (0.5 + 0.4375) / 2
    together = found((THERE, 0, 0.5625), (HERE, 0, 0.5), objects=objects)
    assert D_ECE(bins=2)(together) == pytest.approx(0.03125)
    assert D_ECE(bins=2)(found((HERE, 0, 1.0))) == 0.0


@pytest.mark.parametrize(
    ("of", "cancels"),
    [("confidence", True), ("position", False), ("size", True), ("all", False)],
)
def test_position_keeps_places_apart_that_cancel(of, cancels):
    predictions = found((HERE, 0, 0.5), (THERE, 0, 0.5))
    assert D_ECE(of=of)(predictions) == (0.0 if cancels else 0.5)


def test_size_keeps_sizes_apart_that_cancel():
    large = (5, 5, 95, 95)
    small = (40, 40, 60, 60)
    predictions = found((large, 0, 0.5), (small, 0, 0.5), objects=((large, 0),))
    assert [D_ECE(of=of)(predictions) for of in ("confidence", "position")] == [0.0, 0.0]
    assert [D_ECE(of=of)(predictions) for of in ("size", "all")] == [0.5, 0.5]


def test_localization_aware_error_compares_score_and_overlap_within_classes():
    truth = objects_of([((HERE, 0), (THERE, 1))])
    predictions = detections_of(
        [[(HALF, 0, 0.9375), (THERE, 1, 0.75), (HERE, 2, 0.625)]], truth, classes=4
    )
    # Class 0 overlaps by 0.5, class 1 by 1, class 2 found nothing, class 3 has no detections.
    expected = (0.4375 + 0.25 + 0.625) / 3
    assert LAECE()(predictions) == pytest.approx(expected)
    assert LAACE()(predictions) == pytest.approx(expected)
    assert "3 of 4 classes" in LAECE().caveat(predictions)
    assert "all 3 classes" in LAACE().caveat(replace(predictions, num_classes=3))


def test_localization_aware_target_is_precision_times_mean_overlap():
    predictions = found((HALF, 0, 0.75), (THERE, 0, 0.75))
    assert LAECE()(predictions) == 0.75 - 0.5 * 0.5
    assert LAACE()(predictions) == (0.25 + 0.75) / 2


def test_without_a_threshold_any_overlap_counts_but_none_does_not():
    corner = (18, 18, 38, 38)
    overlap = 4 / 796
    assert LAACE()(found((corner, 0, 0.5))) == pytest.approx(0.5 - overlap)
    assert LAACE(iou=0.1)(found((corner, 0, 0.5))) == 0.5
    # Touching none, the first detection must not take the object from the second one.
    assert LAACE()(found((THERE, 0, 0.75), (HERE, 0, 0.5))) == (0.75 + 0.5) / 2


@pytest.mark.parametrize("metric", EVERY, ids=IDS)
def test_nothing_that_counts_is_undefined_with_a_reason(metric):
    nobody = detections_of([], objects_of([]))
    silent = detections_of([[], []], objects_of([((HERE, 0),), ()]))
    unsure = found((HERE, 0, 0.1))
    for predictions, reason in (
        (nobody, "there are no images"),
        (silent, "no detection with a score of at least 0.3 counts"),
        (unsure, "no detection with a score of at least 0.3 counts"),
    ):
        weights = np.ones((4, len(predictions)), dtype=np.float32)
        assert metric(predictions) == Undefined(reason)
        assert metric.replicated(predictions, weights) == Undefined(reason)
        assert metric.interval(predictions, weights, len(predictions)).reason == reason


def test_images_without_objects_are_all_wrong():
    predictions = detections_of([[(HERE, 0, 0.75)], [(HERE, 1, 0.5)]], objects_of([(), ()]))
    assert D_ECE()(predictions) == 0.625
    assert LAECE()(predictions) == LAACE()(predictions) == 0.625


@pytest.mark.parametrize("metric", EVERY, ids=IDS)
def test_the_caveat_states_the_protocol(metric):
    text = metric.caveat(random_detections(0))
    for part in ("scores >= 0.3", "at most 100 detections", "crowd regions", "falling score"):
        assert part in text
    assert ("any overlap" if metric.name == "detection.laace" else f"IoU >= {metric.iou}") in text


@pytest.mark.parametrize("metric", EVERY, ids=IDS)
@given(seed=st.integers(0, 50))
@settings(max_examples=5, deadline=None)
def test_order_of_images_names_of_classes_and_scale_do_not_count(metric, seed):
    draws = np.random.default_rng(seed)
    predictions = random_detections(seed, images=8, crowds=0.1)
    value = metric(predictions)
    assert 0 <= value <= 1
    shuffled = predictions.take(draws.permutation(8))
    assert metric(shuffled) == pytest.approx(value, abs=1e-12)
    assert metric(renamed(predictions, draws.permutation(3))) == pytest.approx(value, abs=1e-12)
    twice = replace(
        predictions,
        boxes=2 * predictions.boxes,
        objects=replace(
            predictions.objects,
            boxes=2 * predictions.objects.boxes,
            sizes=2 * predictions.objects.sizes,
        ),
    )
    assert metric(twice) == pytest.approx(value, abs=1e-12)


@given(seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_finer_bins_can_only_add_to_the_error(seed):
    predictions = random_detections(seed, images=8)
    alone, position, everything = (D_ECE(of=of)(predictions) for of in OF)
    assert alone <= position + 1e-12 <= everything + 2e-12
    assert LAECE(iou=0.0)(predictions) <= LAACE()(predictions) + 1e-12


OF = ("confidence", "position", "all")


@pytest.mark.parametrize("metric", EVERY, ids=IDS)
def test_resampled_values_are_those_of_the_resampled_images(metric):
    predictions = random_detections(1, images=12, crowds=0.1)
    weights = bootstrap_weights(12, replicates=20, seed=3)
    found_ = metric.replicated(predictions, weights)
    assert found_.value == metric(predictions)
    once = metric.replicated(predictions, np.ones((1, 12), dtype=np.float32))
    assert once.values[0] == pytest.approx(found_.value, abs=1e-12)
    for weight, value in zip(weights, found_.values, strict=True):
        again = predictions.take(np.repeat(np.arange(12), weight.astype(int)))
        assert metric(again) == pytest.approx(value, abs=1e-12)


def test_resampled_data_sets_without_detections_are_nan():
    predictions = detections_of([[(HERE, 0, 0.75)], []], objects_of([((HERE, 0),), ()]))
    weights = np.array([[1, 0], [0, 2]], dtype=np.float32)
    np.testing.assert_array_equal(D_ECE().replicated(predictions, weights).values, [0.25, np.nan])


def test_cells_add_up_to_the_number():
    gaps = LAECE().gaps(random_detections(2))
    weights = bootstrap_weights(40, replicates=30, seed=0)
    assert np.abs(cells(gaps)).sum() == pytest.approx(mean_gap(gaps), abs=1e-12)
    np.testing.assert_allclose(
        np.abs(resampled_cells(gaps, weights)).sum(axis=1),
        resampled(gaps, weights).values,
        atol=1e-12,
    )


def test_parts_without_detections_are_left_out_of_a_resampled_mean():
    gaps = in_cells(
        np.array([0, 1]), np.array([4, 9]), np.array([0, 3]), np.array([0.5, -0.25]), images=2
    )
    assert gaps.parts == 2
    assert mean_gap(gaps) == 0.375
    weights = np.array([[1, 0], [0, 3], [1, 1]], dtype=np.float32)
    np.testing.assert_allclose(resampled(gaps, weights).values, [0.5, 0.25, 0.375])
    np.testing.assert_allclose(
        resampled_cells(gaps, weights), [[0.5, 0], [0, -0.25], [0.25, -0.125]]
    )


def test_carrying_images_counts_equal_ones_fully():
    assert carrying_images(np.array([0, 0, 3, 3, 5, 5])) == 3
    assert carrying_images(np.array([0, 0, 0, 0, 0, 0, 1])) < 1.4
    assert carrying_images(np.array([], dtype=np.int64)) == 0


def many(images=60, per_image=10, share=0.6, classes=1, seed=0):
    draws = np.random.default_rng(seed)
    score = draws.uniform(0.4, 1, images * per_image)
    return claims(score, draws.random(len(score)) < share, per_image=per_image, classes=classes)


@pytest.mark.parametrize("metric", [D_ECE(), LAECE()], ids=["d_ece", "laece"])
def test_intervals_are_stated_around_the_value(metric):
    predictions = many()
    weights = bootstrap_weights(60, seed=0)
    stated = metric.interval(predictions, weights, 60)
    assert stated.method == DEVIATION
    assert 0 < stated.low < metric(predictions) < stated.high < 1
    assert LAACE().interval(predictions, weights, 60).method == "bootstrap-percentile"


@pytest.mark.parametrize(
    ("predictions", "units", "reason"),
    [
        (many(images=20), 20, "needs at least 30 independent images, got 20"),
        (many(), 12, "needs at least 30 independent images, got 12"),
        (many(per_image=1), 60, "needs at least 5 detections per bin, got"),
        (many(share=0.995), 60, "the wrong detections rest on about"),
        (many(share=0.005), 60, "the right detections rest on about"),
    ],
    ids=["images", "groups", "bins", "wrong", "right"],
)
def test_an_interval_that_is_not_stated_says_why(predictions, units, reason):
    weights = bootstrap_weights(len(predictions), replicates=100, seed=0)
    assert reason in D_ECE().interval(predictions, weights, units).reason


def test_a_class_on_few_images_has_no_interval():
    predictions = many()
    label = np.zeros_like(predictions.label)
    label[:3] = 1
    rare = replace(predictions, label=label, num_classes=2)
    weights = bootstrap_weights(60, replicates=100, seed=0)
    for metric in (LAECE(), LAACE()):
        assert "the detections of one class rest on about 1 images" in (
            metric.interval(rare, weights, 60).reason
        )


def test_settings_are_validated_and_spelled():
    for wrong in ({"iou": 1.5}, {"score": -0.1}, {"bins": 0}, {"of": "shape"}, {"box_bins": 101}):
        with pytest.raises(pydantic.ValidationError):
            D_ECE(**wrong)
    assert (
        spelled(metric_of("detection.d_ece[of=all,bins=10]")) == "detection.d_ece[bins=10,of=all]"
    )
    assert metric_of("detection.laece") == LAECE()
    assert metric_of("detection.laace") == LAACE()


@pytest.mark.parametrize("module", ["calibration", "localization"])
def test_examples_in_docstrings_run(module):
    ran = doctest.testmod(importlib.import_module(f"shrinkproof.metrics.detection.{module}"))
    assert ran.attempted > 0
    assert ran.failed == 0


def changed(predictions, images):
    """The same detections, on some images with the scores of others."""
    score = predictions.score.copy()
    for image in range(images):
        rows = slice(*predictions.offsets[image : image + 2])
        score[rows] = np.maximum(score[rows] - 0.05, 0.35)
    return replace(predictions, score=score)


@pytest.mark.parametrize("metric", [D_ECE(), LAECE(), LAACE()], ids=["d_ece", "laece", "laace"])
def test_changes_have_paired_intervals(metric):
    baseline = many()
    candidate = changed(baseline, 60)
    weights = bootstrap_weights(60, replicates=300, seed=0)
    change = metric(candidate) - metric(baseline)
    ours = metric.change_interval(candidate, baseline, weights, 60)
    assert ours.low <= change <= ours.high
    assert ours.method in ("l1-deviation-paired", "bootstrap-percentile")
    back = metric.change_interval(baseline, candidate, weights, 60)
    assert (back.low, back.high) == pytest.approx((-ours.high, -ours.low), abs=1e-9)


def test_a_change_on_few_images_has_no_interval():
    baseline = many()
    weights = bootstrap_weights(60, replicates=50, seed=0)
    for images in (0, 4):
        stated = D_ECE().change_interval(changed(baseline, images), baseline, weights, 60)
        assert f"images on which both detectors differ, got {images}" in stated.reason
    alike = LAACE().change_interval(baseline, baseline, weights, 60)
    assert alike.reason == "every resampled data set has the same value"


@pytest.mark.parametrize("metric", [D_ECE(), LAECE(), LAACE()], ids=["d_ece", "laece", "laace"])
def test_a_change_needs_both_numbers_and_enough_images(metric):
    baseline = many()
    weights = bootstrap_weights(60, replicates=50, seed=0)
    silent = baseline.above(1.0)
    for both in ((silent, baseline), (baseline, silent)):
        assert "no detection" in metric.change_interval(*both, weights, 60).reason
    few = many(images=20)
    stated = metric.change_interval(few, few, weights[:, :20], 20)
    assert "at least 30 independent images" in stated.reason


def test_a_mean_that_rests_on_few_images_has_no_interval():
    score = np.full(600, 0.5)
    right = np.ones(600, dtype=bool)
    score[:30], right[:30] = 1.0, False
    predictions = claims(score, right)
    weights = bootstrap_weights(60, replicates=50, seed=0)
    assert "the spread rests on about" in LAACE().interval(predictions, weights, 60).reason
    other = claims(np.full(600, 0.5), right)
    change = LAACE().change_interval(predictions, other, weights, 60)
    assert "the spread rests on about" in change.reason
