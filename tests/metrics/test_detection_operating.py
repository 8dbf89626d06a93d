from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.metrics.detection.matching import match
from shrinkproof.metrics.detection.operating import false_per_image, missed, operating_point
from shrinkproof.metrics.detection.rates import Rate
from shrinkproof.protocols import Undefined
from shrinkproof.statistics import bootstrap_weights

from ..boxes_builder import detections_of, objects_of
from ..random_boxes import random_boxes

HERE, THERE, FAR, BIG = (0, 0, 20, 20), (40, 0, 60, 20), (60, 60, 80, 80), (100, 100, 200, 200)


def rate(part, whole):
    return Rate(np.array(part, dtype=float), np.array(whole, dtype=float), "there is nothing")


class TestOperatingPoint:
    truth = objects_of([[(HERE, 0), (THERE, 0)], [(HERE, 1)]])

    def test_is_where_f1_is_highest(self):
        found = detections_of(
            [[(HERE, 0, 0.9), (FAR, 0, 0.6), (THERE, 0, 0.5)], [(FAR, 1, 0.4), (HERE, 1, 0.1)]],
            self.truth,
        )
        # F1 = 2 TP / (found + 3): 2/4, 2/5, 4/6, 4/7, 6/8.
        point = operating_point(found)
        assert point.threshold == pytest.approx(0.1)
        assert (point.f1, point.precision, point.recall) == (6 / 8, 3 / 5, 1)

    def test_of_equal_values_the_highest_threshold_is_taken(self):
        found = detections_of([[(HERE, 0, 0.9), (FAR, 0, 0.8)], [(HERE, 1, 0.5)]], self.truth)
        # 2/4, 2/5, 4/6; without the last one 2/4 is the highest.
        assert operating_point(found).threshold == pytest.approx(0.5)
        first = detections_of(
            [[(HERE, 0, 0.9), *[(FAR, 0, 0.8)] * 4], [(HERE, 1, 0.5)]], self.truth
        )
        # 2/4, ..., 4/9: the first.
        assert operating_point(first).threshold == pytest.approx(0.9)

    def test_equal_scores_count_together(self):
        found = detections_of([[(HERE, 0, 0.5), *[(FAR, 0, 0.5)] * 5], []], self.truth)
        point = operating_point(found)
        assert (point.f1, point.precision) == (2 / 9, 1 / 6)

    def test_crowds_count_neither_way(self):
        truth = objects_of([[(HERE, 0), (BIG, 0)]], crowd=[(0, 1)])
        found = detections_of([[(BIG, 0, 0.9), (HERE, 0, 0.8)]], truth)
        point = operating_point(found)
        assert (point.f1, point.precision, point.recall) == (1, 1, 1)

    def test_states_its_protocol(self):
        found = detections_of([[(HERE, 0, 0.5)], []], self.truth)
        assert operating_point(found).protocol == (
            "score >= 0.5, IoU >= 0.5; COCO matching by falling score; at most 100 detections per "
            "class and image; crowd regions ignored"
        )

    @pytest.mark.parametrize(
        ("predictions", "reason"),
        [
            (detections_of([], objects_of([])), "there are none"),
            (detections_of([[(HERE, 0, 0.9)]], objects_of([[]])), "there are none"),
            (detections_of([[]], objects_of([[(HERE, 0)]])), "needs right detections"),
            (detections_of([[(FAR, 0, 1.0)]], objects_of([[(HERE, 0)]])), "needs right detections"),
        ],
        ids=["no images", "no objects", "no detections", "none is right"],
    )
    def test_is_undefined_with_a_reason(self, predictions, reason):
        assert reason in operating_point(predictions).reason

    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 10_000), st.sampled_from([0.0, 20.0]))
    def test_no_other_threshold_is_better(self, seed, grid):
        predictions = random_boxes(seed, images=5, grid=grid, crowd=0.2)
        point = operating_point(predictions)
        if isinstance(point, Undefined):
            return
        count = (~predictions.objects.crowd).sum()
        for threshold in np.unique(predictions.score):
            matching = match(predictions.above(float(threshold)))
            right, wrong = matching.right.sum(), matching.wrong.sum()
            f1 = 2 * right / (right + wrong + count)
            assert f1 <= point.f1 + 1e-12
            if threshold == np.float32(point.threshold):
                assert f1 == pytest.approx(point.f1, abs=1e-12)


class TestMissed:
    truth = objects_of([[(HERE, 0), (THERE, 0), (BIG, 1)], [(HERE, 1)], []], size=(300, 300))
    found = detections_of(
        [[(HERE, 0, 0.9), (THERE, 0, 0.4), (BIG, 0, 0.3)], [(HERE, 1, 0.7)], [(FAR, 2, 0.8)]], truth
    )

    @pytest.mark.parametrize(
        ("threshold", "expected"), [(0.0, 1 / 4), (0.4, 1 / 4), (0.5, 2 / 4), (0.95, 1)]
    )
    def test_counts_objects_below_the_threshold(self, threshold, expected):
        assert missed(self.found, np.float32(threshold)).overall.value() == expected

    def test_by_class_and_by_size(self):
        parts = missed(self.found, 0.5)
        assert [one.value() for one in parts.by_class[:2]] == [1 / 2, 1 / 2]
        assert parts.by_class[2].value() == Undefined("there are no objects of this class")
        assert parts.by_size["small"].value() == 1 / 3
        assert parts.by_size["large"].value() == 1
        assert parts.by_size["medium"].value() == Undefined("there are no medium objects")

    def test_crowds_cannot_be_missed(self):
        truth = objects_of([[(HERE, 0), (BIG, 0)]], crowd=[(0, 1)])
        assert missed(detections_of([[]], truth), 0.5).overall.value() == 1
        assert missed(detections_of([[(HERE, 0, 0.6)]], truth), 0.5).overall.value() == 0

    def test_without_objects_is_undefined(self):
        nothing = detections_of([[(HERE, 0, 0.9)]], objects_of([[]]))
        assert missed(nothing, 0.5).overall.value() == Undefined("there are no objects")

    def test_false_detections_per_image(self):
        assert false_per_image(self.found, 0.0).value() == 2 / 3
        assert false_per_image(self.found, 0.5).value() == 1 / 3
        assert false_per_image(self.found, 0.95).value() == 0
        nothing = detections_of([], objects_of([]))
        assert false_per_image(nothing, 0.5).value() == Undefined("there are no images")

    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 10_000), st.floats(0, 1))
    def test_a_higher_threshold_misses_more_and_invents_less(self, seed, threshold):
        predictions = random_boxes(seed, images=5)
        if not (~predictions.objects.crowd).any():
            return
        low, high = missed(predictions, 0.0), missed(predictions, threshold)
        assert low.overall.value() <= high.overall.value()
        assert (
            false_per_image(predictions, threshold).value()
            <= false_per_image(predictions, 0.0).value()
        )
        parts = np.sum([[one.part, one.whole] for one in high.by_class], axis=0)
        assert np.array_equal(parts, [high.overall.part, high.overall.whole])

    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 10_000), st.floats(0, 1))
    def test_dropping_what_does_not_count_changes_nothing(self, seed, threshold):
        predictions = random_boxes(seed, images=5)
        dropped = predictions.above(threshold)
        assert np.array_equal(
            missed(predictions, threshold).overall.part, missed(dropped, threshold).overall.part
        )
        assert np.array_equal(
            false_per_image(predictions, threshold).part, false_per_image(dropped, threshold).part
        )


class TestRate:
    def test_is_the_ratio_of_the_sums(self):
        assert rate([1, 0, 2], [2, 0, 4]).value() == 0.5
        assert rate([0, 0], [0, 0]).value() == Undefined("there is nothing")

    def test_resampled_images_count_by_weight(self):
        weights = np.array([[1, 1, 1], [2, 5, 0], [0, 3, 0]], dtype=np.float32)
        found = rate([1, 0, 0], [2, 0, 4]).replicated(weights)
        assert found.value == 1 / 6
        assert found.values[:2] == pytest.approx([1 / 6, 1 / 2])
        assert np.isnan(found.values[2])
        assert rate([0], [0]).replicated(weights[:, :1]) == Undefined("there is nothing")

    def test_few_images_with_one_box_each_have_an_exact_interval(self):
        one_each = rate([1] * 3 + [0] * 37 + [0] * 20, [1] * 40 + [0] * 20)
        weights = bootstrap_weights(60, replicates=200, seed=0)
        found = one_each.interval(weights)
        assert found.method == "clopper-pearson"
        # scipy.stats.binomtest(3, 40).proportion_ci()
        assert (found.low, found.high) == pytest.approx((0.0157, 0.2039), abs=1e-4)

    def test_boxes_per_image_are_no_probability(self):
        part, weights = np.ones(40), bootstrap_weights(40, replicates=100, seed=0)
        rate = Rate(part, np.ones(40), "", is_share=False)
        assert not rate.interval(weights).is_stated
        assert Rate(part, np.ones(40), "").interval(weights).high == 1
        part[:20] = 0
        found = Rate(part, np.ones(40), "", is_share=False).interval(weights)
        assert found.method == "bootstrap-percentile"

    def test_several_boxes_per_image_are_resampled(self):
        draws = np.random.default_rng(0)
        whole = draws.integers(0, 5, 80)
        several = rate(draws.binomial(whole, 0.3), whole)
        found = several.interval(bootstrap_weights(80, replicates=500, seed=0))
        assert found.method == "bootstrap-percentile"
        assert found.low < several.value() < found.high

    def test_images_without_boxes_do_not_count_as_images(self):
        whole = np.array([2.0] * 20 + [0.0] * 80)
        found = Rate(whole / 2, whole, "").interval(bootstrap_weights(100, replicates=200, seed=0))
        assert not found.is_stated
        assert "at least 30 images, got 20" in found.reason

    def test_groups_are_counted_where_there_are_boxes(self):
        whole = np.array([2.0] * 50 + [0.0] * 50)
        groups = np.repeat([f"drive{k}" for k in range(50)], 2)
        found = Rate(whole / 2, whole, "").interval(
            bootstrap_weights(100, groups=groups, replicates=200, seed=0), groups=groups
        )
        assert "25" in found.reason

    def test_nothing_has_a_reason(self):
        assert rate([0], [0]).interval(np.ones((5, 1), np.float32)).reason == "there is nothing"


def test_predictions_of_equal_arrays_are_judged_apart():
    found = detections_of([[(HERE, 0, 0.9)]], objects_of([[(HERE, 0)]]))
    other = replace(found, score=np.array([0.1], dtype=np.float32))
    assert missed(found, 0.5).overall.value() == 0
    assert missed(other, 0.5).overall.value() == 1
