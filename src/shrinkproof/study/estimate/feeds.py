"""Images for steps of a recipe, of which only so many are given as time allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.protocols import Feed, Target

if TYPE_CHECKING:
    from torch import Tensor

_LEAST: Final = 2
"""Batches that a reader gets in any case: the first one is slower than the others."""


@dataclass(slots=True, eq=False)
class Loop:
    """One pass of a reader over a feed, which may have ended early.

    Attributes:
        split: whose images.
        wanted: images that the reader would get.
        counts: images of each batch that it got.
        seconds: time between two batches, of reading it and of whatever the reader did with it.
    """

    split: str
    wanted: int
    counts: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Seconds per image, once the reader has settled down."""
        pairs = list(zip(self.seconds, self.counts, strict=True))
        settled = pairs[1:] or pairs
        return median(seconds / max(1, count) for seconds, count in settled) if settled else 0.0

    @property
    def whole(self) -> float:
        """Seconds of the pass over all images."""
        return self.rate * self.wanted

    @property
    def settling(self) -> float:
        """Seconds that the first batch took longer than the others."""
        return max(0.0, self.seconds[0] - self.rate * self.counts[0]) if self.seconds else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ShortFeed:
    """A feed that ends early and notes how long its readers take for a batch.

    Attributes:
        split: whose images.
        feed: the images.
        loops: receives every pass.
        seconds: after how many the images end, unless the reader has had two batches only.
        clock: seconds.
    """

    split: str
    feed: Feed
    loops: list[Loop]
    seconds: float
    clock: Callable[[], float]

    @property
    def count(self) -> int:
        """Number of images, of which most may never be given."""
        return self.feed.count

    def batches(
        self,
        size: int,
        *,
        order: NDArray[np.int64] | None = None,
        augment: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    ) -> Iterator[tuple[Tensor, Target]]:
        """Yield the first batches of the feed."""
        loop = Loop(self.split, self.count if order is None else len(order))
        self.loops.append(loop)
        begin = start = self.clock()
        for inputs, target in self.feed.batches(size, order=order, augment=augment):
            yield inputs, target
            now = self.clock()
            loop.counts.append(len(target))
            loop.seconds.append(now - start)
            if now - begin > self.seconds and len(loop.counts) >= _LEAST:
                return
            start = now
