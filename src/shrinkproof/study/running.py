"""Run what is missing of a plan, in three barriers: candidates, passes, exclusive cells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from shrinkproof.errors import StoreError
from shrinkproof.evaluators.fidelity import Fidelity
from shrinkproof.evaluators.saliency import Saliency
from shrinkproof.evaluators.scores import Scores
from shrinkproof.evaluators.size import Size, waits_for_baseline
from shrinkproof.protocols import Engine
from shrinkproof.records import CLEAN, Candidate, Cell, Condition, Failure, Json
from shrinkproof.results.imported import Imported, read_imported
from shrinkproof.store import Part, Shard, Store
from shrinkproof.study.damaged import drop_damaged
from shrinkproof.study.exclusive import Exclusive
from shrinkproof.study.explaining import (
    Comparing,
    Explaining,
    compare,
    comparisons,
    explain,
    waits_for_twin,
)
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.passes import assemblings_of, passes_of
from shrinkproof.study.plan import Plan, scores_of
from shrinkproof.study.progress import Progress, Silence
from shrinkproof.study.recorder import Recorder
from shrinkproof.study.scoring import Assembling, Scoring, finish, with_added
from shrinkproof.study.shares import Unit
from shrinkproof.study.work.measuring import PassResult, measure
from shrinkproof.study.work.preparing import Preparation, prepare
from shrinkproof.study.work.verifying import Verifying, verify

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Runner:
    """Runs what is missing of a plan and writes what comes back; the only writer of cells.

    Attributes:
        inputs: the study.
        plan: what it wants.
        store: where results go.
        engine: where the work happens.
        environment: description of this machine.
        progress: who is told.
        retry: whether earlier failures are tried again.
        known: keys of what the study wants besides; its failures are kept.
        units: passes and heat maps that are this launcher's share; None for all. What was predicted
            elsewhere is then left to the run that ends the study.
    """

    inputs: Inputs
    plan: Plan
    store: Store
    engine: Engine
    environment: Json
    progress: Progress = field(default_factory=Silence)
    retry: bool = True
    known: frozenset[str] = frozenset()
    units: frozenset[Unit] | None = None

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """Candidates by key."""
        found = (*self.plan.candidates, *self.imported.candidates)
        return {candidate.key: candidate for candidate in found}

    @cached_property
    def imported(self) -> Imported:
        """What was predicted elsewhere; only its metrics are computed here."""
        if self.units is not None:
            return Imported()
        return read_imported(self.store, self.plan.candidates, self.plan.cells)

    @cached_property
    def scores(self) -> Scores:
        """The study's scores evaluator, with the metrics that a user has added to the run."""
        return with_added(scores_of(self.inputs), self.store)

    @cached_property
    def _versions(self) -> dict[str, int]:
        """What makes the scores of this run."""
        return self.scores.versions()

    @cached_property
    def records(self) -> Recorder:
        """Who writes cells."""
        return Recorder(self.store, self.candidates, self.environment, self.progress)

    def run(self) -> None:
        """Run what is missing."""
        self._drop_stale_failures()
        self.prepare()
        missing = self.measure()
        alone = Exclusive(self.inputs, self.store, self.records, self.progress)
        alone.read_sizes(missing)
        alone.time(missing)

    def measure(self) -> list[Cell]:
        """Measure what is missing on images; return all cells that were missing."""
        missing = self._missing()
        self._measure(missing)
        self._verify(missing)
        self._score()
        self._explain(missing)
        self._compare()
        return missing

    def _staged(
        self,
        stage: str,
        work: Callable[[A], B],
        items: Sequence[A],
        label: Callable[[A], str],
        detail: Callable[[], str] | None = None,
    ) -> Iterator[tuple[A, B | Failure]]:
        """Yield the results of a stage and keep the progress informed."""
        if not items:
            return
        start = time.perf_counter()
        self.progress.begin(stage, len(items))
        if detail is not None:
            self.progress.watch(detail)
        for item, outcome in self.engine.map(work, items):
            self._check_alone()
            yield item, outcome
            self.progress.advance(label(item))
        self.progress.end(stage, time.perf_counter() - start)

    def _check_alone(self) -> None:
        """Refuse results that may be another study's: workers read the study in the directory.

        Raises:
            StoreError: somebody has begun to run another study in it meanwhile.
        """
        found, mine = self.store.read_json("inputs.json"), self.inputs
        if found and (found["text"], found["limit"]) != (mine.text, mine.limit):
            raise StoreError(
                f"{self.store.path}: must be of one study at a time, got another one while this "
                "one was running; what is finished is kept: run the same command again when the "
                "other has ended, or take another directory"
            )

    def _drop_stale_failures(self) -> None:
        """Forget failures of work that nobody wants any more, or that somebody has done since."""
        wanted = {c.key for c in self.plan.candidates} | {c.key for c in self.plan.cells}
        done = self.store.finished()
        for key in self.store.failures():
            is_wanted = key in wanted or key in self.known
            if not is_wanted or key in done or self.store.has_candidate(key):
                self.store.forget_failure(key)

    def prepare(self) -> None:
        """Make the candidates that are missing."""
        drop_damaged(self.store, self.plan.candidates, self.progress)
        failed = frozenset() if self.retry else self.store.failures().keys()
        items = [
            Preparation(str(self.store.path), candidate)
            for candidate in self.plan.candidates
            if not self.store.has_candidate(candidate.key) and candidate.key not in failed
        ]
        for item, outcome in self._staged(
            "prepare", prepare, items, lambda item: item.candidate.label, detail=self._training
        ):
            key, label = item.candidate.key, item.candidate.label
            # Another process may have prepared it, and taken the common scratch folder away.
            if isinstance(outcome, Failure) and not self.store.has_candidate(key):
                self.store.forget_progress(key)
                self.store.write_failure(key, outcome, label=label)
                self.progress.warn(f"{label}: {outcome.message}")
            else:
                self.store.forget_failure(key)

    def _training(self) -> str:
        """Return how far the candidates are that are trained now."""
        return "; ".join(self.store.in_progress(self.candidates))

    def _missing(self) -> list[Cell]:
        """Return the cells that must be measured: nobody has, or nothing is left to score."""
        done = self.store.finished()
        failed = frozenset() if self.retry else self.store.failures().keys()
        wanted = {cell.candidate for cell in self.plan.cells}
        prepared = {key for key in wanted if self.store.has_candidate(key)}
        missing = []
        for cell in self.plan.cells:
            if cell.candidate not in prepared or cell.key in failed:
                continue
            shard = self.store.read_cell(cell.key) if cell.key in done else None
            if cell.key in done and shard is None:
                self.progress.warn(f"cells/{cell.key}.jsonl is damaged and is measured again")
            if shard is None or self._lacks_sources(shard):
                missing.append(cell)
        return missing

    def _lacks_sources(self, shard: Shard) -> bool:
        """Return whether nothing is left of a cell from which its numbers could be made again."""
        key = shard.cell.key
        if shard.cell.evaluator == Size.name:
            made = self.store.has_candidate(self.records.baseline_of(shard.cell))
            return made and waits_for_baseline(shard.measurements)
        if shard.cell.evaluator == Saliency.name:
            is_known = shard.versions == self._comparisons[key].agreement.versions()
            if waits_for_twin(shard.measurements) and self._has_twin(shard.cell):
                return True
            return not self.store.has_maps(key) if is_known else self.store.read_maps(key) is None
        if self._lacks_scores(shard.cell, shard.versions):
            return not self.store.has_whole_predictions(key)
        return False

    def _has_twin(self, cell: Cell) -> bool:
        """Return whether the twin beside the model of a cell is prepared."""
        spec = self.inputs.spec.measure.saliency
        twin = None if spec is None else spec.twin_of(self.candidates[cell.candidate].model)
        return any(
            self.store.has_candidate(c.key)
            for c in self.plan.candidates
            if c.role == "baseline" and c.model == twin
        )

    def _lacks_scores(self, cell: Cell, versions: Mapping[str, int]) -> bool:
        """Return whether a cell lacks a metric of the study, or has an older version of one."""
        return cell.evaluator == Scores.name and not self._versions.items() <= versions.items()

    def _score(self) -> None:
        """Compute what the passes have left to do, from stored predictions."""
        run = str(self.store.path)
        items: list[Assembling | Scoring] = list(self._assemblings())
        joined = {item.cell.key for item in items}
        items += [Scoring(run, self.scores, c) for c in self._unscored() if c.key not in joined]
        for item, outcome in self._staged(
            "score", finish, items, lambda i: self.records.label(i.cell)
        ):
            if isinstance(item, Assembling):
                self._assembled(item.cell, outcome)
            elif outcome is not None:
                self.records.rewrite(item.cell, outcome, self._versions)

    def _unscored(self) -> Iterator[Cell]:
        """Yield the measured cells that lack a metric."""
        done = self.store.finished()
        for cell in (*self.plan.cells, *self.imported.cells):
            if cell.evaluator == Scores.name and cell.key in done:
                versions = self.store.read_versions(cell.key)
                if versions is not None and self._lacks_scores(cell, versions):
                    yield cell

    def _assemblings(self) -> Iterator[Assembling]:
        """Yield the cells whose parts are all there, whoever has predicted them."""
        failed = frozenset() if self.retry else self.store.failures().keys()
        return assemblings_of(
            self.store,
            self.plan.cells,
            self.plan.parts,
            self.scores,
            failed=failed,
            is_done=self._is_scored,
        )

    def _is_scored(self, cell: Cell) -> bool:
        versions = self.store.read_versions(cell.key)
        return versions is not None and not self._lacks_scores(cell, versions)

    def _assembled(self, cell: Cell, outcome: PassResult | Failure | None) -> None:
        """Store the numbers of a cell that was put together from parts, and remove these."""
        if outcome is None:
            if not self._is_scored(cell):  # otherwise another launcher was faster
                self.progress.warn(
                    f"{self.records.label(cell)}: parts are gone; run the study again"
                )
        else:
            self.records.take(cell, outcome, self._versions)
            if not isinstance(outcome, Failure):
                self.store.parts(cell.key).forget()

    def _takes(self, unit: Unit) -> bool:
        """Return whether some work of the stage `measure` is this launcher's."""
        return self.units is None or unit in self.units

    def _measure(self, missing: Sequence[Cell]) -> None:
        workers = self.engine.beside
        items = list(
            passes_of(self.store, missing, self.plan.parts, workers=workers, takes=self._takes)
        )
        versions = self.scores.fast().versions()
        failing: dict[str, int] = {}
        for item, outcome in self._staged("measure", measure, items, str):
            result = (
                PassResult(dict.fromkeys((c.key for c in item.cells), outcome))
                if isinstance(outcome, Failure)
                else outcome
            )
            for cell in item.cells:
                found = result.measured[cell.key]
                if cell.key in result.stored:
                    self.records.machine_of(result)
                    continue
                if isinstance(found, Failure) and (
                    not _is_first(failing, cell.key, item.part) or self._is_scored(cell)
                ):
                    continue  # told already, or another launcher has finished it meanwhile
                # A candidate without a file says nothing in that form, now and later.
                made = versions if found else self._versions
                self.records.write(cell, found, made, result)

    def _verify(self, missing: Sequence[Cell]) -> None:
        """Compare candidates whose arithmetic is not float32 with themselves in float32."""
        splits: dict[str, list[Cell]] = {}
        for cell in missing:
            if cell.evaluator == Fidelity.name:
                splits.setdefault(cell.split, []).append(cell)
        items = [
            Verifying(str(self.store.path), split, tuple(cells))
            for split, cells in splits.items()
            if self._takes(Unit(Fidelity.name, split, CLEAN))
        ]
        for item, outcome in self._staged("verify", verify, items, lambda item: item.split):
            for cell in item.cells:
                self.records.take(cell, outcome, {Fidelity.name: Fidelity.version})

    def _explain(self, missing: Sequence[Cell]) -> None:
        """Make heat maps: the candidates of a model under one condition are one piece of work."""
        passes: dict[tuple[str, str, Condition], list[Cell]] = {}
        for cell in missing:
            if cell.evaluator == Saliency.name:
                model = self.candidates[cell.candidate].model
                passes.setdefault((model, cell.split, cell.condition), []).append(cell)
        items = [
            Explaining(str(self.store.path), model, split, condition, tuple(cells))
            for (model, split, condition), cells in passes.items()
        ]
        for item, outcome in self._staged(
            "explain", explain, items, lambda item: f"{item.model} {item.condition}"
        ):
            for cell in item.cells:
                self.records.take(cell, outcome, self._comparisons[cell.key].agreement.versions())

    def _compare(self) -> None:
        """Compute numbers of heat maps whose formulas have changed, from the stored maps."""
        done = self.store.finished()
        items = []
        for item in self._comparisons.values():
            known = self.store.read_versions(item.cell.key) if item.cell.key in done else None
            if known is not None and known != item.agreement.versions():
                items.append(item)
        for item, outcome in self._staged(
            "compare", compare, items, lambda item: self.records.label(item.cell)
        ):
            if outcome is not None:
                self.records.write(item.cell, outcome, item.agreement.versions())

    @cached_property
    def _comparisons(self) -> dict[str, Comparing]:
        """How the numbers of each cell of heat maps are made."""
        plan, spec = self.plan, self.inputs.spec
        made = comparisons(self.store.path, spec, plan.candidates, plan.cells)
        return {item.cell.key: item for item in made}


def _is_first(failing: dict[str, int], key: str, part: Part | None) -> bool:
    """Return whether no earlier part of a cell has failed yet, and remember this one.

    Parts come in any order; the failure of the first one is told in the end, as without parts.
    """
    index = 0 if part is None else part.index
    is_first = index <= failing.get(key, index)
    failing[key] = min(index, failing.get(key, index))
    return is_first
