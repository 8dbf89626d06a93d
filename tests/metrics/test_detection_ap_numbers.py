import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.errors import UsageError
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.detection.average import (
    AveragePrecision,
    AveragePrecision50,
    AveragePrecisionLarge,
    AverageRecall1,
    AverageRecall10,
)
from shrinkproof.metrics.detection.coco import COCO_IOUS, coco_numbers
from shrinkproof.metrics.detection.precision import ap_replicates, ar_replicates
from shrinkproof.protocols import Undefined
from shrinkproof.statistics import bootstrap_weights, replicated_interval

from ..boxes_builder import detections_of, objects_of
from ..random_boxes import random_boxes

NAMES = [
    *(f"detection.{name}" for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")),
    *(f"detection.{name}" for name in ("ar1", "ar10", "ar100", "ar_small", "ar_medium")),
    "detection.ar_large",
]
HERE, THERE, FAR = (0, 0, 20, 20), (40, 0, 60, 20), (60, 60, 80, 80)


def twelve(predictions, weights):
    """The twelve numbers on resampled data sets, (12, R); -1 where undefined, as COCO says it."""
    sizes = ("small", "medium", "large")
    rows = [
        *(ap_replicates(predictions, weights, ious=ious) for ious in (COCO_IOUS, (0.5,), (0.75,))),
        *(ap_replicates(predictions, weights, size=size) for size in sizes),
        *(ar_replicates(predictions, weights, most=most) for most in (1, 10, 100)),
        *(ar_replicates(predictions, weights, size=size) for size in sizes),
    ]
    return np.nan_to_num(np.array(rows), nan=-1)


class TestByHand:
    # By falling score right, wrong, right; two objects: precision 1 up to recall 0.5, then 2 / 3.
    truth = objects_of([[(HERE, 0), (THERE, 0)]])
    found = detections_of([[(HERE, 0, 0.9), (FAR, 0, 0.8), (THERE, 0, 0.7)]], truth)

    def test_precision_is_read_at_101_recalls(self):
        # Recalls 0 to 0.50 are 51 levels, the other 50 have a precision of 2 / 3.
        assert AveragePrecision50()(self.found) == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)

    def test_recall_counts_the_first_detections(self):
        assert AverageRecall1()(self.found) == 0.5
        assert AverageRecall10()(self.found) == 1

    def test_classes_count_alike(self):
        truth = objects_of([[(HERE, 0), (THERE, 0), (FAR, 1)]])
        found = detections_of([[(HERE, 0, 0.9), (THERE, 0, 0.8), (HERE, 1, 0.7)]], truth)
        assert AveragePrecision()(found) == pytest.approx(0.5, abs=1e-12)

    def test_wrong_detections_after_the_last_object_cost_nothing(self):
        found = detections_of([[(HERE, 0, 0.9), (THERE, 0, 0.8), *[(FAR, 0, 0.1)] * 5]], self.truth)
        assert AveragePrecision()(found) == pytest.approx(1, abs=1e-12)

    def test_an_image_of_weight_two_counts_twice(self):
        truth = objects_of([[(HERE, 0)], [(HERE, 0)]])
        found = detections_of([[(FAR, 0, 0.9), (HERE, 0, 0.6)], [(HERE, 0, 0.8)]], truth)
        weights = np.array([[1, 1], [2, 0], [0, 3], [1, 2]], dtype=np.float32)
        # Precision at the right detections: 1 / 2, 2 / 3; 2 / 4; 3 / 3; 2 / 3, 3 / 4. It may only
        # fall, so the last and highest one holds for all recalls.
        expected = [2 / 3, 2 / 4, 1, 3 / 4]
        assert ap_replicates(found, weights, ious=(0.5,)) == pytest.approx(expected, abs=1e-12)


class TestUndefined:
    @pytest.mark.parametrize("name", NAMES)
    def test_no_images_and_no_objects_have_a_reason(self, name):
        metric = METRICS.create(name)
        nothing = detections_of([], objects_of([]))
        assert metric(nothing) == Undefined("there are no images")
        empty = detections_of([[(HERE, 0, 0.9)]], objects_of([[]]))
        assert metric(empty).reason.startswith("there are no objects")
        assert metric.replicated(empty, np.ones((2, 1), np.float32)) == metric(empty)
        assert metric.terms(empty) is None

    def test_a_size_without_objects_has_a_reason(self):
        found = detections_of([[(HERE, 0, 0.9)]], objects_of([[(HERE, 0)]]))
        assert AveragePrecisionLarge()(found) == Undefined(
            "there are no objects of at least 96 x 96 pixels"
        )

    def test_only_crowds_are_no_objects(self):
        found = detections_of([[(HERE, 0, 0.9)]], objects_of([[(HERE, 0)]], crowd=[(0, 0)]))
        assert isinstance(AveragePrecision()(found), Undefined)

    def test_no_detections_are_a_precision_of_zero(self):
        found = detections_of([[], []], objects_of([[(HERE, 0)], []]))
        assert [METRICS.create(name)(found) for name in NAMES[:3]] == [0, 0, 0]
        weights = np.array([[1, 1], [0, 2]], dtype=np.float32)
        values = AveragePrecision().replicated(found, weights).values
        assert values[0] == 0
        assert np.isnan(values[1])

    def test_a_resampled_set_without_a_class_averages_the_others(self):
        truth = objects_of([[(HERE, 0)], [(HERE, 1)]])
        found = detections_of([[(HERE, 0, 0.9)], []], truth)
        weights = np.array([[1, 1], [1, 0], [0, 1]], dtype=np.float32)
        assert ap_replicates(found, weights) == pytest.approx([0.5, 1, 0], abs=1e-12)


class TestReplicates:
    @settings(max_examples=8, deadline=None)
    @given(st.integers(0, 10_000), st.sampled_from([0.0, 20.0]), st.sampled_from([0.0, 0.4]))
    def test_weights_of_one_are_the_coco_numbers(self, seed, grid, crowd):
        predictions = random_boxes(seed, images=5, detections=60, grid=grid, crowd=crowd)
        expected = list(coco_numbers(predictions).values())
        weights = np.ones((1, len(predictions)), dtype=np.float32)
        assert twelve(predictions, weights)[:, 0] == pytest.approx(expected, abs=1e-9)

    def test_weights_are_copies_of_images(self):
        predictions = random_boxes(5, images=8)
        weights = bootstrap_weights(8, replicates=20, seed=1)
        found = twelve(predictions, weights)
        for column, row in enumerate(weights):
            copies = predictions.take(np.repeat(np.arange(8), row.astype(int)))
            expected = list(coco_numbers(copies).values())
            assert found[:, column] == pytest.approx(expected, abs=1e-9)

    def test_blocks_change_nothing(self, monkeypatch):
        predictions, weights = random_boxes(2), bootstrap_weights(12, replicates=9, seed=0)
        whole = ap_replicates(predictions, weights)
        monkeypatch.setattr("shrinkproof.metrics.detection.precision._BLOCK", 20)
        again = ap_replicates(predictions, weights.copy())
        assert again == pytest.approx(whole, abs=1e-13)

    def test_other_weights_give_other_values(self):
        predictions = random_boxes(2)
        one, two = (bootstrap_weights(12, replicates=9, seed=seed) for seed in (0, 1))
        first = ap_replicates(predictions, one)
        assert not np.array_equal(ap_replicates(predictions, two), first)
        assert np.array_equal(ap_replicates(predictions, one), first)

    def test_every_number_has_an_interval(self):
        predictions = random_boxes(4, images=120)
        weights = bootstrap_weights(120, replicates=200, seed=0)
        for name in NAMES:
            number = METRICS.create(name).replicated(predictions, weights)
            found = replicated_interval(number, 120)
            assert found.low < number.value < found.high, name

    @pytest.mark.parametrize("name", NAMES)
    def test_values_of_metrics_lie_around_the_number(self, name):
        predictions = random_boxes(4, images=60)
        weights = bootstrap_weights(60, replicates=200, seed=0)
        number = METRICS.create(name).replicated(predictions, weights)
        assert number.value == METRICS.create(name)(predictions)
        # Where values would be below 0, they are 0.
        rounding = 1e-12 if number.values.min() > 0 else 2e-4
        assert number.values.mean() == pytest.approx(number.value, abs=rounding)
        assert np.ptp(number.values) > 0.01

    def test_values_of_metrics_stay_in_range(self):
        truth = objects_of([[(HERE, 0)]] * 3)
        found = detections_of([[(HERE, 0, 0.9)], [(FAR, 0, 0.8)], [(HERE, 0, 0.7)]], truth)
        weights = bootstrap_weights(3, replicates=100, seed=0)
        values = AveragePrecision().replicated(found, weights).values
        assert (values.min() >= 0) & (values.max() <= 1)

    def test_weights_of_other_images_are_refused(self):
        with pytest.raises(UsageError, match="same images, got 3 and 12"):
            ap_replicates(random_boxes(1), np.ones((2, 3), np.float32))

    def test_other_thresholds_are_refused(self):
        with pytest.raises(UsageError, match=r"iou must be one of \(0.5, .*got 0.3"):
            ap_replicates(random_boxes(1), np.ones((2, 12), np.float32), ious=(0.3,))


class TestFacts:
    @pytest.mark.parametrize("name", NAMES)
    def test_the_caveat_states_the_protocol(self, name):
        text = METRICS.create(name).caveat(random_boxes(1))
        for part in ("IoU 0.", "COCO matching", "no score threshold", "at most 1", "crowd regions"):
            assert part in text
        missing = "2 of 4 classes have" if name.endswith("large") else "1 of 4 classes has"
        assert f"{missing} no objects" in text
        assert text.endswith(", left out")
        assert "\n" not in text

    def test_the_caveat_is_exact(self):
        found = TestByHand.found
        assert AveragePrecision50().caveat(found) == (
            "IoU 0.50; COCO matching by falling score; no score threshold; at most 100 detections "
            "per class and image; crowd regions ignored; 2 of 3 classes have no objects, left out"
        )
        assert AverageRecall1().caveat(found).startswith("IoU 0.50 to 0.95, mean of 10;")
        assert "at most 1 detection per class" in AverageRecall1().caveat(found)

    def test_the_evaluation_runs_once(self, monkeypatch):
        runs = []
        module = "shrinkproof.metrics.detection.coco._evaluate"
        original = importlib.import_module("shrinkproof.metrics.detection.coco")._evaluate
        monkeypatch.setattr(module, lambda given: runs.append(1) or original(given))
        predictions = random_boxes(1)
        for name in NAMES:
            METRICS.create(name)(predictions)
        assert len(runs) == 1

    def test_nothing_is_printed(self, capfd):
        AveragePrecision()(random_boxes(1))
        assert capfd.readouterr() == ("", "")

    def test_examples_in_docstrings_run(self):
        found = doctest.testmod(importlib.import_module("shrinkproof.metrics.detection.average"))
        assert found.attempted >= 12 * 6
        assert found.failed == 0

    @settings(max_examples=8, deadline=None)
    @given(st.integers(0, 10_000))
    def test_numbers_lie_in_range_and_ignore_the_order_of_images(self, seed):
        predictions = random_boxes(seed, images=6)
        order = np.random.default_rng(seed).permutation(6)
        values = np.array(list(coco_numbers(predictions).values()))
        again = np.array(list(coco_numbers(predictions.take(order)).values()))
        assert values == pytest.approx(again, abs=1e-12)
        assert (((values >= 0) & (values <= 1)) | (values == -1)).all()
