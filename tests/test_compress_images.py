"""The forms in which ``shrinkproof.compress`` takes images, and those it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from shrinkproof.compression import compress
from shrinkproof.compression.feeds import as_feed
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.quantize import StaticQuantization
from shrinkproof.errors import CompressionError, DataError, UsageError
from shrinkproof.testing.toys import tiny_images, tiny_model
from shrinkproof.training.feed import ImageFeed

from .compress_builder import EXAMPLE, HALF, pair, same


class Pairs(Dataset):
    """A data set of (array, int), as users write them."""

    def __init__(self, count: int = 48) -> None:
        self.inputs, self.targets = (part.numpy() for part in pair(count))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, position):
        return self.inputs[position], int(self.targets[position])


FORMS = {
    "tensors": pair,
    "arrays": lambda: tuple(part.numpy() for part in pair()),
    "list": lambda: list(pair()),
    "int32": lambda: (pair()[0].double(), pair()[1].int()),
    "dataset": Pairs,
    "tensor-dataset": lambda: TensorDataset(*pair()),
    "loader": lambda: DataLoader(Pairs(), batch_size=5, drop_last=True),
    "shuffling-loader": lambda: DataLoader(Pairs(), batch_size=7, shuffle=True),
    "feed": lambda: ImageFeed(tiny_images(), HALF),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_images_gives_the_same_batches(form):
    reference = ImageFeed(tiny_images(), HALF)
    feed = as_feed(FORMS[form](), "training", EXAMPLE)
    assert feed.count == 48
    order = np.random.default_rng(0).permutation(48)
    for size, chosen in ((10, None), (16, order)):
        wanted = list(reference.batches(size, order=chosen))
        found = list(feed.batches(size, order=chosen))
        assert len(found) == len(wanted)
        for (x, y), (a, b) in zip(found, wanted, strict=True):
            assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
            assert torch.equal(x, a)
            assert torch.equal(y, b)


@given(positions=st.lists(st.integers(0, 9), min_size=1, max_size=20), size=st.integers(1, 7))
def test_batches_follow_the_order(positions, size):
    inputs = torch.arange(10.0).reshape(10, 1, 1, 1)
    feed = as_feed((inputs, torch.arange(10)), "training", torch.zeros(1, 1, 1, 1))
    batches = list(feed.batches(size, order=np.array(positions)))
    assert torch.cat([y for _, y in batches]).tolist() == positions
    assert torch.cat([x for x, _ in batches]).flatten().tolist() == positions
    assert [len(x) for x, _ in batches[:-1]] == [size] * (len(batches) - 1)


def test_a_loader_with_a_sampler_keeps_its_choice():
    loader = DataLoader(Pairs(), sampler=[5, 3, 3])
    feed = as_feed(loader, "calibration", EXAMPLE)
    ((inputs, _),) = feed.batches(8)
    assert torch.equal(inputs, pair()[0][[3, 3, 5]])


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": SubsetRandomSampler([9, 2, 5, 7])},
        {"sampler": SequentialSampler([0, 1, 2])},
        {"batch_sampler": BatchSampler(SubsetRandomSampler([9, 2, 5, 7]), 3, False)},
        {"batch_sampler": [[7, 2], [9], [5]]},
    ],
    ids=["subset", "part", "batches", "listed-batches"],
)
def test_a_loader_of_a_part_gives_this_part_in_an_order_of_its_own(settings):
    feed = as_feed(DataLoader(Pairs(), **settings), "training", EXAMPLE)
    wanted = range(3) if isinstance(settings.get("sampler"), SequentialSampler) else (2, 5, 7, 9)
    ((inputs, _),) = feed.batches(8)
    assert torch.equal(inputs, pair()[0][list(wanted)])


def test_fingerprints_tell_images_apart_and_trust_no_augmentation():
    prints = {
        as_feed(FORMS[form](), "training", EXAMPLE).fingerprint
        for form in ("tensors", "arrays", "int32", "dataset", "loader")
    }
    assert len(prints) == 1
    inputs, targets = pair()
    for other in ((inputs + 0.1, targets), (inputs, 1 - targets), (inputs[:-1], targets[:-1])):
        assert as_feed(other, "training", EXAMPLE).fingerprint not in prints

    class Noisy(Pairs):
        def __getitem__(self, position):
            image, target = super().__getitem__(position)
            return image + np.random.default_rng().random(dtype=np.float32), target

    noisy = as_feed(Noisy(), "training", EXAMPLE)
    assert noisy.fingerprint == noisy.fingerprint


@pytest.mark.parametrize("form", ["tensors", "loader"])
def test_forms_give_the_same_network(form):
    images = FORMS[form]()
    found = compress(tiny_model(), ["quantize.static"], example=EXAMPLE, calibration=images)
    wanted = compress(
        tiny_model(), [StaticQuantization()], example=EXAMPLE, calibration=tiny_images(),
        preprocess=HALF,
    )  # fmt: skip
    assert same(found.module.state_dict(), wanted.module.state_dict())


class Stream(IterableDataset):
    def __iter__(self):
        yield from Pairs()


WRONG = {
    "empty-pair": ((torch.zeros(0, 3, 16, 16), torch.zeros(0).long()), "at least one image"),
    "empty-set": (Subset(Pairs(), []), "at least one image"),
    "empty-imageset": (tiny_images().take(np.arange(0)), "at least one image"),
    "shape": ((torch.zeros(4, 3, 8, 8), torch.zeros(4).long()), r"shape \(3, 16, 16\), got \(3, 8"),
    "channels-last": ((torch.zeros(4, 16, 16, 3), torch.zeros(4).long()), r"got \(16, 16, 3\)"),
    "no-batch": ((torch.zeros(3, 16, 16), torch.zeros(3).long()), r"inputs must be \(N, 3, 16, 16"),
    "uint8": ((pair()[0].byte(), pair()[1]), "floating-point .* got .* uint8"),
    "lengths": ((pair()[0], pair()[1][:9]), r"one class for each input, \(48,\), got \(9,\)"),
    "float-targets": ((pair()[0], pair()[1].float()), "a whole number, got .* float32"),
    "nan": ((pair()[0] * float("nan"), pair()[1]), "must be finite"),
    "set-shape": (TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4)), r"got \(3, 8, 8\)"),
    "set-inputs-only": (TensorDataset(pair()[0]), r"pair \(input, target\)"),
    "imageset-shape": (tiny_images(side=8), r"shape \(3, 16, 16\), got \(3, 8, 8\)"),
}


@pytest.mark.parametrize("form", WRONG)
def test_images_that_do_not_fit(form):
    images, message = WRONG[form]
    with pytest.raises(DataError, match=f"calibration: .*{message}|must have at least one image"):
        compress(
            tiny_model(), ["quantize.static"], example=EXAMPLE, calibration=images, preprocess=HALF
        )


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (tiny_images(), "must be preprocessed, got no preprocess"),
        (pair()[0], "got Tensor|must be an ImageSet"),
        ((pair()[0],), "must be an ImageSet with preprocess, a pair"),
        (([1.0, 2.0], [0, 1]), "must be an ImageSet with preprocess, a pair"),
        (Stream(), "got Stream, which has no length"),
        (DataLoader(Stream()), "got Stream, which has no length"),
        (7, "got int, which has no length"),
    ],
    ids=["imageset", "inputs-only", "single", "lists", "stream", "stream-loader", "number"],
)
def test_images_in_a_form_that_cannot_serve(images, message):
    with pytest.raises((UsageError, DataError), match=f"calibration: .*({message})"):
        compress(tiny_model(), ["quantize.static"], example=EXAMPLE, calibration=images)


def test_only_pixels_can_be_augmented():
    step = FineTuning(epochs=1, augment=("flip",))
    with pytest.raises(UsageError, match="training: augmentation must be given uint8 images"):
        compress(tiny_model(), [step], example=EXAMPLE, training=pair())
    found = compress(tiny_model(), [step], example=EXAMPLE, training=tiny_images(), preprocess=HALF)
    assert found.achieved[0]["images"] == 48


@pytest.mark.parametrize(
    ("step", "split"), [("quantize.static", "calibrate"), ({"finetune": {"epochs": 1}}, "train")]
)
def test_missing_images_are_named(step, split):
    with pytest.raises(CompressionError, match=f"needs images of the split '{split}', got none"):
        compress(tiny_model(), [step], example=EXAMPLE)
