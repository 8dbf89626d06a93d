"""Progress on the terminal: a bar with the time left, or plain lines where nobody watches."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from shrinkproof.errors import ShrinkproofError

if TYPE_CHECKING:
    from rich.progress import TaskID


class _Asking:
    """A thread that asks for details of a stage now and then, until it is stopped.

    Args:
        detail: what goes on at the moment; empty for nothing.
        show: receives every answer that is new.
        seconds: between two questions.
    """

    def __init__(
        self, detail: Callable[[], str], show: Callable[[str], None], seconds: float
    ) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(detail, show, seconds), daemon=True)
        self._thread.start()

    def _ask(self, detail: Callable[[], str], show: Callable[[str], None], seconds: float) -> None:
        last = ""
        while not self._over.wait(seconds):
            try:
                text = detail()
            except (OSError, ShrinkproofError):  # what is asked about may be removed meanwhile
                continue
            if text != last:
                show(text)
            last = text

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


class Lines:
    """One plain line per stage, one per tenth of it, and details every half minute."""

    def __init__(self) -> None:
        self._asking: _Asking | None = None
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
        self._stop_asking()

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.stop()
            self._asking = None

    def begin(self, stage: str, total: int) -> None:
        """Tell that a stage with so many pieces of work starts."""
        self._stage, self._total, self._done = stage, total, 0
        self._start = time.perf_counter()
        _write(f"{stage}: {total} to do")

    def watch(self, detail: Callable[[], str]) -> None:
        """Print what goes on inside the pieces of work, every half minute."""

        def show(text: str) -> None:
            if text:
                _write(f"{self._stage}: {text}")

        self._asking = _Asking(detail, show, 30.0)

    def advance(self, label: str) -> None:
        """Tell that one piece of work of the stage is done."""
        self._done += 1
        step = max(1, self._total // 10)
        if self._done % step == 0 and self._done < self._total:
            left = (time.perf_counter() - self._start) * (self._total / self._done - 1)
            _write(f"{self._stage}: {self._done}/{self._total}, about {left:.0f} s left ({label})")

    def end(self, stage: str, seconds: float) -> None:
        """Tell that a stage is over."""
        self._stop_asking()
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
            TextColumn("{task.fields[detail]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar: TaskID | None = None
        self._asking: _Asking | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_asking()
        self._progress.stop()

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.stop()
            self._asking = None

    def begin(self, stage: str, total: int) -> None:
        """Start a bar."""
        self._bar = self._progress.add_task(stage, total=total, detail="")

    def watch(self, detail: Callable[[], str]) -> None:
        """Show beside the bar what goes on inside the pieces of work."""
        bar = self._bar
        if bar is not None:
            self._asking = _Asking(
                detail, lambda text: self._progress.update(bar, detail=text), 1.0
            )

    def advance(self, label: str) -> None:  # noqa: ARG002 - the bar shows numbers only
        """Move the bar."""
        if self._bar is not None:
            self._progress.advance(self._bar)

    def end(self, stage: str, seconds: float) -> None:
        """Replace the bar by a line."""
        self._stop_asking()
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
