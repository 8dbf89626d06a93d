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
    others. Interrupts pass.
    """
    try:
        return work(item)
    except Exception as error:
        return Failure(type(error).__name__, str(error), traceback.format_exc())


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
