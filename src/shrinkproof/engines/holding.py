"""Keep what an engine has opened from one stage of a run to the next."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def held(engine: object) -> AbstractContextManager[object]:
    """Return a context in which an engine keeps what it opens, such as a connection.

    An engine that opens nothing is no context manager, and gets an empty one.
    """
    return engine if isinstance(engine, AbstractContextManager) else nullcontext(engine)
