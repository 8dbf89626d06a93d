"""Candidates in either form, and the data sets on which their numbers are seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final

from shrinkproof.metrics.names import bare_name
from shrinkproof.metrics.spelling import described
from shrinkproof.predictions import Predictions
from shrinkproof.records import Candidate, Condition, Form
from shrinkproof.results.sides import Side
from shrinkproof.selectors import Selector
from shrinkproof.store import Shard

if TYPE_CHECKING:
    from shrinkproof.results import Results

# Shape suffixes: N images, B blocks of images.

ROBUSTNESS: Final = "robustness."
"""Start of the names of errors under corruption."""

_MOST_KEPT: Final = 8_000_000
"""Images times conditions whose predictions are kept in memory, about 60 bytes each."""


class FormSide(Side):
    """A candidate in one form, which need not be the one that the study measures most in.

    Args:
        results: the run.
        candidate: one of its candidates.
        form: ``twin`` or ``artifact``.
        kept: cell key -> predictions that were read; several numbers are made of each.
    """

    def __init__(
        self,
        results: Results,
        candidate: Candidate,
        form: Form,
        kept: dict[str, Predictions | None],
    ) -> None:
        super().__init__(results, candidate)
        self.form = form
        self._kept = kept

    @cached_property
    def shards(self) -> dict[Condition, Shard]:
        """What was measured under each condition on the printed split."""
        place = (self.candidate.key, "scores", self.form, self.results.printing)
        return {
            cell.condition: shard
            for shard in self.results.shards.values()
            for cell in [shard.cell]
            if (cell.candidate, cell.evaluator, cell.form, cell.split) == place
        }

    def predictions(self, condition: Condition) -> Predictions | None:
        """Return stored predictions with at least one image, or None."""
        shard = self.shards.get(condition)
        if shard is None:
            return None
        key = shard.cell.key
        if key in self._kept:
            return self._kept[key]
        found = super().predictions(condition)
        if len(self._kept) * (0 if found is None else len(found)) < _MOST_KEPT:
            self._kept[key] = found
        return found


def unit_of(selector: Selector) -> str:
    """Return the unit of a number, ``fraction`` or another; empty where nobody knows."""
    known = described(selector.metric)
    return "" if known is None else known.unit


def is_corrupted(selectors: Sequence[Selector]) -> bool:
    """Return whether a number is about corrupted images."""
    return any(
        s.condition not in ("", "clean") or bare_name(s.metric).startswith(ROBUSTNESS)
        for s in selectors
    )
