"""Which weights have the lowest scores: exact counts, stable ties, nested, linear in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Ranking = Literal["global", "layer"]
"""All tensors ranked together, or each on its own."""

_CHUNK: Final = 1 << 20
_SAMPLE: Final = 1 << 16


def lowest(scores: NDArray[np.floating], count: int) -> NDArray[np.bool_]:
    """Return which are the ``count`` lowest scores, (n,) bool; ties go to the earlier position.

    Linear in time, and nested: a smaller count selects a subset.
    """
    if count <= 0:
        return np.zeros(scores.shape, dtype=bool)
    if count >= scores.size:
        return np.ones(scores.shape, dtype=bool)
    threshold = _smallest(scores, count)
    chosen: NDArray[np.bool_] = scores < threshold
    missing = count - int(np.count_nonzero(chosen))
    # In chunks: a network that is mostly zero has millions of ties, each position eight bytes.
    for start in range(0, scores.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        ties = np.flatnonzero(scores[part] == threshold)[:missing]
        chosen[part][ties] = True
        missing -= len(ties)
        if not missing:
            break
    return chosen


def _smallest(scores: NDArray[np.floating], rank: int) -> np.floating:
    """Return the value that comes ``rank``-th, from 1, when all are sorted.

    A sorted sample tells between which two values it lies, within four standard errors; only what
    is between them is sorted in part (after Floyd & Rivest 1975, doi:10.1145/360680.360691). That
    takes a third of the time of sorting everything in part, and no copy. If the sample misleads,
    everything is sorted in part: the answer is always exact.
    """
    if scores.size > _CHUNK:
        sample = np.sort(scores[:: scores.size // _SAMPLE])
        middle, margin = rank * len(sample) // scores.size, 2 * math.isqrt(len(sample))
        low = sample[max(0, middle - margin)] if middle > margin else -np.inf
        high = sample[middle + margin] if middle + margin < len(sample) else np.inf
        below = int(np.count_nonzero(scores < low))
        # Partial sorting is slow where most values are equal, as the zeros of a pruned network are.
        equal = int(np.count_nonzero(scores == low))
        if below < rank <= below + equal:
            return scores.dtype.type(low)
        between = scores[(scores > low) & (scores <= high)]
        if below + equal < rank <= below + equal + between.size:
            return _smallest_of_few(between, rank - below - equal)
    return _smallest_of_few(scores, rank)


def _smallest_of_few(scores: NDArray[np.floating], rank: int) -> np.floating:
    value: np.floating = np.partition(scores, rank - 1)[rank - 1]
    return value


def lowest_of(
    pool: NDArray[np.floating], sizes: Sequence[int], ratio: float, *, scope: Ranking, floor: float
) -> list[NDArray[np.bool_]]:
    """Return for each of several tensors which of its weights have the lowest scores, flat.

    ``round(ratio * size)`` are chosen, of all tensors together or of each, but of no tensor so many
    that less than its floor is left. Where an earlier choice left less, that choice stands.

    Args:
        pool: scores of all tensors one after the other, flat; minus infinity goes first. It may be
            overwritten, which spares a copy.
        sizes: of the tensors.
        ratio: fraction to choose.
        scope: ``global`` or ``layer``.
        floor: fraction of each tensor that is left in any case, and at least one weight.
    """
    ends = np.cumsum(sizes)[:-1]
    scores = np.split(pool, ends)
    limits = [size - max(1, math.ceil(floor * size - 1e-9)) for size in sizes]
    if scope == "layer":
        counts = [min(_part(ratio, n), m) for n, m in zip(sizes, limits, strict=True)]
        return [lowest(s, count) for s, count in zip(scores, counts, strict=True)]
    count = min(_part(ratio, pool.size), sum(limits))
    chosen = np.split(lowest(pool, count), ends)
    if all(np.count_nonzero(c) <= m for c, m in zip(chosen, limits, strict=True)):
        return chosen
    # Weights under a tensor's floor are set aside first, whatever the ratio: masks then nest. Where
    # no floor is touched, as above, that changes nothing. What is gone already counts in any case.
    gone = [int(np.count_nonzero(np.isneginf(values))) for values in scores]
    limits = [max(limit, count) for limit, count in zip(limits, gone, strict=True)]
    count = min(_part(ratio, pool.size), sum(limits))
    for values, limit in zip(scores, limits, strict=True):
        values[~lowest(values, limit)] = np.inf
    return np.split(lowest(pool, count), ends)


def _part(ratio: float, size: int) -> int:
    """Return ``ratio * size`` to the nearest whole number, halves up."""
    return math.floor(ratio * size + 0.5)
