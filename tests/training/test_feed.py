import numpy as np
import pytest
import torch

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.errors import DataError, UnknownNameError, UsageError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.training.augmentation import augmentation, random_crop, random_flip
from shrinkproof.training.feed import ImageFeed


def feed(count=5):
    pixels = np.arange(count * 2 * 4 * 3, dtype=np.uint8).reshape(count, 2, 4, 3)
    target = np.arange(count, dtype=np.int64)
    names = tuple(map(str, range(count)))
    made = ImageSet("toy", pixels, (2, 4), target, names, target, hash_pixels(pixels))
    return ImageFeed(made, Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))


def test_batches_are_preprocessed_in_order():
    source = feed()
    batches = list(source.batches(2))
    assert [len(t) for _, t in batches] == [2, 2, 1]
    assert torch.cat([t for _, t in batches]).tolist() == [0, 1, 2, 3, 4]
    inputs, target = batches[0]
    assert inputs.shape == (2, 3, 2, 4)
    assert inputs.dtype == torch.float32
    assert target.dtype == torch.int64
    pixel = int(source.images.images[1, 0, 2, 1])
    assert float(inputs[1, 1, 0, 2]) == pytest.approx((pixel / 255 - 0.5) / 0.5)


def test_order_and_augmentation_are_applied():
    order = np.array([4, 0], dtype=np.int64)
    ((inputs, target),) = feed().batches(8, order=order, augment=lambda x: np.zeros_like(x))
    assert target.tolist() == [4, 0]
    assert (inputs == -1).all()


def test_wrong_calls_are_refused():
    with pytest.raises(UsageError, match="toy: batch size"):
        next(feed().batches(0))
    with pytest.raises(DataError, match="0 to 4, got 0 to 5"):
        next(feed().batches(2, order=np.array([0, 5])))
    with pytest.raises(DataError, match="at least one image"):
        next(feed(0).batches(2))


def test_flip_mirrors_some_images_only():
    images = np.random.default_rng(0).integers(0, 255, (50, 4, 6, 3)).astype(np.uint8)
    flipped = random_flip(images, np.random.default_rng(1))
    same = (flipped == images).all(axis=(1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 10 < same.sum() < 40


def test_crop_moves_the_image_over_zeros():
    images = np.full((64, 8, 8, 3), 9, dtype=np.uint8)
    images[:, 4, 4] = 200
    cropped = random_crop(images, np.random.default_rng(0), padding=2)
    assert cropped.shape == images.shape
    assert cropped.dtype == np.uint8
    rows, columns = np.nonzero(cropped[..., 0] == 200)[1:]
    assert len(rows) == 64
    assert {*rows, *columns} == {2, 3, 4, 5, 6}
    for image, row, column in zip(cropped[..., 0], rows, columns, strict=True):
        inside = (8 - abs(row - 4)) * (8 - abs(column - 4))
        assert (image > 0).sum() == inside
    assert np.array_equal(random_crop(images, np.random.default_rng(0), padding=0), images)
    with pytest.raises(UsageError, match="at least 0"):
        random_crop(images, np.random.default_rng(0), padding=-1)


def test_augmentation_by_name():
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3)).astype(np.uint8)
    both = augmentation(("crop", "flip"), np.random.default_rng(1))(images)
    rng = np.random.default_rng(1)
    assert np.array_equal(both, random_flip(random_crop(images, rng), rng))
    assert augmentation((), rng) is None
    with pytest.raises(UnknownNameError, match="did you mean 'flip'"):
        augmentation(("flipp",), rng)
