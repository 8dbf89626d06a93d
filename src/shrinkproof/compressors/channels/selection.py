"""How many channels go, and which: numbers only, no tensors."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ranking = Literal["global", "layer"]

CellKey = tuple[tuple[str, ...], int]
"""What tells the cells of a model apart, and stays the same when channels go."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Channels that exactly the same layers produce, such as those of one residual stage.

    Every width of the network is a sum of cells. A rule that holds for each cell (a multiple of
    8, a floor) therefore holds for each layer.

    Attributes:
        key: names of the layers that produce the channels, in the order of the network, and how
            often each of them has the channel (more than once in grouped convolutions).
        group: number of the group of coupled layers that the cell belongs to.
        classes: the channels that may go, lowest score first, (n,) int64.
        scores: their scores in the same order, (n,).
        width: number of channels, those that stay in any case included.
        step: kept channels are rounded to a multiple of it, where the cell is that wide.
        least: channels that are kept in any case.
        before: what may go from the cell in the model that entered the step.
    """

    key: CellKey
    group: int
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    width: int
    step: int
    least: int
    before: int

    @property
    def limit(self) -> int:
        """Most channels that can go, before rounding."""
        return max(0, min(self.classes.size, self.width - self.least))

    @property
    def gone(self) -> int:
        """Channels that went in earlier iterations."""
        return self.before - self.classes.size

    def rounded(self, count: int) -> int:
        """Return how many channels go where ``count`` should.

        What stays is the nearest multiple of ``step`` (halves up), at least one multiple and the
        floor, at most all. Cells narrower than ``step`` are not rounded, nor are those that
        nothing should be taken from. A larger count never gives a smaller result.
        """
        if not count or self.width < self.step:
            return count
        kept = self.step * math.floor((self.width - count) / self.step + 0.5)
        lowest = max(self.least, self.width - self.classes.size, 1)
        kept = max(kept, self.step * math.ceil(lowest / self.step))
        return self.width - min(kept, self.width)


@dataclass(frozen=True)
class Family:
    """The networks that a ranking of channels leads to, from nothing removed to the smallest.

    Members are numbered by growing ratio; each removes all that the one before it removes.

    Attributes:
        cells: the channels.
        scope: ``global`` ranks the channels of all cells together, ``layer`` each cell's own.
        classes: number of classes of coupled channels in the model.
    """

    cells: tuple[Cell, ...]
    scope: Ranking
    classes: int

    @property
    def before(self) -> int:
        """Number of channels that could go in the model that entered the step."""
        return sum(cell.before for cell in self.cells)

    @property
    def gone(self) -> int:
        """Number of channels that went in earlier iterations."""
        return sum(cell.gone for cell in self.cells)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """Cell of each channel above the floors, lowest score first; ties in network order."""
        scores = np.concatenate([cell.scores[: cell.limit] for cell in self.cells])
        owner = np.repeat(np.arange(len(self.cells)), [cell.limit for cell in self.cells])
        order: NDArray[np.int64] = owner[np.argsort(scores, kind="stable")]
        return order

    @cached_property
    def _ratios(self) -> NDArray[np.float64]:
        """Ratios at which one more channel of some cell goes, ascending, from 0."""
        if self.scope == "global":
            return (self.gone + np.arange(self._order.size + 1)) / max(1, self.before)
        parts = [
            (cell.gone + np.arange(1, cell.limit + 1) - 0.5) / cell.before
            for cell in self.cells
            if cell.limit
        ]
        # A little more than the point where rounding turns, so that it turns for certain.
        return np.concatenate([[0.0], np.unique(np.concatenate([np.empty(0), *parts])) + 1e-12])

    def __len__(self) -> int:
        """Return the number of members."""
        return int(self._ratios.size)

    def ratio(self, member: int) -> float:
        """Return the ratio that was asked of a member."""
        return float(self._ratios[member])

    def member(self, ratio: float) -> int:
        """Return the last member whose ratio is at most the given one."""
        if self.scope == "global":
            count = math.floor(ratio * self.before + 0.5) - self.gone
            return min(max(0, count), self._order.size)
        return max(0, bisect_left(self._ratios, ratio + 2e-12) - 1)

    def counts(self, member: int) -> tuple[int, ...]:
        """Return how many channels of each cell go, rounded."""
        if self.scope == "global":
            raw = np.bincount(self._order[:member], minlength=len(self.cells)).tolist()
        else:
            ratio = self.ratio(member)
            raw = [
                min(max(0, math.floor(ratio * cell.before + 0.5) - cell.gone), cell.limit)
                for cell in self.cells
            ]
        return tuple(cell.rounded(count) for cell, count in zip(self.cells, raw, strict=True))

    def removed(self, counts: Sequence[int]) -> NDArray[np.bool_]:
        """Return which classes go when each cell gives its lowest ``counts``, (classes,)."""
        removed = np.zeros(self.classes, dtype=bool)
        for cell, count in zip(self.cells, counts, strict=True):
            removed[cell.classes[:count]] = True
        return removed


def relative(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores of a layer divided by their mean; zeros where all are zero."""
    mean = float(scores.mean())
    return scores / mean if mean > 0 else scores


def channel_scores(
    layers: Sequence[str],
    axes: Mapping[str, NDArray[np.int64]],
    scores: Mapping[str, NDArray[np.float64]],
    classes: int,
) -> NDArray[np.float64]:
    """Return one score for each class of coupled channels, (classes,); NaN where there is none.

    It is the mean over the layers that produce the channel.

    Args:
        layers: which layers count.
        axes: layer -> class of each of its output channels.
        scores: layer -> score of each of its output channels; layers may be missing.
        classes: number of classes.
    """
    total = np.zeros(classes)
    counted = np.zeros(classes)
    for layer in layers:
        if layer not in scores:
            continue
        channels = np.bincount(axes[layer], minlength=classes)
        sums = np.bincount(axes[layer], weights=scores[layer], minlength=classes)
        own = channels > 0
        total[own] += sums[own] / channels[own]
        counted[own] += 1
    found = np.full(classes, np.nan)
    np.divide(total, counted, out=found, where=counted > 0)
    return found
