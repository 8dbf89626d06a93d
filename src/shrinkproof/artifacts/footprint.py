"""How much memory an exported file takes while it runs."""

from __future__ import annotations

import contextlib
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import ShrinkproofError
from shrinkproof.randomness import stream
from shrinkproof.records import Failure

_STATUS: Final = Path("/proc/self/status")
_RESET: Final = Path("/proc/self/clear_refs")
_CALLS: Final = 2
"""The runtime plans its memory during the first call and uses the plan from the second on."""


@dataclass(frozen=True, slots=True)
class Load:
    """Exported files that are each loaded and run in a process of their own.

    Attributes:
        paths: the files.
        input_shape: (C, H, W) of one input.
        batch: images per inference.
        threads: threads of one inference.
    """

    paths: tuple[Path, ...]
    input_shape: tuple[int, ...]
    batch: int
    threads: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of one file.

    Attributes:
        peak: highest resident memory from loading on, minus that just before, in bytes.
        code: part of it that is files mapped into memory: the code of the runtime.
    """

    peak: int
    code: int


def can_measure() -> bool:
    """Return whether this system tells the peak of a process and can fork one."""
    return hasattr(os, "fork") and _STATUS.is_file()


def measure_footprints(load: Load) -> list[Footprint | Failure]:
    """Return the memory of every file, in order; call it in a fresh process.

    Each file is loaded in a fork of this process, which has imported the runtime and nothing more,
    so that each starts from the same memory.
    """
    import shrinkproof.artifacts.session  # noqa: F401  (imported once, before the forks)

    draws = stream("footprint")
    inputs = draws.standard_normal((load.batch, *load.input_shape), dtype=np.float32)
    return [_in_fork(path, inputs, load.threads) for path in load.paths]


def _in_fork(path: Path, inputs: NDArray[np.float32], threads: int) -> Footprint | Failure:
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _answer(theirs, path, inputs, threads)
    os.close(theirs)
    with os.fdopen(ours, "rb") as stream:
        content = stream.read()
    _, status = os.waitpid(child, 0)
    if not content:
        code = os.waitstatus_to_exitcode(status)
        message = f"{path}: the process that loads the file must live, got exit code {code}"
        return Failure("ModelError", message)
    found: Footprint | Failure = pickle.loads(content)
    return found


def _answer(pipe: int, path: Path, inputs: NDArray[np.float32], threads: int) -> None:
    """Send what is found through the pipe and end this process, whatever happens."""
    try:
        try:
            found: Footprint | Failure = _footprint(path, inputs, threads)
        except ShrinkproofError as error:
            found = Failure(type(error).__name__, str(error))
        with os.fdopen(pipe, "wb") as stream:
            pickle.dump(found, stream)
    finally:
        os._exit(1)


def _footprint(path: Path, inputs: NDArray[np.float32], threads: int) -> Footprint:
    from shrinkproof.artifacts.session import Session

    with contextlib.suppress(OSError):  # a peak from before the fork stays where this is forbidden
        _RESET.write_text("5")  # proc(5): reset the peak to what is resident now
    before = _status()
    session = Session(path, threads=threads)
    for _ in range(_CALLS):
        session(inputs)
    after = _status()
    return Footprint(after["VmHWM"] - before["VmRSS"], after["RssFile"] - before["RssFile"])


def _status() -> dict[str, int]:
    """Return the sizes of this process in bytes."""
    pairs = (line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return {name: 1024 * int(text.split()[0]) for name, text in pairs if text.endswith("kB")}
