"""Batches that a thread reads, corrupts and preprocesses while the last one is predicted."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.ahead import AHEAD, read_ahead
from shrinkproof.evaluators.subject import InputKind, Scene


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A batch that only has to be predicted.

    Attributes:
        positions: (n,) int64, which images of the scene.
        shape: (H, W) of the images before preprocessing.
        inputs: kind -> what networks of this kind are given.
    """

    positions: NDArray[np.int64]
    shape: tuple[int, int]
    inputs: Mapping[InputKind, Any]


@contextlib.contextmanager
def prefetched(
    scene: Scene, kinds: Iterable[InputKind], *, ahead: int = AHEAD
) -> Iterator[Iterator[Ready]]:
    """Give the batches of a scene, in order, made by a thread that ends with the block.

    Batches are made one after the other by the same calls as without the thread, so that results
    do not change. Where making one fails, its error is raised when its turn comes.

    Args:
        scene: the images, read and corrupted in the thread.
        kinds: what is made of each batch.
        ahead: batches that may be ready or on their way beside the one that is predicted, >= 1.
    """
    with contextlib.closing(read_ahead(_ready(scene, kinds), ahead=ahead)) as batches:
        yield batches


def _ready(scene: Scene, kinds: Iterable[InputKind]) -> Generator[Ready, None, None]:
    different = dict.fromkeys(kinds)
    for positions, images in scene.batches():
        made = {each: each(images) for each in {kind.preprocess: None for kind in different}}
        inputs = {kind: kind.hand_over(made[kind.preprocess]) for kind in different}
        yield Ready(positions, (images.shape[1], images.shape[2]), inputs)
