"""Who writes the cells of a run: one process, whoever has measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from shrinkproof.environment import environment_key
from shrinkproof.protocols import Measurement
from shrinkproof.records import Candidate, Cell, Failure, Json
from shrinkproof.store import Shard, Store
from shrinkproof.study.progress import Progress
from shrinkproof.study.work.measuring import PassResult


@dataclass(frozen=True)
class Recorder:
    """Writes what was found out about cells, and tells what has failed.

    Attributes:
        store: where it goes.
        candidates: by key.
        environment: description of this machine.
        progress: who is told of failures.
    """

    store: Store
    candidates: Mapping[str, Candidate]
    environment: Json
    progress: Progress
    _described: set[str] = field(default_factory=set)

    @cached_property
    def machine(self) -> str:
        """Key of this machine."""
        return environment_key(self.environment)

    def write(
        self,
        cell: Cell,
        outcome: Iterable[Measurement] | Failure,
        versions: Mapping[str, int],
        of: PassResult | None = None,
    ) -> None:
        """Store what is known of a cell, with the machine that found it.

        Args:
            cell: which cell.
            outcome: its numbers, or why there are none.
            versions: of what made the numbers.
            of: where they come from; None where this machine has found them.
        """
        if isinstance(outcome, Failure):
            self.store.write_failure(cell.key, outcome, label=self.label(cell))
            self.progress.warn(f"{self.label(cell)}: {outcome.message}")
            return
        notes = () if of is None else (*of.notes, *of.remarks.get(cell.key, ()))
        machine = self.machine if of is None else self.machine_of(of)
        self.store.write_cell(Shard(cell, tuple(outcome), machine, versions, notes))

    def take(self, cell: Cell, outcome: PassResult | Failure, versions: Mapping[str, int]) -> None:
        """Store what a piece of work has found of a cell, or why it has found nothing."""
        if isinstance(outcome, Failure):
            self.write(cell, outcome, versions)
        else:
            self.write(cell, outcome.measured[cell.key], versions, outcome)

    def rewrite(
        self, cell: Cell, outcome: PassResult | Failure, versions: Mapping[str, int]
    ) -> None:
        """Store new metrics of a cell; whoever predicted it stays named."""
        shard = self.store.read_cell(cell.key)
        if isinstance(outcome, Failure):
            self.write(cell, outcome, versions)
        elif shard is not None:
            found = outcome.measured[cell.key]
            assert not isinstance(found, Failure), "a cell that is scored has numbers"
            self.store.write_cell(replace(shard, measurements=found, versions=versions))

    def machine_of(self, result: PassResult) -> str:
        """Return the key of the machine that measured, described in the run directory."""
        key = environment_key(result.environment) if result.environment else self.machine
        if key != self.machine and key not in self._described:
            self.store.write_environment(key, result.environment)
            self._described.add(key)
        return key

    def label(self, cell: Cell) -> str:
        """Return the name of a cell for readers."""
        where = f" {cell.condition} on {cell.split}" if cell.split else ""
        how = f" {cell.method}" if cell.method else ""
        return f"{self.candidates[cell.candidate].label} {cell.evaluator}{how}{where}"

    def baseline_of(self, cell: Cell) -> str:
        """Return the key of the baseline of a cell's model."""
        model = self.candidates[cell.candidate].model
        return next(
            c.key for c in self.candidates.values() if c.model == model and c.role == "baseline"
        )
