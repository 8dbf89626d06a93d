"""What was read of files before, so that a process need not read unchanged files again.

Checksums and image sizes of large data take minutes to read, and every worker of a run needs them.
They are kept in the folder of caches of the user, never beside the data: ``SHRINKPROOF_CACHE``, or
``shrinkproof`` in ``XDG_CACHE_HOME`` or ``~/.cache``. It may be deleted at any time.

A file counts as unchanged while size, time of modification, time of change of its entry and inode
are the same. What was read within ten seconds of the last change is not kept, because clocks of
file systems are coarse and may differ from that of the machine. So a change is overlooked only if
it happens below the file system, such as a damaged disk, or if somebody sets back the clock;
deleting the cache has everything read again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Final, NamedTuple

from shrinkproof.atomic import explained, replace_file
from shrinkproof.errors import StoreError
from shrinkproof.records import Json

_FORMAT: Final = 1
_SETTLED: Final = 10_000_000_000
"""Nanoseconds after which another change of a file certainly gets another time."""


class State(NamedTuple):
    """What changes whenever a file changes.

    Attributes:
        size: in bytes.
        modified: time of the last change of its content, nanoseconds; programs can set it.
        changed: time of the last change of content or entry, nanoseconds; they cannot.
        inode: number of the file.
    """

    size: int
    modified: int
    changed: int
    inode: int


def state_of(file: os.stat_result) -> State:
    """Return the state of a file."""
    return State(file.st_size, file.st_mtime_ns, file.st_ctime_ns, file.st_ino)


def is_settled(changed: int, began: int) -> bool:
    """Return whether what is read of a file may be remembered.

    Args:
        changed: `State.changed` before it was read.
        began: `time.time_ns` when reading began.
    """
    return changed < began - _SETTLED


def recall(kind: str, place: Path) -> Json:
    """Return what was remembered of a file or folder; empty where nothing is known.

    Args:
        kind: what is known, for example ``headers``.
        place: the file or folder.
    """
    try:
        head, _, body = _file(kind, place).read_text("utf-8").partition("\n")
        if head != _head(kind, place, body):
            return {}
        found: Json = json.loads(body)
    except (OSError, ValueError, RuntimeError):
        return {}
    return found


def remember(kind: str, place: Path, values: Json) -> None:
    """Keep what is known of a file or folder, in place of what was known.

    Several processes may do so at once: the last one wins. Where nothing can be written, nothing
    is kept, and the next process reads the files again.
    """
    body = json.dumps(values)
    content = f"{_head(kind, place, body)}\n{body}".encode()
    try:
        path = _file(kind, place)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: file.write(content))
    except (StoreError, RuntimeError):
        return


def _file(kind: str, place: Path) -> Path:
    named = os.fsencode(f"{_FORMAT} {kind} {_absolute(place)}")  # a name need not be UTF-8
    key = hashlib.sha256(named).hexdigest()
    return _folder() / f"{kind}-{key[:32]}.json"


def _head(kind: str, place: Path, body: str) -> str:
    """Return what tells a whole file of this place from a torn one."""
    return f"{kind} {hashlib.sha256(body.encode()).hexdigest()} {_absolute(place)!r}"


def _absolute(place: Path) -> str:
    return os.path.realpath(place)


def _folder() -> Path:
    """Return the folder of caches.

    Raises:
        RuntimeError: the user has no home.
    """
    named = os.environ.get("SHRINKPROOF_CACHE")
    if named:
        return Path(named)
    outer = os.environ.get("XDG_CACHE_HOME")
    return (Path(outer) if outer else Path.home() / ".cache") / "shrinkproof"
