"""Fixtures of the training tests: small images, a small network with dropout, a context."""

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


def toy_feed(count: int = 33, seed: int = 0) -> ImageFeed:
    """Noise in which class 1 is brighter in its first channel."""
    rng = np.random.default_rng(seed)
    target = (np.arange(count) % 2).astype(np.int64)
    pixels = rng.integers(0, 100, (count, 4, 4, 3))
    pixels[target == 1, :, :, 0] += 120
    pixels = pixels.astype(np.uint8)
    index = np.arange(count, dtype=np.int64)
    images = ImageSet("toy", pixels, (4, 4), target, ("0", "1"), index, hash_pixels(pixels))
    return ImageFeed(images, Preprocess())


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(16, 2),
        )


@pytest.fixture
def context():
    return Context(
        task=Classification(),
        example=torch.zeros(1, 3, 4, 4),
        device=torch.device("cpu"),
        stream=stream,
        training=toy_feed(),
        validation=toy_feed(20, seed=1),
    )
