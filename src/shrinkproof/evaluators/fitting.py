"""Candidates in groups that fit into memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

C = TypeVar("C")

_BYTES_PER_FILE_BYTE: Final = 4
"""A loaded session holds the weights several times: file, packed kernels, arena."""


def loaded_bytes(file: Path) -> int:
    """Return how many bytes of memory a network fills once it is loaded; 0 without its file."""
    return _BYTES_PER_FILE_BYTE * file.stat().st_size if file.is_file() else 0


def grouped(items: Iterable[C], size: Callable[[C], float], room: float) -> Iterator[tuple[C, ...]]:
    """Yield items in order, in groups that fill the room at most; one that does not fit is alone.

    Args:
        items: what is divided.
        size: bytes of an item.
        room: bytes of a group.
    """
    group: list[C] = []
    used = 0.0
    for item in items:
        more = size(item)
        if group and used + more > room:
            yield tuple(group)
            group, used = [], 0.0
        group.append(item)
        used += more
    if group:
        yield tuple(group)
