from types import SimpleNamespace

import numpy as np
import pytest

from shrinkproof.data.imageset import ImageSet
from shrinkproof.detecting import Detections
from shrinkproof.errors import ModelError
from shrinkproof.evaluators.answers import BoxAnswers, decoded, in_image
from shrinkproof.models.loaded import Preprocess

from ..boxes_builder import objects_of


def found(boxes, score, label=None):
    label = np.zeros(len(score), dtype=np.int64) if label is None else np.array(label)
    return Detections(np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(score), label)


def test_boxes_come_back_to_the_image_are_clipped_and_sorted():
    preprocess = Preprocess(size=(50, 100))
    said = in_image(
        found([[-10, 0, 50, 25], [10, 10, 20, 20], [99, 0, 200, 50]], [0.2, 0.9, 0.5]),
        preprocess,
        (100, 400),
    )
    assert said.score.tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert said.boxes.tolist() == [[40, 20, 80, 40], [396, 0, 400, 100], [0, 0, 200, 50]]


def test_boxes_outside_the_image_are_dropped():
    said = in_image(found([[-9, -9, -1, -1], [0, 0, 5, 5]], [0.9, 0.8]), Preprocess(), (10, 10))
    assert said.score.tolist() == pytest.approx([0.8])


def test_ties_stand_as_the_detector_gave_them():
    said = in_image(
        found([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], [0.5, 0.7, 0.5], [3, 4, 5]),
        Preprocess(),
        (10, 10),
    )
    assert said.label.tolist() == [4, 3, 5]


def test_letterboxed_images_have_one_factor():
    preprocess = Preprocess(size=(100, 100), keep_ratio=True)
    images = np.full((1, 50, 200, 3), 255, dtype=np.uint8)
    inputs = preprocess(images)
    assert inputs.shape == (1, 3, 100, 100)
    assert inputs[0, 0, :25].min() == 1
    assert inputs[0, 0, 25:].max() == 0
    box = np.array([[10.0, 5.0, 20.0, 25.0]])
    assert preprocess.to_image(box, (50, 200)).tolist() == [[20, 10, 40, 50]]
    assert preprocess.to_input(preprocess.to_image(box, (50, 200)), (50, 200)).tolist() == [
        [10, 5, 20, 25]
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_an_error_and_no_missing_box(value):
    detector = SimpleNamespace(decode=lambda outputs: [found([], [])] * len(outputs))
    outputs = np.zeros((2, 3, 5), dtype=np.float32)
    outputs[1, 2, 0] = value
    with pytest.raises(ModelError, match="NaN or infinity in 1 of 30 numbers"):
        decoded(detector, outputs, 2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([found([], [])], "one Detections for each image, 2, got 1"),
        ([found([], []), found([[0, 0, 1, 1]], [np.nan])], "must be finite"),
        ([found([], []), found([[0, 0, 1, 1]], [0.1, 0.2])], "boxes must have shape"),
    ],
)
def test_a_rule_that_gives_something_else_is_named(answer, message):
    detector = SimpleNamespace(decode=lambda _: answer)
    with pytest.raises(ModelError, match=message):
        decoded(detector, np.zeros((2, 4), dtype=np.float32), 2)


def test_images_of_differing_sizes_are_answered_in_order():
    objects = objects_of([[((0, 0, 5, 5), 0)], [], []])
    sizes = np.array([[20, 40], [20, 40], [30, 30]])
    pixels = [np.full((*size, 3), i, dtype=np.uint8) for i, size in enumerate(sizes)]

    class Files:
        def __getitem__(self, positions):
            return np.stack([pixels[i] for i in positions])

        def __len__(self):
            return 3

    images = ImageSet(
        source="test",
        images=Files(),
        shape=None,
        target=type(objects)(
            boxes=objects.boxes,
            label=objects.label,
            offsets=objects.offsets,
            crowd=objects.crowd,
            area=objects.area,
            sizes=sizes,
        ),
        classes=("a",),
        index=np.arange(3),
        hashes=np.array(["a", "b", "c"]),
    )
    assert [positions.tolist() for positions, _ in images.batches(8)] == [[0, 1], [2]]
    assert [positions.tolist() for positions, _ in images.batches(1)] == [[0], [1], [2]]
    detector = SimpleNamespace(
        decode=lambda outputs: [found([[0, 0, 10, 10]], [float(o.max())]) for o in outputs]
    )
    answers = BoxAnswers(images, detector, Preprocess(size=(10, 10)))
    for positions, batch in images.batches(8):
        shape = batch.shape[1:3]
        answers.add(positions, batch[:, 0, 0, :1].astype(np.float32) / 10, shape)
    predictions = answers.predictions()
    assert predictions.boxes.tolist() == [[0, 0, 40, 20], [0, 0, 40, 20], [0, 0, 30, 30]]
    assert predictions.score.tolist() == pytest.approx([0.0, 0.1, 0.2])
