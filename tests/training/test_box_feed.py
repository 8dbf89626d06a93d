from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.errors import DataError, UsageError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.predictions import Objects
from shrinkproof.training.augmentation import augmentation, crop_with_boxes, flip_with_boxes
from shrinkproof.training.feed import ImageFeed

SIZES = ((20, 40), (30, 30), (20, 40))


class Pictures:
    """Gray images of several sizes with a white box."""

    def __init__(self) -> None:
        self.pictures = [np.full((*size, 3), 50, dtype=np.uint8) for size in SIZES]
        self.pictures[0][4:8, 10:20] = 255

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return np.stack([self.pictures[position] for position in positions])


def feed(preprocess: Preprocess, shift: float = 0.0) -> ImageFeed:
    pictures = Pictures()
    objects = Objects(
        boxes=np.array([[10 + shift, 4, 20, 8], [0, 0, 40, 20], [3, 3, 30, 12.0]]),
        label=np.array([1, 0, 0], dtype=np.int64),
        offsets=np.array([0, 2, 3, 3], dtype=np.int64),
        crowd=np.array([False, True, False]),
        area=np.array([40.0, 800, 243]),
        sizes=np.array(SIZES, dtype=np.int64),
    )
    index = np.arange(3, dtype=np.int64)
    hashes = hash_pixels(pictures.pictures)
    images = ImageSet("toy", pictures, None, objects, ("dog", "cat"), index, hashes)
    return ImageFeed(images, preprocess)


def test_images_are_resized_one_by_one_and_boxes_with_them() -> None:
    ((inputs, target),) = feed(Preprocess(size=(40, 60))).batches(8)
    assert inputs.shape == (3, 3, 40, 60)
    assert inputs.dtype == torch.float32
    # Twice as high, 1.5 times as wide; the crowd region of the first image is left out.
    assert target[0]["boxes"].tolist() == [[15, 8, 30, 16]]
    assert target[0]["labels"].tolist() == [1]
    assert target[1]["boxes"].tolist() == [[6, 4, 60, 16]]
    assert target[2]["boxes"].shape == (0, 4)
    assert target[2]["boxes"].dtype == torch.float32
    assert target[2]["labels"].dtype == torch.int64
    inside = inputs[0, :, 10:14, 18:27]
    assert (inside == 1).all()


def test_boxes_follow_an_image_that_keeps_its_ratio() -> None:
    (_, target), *_ = feed(Preprocess(size=(40, 40), keep_ratio=True)).batches(1)
    assert target[0]["boxes"].tolist() == [[10, 4, 20, 8]]


def test_order_and_batches() -> None:
    order = np.array([1, 0, 2], dtype=np.int64)
    batches = list(feed(Preprocess(size=(40, 60))).batches(2, order=order))
    assert [len(target) for _, target in batches] == [2, 1]
    assert batches[0][1][1]["labels"].tolist() == [1]


def test_sizes_may_differ_only_where_the_network_resizes() -> None:
    with pytest.raises(DataError, match="toy: images of a batch must have one size, got several"):
        list(feed(Preprocess()).batches(3))
    assert [tuple(inputs.shape[2:]) for inputs, _ in feed(Preprocess()).batches(1)] == list(SIZES)


def test_the_fingerprint_covers_the_boxes() -> None:
    assert feed(Preprocess()).fingerprint == feed(Preprocess()).fingerprint
    assert feed(Preprocess()).fingerprint != feed(Preprocess(), shift=0.5).fingerprint


def test_augmentations_that_know_no_boxes_are_refused() -> None:
    with pytest.raises(UsageError, match="augment must have a method with_boxes"):
        list(feed(Preprocess(size=(9, 9))).batches(3, augment=lambda images: images))


def test_flip_mirrors_boxes() -> None:
    image = np.zeros((4, 10, 3), dtype=np.uint8)
    image[1:3, 2:5] = 255
    boxes = np.array([[2.0, 1, 5, 3]])
    seen = set()
    for seed in range(8):
        found, moved, rows = flip_with_boxes(image, boxes, np.random.default_rng(seed))
        x1, y1, x2, y2 = moved[0].astype(int).tolist()
        assert (found[y1:y2, x1:x2] == 255).all()
        assert found.sum() == image.sum()
        assert rows.tolist() == [0]
        seen.add(x1)
    assert seen == {2, 5}


def test_crop_moves_boxes_and_drops_those_whose_center_is_cut_off() -> None:
    image = np.full((16, 32, 3), 7, dtype=np.uint8)
    boxes = np.array([[0.0, 0, 2, 2], [10, 4, 20, 8], [0, 0, 32, 16]])
    shifts = set()
    for seed in range(60):
        found, moved, rows = crop_with_boxes(image, boxes, np.random.default_rng(seed))
        assert found.shape == image.shape
        by_row = dict(zip(rows.tolist(), moved.tolist(), strict=True))
        right, down = by_row[1][0] - 10, by_row[1][1] - 4
        assert abs(right) <= 4
        assert abs(down) <= 2
        shifts.add((right, down))
        # The whole image was one box: what is left of it are the pixels that are not padding.
        x1, y1, x2, y2 = map(int, by_row[2])
        assert (found[y1:y2, x1:x2] == 7).all()
        assert found.sum() == 7 * 3 * (x2 - x1) * (y2 - y1)
        assert (0 in by_row) == (right > -1 and down > -1)
    assert len(shifts) > 20


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(["crop", "flip"]))
def test_boxes_stay_inside_and_around_what_they_were_drawn_around(
    seed: int, names: list[str]
) -> None:
    draws = np.random.default_rng(seed)
    image = np.zeros((24, 40, 3), dtype=np.uint8)
    x, y = draws.integers((0, 0), (30, 18)).tolist()
    image[y : y + 6, x : x + 10] = 255
    boxes = np.array([[x, y, x + 10, y + 6]], dtype=np.float64)
    change = augmentation(tuple(names), draws)
    assert change is not None
    found, moved, rows = change.with_boxes(image, boxes)
    if not len(rows):
        assert found.sum() <= image.sum() / 2
        return
    lit = np.argwhere(found[..., 0] == 255)
    edges = [*lit.min(axis=0)[::-1].tolist(), *(lit.max(axis=0)[::-1] + 1).tolist()]
    assert moved[0].tolist() == edges
    assert rows.tolist() == [0]


def test_the_feed_augments_before_it_resizes() -> None:
    change = augmentation(("flip",), np.random.default_rng(0))
    labels = []
    for inputs, target in feed(Preprocess(size=(40, 60))).batches(1, augment=change):
        labels += target[0]["labels"].tolist()
        for x1, y1, x2, y2 in target[0]["boxes"].int().tolist():
            if len(labels) == 1:
                assert (inputs[0, :, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] == 1).all()
    assert labels == [1, 0]
