"""Work that throws, in a module that a spawned worker can import."""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn


class Panic(BaseException):
    """As compiled libraries throw them: no `Exception`."""


class Speechless(Exception):  # noqa: N818 - its name is told
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unpicklable(Exception):  # noqa: N818 - its name is told
    def __init__(self) -> None:
        super().__init__("cannot travel")
        self.lock = threading.Lock()


def _recurse() -> NoReturn:
    _recurse()


def throw(name: str) -> str:
    thrown: dict[str, BaseException] = {
        "panic": Panic("index out of bounds"),
        "memory": MemoryError(),
        "speechless": Speechless(),
        "unpicklable": Unpicklable(),
        "surrogate": ValueError("\udcff"),
    }
    if name == "exit":
        sys.exit(0)
    if name == "recursion":
        _recurse()
    if name in thrown:
        raise thrown[name]
    return name


def _unread(_: object) -> NoReturn:
    raise TypeError("no reader")


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return (_unread, (1,))


def give(name: str) -> object:
    return {"lambda": lambda: name, "unreadable": Unreadable()}.get(name, name)


def die_while_sending(mark: str) -> str:
    """Let this process be killed, the first time, when half of the result is in the pipe."""
    if not Path(mark).exists():
        Path(mark).write_text("seen")
        Connection._send = _send_half  # type: ignore[attr-defined]
    return "whole"


def _send_half(connection: Connection, content: bytes) -> NoReturn:
    os.write(connection.fileno(), content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it is dead")
