"""Work in several processes on this machine."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import pydantic

from shrinkproof.engines.inline import attempt
from shrinkproof.environment import usable_cores
from shrinkproof.records import Failure
from shrinkproof.registry import Strings, component

A = TypeVar("A")
B = TypeVar("B")

_LIVES = 2
"""How often an item may be given to a worker: a second time after its first worker died."""


_FAREWELL = 5.0
"""Seconds that an idle worker may take to end."""

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(slots=True, eq=False)
class _Worker(Generic[A]):
    process: SpawnProcess
    connection: Connection
    device: str | None = None
    item: A | None = None
    lives: int = 0

    def stop(self) -> None:
        """End the process: an idle one ends by itself when its pipe does."""
        self.process.join(timeout=_FAREWELL if not self.lives else 0)
        self.process.kill()
        self.process.join()


@component
class Processes:
    """Work in several processes on this machine.

    Workers are spawned, never forked, so that threads and GPU contexts of the caller cannot harm
    them. The work must be a module-level function; items and results must be small. A worker that
    dies (killed for memory, say) costs its item one retry in a fresh worker, and the others
    nothing. When the caller dies, its workers read the end of their pipe and stop.

    Attributes:
        workers: number of processes; where it is not given one per device, or per core.
        devices: GPUs, as CUDA_VISIBLE_DEVICES names them. Each worker sees one of them, in turn;
            without any, workers see what the caller sees.
    """

    name: ClassVar[str] = "processes"
    version: ClassVar[int] = 1

    workers: Annotated[int, pydantic.Field(ge=1)] | None = None
    devices: Strings = ()

    @property
    def beside(self) -> int:
        """Number of processes."""
        return self.workers or len(self.devices) or usable_cores()

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[A, B | Failure]]:
        """Yield every item once with its result, as results come in."""
        queue: deque[tuple[A, int]] = deque((item, _LIVES) for item in items)
        count = min(self.beside, len(queue))
        workers: list[_Worker[A]] = []
        try:
            devices = itertools.cycle(self.devices or (None,))
            workers.extend(_start(work, next(devices)) for _ in range(count))
            for worker in workers:
                _give(worker, queue)
            while any(worker.lives for worker in workers):
                busy = {worker.connection: worker for worker in workers if worker.lives}
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection), "wait returns what it was given"
                    worker = busy[ready]
                    outcome = _receive(worker)
                    if outcome is None:
                        workers.remove(worker)
                        workers.append(_start(work, worker.device))
                        lost = _after_death(worker, queue)
                        _give(workers[-1], queue)
                        if lost is not None:
                            yield lost
                        continue
                    item = worker.item
                    _give(worker, queue)
                    yield item, outcome[0]  # type: ignore[misc]  # a busy worker has an item
        finally:
            for worker in workers:
                worker.connection.close()
            for worker in workers:
                worker.stop()


def _start(work: Callable[[A], Any], device: str | None) -> _Worker[A]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    with _interrupts_blocked(), _one_device(device):
        process.start()
    theirs.close()
    return _Worker(process, ours, device)


@contextlib.contextmanager
def _one_device(device: str | None) -> Iterator[None]:
    """Let a worker be born with one GPU: what it imports first may look for all of them."""
    if device is None:
        yield
        return
    before = os.environ.get(_VISIBLE)
    os.environ[_VISIBLE] = device
    try:
        yield
    finally:
        del os.environ[_VISIBLE]
        if before is not None:
            os.environ[_VISIBLE] = before


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let a worker be born deaf to Ctrl-C: while it imports, it cannot ignore it by itself."""
    resource_tracker.ensure_running()  # some versions unblock interrupts when they start it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    """Answer items until the pipe ends. Ctrl-C is the driver's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # scikit-learn's joblib would make a semaphore at import and leak it when a worker is killed.
    os.environ.setdefault("JOBLIB_MULTIPROCESSING", "0")
    while True:
        # The pipe of a driver that was interrupted with a result unread is reset, not ended.
        try:
            item = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            unsent = attempt(connection.send, attempt(work, item))
            if unsent is not None:  # a result that cannot be pickled, or nobody listens
                connection.send(unsent)
        except (BrokenPipeError, ConnectionResetError):
            return


def _give(worker: _Worker[A], queue: deque[tuple[A, int]]) -> None:
    worker.item, worker.lives = queue.popleft() if queue else (None, 0)
    if worker.lives:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(worker.item)  # a dead worker is noticed when it is waited for


def _receive(worker: _Worker[Any]) -> tuple[Any] | None:
    """Return the result in a tuple, or None where the worker died without one."""
    try:
        content = worker.connection.recv_bytes()
    except (EOFError, OSError):  # the latter where it died in the middle of a large result
        return None
    return (attempt(pickle.loads, content),)


def _after_death(worker: _Worker[A], queue: deque[tuple[A, int]]) -> tuple[A, Failure] | None:
    """Put the lost item back, or return its failure where it has cost enough workers."""
    worker.process.join()
    worker.connection.close()
    item, lives = worker.item, worker.lives - 1
    assert item is not None, "only busy workers are waited for"
    if lives:
        queue.append((item, lives))
        return None
    code = worker.process.exitcode
    return item, Failure(
        "WorkerDied",
        f"the worker process ended with exit code {code} {_LIVES} times on this item; "
        "a negative code is the signal that killed it (-9: out of memory, most likely)",
    )
