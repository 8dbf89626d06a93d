"""A training in a process of its own, to be killed: FOLDER RESULT, or only FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.tasks import Classification
from shrinkproof.training import checkpoint
from shrinkproof.training.feed import ImageFeed
from shrinkproof.training.settings import Training


def tell(values: dict[str, object]) -> None:
    sys.stdout.write(f"{values['epoch']}\n")
    sys.stdout.flush()


def main(folder: str, result: str) -> None:
    torch.set_num_threads(1)
    checkpoint.INTERVAL = 0.0
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    target = (np.arange(64) % 3).astype(np.int64)
    index = np.arange(64, dtype=np.int64)
    images = ImageSet("toy", pixels, (8, 8), target, tuple("abc"), index, hash_pixels(pixels))
    feed = ImageFeed(images, Preprocess())
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Flatten(), nn.Linear(288, 3)),
    )
    context = Context(
        task=Classification(),
        example=torch.zeros(1, 3, 8, 8),
        device=torch.device("cpu"),
        stream=stream,
        training=feed,
        validation=feed,
        note=tell,
        scratch=None if folder == "none" else Path(folder),
    )
    settings = Training(epochs=60, batch=16, augment=("crop", "flip"), patience=60)
    history = settings.run(model, context)
    for entry in history:
        del entry["seconds"]
    torch.save({"model": model.state_dict(), "history": history}, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
