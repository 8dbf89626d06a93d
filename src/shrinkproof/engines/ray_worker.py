"""What a process of a Ray cluster does: become like the driver, then work.

Nothing that computes is imported before the process has the driver's settings.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shrinkproof.engines.inline import attempt
from shrinkproof.environment import RUNTIMES, THREAD_VARIABLES, installed_version
from shrinkproof.records import Failure

_PATIENCE: Final = 10.0
"""Seconds in which a new file must show on other machines: network file systems are slow to tell"""


@dataclass(frozen=True, slots=True)
class Premises:
    """What every worker must share with the driver.

    Attributes:
        machine: name of the driver's machine.
        threads: variables that set numbers of threads, as the driver has them.
        versions: package -> version of everything that makes numbers.
        path: where Python looks for modules.
        folder: where relative paths start.
    """

    machine: str
    threads: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str | None], ...]
    path: tuple[str, ...]
    folder: str

    @classmethod
    def of_driver(cls) -> Premises:
        """Return what this process has."""
        return cls(
            machine=platform.node(),
            threads=tuple((n, os.environ[n]) for n in THREAD_VARIABLES if n in os.environ),
            versions=_versions(),
            path=tuple(str(Path(place).absolute()) for place in sys.path),
            folder=str(Path.cwd()),
        )


@dataclass(frozen=True, slots=True)
class Unfit:
    """A worker that must not work, because its numbers would be others or be lost.

    Attributes:
        reason: what is wrong with it, and what to do.
    """

    reason: str


def serve(premises: Premises, mark: str | None, parcel: bytes) -> bytes | Failure | Unfit:
    """Return the pickled result of a work function on an item.

    Args:
        premises: what this process must share with the driver.
        mark: a file that the driver has written into the run directory; None where there is none.
        parcel: the pickled work function and its item.
    """
    _settle(premises)
    reason = _strange(premises) or (_unshared(mark, premises.machine) if mark else None)
    return attempt(_work, parcel) if reason is None else Unfit(reason)


def _settle(premises: Premises) -> None:
    """Take over the driver's settings before anything that reads them is imported.

    Ray sets a number of threads of its own where the driver has none.
    """
    told = dict(premises.threads)
    for name in THREAD_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(told)
    # scikit-learn's joblib would make a semaphore at import and leak it when a worker is killed.
    os.environ.setdefault("JOBLIB_MULTIPROCESSING", "0")
    with contextlib.suppress(OSError):  # what is needed of it is missed where it is needed
        os.chdir(premises.folder)
    known = set(sys.path)
    sys.path.extend(place for place in premises.path if place not in known)


def _work(parcel: bytes) -> bytes:
    """Unpickle, work, and pickle: whatever fails of it is a failure of the item."""
    from ray import cloudpickle

    work: Callable[[Any], Any]
    work, item = pickle.loads(parcel)
    result: bytes = cloudpickle.dumps(work(item))  # type: ignore[no-untyped-call]
    return result


def _versions() -> tuple[tuple[str, str | None], ...]:
    return tuple((name, installed_version(name)) for name in ("shrinkproof", *RUNTIMES))


@functools.lru_cache(maxsize=8)
def _strange(premises: Premises) -> str | None:
    """Return which packages differ from the driver's; None where none does."""
    ours = dict(_versions())
    unlike = [
        f"{name} {ours[name] or 'not installed'} instead of {version or 'none'}"
        for name, version in premises.versions
        if ours[name] != version
    ]
    if not unlike:
        return None
    return (
        f"node {platform.node()}: packages must be those of the driver on {premises.machine}, got "
        f"{', '.join(unlike)}; install the same versions on every node"
    )


@functools.lru_cache(maxsize=8)
def _unshared(mark: str, driver: str) -> str | None:
    """Return why this node does not have the driver's run directory; None where it has it."""
    deadline = time.monotonic() + _PATIENCE
    while not Path(mark).exists():
        if time.monotonic() > deadline:
            return (
                f"node {platform.node()}: {Path(mark).parent} must be the run directory that the "
                f"driver on {driver} sees, got another or none; put it on a file system that all "
                "nodes share under the same path"
            )
        time.sleep(0.1)
    return None
