"""Fixtures of the compressor tests: a small network, small data, a context."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.tasks import Classification
from shrinkproof.training.feed import ImageFeed

CLASSES = 3


class SmallNet(nn.Module):
    """Convolutions with and without groups, batch normalization, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mix = nn.Conv2d(8, 16, 1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.mix(self.depthwise(x)))
        return self.head(x.mean((2, 3)))


def toy_images(count: int = 60, size: int = 8) -> ImageSet:
    """Noise whose brightest channel is the class."""
    rng = np.random.default_rng(0)
    target = (np.arange(count) % CLASSES).astype(np.int64)
    pixels = rng.integers(0, 150, (count, size, size, 3))
    pixels[np.arange(count), :, :, target] += 80
    pixels = pixels.astype(np.uint8)
    return ImageSet(
        source="toy",
        images=pixels,
        shape=(size, size),
        target=target,
        classes=tuple(f"c{k}" for k in range(CLASSES)),
        index=np.arange(count, dtype=np.int64),
        hashes=hash_pixels(pixels),
    )


@pytest.fixture
def small_net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallNet().eval()


@pytest.fixture
def toy_feed():
    return ImageFeed(toy_images(), Preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)))


@pytest.fixture
def toy_context(toy_feed):
    inputs, _ = next(toy_feed.batches(1))
    return Context(
        task=Classification(),
        example=inputs,
        device=torch.device("cpu"),
        stream=lambda *parts: stream("test", *parts),
        calibration=toy_feed,
        training=toy_feed,
    )
