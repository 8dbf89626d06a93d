"""Work in this process, one item after the other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, TypeVar

from shrinkproof.records import Failure
from shrinkproof.registry import component

A = TypeVar("A")
B = TypeVar("B")


def attempt(work: Callable[[A], B], item: A) -> B | Failure:
    """Return the result of the work, or why there is none.

    This is the one place where any exception becomes a value: a failing item must not cost the
    others. That holds for user code that ends the process and for panics of compiled libraries,
    too, which are no `Exception`. Interrupts pass.
    """
    try:
        return work(item)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Failure(type(error).__name__, _words_of(error), traceback.format_exc())


def _words_of(error: BaseException) -> str:
    """Return what an exception says; some say nothing, and some fail when they are asked."""
    if isinstance(error, SystemExit):
        return f"the code must return, but it called exit({error.code!r})"
    try:
        return str(error) or f"{type(error).__name__} without a message"
    except Exception as second:
        return f"{type(error).__name__}, whose message cannot be read ({type(second).__name__})"


@component
class Inline:
    """Work in this process, one item after the other.

    The default for one device, and the engine to debug with: tracebacks are complete.
    """

    name: ClassVar[str] = "inline"
    version: ClassVar[int] = 1

    @property
    def beside(self) -> int:
        """One: nothing else runs."""
        return 1

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[A, B | Failure]]:
        """Yield every item once with its result, in order."""
        for item in items:
            yield item, attempt(work, item)
