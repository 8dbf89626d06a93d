"""Who is told how far a run is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Somebody who wants to know how far a run is."""

    def begin(self, stage: str, total: int) -> None:
        """Tell that a stage with so many pieces of work starts."""
        ...

    def watch(self, detail: Callable[[], str]) -> None:
        """Offer what goes on inside the pieces of work of the stage, to be asked at any time."""
        ...

    def advance(self, label: str) -> None:
        """Tell that one piece of work of the stage is done."""
        ...

    def end(self, stage: str, seconds: float) -> None:
        """Tell that a stage is over."""
        ...

    def warn(self, message: str) -> None:
        """Tell something that the user should know."""
        ...


class Silence:
    """Progress that nobody wants to know about."""

    def begin(self, stage: str, total: int) -> None:
        """Ignore it."""

    def watch(self, detail: Callable[[], str]) -> None:
        """Ignore it."""

    def advance(self, label: str) -> None:
        """Ignore it."""

    def end(self, stage: str, seconds: float) -> None:
        """Ignore it."""

    def warn(self, message: str) -> None:
        """Ignore it."""


class Shared:
    """Progress of one share of a stage, under the name of the share.

    Args:
        progress: who is told.
        share: which share, ``3/16``.
    """

    def __init__(self, progress: Progress, share: str) -> None:
        self._progress = progress
        self._share = share

    def begin(self, stage: str, total: int) -> None:
        """Tell that the share of a stage starts."""
        self._progress.begin(f"{stage} {self._share}", total)

    def watch(self, detail: Callable[[], str]) -> None:
        """Offer what goes on inside."""
        self._progress.watch(detail)

    def advance(self, label: str) -> None:
        """Tell that one piece of work is done."""
        self._progress.advance(label)

    def end(self, stage: str, seconds: float) -> None:
        """Tell that the share of a stage is over."""
        self._progress.end(f"{stage} {self._share}", seconds)

    def warn(self, message: str) -> None:
        """Tell something that the user should know."""
        self._progress.warn(message)
