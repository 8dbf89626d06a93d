"""The numbers of the printing split, found by candidate: what families over all candidates read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shrinkproof.metrics.names import bare_name
from shrinkproof.records import Candidate
from shrinkproof.statistics import Terms
from shrinkproof.summary.run import Run
from shrinkproof.summary.totals import compared_totals
from shrinkproof.summary.values import CORRUPTED, Derived, Key, Number, value_of


class Known:
    """Numbers of all candidates on the split whose numbers are printed.

    Args:
        run: candidates and splits.
        rows: derived numbers found so far.
    """

    def __init__(self, run: Run, rows: Sequence[Derived]) -> None:
        self.run = run
        self.split = run.splits.get(run.printing)
        self._totals: dict[str, Mapping[Key, Number]] = {}
        self._rows = {
            (row.candidate, row.measurement.metric, row.condition): row.measurement.value
            for row in rows
            if row.split == run.printing and not row.severity and not row.measurement.slice
        }

    def value(self, key: str, metric: str, condition: str) -> float | None:
        """Return a number, or None where it is unknown or undefined."""
        found = self._rows.get((key, metric, condition))
        if found is not None or condition != "clean" or self.split is None:
            return found
        totals = self.split.totals.get(key)
        number = None if totals is None else totals.clean.get(metric)
        value = None if number is None else value_of(number)
        return None if value is None or value != value else value

    def metrics(self, key: str, condition: str) -> list[str]:
        """Return the metrics with a number under a condition."""
        found = dict.fromkeys(m for k, m, c in self._rows if (k, c) == (key, condition))
        totals = None if self.split is None else self.split.totals.get(key)
        measured = [] if totals is None or condition != "clean" else [*totals.clean]
        return list(dict.fromkeys([*measured, *found]))

    def terms(self, key: str, metric: str, condition: str) -> Terms | None:
        """Return the per-image terms of a mean, ``clean`` or ``corrupted``, or None."""
        if self.split is None or key not in self.split.totals:
            return None
        number: Number | None
        if condition == CORRUPTED:
            if key not in self._totals:
                self._totals[key] = compared_totals(self.split, key)
            number = self._totals[key].get((metric, CORRUPTED, 0))
        else:
            number = self.split.totals[key].clean.get(metric)
        is_mean = isinstance(number, Terms) and number.kind == "mean"
        return number if isinstance(number, Terms) and is_mean else None

    def scored(self, name: str) -> list[str]:
        """Return the metrics of the study with a registered name, whatever their settings."""
        return [metric for metric in self.run.settings.metrics if bare_name(metric) == name]

    @property
    def calibrations(self) -> list[str]:
        """The calibration errors of the study that tell whether claims come true."""
        return [*self.scored("calibration.ece"), *self.scored("detection.d_ece")]

    def recipes(self, model: str, *, with_repeats: bool = False) -> list[Candidate]:
        """Return the recipes of a model that were measured, each once unless with repeats."""
        measured = {} if self.split is None else self.split.totals
        return [
            c
            for c in self.run.candidates
            if c.model == model
            and c.role == "recipe"
            and (with_repeats or not c.repeat)
            and c.key in measured
        ]

    def baselines(self) -> list[Candidate]:
        """Return the uncompressed models that were measured."""
        measured = {} if self.split is None else self.split.totals
        return [c for c in self.run.candidates if c.role == "baseline" and c.key in measured]
