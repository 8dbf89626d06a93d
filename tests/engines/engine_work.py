"""Work for the engine tests, in a module that a spawned worker can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square_or_fail(item: int) -> int:
    if item == 3:
        raise ValueError("three is wrong")
    return item * item


def die_once(item: tuple[str, int]) -> int:
    """Kill this process the first time the item comes here."""
    folder, number = item
    mark = Path(folder) / str(number)
    if number == 2 and not mark.exists():
        mark.write_text("seen")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_always(item: int) -> int:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def sleep_and_tell(item: tuple[str, float]) -> int:
    Path(item[0]).write_text(str(os.getpid()))
    time.sleep(item[1])
    return os.getpid()


def device_of(item: int) -> tuple[int, str | None]:
    time.sleep(0.2)  # so that each worker gets some items
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def wait_for_leave(item: tuple[str, int]) -> int:
    """Tell that this process has begun, and return when the test says so."""
    folder, number = item
    Path(folder, f"begun-{number}-{os.getpid()}").touch()
    while not Path(folder, "leave").exists():
        time.sleep(0.05)
    return number


def threads_of(item: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")
