"""Progress on the terminal: a bar with the time left, or plain lines where nobody watches."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import TaskID


class Lines:
    """One plain line per stage, and one per tenth of it."""

    def __init__(self) -> None:
        self._stage = ""
        self._total = 0
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def begin(self, stage: str, total: int) -> None:
        """Tell that a stage with so many pieces of work starts."""
        self._stage, self._total, self._done = stage, total, 0
        self._start = time.perf_counter()
        _write(f"{stage}: {total} to do")

    def advance(self, label: str) -> None:
        """Tell that one piece of work of the stage is done."""
        self._done += 1
        step = max(1, self._total // 10)
        if self._done % step == 0 and self._done < self._total:
            left = (time.perf_counter() - self._start) * (self._total / self._done - 1)
            _write(f"{self._stage}: {self._done}/{self._total}, about {left:.0f} s left ({label})")

    def end(self, stage: str, seconds: float) -> None:
        """Tell that a stage is over."""
        _write(f"{stage}: done in {seconds:.1f} s")

    def warn(self, message: str) -> None:
        """Tell something that the user should know."""
        _write(f"warning: {message}")


class Bar:
    """A live bar with the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, stage: str, total: int) -> None:
        """Start a bar."""
        self._bar = self._progress.add_task(stage, total=total)

    def advance(self, label: str) -> None:  # noqa: ARG002 - the bar shows numbers only
        """Move the bar."""
        if self._bar is not None:
            self._progress.advance(self._bar)

    def end(self, stage: str, seconds: float) -> None:
        """Replace the bar by a line."""
        if self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None
        self._progress.console.print(f"{stage:<8} {seconds:6.1f} s", highlight=False)

    def warn(self, message: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(f"warning: {message}", markup=False, highlight=False)


def watcher() -> Lines | Bar:
    """Return a bar on a terminal, and plain lines elsewhere."""
    return Bar() if sys.stderr.isatty() else Lines()


def _write(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
