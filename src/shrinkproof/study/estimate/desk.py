"""What a process that measures for an estimate keeps, and what it finds."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, Literal

from shrinkproof.store import Store
from shrinkproof.study.estimate.rates import Ended, Looked, Made, Scored, Timed
from shrinkproof.study.work.workplace import Workplace, workplace

Clock = Literal["wall", "cpu"]
"""``wall`` is what a user waits; ``cpu`` leaves out what other programs take from the machine."""

_KILOBYTES: Final = 1 if sys.platform == "darwin" else 1024
"""Unit of the peak that the system tells."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one piece of measuring has found; see `Rates`.

    Attributes:
        start: seconds until the process could work; None for its later pieces.
        first: seconds that its first candidate took longer; None for others.
        reading: split -> seconds to open it.
        made: key of a candidate -> what it took.
        shown: condition -> seconds per image.
        opening: seconds that the first images of conditions took longer.
        prepared: seconds per image of preprocessing; None where none was done.
        scored: split -> what a cell takes.
        looked: heat maps.
        timed: latency.
        ended: tables and page.
        write: seconds to store a cell; None where none was stored.
        idle: bytes of memory before any candidate.
        peak: highest bytes of memory.
        skipped: what there was no time for.
    """

    start: float | None = None
    first: float | None = None
    reading: Mapping[str, float] = field(default_factory=dict)
    made: Mapping[str, Made] = field(default_factory=dict)
    shown: Mapping[str, float] = field(default_factory=dict)
    opening: float = 0.0
    prepared: float | None = None
    scored: Mapping[str, Scored] = field(default_factory=dict)
    looked: tuple[Looked, ...] = ()
    timed: tuple[Timed, ...] = ()
    ended: Ended | None = None
    write: float | None = None
    idle: float = 0.0
    peak: float = 0.0
    skipped: tuple[str, ...] = ()


@dataclass(eq=False)
class Desk:
    """What a process keeps between two pieces of measuring.

    Attributes:
        place: the study.
        store: a run directory for what is measured.
        clock: seconds of this process.
        waits: seconds of a fresh process that this one waits for.
        start: seconds until the process could work.
        reading: split -> seconds to open it.
        idle: bytes of memory once the data are read.
        is_fresh: whether nothing has been made of a candidate yet.
    """

    place: Workplace
    store: Store
    clock: Callable[[], float]
    waits: Callable[[], float]
    start: float | None
    reading: dict[str, float]
    idle: float
    is_fresh: bool = True

    def take_start(self) -> float | None:
        """Return how long the process took to start, the first time somebody asks."""
        start, self.start = self.start, None
        return start


@functools.lru_cache(maxsize=1)
def desk(run: str, splits: tuple[str, ...], clock: Clock, sent: float) -> Desk:
    """Return the desk of this process; it is set up once.

    Args:
        run: the directory of the probe.
        splits: those that the study reads.
        clock: which seconds are meant.
        sent: time of day when the first piece was sent.
    """
    now = time.perf_counter if clock == "wall" else time.process_time
    begun = max(0.0, time.time() - sent) if clock == "wall" else time.process_time()
    start = now()
    place = workplace(run)
    for name in place.inputs.spec.models:
        place.base(name)
    ready = begun + now() - start
    reading: dict[str, float] = {}
    for split in splits:
        start = now()
        place.images([split])
        reading[split] = now() - start
    waits = now if clock == "wall" else _of_children
    return Desk(place, Store(Path(run)), now, waits, ready, reading, resident())


def _of_children() -> float:
    """Return the processor seconds of all processes that this one has waited for."""
    told = os.times()
    return told.children_user + told.children_system


def resident() -> float:
    """Return the bytes of memory that this process fills; where nobody tells, its peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak()
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def peak() -> float:
    """Return the highest bytes of memory that this process has filled; 0 where nobody tells."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KILOBYTES)


def kept() -> float:
    """Return the bytes of memory that this process needs: freed memory is given back before."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only the GNU library can
        ctypes.CDLL(None).malloc_trim(0)
    return resident()


def bytes_of(folder: Path, pattern: str = "*") -> float:
    """Return the size of all files in a folder, or of those whose names match."""
    return float(sum(file.stat().st_size for file in folder.rglob(pattern) if file.is_file()))


def timed(
    work: Callable[[], object],
    clock: Callable[[], float],
    *,
    least: int = 1,
    most: int = 5,
    seconds: float = 0.3,
) -> float:
    """Return the median seconds of a call that has been made once before.

    Args:
        work: what is timed.
        clock: seconds.
        least: calls at least.
        most: calls at most.
        seconds: after how many no further call is made.
    """
    work()
    found: list[float] = []
    while len(found) < least or (len(found) < most and sum(found) < seconds):
        start = clock()
        work()
        found.append(clock() - start)
    return median(found)
