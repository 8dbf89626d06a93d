from __future__ import annotations

import hashlib

import numpy as np
import pytest

from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.scenes import MOST, draw
from shrinkproof.data.splits import DataSpec, load_images, load_splits
from shrinkproof.errors import DataError
from shrinkproof.randomness import stream


@pytest.fixture(scope="module", name="few")
def few_fixture() -> ImageSet:
    return load_images("digit-scenes:?count=60", {})


def test_every_machine_makes_the_same_bytes() -> None:
    images = load_images("digit-scenes:?count=12", {})
    digest = hashlib.sha256()
    for _, pixels in images.batches(64):
        digest.update(pixels.tobytes())
    digest.update(images.objects.tobytes())
    assert digest.hexdigest()[:16] == "111b62ad50fb2196"


def test_scenes_of_one_size_follow_one_another(few: ImageSet) -> None:
    assert few.shape is None
    found = [(len(positions), *pixels.shape[1:]) for positions, pixels in few.batches(64)]
    assert found == [(20, 96, 128, 3), (20, 112, 112, 3), (20, 128, 96, 3)]
    assert load_images("digit-scenes:?count=1", {}).shape == (96, 128)
    assert few.preset == "imagecorruptions"


def test_some_scenes_are_empty_and_all_classes_occur(few: ImageSet) -> None:
    counts = np.diff(few.objects.offsets)
    assert counts.min() == 0
    assert counts.max() == MOST
    assert np.unique(few.objects.label).tolist() == list(range(10))
    assert few.classes == tuple(map(str, range(10)))


def test_boxes_are_the_edges_of_the_ink() -> None:
    # A black square on a plain background: its box is where pixels differ from the background.
    digits = np.zeros((MOST, 32, 32), dtype=np.uint8)
    digits[:, 8:24, 4:20] = 255
    for number in range(40):
        scene = draw(digits, (96, 128), stream("squares", number))
        assert len(set(scene.digits.tolist())) == len(scene.digits) <= MOST
        for x1, y1, x2, y2 in scene.boxes.tolist():
            assert 0 <= x1 < x2 <= 128
            assert 0 <= y1 < y2 <= 96
            # 16 of 32 pixels; interpolation moves an edge by at most one pixel.
            assert abs((x2 - x1) - (y2 - y1)) <= 1
            assert 5 <= x2 - x1 <= 25
        if len(scene.boxes) == 1:
            x1, y1, x2, y2 = scene.boxes[0].tolist()
            inside = scene.pixels[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
            assert inside.reshape(-1, 3).std(axis=0).max() < 6


def test_boxes_overlap_by_at_most_a_fifth_of_the_smaller_one(few: ImageSet) -> None:
    found = few.objects
    for position in range(len(found)):
        boxes = found[np.array([position])].boxes
        sides = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        sides = np.clip(sides - np.maximum(boxes[:, None, :2], boxes[None, :, :2]), 0, None)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        shared = sides.prod(axis=2) / np.minimum(area[:, None], area[None])
        np.fill_diagonal(shared, 0)
        assert not len(boxes) or shared.max() <= 0.2


def test_splits_never_share_a_digit() -> None:
    reference = {"from": "digit-scenes:?count=220", "train": 110, "select": 60, "report": "rest"}
    sets = load_splits(DataSpec(split=reference), roots={}).sets
    groups = {name: set(images.groups.tolist()) for name, images in sets.items()}
    assert {name: len(images) for name, images in sets.items()} == {
        "train": 110,
        "select": 60,
        "report": 50,
    }
    assert not groups["train"] & groups["select"]
    assert not (groups["train"] | groups["select"]) & groups["report"]


def test_a_subset_of_images_with_boxes_is_stated_and_not_called_stratified() -> None:
    splits = load_splits(DataSpec(report="digit-scenes:?count=9"), roots={}, limit=4)
    assert len(splits.sets["report"]) == 4
    assert splits.notes == ("report: subset of 4 of 9 images",)


def test_another_seed_makes_other_scenes() -> None:
    first = load_images("digit-scenes:?count=6", {})
    assert first.fingerprint == load_images("digit-scenes:?count=6&seed=0", {}).fingerprint
    other = load_images("digit-scenes:?count=6&seed=1", {})
    assert not set(first.hashes.tolist()) & set(other.hashes.tolist())


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("digit-scenes:train", r"must be 'digit-scenes' or .* got 'digit-scenes:train'"),
        ("digit-scenes:?size=3", "settings must be of count, seed, got 'size'"),
        ("digit-scenes:?count=0", "count must be a whole number from 1 to 10000, got '0'"),
        ("digit-scenes:?seed=-1", "seed must be a whole number from 0 .* got '-1'"),
    ],
)
def test_wrong_references(reference: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_images(reference, {})
