"""Batches that a thread reads, corrupts and preprocesses while the last one is predicted."""

from __future__ import annotations

import contextlib
import contextvars
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.evaluators.subject import InputKind, Scene

AHEAD: Final = 2
"""Batches that are ready or on their way while one is predicted."""

T = TypeVar("T")


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


def read_ahead(items: Generator[T, None, None], *, ahead: int = AHEAD) -> Generator[T, None, None]:
    """Yield the items in order while a thread already makes the next ones.

    Exhausted, closed or interrupted, it waits for the item on its way, ends the thread and closes
    the items. An error of theirs is raised in its turn.

    Args:
        items: made in the thread, in the context variables of who takes the first one, such as
            numpy's way with floating point errors.
        ahead: items that may be ready or on their way beside the one that was yielded, >= 1.
    """
    end = object()
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, "read-ahead") as pool:
        # Interrupted while it starts a thread, a pool does not know of it and does not wait for it.
        pool.submit(int).result()

        def following() -> Future[Any]:
            return pool.submit(context.run, lambda: next(items, end))

        waiting: deque[Future[Any]] = deque()
        try:
            waiting.extend(following() for _ in range(ahead))
            while (item := waiting.popleft().result()) is not end:
                waiting.append(following())
                yield item
        finally:
            for future in waiting:
                future.cancel()
            pool.submit(items.close).result()
