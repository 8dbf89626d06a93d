"""Files that are there completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from shrinkproof.errors import StoreError

_ADVICE: Final = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the disk does not take files of this size; choose another directory",
    errno.EACCES: "it may not be written; choose another directory or its permissions",
    errno.EROFS: "it is on a read-only disk; choose another directory",
    errno.ENOTDIR: "a file stands where a directory must be; choose another directory",
    errno.EEXIST: "a file stands where a directory must be; choose another directory",
}

_PARTLY: Final = "the disk took only a part of it and is probably full; free some space"
"""What an error without a number means: fewer bytes arrived than were written."""

_NO_FOLDER_SYNC: Final = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
"""Answers of file systems that cannot flush a folder, among them network and FUSE ones."""

ABANDONED: Final = 86_400
"""Seconds after which a temporary file of another machine cannot have a living writer any more."""

_PREFIX: Final = ".tmp-"


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into words and a way out.

    Raises:
        StoreError: the operating system refused.
    """
    try:
        yield
    except OSError as error:
        advice = _PARTLY if error.errno is None else _ADVICE.get(error.errno, error.strerror)
        raise StoreError(
            f"{path} cannot be written: {advice}. What is finished is kept: run the same command "
            "again."
        ) from error


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of the operating system while reading into words; absence stays what it is.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: the operating system refused.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror or error}; check the disk and the permissions"
        ) from error


def scratch_in(parent: Path) -> Path:
    """Return an unused name; unlike `tempfile`'s, what stands there gets the usual permissions.

    The name tells the machine and the process, so that `is_abandoned` needs no clock.
    """
    return parent / f"{_PREFIX}{_machine()}-{os.getpid()}-{uuid.uuid4().hex}"


def scratches_in(folder: Path) -> Iterator[Path]:
    """Yield everything under a folder that `scratch_in` has named."""
    yield from folder.glob(f"**/{_PREFIX}*")


def is_abandoned(scratch: Path, now: float) -> bool:
    """Return whether nobody writes to a temporary file or folder any more.

    On the writer's machine that is whether its process has ended. Elsewhere only the age can tell.

    Args:
        scratch: what `scratch_in` has named.
        now: the time that its file system gives to a new file, in seconds.

    Raises:
        FileNotFoundError: it has gone meanwhile.
    """
    machine, _, rest = scratch.name.removeprefix(_PREFIX).partition("-")
    process = rest.partition("-")[0]
    if machine and machine == _machine() and process.isdigit():
        return not Path("/proc", process).exists()
    return now - scratch.stat().st_mtime >= ABANDONED


@functools.lru_cache(maxsize=1)
def _machine() -> str:
    """Return what processes share that see each other's numbers; empty where nothing tells.

    Names of hosts will not do: containers of one image may share theirs.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8")
        numbers = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {numbers}".encode()).hexdigest()[:12]


def replace_file(path: Path, write: Callable[[Any], object]) -> None:
    """Write a file atomically and durably.

    Args:
        path: the file; its folder exists.
        write: receives the open binary file.

    Raises:
        StoreError: it cannot be written.
    """
    with explained(path):
        scratch = scratch_in(path.parent)
        try:
            with scratch.open("xb") as file:
                write(file)
                file.flush()
                # NumPy's own writer does not notice that the last bytes did not fit.
                if os.fstat(file.fileno()).st_size < file.tell():
                    raise OSError("fewer bytes arrived than were written")
                os.fsync(file.fileno())
            scratch.rename(path)
        finally:
            scratch.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Let the content of a file survive a power failure."""
    _sync(path)


def sync_folder(path: Path) -> None:
    """Let the names in a folder survive a power failure, where the file system can."""
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
