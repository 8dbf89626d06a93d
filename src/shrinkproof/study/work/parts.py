"""Into how many parts a pass over the images of a split is divided, so that each is bounded.

Answers are in memory for one part at a time, and one part is what a killed worker loses. The
division depends on the images and the batch alone: neither on the machine nor on what is missing.
It is in no key, as no number depends on it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.predictions import Objects
from shrinkproof.predictions.half import LARGE
from shrinkproof.store import Part

# Shape suffixes: N images, B batches.

PIXELS: Final = 1 << 27
"""Pixels of a part: about 2,700 images of 224 by 224, or 131,072 of 32 by 32."""


def parts_of(images: ImageSet, batch: int, *, pixels: int = PIXELS) -> tuple[Part, ...]:
    """Return the parts of a pass over some images, in order; each begins where a batch begins.

    They are about equally large: at most so many pixels, and at most 64 MiB of logits for each
    candidate, up to the batch that completes them.

    Args:
        images: all images of a split.
        batch: images per batch, at least 1.
        pixels: of a part, at least 1.
    """
    count = len(images)
    filled = np.concatenate([[0.0], np.cumsum(_costs(images, pixels))])
    parts = max(1, int(np.ceil(filled[-1])))
    starts_B = np.array([start for start, _ in images.spans(batch)], dtype=np.int64)
    goals = filled[-1] * np.arange(1, parts) / parts
    after = np.searchsorted(filled[starts_B], goals)
    edges = np.unique([0, *starts_B[after[after < len(starts_B)]].tolist(), count]).tolist()
    bounds = list(pairwise(edges)) or [(0, count)]
    return tuple(Part(i, len(bounds), *bound, count) for i, bound in enumerate(bounds))


def _costs(images: ImageSet, pixels: int) -> NDArray[np.float64]:
    """Return which share of a part each image fills, (N,): by its pixels or by its answer."""
    if isinstance(images.target, Objects):
        sizes = images.target.sizes.astype(np.float64)
        return np.asarray(sizes[:, 0] * sizes[:, 1] / pixels)
    height, width = images.one_shape
    return np.full(len(images), max(height * width / pixels, len(images.classes) / LARGE))
