"""The stored heat maps of a run, as the families of derived numbers see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shrinkproof.metrics.heatmaps import HeatMaps
from shrinkproof.records import Cell

ALWAYS: Final = "saliency.undefined"
"""A number that every cell of heat maps has."""


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """The stored heat maps of a run.

    Attributes:
        cells: finished cells of all evaluators.
        read: cell key -> stored heat maps, or None.
        stored: cell key -> the numbers of all images that were stored with it.
    """

    cells: Sequence[Cell]
    read: Callable[[str], HeatMaps | None]
    stored: Callable[[str], Mapping[str, float]]

    def label(self, cell: Cell) -> str:
        """Return the method that stands in the names of a cell's numbers; empty for the first."""
        return "" if ALWAYS in self.stored(cell.key) else cell.method

    def numbers(self, evaluator: str, metric: str) -> dict[str, float]:
        """Return a number of every candidate that has it on clean images, by key."""
        return {
            cell.candidate: value
            for cell in self.cells
            if cell.evaluator == evaluator and cell.condition.is_clean
            if (value := self.stored(cell.key).get(metric)) is not None
        }
