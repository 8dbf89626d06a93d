import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.metrics.detection import boxes
from shrinkproof.metrics.detection.boxes import areas, overlapping_rows, paired_iou, pairwise_iou
from shrinkproof.metrics.detection.matching import match, places

from ..boxes_builder import detections_of, objects_of
from ..random_boxes import random_boxes

HERE, HALF, NEAR, FAR = (0, 0, 20, 20), (0, 0, 20, 10), (2, 0, 22, 20), (60, 60, 80, 80)


def one_image(*detections, objects=((HERE, 0),), crowd=()):
    return detections_of([detections], objects_of([objects], crowd=[(0, at) for at in crowd]))


class TestOverlap:
    def test_is_intersection_over_union(self):
        overlap = pairwise_iou(np.array([HERE, HALF]), np.array([HERE, NEAR, FAR]))
        assert overlap == pytest.approx(
            np.array([[1, 360 / 440, 0], [0.5, 180 / 420, 0]]), abs=1e-12
        )

    def test_of_a_crowd_is_the_share_of_the_detection_inside(self):
        overlap = pairwise_iou(np.array([HALF, NEAR]), np.array([HERE]), np.array([True]))
        assert overlap[:, 0] == pytest.approx([1, 0.9], abs=1e-12)

    def test_of_boxes_that_touch_is_zero(self):
        touching = (20, 0, 40, 20)
        assert paired_iou(np.array([HERE]), np.array([touching])).tolist() == [0]

    def test_of_no_boxes_is_empty(self):
        none = np.zeros((0, 4))
        assert pairwise_iou(none, np.array([HERE])).shape == (0, 1)
        assert pairwise_iou(np.array([HERE]), none).shape == (1, 0)
        rows = overlapping_rows(none, np.zeros(0, int), none, np.zeros(0, int))
        assert [len(column) for column in rows] == [0, 0, 0]

    def test_area_is_width_times_height(self):
        assert areas(np.array([HALF, FAR], dtype=np.float32)).tolist() == [200, 400]

    def test_blocks_change_nothing(self, monkeypatch):
        predictions = random_boxes(3)
        whole = (
            pairwise_iou(predictions.boxes, predictions.objects.boxes),
            *overlapping_rows(
                predictions.boxes,
                predictions.image,
                predictions.objects.boxes,
                predictions.objects.image,
                predictions.objects.crowd,
            ),
        )
        monkeypatch.setattr(boxes, "_BLOCK", 7)
        again = (
            pairwise_iou(predictions.boxes, predictions.objects.boxes),
            *overlapping_rows(
                predictions.boxes,
                predictions.image,
                predictions.objects.boxes,
                predictions.objects.image,
                predictions.objects.crowd,
            ),
        )
        assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


class TestMatching:
    def test_the_highest_score_takes_the_object(self):
        matching = match(one_image((HALF, 0, 0.9), (HERE, 0, 0.8)))
        assert matching.right.tolist() == [True, False]
        assert matching.wrong.tolist() == [False, True]
        assert matching.object_row.tolist() == [0, -1]
        assert matching.iou == pytest.approx([0.5, 0])
        assert matching.found.tolist() == [True]

    def test_a_detection_takes_what_it_overlaps_most_of_what_is_free(self):
        objects = ((HERE, 0), (NEAR, 0))
        matching = match(one_image((HERE, 0, 0.9), (HERE, 0, 0.8), (HERE, 0, 0.7), objects=objects))
        assert matching.object_row.tolist() == [0, 1, -1]

    def test_of_equal_overlaps_the_last_object_is_taken(self):
        matching = match(one_image((HERE, 0, 0.9), objects=((HERE, 0), (HERE, 0))))
        assert matching.object_row.tolist() == [1]

    @pytest.mark.parametrize(
        ("detection", "iou", "is_right"),
        [
            ((HALF, 0, 0.9), 0.5, True),
            ((HALF, 0, 0.9), 0.51, False),
            ((HERE, 0, 0.9), 1.0, True),
            ((HERE, 1, 0.9), 0.5, False),
            ((FAR, 0, 0.9), 0.0, False),
        ],
        ids=["at the threshold", "below it", "exact", "other class", "no overlap"],
    )
    def test_class_and_overlap_must_agree(self, detection, iou, is_right):
        assert match(one_image(detection), iou).right.tolist() == [is_right]

    def test_images_are_apart(self):
        truth = objects_of([[], [(HERE, 0)], []])
        found = detections_of([[(HERE, 0, 0.9)], [], [(HERE, 0, 0.9)]], truth)
        assert not match(found).right.any()
        assert match(found).found.tolist() == [False]

    def test_detections_in_a_crowd_are_ignored_however_many(self):
        objects = (((0, 0, 50, 50), 0), (HERE, 0))
        matching = match(
            one_image(
                (HERE, 0, 0.9), (HERE, 0, 0.8), (NEAR, 0, 0.7), (FAR, 0, 0.6), objects=objects,
                crowd=[0],
            )
        )  # fmt: skip
        assert matching.right.tolist() == [True, False, False, False]
        assert matching.ignored.tolist() == [False, True, True, False]
        assert matching.object_row.tolist() == [1, 0, 0, -1]
        assert matching.found.tolist() == [False, True]

    def test_detections_beyond_the_largest_number_are_ignored(self):
        found = one_image((FAR, 0, 0.9), (HERE, 1, 0.8), (HERE, 0, 0.7))
        assert match(found, most=1).ignored.tolist() == [False, False, True]
        assert not match(found, most=1).right.any()
        assert places(found).tolist() == [0, 0, 1]

    def test_without_exclusion_every_detection_takes_what_it_overlaps_most(self):
        found = one_image((HALF, 0, 0.9), (HERE, 0, 0.8), (FAR, 0, 0.7))
        matching = match(found, exclusive=False)
        assert matching.right.tolist() == [True, True, False]
        assert matching.iou == pytest.approx([0.5, 1, 0])

    def test_is_computed_once(self):
        found = one_image((HERE, 0, 0.9))
        assert match(found) is match(found)
        assert match(found) is not match(found, 0.75)

    @pytest.mark.parametrize("images", [0, 3])
    def test_nothing_is_defined(self, images):
        found = detections_of([[]] * images, objects_of([[]] * images))
        for exclusive in (True, False):
            matching = match(found, exclusive=exclusive)
            assert len(matching.right) == len(matching.found) == 0

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 10_000), st.sampled_from([0.0, 20.0]), st.sampled_from([0.0, 0.5, 0.8]))
    def test_equals_the_loop_over_detections_and_objects(self, seed, grid, iou):
        predictions = random_boxes(seed, images=3, classes=2, grid=grid, crowd=0.3)
        matching = match(predictions, iou)
        assert matching.object_row.tolist() == slowly(predictions, iou)
        crowd = predictions.objects.crowd
        assert np.bincount(matching.object_row[matching.right], minlength=1).max() <= 1
        assert not matching.found[crowd].any()

    @settings(max_examples=12, deadline=None)
    @given(st.integers(0, 10_000))
    def test_of_images_in_another_order_is_the_same(self, seed):
        predictions = random_boxes(seed)
        order = np.random.default_rng(seed).permutation(len(predictions))
        back = predictions.take(order)
        starts = np.concatenate(
            [np.arange(predictions.offsets[i], predictions.offsets[i + 1]) for i in order]
        )
        assert np.array_equal(match(back).right, match(predictions).right[starts])


def slowly(predictions, iou):
    """COCO's rule as a loop; boxes that do not overlap never match."""
    objects = predictions.objects
    overlap = pairwise_iou(predictions.boxes, objects.boxes, objects.crowd)
    rows, taken = [], set()
    for row, (image, label) in enumerate(zip(predictions.image, predictions.label, strict=True)):
        best, best_key = -1, None
        for g in np.flatnonzero((objects.image == image) & (objects.label == label)).tolist():
            if g in taken or overlap[row, g] < max(iou, 1e-12):
                continue
            key = (not objects.crowd[g], overlap[row, g], g)
            if best_key is None or key > best_key:
                best, best_key = g, key
        rows.append(best)
        if best >= 0 and not objects.crowd[best]:
            taken.add(best)
    return rows
