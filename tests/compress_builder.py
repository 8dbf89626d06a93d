"""Small images and comparisons for the tests of ``shrinkproof.compress``."""

from __future__ import annotations

import torch

from shrinkproof.models.loaded import Preprocess
from shrinkproof.testing.toys import tiny_images

EXAMPLE = torch.zeros(1, 3, 16, 16)
HALF = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def pair(count: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Return preprocessed images with their classes."""
    images = tiny_images(count)
    return torch.from_numpy(HALF(images.images)), torch.from_numpy(images.target)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Return whether two state dicts are equal, order included."""
    return list(first) == list(second) and all(torch.equal(first[n], second[n]) for n in first)
