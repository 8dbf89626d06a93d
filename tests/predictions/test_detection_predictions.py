import numpy as np
import pytest

from shrinkproof.errors import DataError
from shrinkproof.predictions import Objects
from shrinkproof.predictions.objects import rows_of

from ..boxes_builder import detections_of, objects_of

A, B, C = (0, 0, 10, 10), (20, 20, 40, 50), (5, 5, 60, 90)


@pytest.fixture
def objects():
    return objects_of([[(A, 0), (B, 1)], [], [(C, 2)]], crowd=[(0, 1)])


@pytest.fixture
def predictions(objects):
    return detections_of([[(A, 0, 0.9), (B, 1, 0.4)], [(C, 2, 0.7)], []], objects)


def test_objects_know_their_image_and_length(objects):
    assert len(objects) == 3
    assert objects.image.tolist() == [0, 0, 2]


def test_images_are_taken_in_any_order_and_more_than_once(objects):
    taken = objects[np.array([2, 0, 0, 1])]
    assert taken.label.tolist() == [2, 0, 1, 0, 1]
    assert taken.offsets.tolist() == [0, 1, 3, 5, 5]
    assert taken.crowd.tolist() == [False, False, True, False, True]


def test_rows_of_no_image_are_none():
    rows, offsets = rows_of(np.array([0, 2, 2, 3]), np.array([], dtype=np.int64))
    assert rows.tolist() == []
    assert offsets.tolist() == [0]


def test_predictions_take_detections_with_their_truth(predictions):
    taken = predictions.take(np.array([1, 0]))
    assert taken.label.tolist() == [2, 0, 1]
    assert taken.offsets.tolist() == [0, 1, 3]
    assert taken.objects.label.tolist() == [0, 1]
    assert taken.index.tolist() == [1, 0]
    assert taken.image.tolist() == [0, 1, 1]


def test_a_threshold_keeps_all_images(predictions):
    kept = predictions.above(0.7)
    assert kept.score.tolist() == pytest.approx([0.9, 0.7])
    assert kept.offsets.tolist() == [0, 1, 2, 2]
    assert len(kept) == 3


def test_the_bytes_of_objects_tell_every_column_apart(objects):
    other = Objects(
        boxes=objects.boxes,
        label=objects.label,
        offsets=objects.offsets,
        crowd=~objects.crowd,
        area=objects.area,
        sizes=objects.sizes,
    )
    assert other.tobytes() != objects.tobytes()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([(A, 0, float("nan"))], "must be finite, got NaN or infinity in 1 of 1"),
        ([(A, 0, 1.5)], "scores must be 0 to 1, got 1.5 to 1.5"),
        ([(A, 0, 0.1), (B, 0, 0.2)], "scores must fall within each image"),
        ([((5, 5, 5, 9), 0, 0.5)], "must have x2 > x1"),
        ([(A, 3, 0.5)], "labels must be 0 to 2, got 3 to 3"),
    ],
)
def test_broken_detections_are_refused(found, message):
    with pytest.raises(DataError, match=message):
        detections_of([found], objects_of([[]]))


def test_scores_may_rise_from_one_image_to_the_next():
    objects = objects_of([[], [], []])
    found = detections_of([[(A, 0, 0.1)], [], [(A, 0, 0.9)]], objects)
    assert len(found) == 3


def test_objects_without_area_are_refused():
    with pytest.raises(DataError, match="x2 > x1"):
        objects_of([[((3, 3, 3, 8), 0)]])


def test_a_set_without_objects_and_detections_is_fine():
    assert len(detections_of([[], []], objects_of([[], []]))) == 2
