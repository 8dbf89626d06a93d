"""The one way to derive random streams: from named parts, never from a global seed."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrinkproof.records import canonical_json


def digest(*parts: object) -> int:
    """Return 128 bits derived from named parts (any JSON values)."""
    return int.from_bytes(hashlib.sha256(canonical_json(parts).encode()).digest()[:16], "big")


def stream(*parts: object) -> np.random.Generator:
    """Return the random generator of the named parts: same parts, same numbers, everywhere."""
    return np.random.Generator(np.random.Philox(key=digest(*parts)))


def torch_seed(*parts: object) -> int:
    """Return a seed for a torch generator, 0 to 2**63 - 1."""
    return digest(*parts) >> 65


class Streams:
    """One random generator per image of a batch.

    A generator depends only on the named parts and on the image's index in its data set, so batch
    size, order, subset and worker cannot change a pixel. The parts give the key of a counter-based
    generator (Philox, Salmon et al. 2011) and the index its highest counter word, so the streams
    of two images are 2**192 numbers apart.

    Args:
        parts: what the randomness is for, for example seed, corruption, severity, preset.
        index: index of each image in its data set, (N,) int64, not negative.
    """

    def __init__(self, parts: tuple[object, ...], index: NDArray[np.int64]) -> None:
        self.parts = parts
        self.index = np.asarray(index, dtype=np.int64)
        self._key = digest(*parts)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.index)

    def part(self, which: slice) -> Streams:
        """Return the generators of some of the images."""
        found = copy.copy(self)
        found.index = self.index[which]
        return found

    def each(self) -> Iterator[np.random.Generator]:
        """Yield the generator of each image, in order."""
        for index in self.index.tolist():
            yield np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, 0, index]))

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the first random words of each image's generator, (N, count) uint64.

        They are the raw output that every other draw is made from, at a fraction of the cost: one
        generator is moved from image to image instead of making one for each.
        """
        words = np.empty((len(self), count), dtype=np.uint64)
        philox = np.random.Philox(key=self._key)
        state: Any = philox.state
        for row, index in zip(words, self.index.tolist(), strict=True):
            state["state"]["counter"][:] = (0, 0, 0, index)
            philox.state = state
            row[:] = philox.random_raw(count)
        return words
