"""What a thread makes while the last of it is used: batches of images, mostly."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

AHEAD: Final = 2
"""Items that are ready or on their way while one is used."""

T = TypeVar("T")


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
