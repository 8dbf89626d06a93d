"""Files that are there completely or not at all."""

from __future__ import annotations

import contextlib
import errno
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


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into words and a way out.

    Raises:
        StoreError: the operating system refused.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, str(error.strerror or error))
        raise StoreError(
            f"{path} cannot be written: {advice}. What is finished is kept: run the same command "
            "again."
        ) from error


def scratch_in(parent: Path) -> Path:
    """Return an unused name; unlike `tempfile`'s, what stands there gets the usual permissions."""
    return parent / f".tmp-{os.getpid()}-{uuid.uuid4().hex}"


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
                os.fsync(file.fileno())
            scratch.rename(path)
        finally:
            scratch.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Let the names in a folder survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
