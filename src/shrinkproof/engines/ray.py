"""Work on a Ray cluster: one that exists, or one of this machine for as long as the run lasts."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

import pydantic

from shrinkproof.engines.ray_cluster import CLUSTER, Watch, load_ray
from shrinkproof.engines.ray_worker import Premises, Unfit, serve
from shrinkproof.environment import usable_cores
from shrinkproof.errors import EngineError
from shrinkproof.records import Failure
from shrinkproof.registry import component

A = TypeVar("A")
B = TypeVar("B")

_MOVES: Final = 10
"""How often an item may lose its node. It is hardly to blame, unless it fills the memory."""

_TURN: Final = 1.0
"""Seconds to wait for a result before looking whether nodes have come or gone."""

_AHEAD: Final = 2
"""Pieces of work given to Ray per piece that can run: a free worker finds one at once."""


@dataclass(slots=True, eq=False)
class _Order(Generic[A]):
    """An item on its way.

    Attributes:
        item: what is worked on.
        lives: workers that it may still cost.
        moves: nodes that it may still cost.
    """

    item: A
    lives: int
    moves: int = _MOVES


@component
class Ray:
    """Work on a Ray cluster, or on one that is started for the run on this machine.

    Items are tasks that ask for cores and GPUs; nodes that join are used. The work must be a
    function that workers can import; items and results must be small. A worker that dies costs its
    item one retry in another one; a node that is lost costs nothing but the time. Workers that have
    other versions of packages than this process, or another file system, end the run.

    The connection lasts from the first to the last use, or as long as a ``with`` block around them.
    A cluster that was started for it is stopped, any other is left as it is.

    Attributes:
        address: ``HOST:PORT`` of the head; where it is not given, what the environment variable
            RAY_ADDRESS says, else a cluster of this machine is started.
        workers: largest number of items at the same time; what there is room for where it is not
            given.
        cpus: cores of an item.
        gpus: GPUs of an item, or which part of one.
        retries: how often an item is tried again after its worker died.
    """

    name: ClassVar[str] = "ray"
    version: ClassVar[int] = 1

    address: str | None = None
    workers: Annotated[int, pydantic.Field(ge=1)] | None = None
    cpus: Annotated[int, pydantic.Field(ge=1)] = 1
    gpus: Annotated[float, pydantic.Field(ge=0)] = 0.0
    retries: Annotated[int, pydantic.Field(ge=0)] = 1

    @pydantic.model_validator(mode="after")
    def _check(self) -> Ray:
        if self.gpus > 1 and self.gpus != math.floor(self.gpus):
            raise ValueError(
                f"gpus: must be at most 1 or a whole number, got {self.gpus:g}; a network runs on "
                "one GPU"
            )
        return self

    def __enter__(self) -> Ray:
        cores = self.workers * self.cpus if self.workers else max(usable_cores(), self.cpus)
        CLUSTER.hold(self.address, cores)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        CLUSTER.release()

    @property
    def beside(self) -> int:
        """Number of items that the largest node does at the same time."""
        with self:
            room = max(Watch(self.cpus, self.gpus).room(), default=1)
        return max(1, room if self.workers is None else min(room, self.workers))

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[A, B | Failure]]:
        """Yield every item once with its result, as results come in.

        Raises:
            MissingExtraError: Ray is not installed.
            EngineError: there is no cluster, it is lost, or a worker is unlike this process.
        """
        orders = deque(_Order(item, self.retries + 1) for item in items)
        if orders:
            with self, _marks() as mark:
                yield from self._map(work, orders, mark)

    def _map(
        self, work: Callable[[A], B], orders: deque[_Order[A]], mark: Callable[[Any], str | None]
    ) -> Iterator[tuple[A, B | Failure]]:
        ray = load_ray()
        # Ray's own retries would not tell a lost node from an item that kills its workers.
        task = ray.remote(serve).options(
            num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0, name=_name_of(work)
        )
        premises, watch = Premises.of_driver(), Watch(self.cpus, self.gpus)
        running: dict[Any, _Order[A]] = {}
        try:
            while orders or running:
                room = sum(watch.room())
                window = self.workers or max(1, _AHEAD * room)
                while orders and len(running) < window:
                    order = orders.popleft()
                    parcel = ray.cloudpickle.dumps((work, order.item))
                    running[task.remote(premises, mark(order.item), parcel)] = order
                try:
                    ready, _ = ray.wait(list(running), timeout=_TURN)
                except KeyboardInterrupt:
                    yield from _finished(running)
                    raise
                for reference in ready:
                    order = running.pop(reference)
                    outcome = _outcome(reference, order)
                    if outcome is None:
                        orders.appendleft(order)
                    else:
                        yield order.item, outcome[0]
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _name_of(work: Callable[..., Any]) -> str:
    """Return what the work is called in Ray's own lists."""
    return f"shrinkproof {getattr(work, '__name__', type(work).__name__)}"


def _finished(running: dict[Any, _Order[A]]) -> Iterator[tuple[A, Any]]:
    """Yield what is there already, when the run is interrupted."""
    ready, _ = load_ray().wait(list(running), num_returns=len(running), timeout=0)
    for reference in ready:
        order = running.pop(reference)
        outcome = _outcome(reference, order)
        if outcome is not None:
            yield order.item, outcome[0]


def _outcome(reference: Any, order: _Order[Any]) -> tuple[Any] | None:
    """Return the result of a task in a tuple, or None where its item is to be tried again.

    Raises:
        EngineError: no task can be done any more, or the worker is unlike this process.
    """
    ray = load_ray()
    lost = ray.exceptions
    try:
        found = ray.get(reference)
    except (lost.WorkerCrashedError, lost.OutOfMemoryError) as error:
        order.lives -= 1
        return None if order.lives else (_death("WorkerDied", "worker processes", error),)
    except (lost.NodeDiedError, lost.ObjectLostError) as error:
        order.moves -= 1
        return None if order.moves else (_death("NodeDied", "nodes", error),)
    except lost.LocalRayletDiedError as error:
        raise EngineError(
            "ray: the node of this process must live, got its end; what is finished is kept, start "
            "the node again and run the same command again"
        ) from error
    except lost.RayTaskError as error:
        raise EngineError(
            "ray: every node must have the packages of the driver, got a worker that could not "
            f"begin: {error}; install shrinkproof on every node"
        ) from error
    except lost.RayError as error:
        return (Failure(type(error).__name__, str(error)),)
    if isinstance(found, Unfit):
        raise EngineError(f"ray: {found.reason}")
    return (found if isinstance(found, Failure) else ray.cloudpickle.loads(found),)


def _death(kind: str, what: str, error: Exception) -> Failure:
    reason = " ".join(str(error).split())
    return Failure(kind, f"all {what} that had this item have ended; the last time: {reason}")


@contextlib.contextmanager
def _marks() -> Iterator[Callable[[Any], str | None]]:
    """Yield what returns the mark that an item's worker must see; all marks are taken away again.

    An item may say in which directory its worker reads and writes, as ``run``. A file with a new
    name in there shows whether the worker sees the same directory or only one of the same name.
    """
    marks: dict[str, Path] = {}

    def mark(item: Any) -> str | None:
        run = getattr(item, "run", None)
        if not isinstance(run, str):
            return None
        if run not in marks:
            path = Path(run) / f".seen-{secrets.token_hex(8)}"
            path.touch()
            marks[run] = path
        return str(marks[run])

    try:
        yield mark
    finally:
        for path in marks.values():
            path.unlink(missing_ok=True)
