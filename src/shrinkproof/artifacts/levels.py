"""The few distinct values of a large array, and which of them each element has."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Shape suffixes: N elements, K distinct values.

MOST: Final = 4096
"""Tables of more values save too little to be worth looking for."""

CHUNK: Final = 1 << 16
SAMPLE: Final = 1 << 14
"""Elements that are looked at first: most arrays show there that they have too many values."""

SLOTS: Final = 16
"""Bits of the address of a value in the table."""

ATTEMPTS: Final = 16
FACTOR: Final = 0x9E3779B97F4A7C15
"""2 ** 64 over the golden ratio; its odd multiples spread numbers well (Knuth, vol. 3, 6.4)."""

Unsigned = NDArray[np.unsignedinteger]


def distinct(values_N: Unsigned, most: int = MOST) -> Unsigned | None:
    """Return the distinct values, sorted, or None where there are more than ``most``.

    A tenth of the time of sorting: the values of a sample are looked up in all elements, and only
    those that the sample missed are sorted.
    """
    step = max(1, values_N.size // SAMPLE)
    levels_K = np.unique(values_N[::step])
    if step == 1 or levels_K.size > most:
        return levels_K if levels_K.size <= most else None
    table = _Table(levels_K)
    for start in range(0, values_N.size, CHUNK):
        _, unknown = table.find(values_N[start : start + CHUNK])
        if unknown.size:
            table = _Table(np.union1d(table.levels, unknown))
            if table.levels.size > most:
                return None
    return table.levels


def index_of(values_N: Unsigned, levels_K: Unsigned) -> Unsigned:
    """Return the position of each value among sorted levels; uint8 for up to 256, else wider.

    Raises:
        ValueError: a value is not among the levels.
    """
    table = _Table(levels_K)
    index_N = np.empty(values_N.size, np.min_scalar_type(max(levels_K.size - 1, 0)))
    for start in range(0, values_N.size, CHUNK):
        part = slice(start, start + CHUNK)
        index_N[part], unknown = table.find(values_N[part])
        if unknown.size:
            raise ValueError(f"all values must be levels, got {unknown.size} others")
    return index_N


class _Table:
    """Addresses of a few values; a value that shares its address with another is searched."""

    def __init__(self, levels_K: Unsigned) -> None:
        self.levels = levels_K
        self.width = 8 * levels_K.dtype.itemsize
        self.factor: Any = levels_K.dtype.type(1)
        best = 0
        for attempt in range(ATTEMPTS if self.width > SLOTS else 1):
            factor = (FACTOR >> (64 - self.width)) * (2 * attempt + 1) % 2**self.width | 1
            addresses = np.unique(self._address(levels_K, levels_K.dtype.type(factor))).size
            if addresses > best:
                best, self.factor = addresses, levels_K.dtype.type(factor)
            if best == levels_K.size:
                break
        self.table = np.zeros(2 ** min(self.width, SLOTS), np.uint16)
        self.table[self._address(levels_K, self.factor)] = np.arange(levels_K.size)

    def _address(self, values: Unsigned, factor: Any) -> Unsigned:
        mixed: Unsigned = values * factor
        return mixed >> mixed.dtype.type(self.width - SLOTS) if self.width > SLOTS else mixed

    def find(self, values: Unsigned) -> tuple[NDArray[np.uint16], Unsigned]:
        """Return the position of each value, and the values that have none."""
        index = self.table.take(self._address(values, self.factor))
        (wrong,) = np.nonzero(self.levels.take(index) != values)
        searched = values[wrong]
        found = np.searchsorted(self.levels, searched).clip(max=self.levels.size - 1)
        index[wrong] = found
        return index, searched[self.levels[found] != searched]
