"""One-dimensional k-means on sorted values: a second for tens of millions of weights."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import CompressionError

# Shape suffixes: N values, K centers, B blocks of values.

Initialization = Literal["density", "linear", "kmeans++"]
"""Where the centers start."""

ITERATIONS: Final = 300
ROUNDS: Final = 60
HOPE: Final = 3.0
"""A move is tried if its gain times this exceeds its loss: the iterations after it gain more."""

BINS: Final = 2048
CANDIDATES: Final = 4096
"""Values that ``kmeans++`` draws from; more would not change the start noticeably."""

BLOCK: Final = 16
"""Values per entry of the prefix sums of many values; the rest is summed when it is asked for."""

FEW: Final = 1 << 20
"""Up to so many values, each has an entry of its own in the prefix sums."""

CHUNK: Final = 1 << 16
"""Values treated at once: their temporary arrays stay in the cache of one core."""

CELLS: Final = 1 << 16
"""Cells of the table that finds the nearest center of most values without a search."""


def kmeans_1d(
    values: NDArray[np.floating],
    levels: int,
    initialization: Initialization = "density",
    rng: np.random.Generator | None = None,
    *,
    pin_zero: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.unsignedinteger]]:
    """Return at most ``levels`` centers of the values, and the nearest center of each value.

    Lloyd's iterations (Lloyd 1982, doi:10.1109/TIT.1982.1056489) in float64: on sorted values a
    cluster is a range, so its mean comes from two prefix sums. Lloyd's result depends on its
    start; so, while that lowers the distortion, centers move from where they save least to where
    they save most, and the iterations go on. Values that are no more than ``levels`` distinct
    ones are returned exactly, as so many centers.

    1. Sort; prefix sums of values and squares, shifted to mean zero.
    2. Start: quantiles of the cube root of the density (``density``, optimal for many levels:
       Panter & Dite 1951, doi:10.1109/JRPROC.1951.230419), evenly spaced (``linear``), or
       ``kmeans++`` (Arthur & Vassilvitskii 2007).
    3. Alternate borders halfway between centers, and centers at the mean of their range.
    4. Merge neighbors and split wide ranges while the distortion falls; 3 again.
    5. Round the centers to float32, drop duplicates, assign every value to the nearest.

    Besides the values and the result it needs the memory of one sorted copy of the values.

    Args:
        values: any shape, finite.
        levels: number of centers, >= 1 (>= 2 with ``pin_zero``).
        initialization: where the centers start.
        rng: needed by ``kmeans++`` only.
        pin_zero: make exactly zero one of the centers, and keep it there.

    Returns:
        Sorted centers (k,) float32 with k <= ``levels``, and indices of the shape of ``values``,
        uint8 where there are at most 256 centers, else wider; of two centers equally near the
        lower one.

    Raises:
        CompressionError: there are no values, one is not finite, ``levels`` is too small, or
            ``kmeans++`` has no generator.
    """
    _check(values, levels, initialization, rng, pin_zero=pin_zero)
    sorted_N = np.sort(values, axis=None)
    distinct = _distinct(sorted_N, levels, pin_zero=pin_zero)
    if len(distinct) <= levels:
        centers_K = distinct
    else:
        start_K = _start(sorted_N, levels - int(pin_zero), initialization, rng, pin_zero=pin_zero)
        centers_K = _cluster(sorted_N, start_K, pin_zero=pin_zero)
    # Adding zero turns -0.0 into 0.0.
    rounded_K = np.unique(centers_K.astype(np.float32) + np.float32(0))
    return rounded_K, nearest(values, rounded_K)


def nearest(
    values: NDArray[np.floating], centers_K: NDArray[np.float32]
) -> NDArray[np.unsignedinteger]:
    """Return the position of the nearest of some sorted centers; the lower one of two equally near.

    The range of the values is cut into cells, and a table has the answer for each cell that no
    border between two centers lies in; only values in the other cells are searched. The way from
    value to cell never decreases, so this is exact. The result has the shape of the values.
    """
    dtype = np.min_scalar_type(max(len(centers_K) - 1, 0))
    flat_N = values.reshape(-1)
    borders_K = _largest_not_above(
        (centers_K[1:].astype(np.float64) + centers_K[:-1]) / 2, flat_N.dtype
    )
    index_N = np.empty(flat_N.size, dtype)
    table = _Cells(flat_N, borders_K)
    for start in range(0, flat_N.size, CHUNK):
        part = slice(start, start + CHUNK)
        index_N[part] = table.find(flat_N[part])
    return index_N.reshape(values.shape)


class _Cells:
    """Equal cells over the range of some values, and what is known about each of them."""

    def __init__(self, values_N: NDArray[np.floating], borders_K: NDArray[np.floating]) -> None:
        self.borders = borders_K
        self.low, high = values_N.min(), values_N.max()
        # One cell to spare: rounding must not lead beyond the last one.
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            self.scale = values_N.dtype.type(CELLS - 2) / (high - self.low)
        # The table costs as much as searching about as many values.
        enough = values_N.size >= CELLS
        self.is_usable = enough and bool(np.isfinite(self.scale) and self.scale > 0)
        # A cell has the number of borders below it, or -1 where one lies in it.
        self.table = np.zeros(CELLS, np.int32)
        if self.is_usable:
            cells_K = self._cells(borders_K.clip(self.low, high))
            self.table = np.searchsorted(cells_K, np.arange(CELLS)).astype(np.int32)
            self.table[cells_K] = -1

    def _cells(self, values: NDArray[np.floating]) -> NDArray[np.int32]:
        cells: NDArray[np.int32] = ((values - self.low) * self.scale).astype(np.int32)
        return cells

    def find(self, values: NDArray[np.floating]) -> NDArray[np.integer]:
        """Return the number of borders below each value."""
        if not self.is_usable:
            return np.searchsorted(self.borders, values, side="left")
        found = self.table.take(self._cells(values))
        (open_,) = np.nonzero(found < 0)
        found[open_] = np.searchsorted(self.borders, values[open_], side="left")
        return found


def _largest_not_above(borders: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.floating]:
    """Return for each border the largest number of a type that is not above it.

    Comparing values of that type with it gives the same as with the border, without a copy of
    the values in the border's type.
    """
    if dtype == np.float64:
        return borders
    rounded = borders.astype(dtype)
    lowest = dtype.type(-np.inf)
    return np.where(rounded.astype(np.float64) > borders, np.nextafter(rounded, lowest), rounded)


def distortion(
    values: NDArray[np.floating], centers: NDArray[np.float32], index: NDArray[np.integer]
) -> float:
    """Return the mean squared distance of the values to their centers, float64."""
    flat_N, index_N, centers_K = values.reshape(-1), index.reshape(-1), centers.astype(np.float64)
    total = 0.0
    for start in range(0, flat_N.size, CHUNK):
        part = slice(start, start + CHUNK)
        gap = flat_N[part] - centers_K.take(index_N[part])
        total += float(np.dot(gap, gap))
    return total / flat_N.size


def _check(
    values: NDArray[np.floating],
    levels: int,
    initialization: Initialization,
    rng: np.random.Generator | None,
    *,
    pin_zero: bool,
) -> None:
    if not values.size or not np.isfinite(values).all():
        raise CompressionError(
            f"k-means: values must be finite and at least one, got {values.size} values, "
            f"{int((~np.isfinite(values)).sum())} of them NaN or infinite"
        )
    if levels < 1 + int(pin_zero):
        raise CompressionError(
            f"k-means: levels must be at least {1 + int(pin_zero)}, got {levels}"
        )
    if initialization == "kmeans++" and rng is None:
        raise CompressionError("k-means: the start 'kmeans++' needs a random generator, got none")


def _distinct(sorted_N: NDArray[np.floating], most: int, *, pin_zero: bool) -> NDArray[np.float64]:
    """Return the distinct values, or some of them where there are more than ``most``."""
    found = [0.0] if pin_zero else []
    for start in range(0, sorted_N.size, CHUNK):
        part = sorted_N[start : start + CHUNK]
        first = np.concatenate([[True], part[1:] != part[:-1]])
        found = np.union1d(found, part[first]).tolist()
        if len(found) > most:
            break
    return np.array(found)


def _start(
    sorted_N: NDArray[np.floating],
    count: int,
    initialization: Initialization,
    rng: np.random.Generator | None,
    *,
    pin_zero: bool,
) -> NDArray[np.float64]:
    """Return sorted first centers; zero is added as one more where it is pinned."""
    values_N = sorted_N
    if pin_zero:
        low, high = np.searchsorted(sorted_N, 0, "left"), np.searchsorted(sorted_N, 0, "right")
        values_N = np.concatenate([sorted_N[:low], sorted_N[high:]])
    if initialization == "density":
        centers_K = _density_start(values_N, count)
    elif initialization == "linear":
        centers_K = np.linspace(float(values_N[0]), float(values_N[-1]), count)
    elif rng is not None:
        centers_K = _plus_plus_start(values_N, count, rng)
    return np.sort(np.append(centers_K, 0.0)) if pin_zero else np.sort(centers_K)


def _density_start(values_N: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    # Few values leave most of many bins empty, and the start would ignore how dense they lie.
    bins = int(np.clip(len(values_N) // 8, 4 * count, BINS))
    edges = np.linspace(float(values_N[0]), float(values_N[-1]), bins + 1)
    inner = np.searchsorted(values_N, _largest_not_above(edges[1:-1], values_N.dtype), "right")
    histogram = np.diff(inner, prepend=0, append=len(values_N))
    share = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))])
    quantile_K = (np.arange(count) + 0.5) / count * share[-1]
    return np.asarray(np.interp(quantile_K, share, edges), dtype=np.float64)


def _plus_plus_start(
    values: NDArray[np.floating], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    size = max(CANDIDATES, 16 * count)
    if len(values) > size:
        values = rng.choice(values, size, replace=False)
    values_N = values.astype(np.float64)
    centers = [float(rng.choice(values_N))]
    gap_N = (values_N - centers[0]) ** 2
    for _ in range(count - 1):
        total = float(gap_N.sum())
        if total == 0:
            break
        centers.append(float(rng.choice(values_N, p=gap_N / total)))
        np.minimum(gap_N, (values_N - centers[-1]) ** 2, out=gap_N)
    return np.array(centers + centers[-1:] * (count - len(centers)))


class _Sums:
    """Sorted values with prefix sums, so that any range has its mean and distortion at once.

    Values are shifted to mean zero: the sum of squares then keeps its digits.
    """

    def __init__(self, sorted_N: NDArray[np.floating], *, pin_zero: bool) -> None:
        self.shift = float(sorted_N.mean(dtype=np.float64))
        self.zero = -self.shift if pin_zero else None
        few = sorted_N.size <= FEW
        self.block = 1 if few else BLOCK
        self.values = sorted_N.astype(np.float64) if few else sorted_N
        self.sums = np.zeros((2, sorted_N.size // self.block + 1))
        if few:
            np.subtract(self.values, self.shift, out=self.sums[0, 1:])
            np.square(self.sums[0, 1:], out=self.sums[1, 1:])
        else:
            self._sum_blocks()
        np.cumsum(self.sums, axis=1, out=self.sums)

    def _sum_blocks(self) -> None:
        count = self.sums.shape[1] - 1
        whole_B = self.values[: count * self.block].reshape(count, self.block)
        step = CHUNK // self.block
        for start in range(0, count, step):
            part = whole_B[start : start + step] - np.float64(self.shift)
            ahead = self.sums[:, start + 1 : start + 1 + step]
            part.sum(axis=1, out=ahead[0])
            np.einsum("bn,bn->b", part, part, out=ahead[1])

    def split(self, centers_K: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the k + 1 ends of the ranges nearest to sorted centers."""
        borders = (centers_K[1:] + centers_K[:-1]) / 2
        return np.concatenate([[0], self.count(borders), [len(self.values)]])

    def count(self, borders: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return how many values are not above each border."""
        limits = _largest_not_above(borders + self.shift, self.values.dtype)
        return np.searchsorted(self.values, limits, side="right")

    def before(self, position: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the sum of the values before each position, and of their squares, (2, ...)."""
        if self.block == 1:
            return self.sums.take(position, axis=1)
        block = position // self.block
        within = np.arange(self.block)
        places = np.minimum(block[..., None] * self.block + within, len(self.values) - 1)
        rest = self.values[places] - np.float64(self.shift)
        rest[within >= (position % self.block)[..., None]] = 0.0
        partial = np.stack([rest.sum(axis=-1), (rest * rest).sum(axis=-1)])
        return np.asarray(self.sums[:, block] + partial)

    def means(self, low: NDArray[np.intp], high: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the mean of each range; 0 for an empty one."""
        total, _ = self.before(high) - self.before(low)
        means: NDArray[np.float64] = total / np.maximum(high - low, 1)
        return means

    def error(self, low: NDArray[np.intp], high: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the sum of squared distances of each range to its mean."""
        total, squares = self.before(high) - self.before(low)
        error: NDArray[np.float64] = squares - total * total / np.maximum(high - low, 1)
        return error

    def pinned(self, centers_K: NDArray[np.float64]) -> int:
        """Return the position of the center that is pinned at zero, -1 for none."""
        return -1 if self.zero is None else int(np.abs(centers_K - self.zero).argmin())


def _cluster(
    sorted_N: NDArray[np.floating], centers_K: NDArray[np.float64], *, pin_zero: bool
) -> NDArray[np.float64]:
    """Return locally optimal centers: Lloyd's iterations, then moves of whole centers."""
    sums = _Sums(sorted_N, pin_zero=pin_zero)
    best_K, best = _lloyd(sums, centers_K - sums.shift)
    moves = len(best_K)
    for _ in range(ROUNDS):
        trial_K = _move(sums, best_K, moves)
        if trial_K is None:
            break
        trial_K, error = _lloyd(sums, trial_K)
        if error < best:
            best_K, best = trial_K, error
        elif moves == 1:
            break
        else:
            moves = 1 if moves <= 4 else moves // 4
    centers_K = best_K + sums.shift
    if pin_zero:
        centers_K[np.abs(centers_K).argmin()] = 0.0
    return centers_K


def _lloyd(sums: _Sums, centers_K: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return centers at rest and the sum of squared distances."""
    cuts = sums.split(centers_K)
    for _ in range(ITERATIONS):
        means_K = np.where(np.diff(cuts) > 0, sums.means(cuts[:-1], cuts[1:]), centers_K)
        pinned = sums.pinned(centers_K)
        if pinned >= 0:
            means_K[pinned] = centers_K[pinned]
        centers_K, before = means_K, cuts
        cuts = sums.split(centers_K)
        if np.array_equal(before, cuts):
            break
    count_K = np.diff(cuts)
    offset_K = sums.means(cuts[:-1], cuts[1:]) - centers_K
    error = sums.error(cuts[:-1], cuts[1:]) + count_K * offset_K**2
    return centers_K, float(error.sum())


def _move(sums: _Sums, centers_K: NDArray[np.float64], moves: int) -> NDArray[np.float64] | None:
    """Take centers away where they save least and put them where they save most.

    The gain of a second center is that of cutting a range at its mean; the loss of a center is
    that of merging its range with the next. At most ``moves`` centers move, where that
    promises a gain; None where there is no such move.
    """
    cuts = sums.split(centers_K)
    low, high = cuts[:-1], cuts[1:]
    count_K = high - low
    mean_K = sums.means(low, high)
    middle = sums.count(mean_K).clip(low, high)
    gain_K = sums.error(low, high) - sums.error(low, middle) - sums.error(middle, high)
    harmonic = count_K[1:] * count_K[:-1] / np.maximum(count_K[1:] + count_K[:-1], 1)
    loss_K = harmonic * np.diff(mean_K) ** 2
    pinned = sums.pinned(centers_K)
    if pinned >= 0:
        gain_K[pinned] = -np.inf
        loss_K[max(pinned - 1, 0) : pinned + 1] = np.inf
    splits = np.argsort(-gain_K, kind="stable")[:moves]
    busy: set[int] = set()
    merges: list[int] = []
    for pair in np.argsort(loss_K, kind="stable").tolist():
        if len(merges) == len(splits) or HOPE * gain_K[splits[len(merges)]] <= loss_K[pair]:
            break
        if not busy & {pair, pair + 1} and not {pair, pair + 1} & set(
            splits[: len(merges) + 1].tolist()
        ):
            merges.append(pair)
            busy |= {pair, pair + 1}
    splits = np.array([k for k in splits[: len(merges)].tolist() if k not in busy], dtype=np.intp)
    merges = merges[: len(splits)]
    if not merges:
        return None
    return _moved(sums, centers_K, np.array(merges, dtype=np.intp), splits, cuts, middle)


def _moved(
    sums: _Sums,
    centers_K: NDArray[np.float64],
    merges: NDArray[np.intp],
    splits: NDArray[np.intp],
    cuts: NDArray[np.intp],
    middle: NDArray[np.intp],
) -> NDArray[np.float64]:
    moved_K = centers_K.copy()
    moved_K[merges] = sums.means(cuts[merges], cuts[merges + 2])
    moved_K[splits] = sums.means(cuts[splits], middle[splits])
    moved_K[merges + 1] = sums.means(middle[splits], cuts[splits + 1])
    return np.sort(moved_K)
