"""The wrapper of data sets: item i is the same wherever, whenever and by whom it is read."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset, TensorDataset

from shrinkproof import CorruptedDataset, PresetWarning, corrupt
from shrinkproof.corruptions import dataset as wrapping
from shrinkproof.errors import DataError, UnknownNameError, UsageError

IMAGES = np.random.default_rng(5).integers(0, 256, (23, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(23) % 4
EXPECTED = corrupt(IMAGES, "gaussian_noise", severity=3, preset="cifar", seed=4)

Named = namedtuple("Named", "image label extra")


class Items:
    """A map-style data set whose items are made by a function."""

    def __init__(self, make=lambda i: (Image.fromarray(IMAGES[i]), int(LABELS[i])), count=23):
        self.make = make
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return self.make(i)


def picture(i):
    return Image.fromarray(IMAGES[i]), int(LABELS[i])


def to_tensor(image):
    return torch.from_numpy(np.array(image)).movedim(-1, 0)


def noisy(dataset, **settings):
    return CorruptedDataset(
        dataset, "gaussian_noise", severity=3, preset="cifar", seed=4, **settings
    )


def test_items_are_what_corrupt_makes_of_them() -> None:
    found = noisy(Items())
    assert len(found) == 23
    for i in (22, 0, 7, 7):
        image, label = found[i]
        assert isinstance(image, Image.Image)
        np.testing.assert_array_equal(np.asarray(image), EXPECTED[i])
        assert label == LABELS[i]


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (lambda i: IMAGES[i], lambda item: item),
        (lambda i: (IMAGES[i],), lambda item: item[0]),
        (lambda i: [IMAGES[i], "a", "b"], lambda item: item[0]),
        (lambda i: Named(IMAGES[i], i, "x"), lambda item: item.image),
        (lambda i: (torch.from_numpy(IMAGES[i]), i), lambda item: item[0].numpy()),
        (
            lambda i: (torch.from_numpy(IMAGES[i]).movedim(-1, 0) / 255, i),
            lambda item: (item[0] * 255).round().byte().movedim(0, -1).numpy(),
        ),
    ],
    ids=["array", "tuple", "list", "named", "levels", "floating"],
)
def test_items_keep_their_form(make, read) -> None:
    found = noisy(Items(make))
    for item, i in [(found[3], 3), *zip(found.__getitems__([5, 9, 2]), (5, 9, 2), strict=True)]:
        original = make(i)
        assert type(item) is type(original)
        np.testing.assert_array_equal(read(item), EXPECTED[i])
        if isinstance(item, (tuple, list)):
            assert list(item[1:]) == list(original[1:])


def test_batches_are_the_same_as_items() -> None:
    sizes = [(32, 32), (20, 40), (20, 40), (32, 32)]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PresetWarning)
        found = noisy(Items(lambda i: images[i], count=4))
        for position, item in zip((2, 1, 0, 3), found.__getitems__([2, 1, 0, 3]), strict=True):
            np.testing.assert_array_equal(item, found[position])
    assert found.__getitems__([]) == []


def test_an_inner_data_set_that_serves_batches_is_asked_for_them() -> None:
    class Fast(Items):
        def __getitems__(self, positions):
            asked.append(list(positions))
            return [self[i] for i in positions]

    asked: list[list[int]] = []
    found = noisy(Fast()).__getitems__([4, -1])
    assert asked == [[4, 22]]
    np.testing.assert_array_equal(np.asarray(found[1][0]), EXPECTED[22])


def test_positions() -> None:
    found = noisy(Items())
    np.testing.assert_array_equal(np.asarray(found[-1][0]), EXPECTED[22])
    np.testing.assert_array_equal(np.asarray(found[np.int64(3)][0]), EXPECTED[3])
    np.testing.assert_array_equal(np.asarray(found[torch.tensor(3)][0]), EXPECTED[3])
    for position in (23, -24):
        with pytest.raises(IndexError, match="outside a data set of 23 items"):
            found[position]
    assert len(list(found)) == 23, "a data set without an iterator is read until it ends"


def test_a_transform_comes_after() -> None:
    found = noisy(Items(), transform=to_tensor)
    image, label = found[6]
    np.testing.assert_array_equal(image.movedim(0, -1).numpy(), EXPECTED[6])
    assert label == LABELS[6]


def test_a_subset_of_it_keeps_the_index() -> None:
    part = Subset(noisy(Items()), [9, 4])
    np.testing.assert_array_equal(np.asarray(part[0][0]), EXPECTED[9])
    np.testing.assert_array_equal(np.asarray(part[1][0]), EXPECTED[4])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_reads_the_same_in_any_order_and_worker(workers: int) -> None:
    dataset = noisy(TensorDataset(torch.from_numpy(IMAGES), torch.arange(23)))
    generator = torch.Generator().manual_seed(workers)
    loader = DataLoader(
        dataset,
        batch_size=5,
        shuffle=True,
        generator=generator,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    order = []
    for images, index in loader:
        np.testing.assert_array_equal(images.numpy(), EXPECTED[index.numpy()])
        order += index.tolist()
    assert sorted(order) == list(range(23))
    assert order != list(range(23))


def test_it_can_be_pickled() -> None:
    found = noisy(Items(picture), transform=to_tensor)
    again = pickle.loads(pickle.dumps(found))
    assert torch.equal(again[11][0], found[11][0])


def test_a_preset_for_another_size_warns_once() -> None:
    found = CorruptedDataset(Items(), "contrast", severity=1, preset="imagenet")
    with pytest.warns(PresetWarning, match="made for 224 x 224 pixels, the images have 32 x 32"):
        found[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found[1]
        found.__getitems__([1, 2])


def test_wrong_settings_are_refused_before_anything_is_read() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fog'"):
        CorruptedDataset(Items(), "fogg", severity=1, preset="cifar")
    with pytest.raises(UnknownNameError, match="unknown preset"):
        CorruptedDataset(Items(), "fog", severity=1, preset="")
    with pytest.raises(UsageError, match="severity must be 1 to 5, got 6"):
        CorruptedDataset(Items(), "fog", severity=6, preset="cifar")
    with pytest.raises(DataError, match=r"must be map-style.*got generator"):
        noisy(image for image in IMAGES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda i: (), "item 2 must start with an image, got an empty one"),
        (lambda i: {"image": IMAGES[i]}, "item 2: images to corrupt must be .*, got dict"),
        (lambda i: (IMAGES[i] / 255.0, 0), "item 2: an array of images must be uint8, got float64"),
        (lambda i: (Image.new("L", (32, 32)), 0), "item 2: a PIL image must be of mode 'RGB'"),
        (lambda i: (IMAGES[:2], 0), "item 2 must be one image, got a batch of 2"),
        (lambda i: (torch.full((3, 32, 32), -2.0), 0), "item 2: .* before they are normalized"),
    ],
)
def test_items_of_a_wrong_form(make, message: str) -> None:
    with pytest.raises(DataError, match=message):
        noisy(Items(make))[2]


def test_torch_is_not_needed() -> None:
    code = (
        "import sys, numpy as np; from shrinkproof import CorruptedDataset\n"
        "images = [np.zeros((32, 32, 3), np.uint8)] * 3\n"
        "found = CorruptedDataset(images, 'contrast', severity=1, preset='cifar')\n"
        "assert found[2].shape == (32, 32, 3)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert wrapping.CorruptedDataset is CorruptedDataset
