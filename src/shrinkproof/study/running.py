"""Run what is missing of a plan, in three barriers: candidates, passes, exclusive cells."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from shrinkproof.engines.inline import attempt
from shrinkproof.environment import environment_key
from shrinkproof.errors import StoreError
from shrinkproof.evaluators.latency import Latency
from shrinkproof.evaluators.saliency import Saliency
from shrinkproof.evaluators.scores import Scores
from shrinkproof.evaluators.size import Size
from shrinkproof.evaluators.subject import Subject
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Engine, Measurement
from shrinkproof.records import CLEAN, Candidate, Cell, Condition, Failure, Json
from shrinkproof.results.imported import Imported, read_imported
from shrinkproof.store import Shard, Store
from shrinkproof.study.explaining import (
    Comparing,
    Explaining,
    compare,
    comparisons,
    explain,
    waits_for_twin,
)
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.plan import Plan, latency_of, scores_of
from shrinkproof.study.progress import Progress, Silence
from shrinkproof.study.scoring import Scoring, score, with_added
from shrinkproof.study.twin import load_twin
from shrinkproof.study.work.measuring import Pass, PassResult, measure
from shrinkproof.study.work.preparing import Preparation, prepare

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
    """

    inputs: Inputs
    plan: Plan
    store: Store
    engine: Engine
    environment: Json
    progress: Progress = field(default_factory=Silence)
    retry: bool = True
    known: frozenset[str] = frozenset()

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """Candidates by key."""
        found = (*self.plan.candidates, *self.imported.candidates)
        return {candidate.key: candidate for candidate in found}

    @cached_property
    def imported(self) -> Imported:
        """What was predicted elsewhere; only its metrics are computed here."""
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
    def machine(self) -> str:
        """Key of this machine."""
        return environment_key(self.environment)

    def run(self) -> None:
        """Run what is missing."""
        self._drop_stale_failures()
        self._prepare()
        missing = self._missing()
        self._measure(missing)
        self._score()
        self._explain(missing)
        self._compare()
        self._read_sizes(missing)
        self._time(missing)

    def _staged(
        self,
        stage: str,
        work: Callable[[A], B],
        items: Sequence[A],
        label: Callable[[A], str],
        engine: Engine | None = None,
        detail: Callable[[], str] | None = None,
    ) -> Iterator[tuple[A, B | Failure]]:
        """Yield the results of a stage and keep the progress informed."""
        if not items:
            return
        start = time.perf_counter()
        self.progress.begin(stage, len(items))
        if detail is not None:
            self.progress.watch(detail)
        for item, outcome in (engine or self.engine).map(work, items):
            yield item, outcome
            self.progress.advance(label(item))
        self.progress.end(stage, time.perf_counter() - start)

    def _drop_stale_failures(self) -> None:
        """Forget failures of work that nobody wants any more, or that somebody has done since."""
        wanted = {c.key for c in self.plan.candidates} | {c.key for c in self.plan.cells}
        done = self.store.finished()
        for key in self.store.failures():
            is_wanted = key in wanted or key in self.known
            if not is_wanted or key in done or self.store.has_candidate(key):
                self.store.forget_failure(key)

    def _prepare(self) -> None:
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
        missing = []
        for cell in self.plan.cells:
            if not self.store.has_candidate(cell.candidate) or cell.key in failed:
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
        if shard.cell.evaluator == Saliency.name:
            is_known = shard.versions == self._comparisons[key].agreement.versions()
            if waits_for_twin(shard.measurements) and self._has_twin(shard.cell):
                return True
            return not self.store.has_maps(key) if is_known else self.store.read_maps(key) is None
        return self._lacks_scores(shard) and self.store.read_predictions(key) is None

    def _has_twin(self, cell: Cell) -> bool:
        """Return whether the twin beside the model of a cell is prepared."""
        spec = self.inputs.spec.measure.saliency
        twin = None if spec is None else spec.twin_of(self.candidates[cell.candidate].model)
        return any(
            self.store.has_candidate(c.key)
            for c in self.plan.candidates
            if c.role == "baseline" and c.model == twin
        )

    def _lacks_scores(self, shard: Shard) -> bool:
        """Return whether a cell lacks a metric of the study, or has an older version of one."""
        wanted = self._versions.items()
        return shard.cell.evaluator == "scores" and not wanted <= shard.versions.items()

    def _score(self) -> None:
        """Compute what the passes have left to do, from stored predictions."""
        done = self.store.finished()
        cells = (*self.plan.cells, *self.imported.cells)
        found = [self.store.read_cell(c.key) for c in cells if c.key in done]
        shards = {s.cell.key: s for s in found if s is not None and self._lacks_scores(s)}
        items = [Scoring(str(self.store.path), self.scores, s.cell) for s in shards.values()]
        for item, outcome in self._staged("score", score, items, lambda i: self._label(i.cell)):
            if outcome is not None:
                self._rewrite(shards[item.cell.key], outcome)

    def _measure(self, missing: Sequence[Cell]) -> None:
        passes: dict[tuple[str, Condition], list[Cell]] = {}
        for cell in missing:
            if cell.evaluator == "scores":
                passes.setdefault((cell.split, cell.condition), []).append(cell)
        items = [
            Pass(str(self.store.path), split, condition, tuple(cells), self.engine.beside)
            for (split, condition), cells in passes.items()
        ]
        versions = self.scores.fast().versions()
        for item, outcome in self._staged(
            "measure", measure, items, lambda item: f"{item.condition} on {item.split}"
        ):
            result = (
                PassResult(dict.fromkeys((c.key for c in item.cells), outcome))
                if isinstance(outcome, Failure)
                else outcome
            )
            for cell in item.cells:
                found = result.measured[cell.key]
                # A candidate without a file says nothing in that form, now and later.
                made = versions if found else self._versions
                self._write(cell, found, made, result)

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
                versions = self._comparisons[cell.key].agreement.versions()
                if isinstance(outcome, Failure):
                    self._write(cell, outcome, versions)
                else:
                    self._write(cell, outcome.measured[cell.key], versions, outcome)

    def _compare(self) -> None:
        """Compute numbers of heat maps whose formulas have changed, from the stored maps."""
        done = self.store.finished()
        items = []
        for item in self._comparisons.values():
            shard = self.store.read_cell(item.cell.key) if item.cell.key in done else None
            if shard is not None and shard.versions != item.agreement.versions():
                items.append(item)
        for item, outcome in self._staged(
            "compare", compare, items, lambda item: self._label(item.cell)
        ):
            if outcome is not None:
                self._write(item.cell, outcome, item.agreement.versions())

    @cached_property
    def _comparisons(self) -> dict[str, Comparing]:
        """How the numbers of each cell of heat maps are made."""
        plan, spec = self.plan, self.inputs.spec
        made = comparisons(self.store.path, spec, plan.candidates, plan.cells)
        return {item.cell.key: item for item in made}

    def _read_sizes(self, missing: Sequence[Cell]) -> None:
        cells = [cell for cell in missing if cell.evaluator == "size"]
        for cell in cells:
            for _, outcome in Size().measure([self._subject(cell)], CLEAN):
                self._write(cell, outcome, {"size": Size.version})

    def _time(self, missing: Sequence[Cell]) -> None:
        """Measure latency: the candidates of each model in turns, while nothing else runs."""
        latency = latency_of(self.inputs)
        cells = [cell for cell in missing if cell.evaluator == "latency"]
        if latency is None or not cells:
            return
        start = time.perf_counter()
        self.progress.begin("latency", len(cells))
        subjects = []
        for cell in cells:
            subject = attempt(self._subject, cell)
            if isinstance(subject, Failure):
                self._timed(cell, subject, latency)
            else:
                subjects.append(subject)
        for subject, outcome in latency.measure(subjects, CLEAN):
            self._timed(subject.cell, outcome, latency)
        self.progress.end("latency", time.perf_counter() - start)

    def _timed(
        self, cell: Cell, outcome: Sequence[Measurement] | Failure, latency: Latency
    ) -> None:
        self._write(cell, outcome, {"latency": latency.version})
        self.progress.advance(self._label(cell))

    def _subject(self, cell: Cell) -> Subject:
        candidate = self.candidates[cell.candidate]
        model = candidate.model
        baseline = next(
            c.key for c in self.plan.candidates if c.model == model and c.role == "baseline"
        )
        facts = self.store.read_json(f"candidates/{cell.candidate}/complete.json")
        if facts is None:
            raise StoreError(f"candidate {cell.candidate} has disappeared; run the study again")
        return Subject(
            cell=cell,
            predict=lambda inputs: inputs,
            preprocess=Preprocess(),
            num_classes=0,
            folder=self.store.candidate(cell.candidate),
            reference=self.store.candidate(baseline),
            facts=facts,
            load_twin=functools.partial(load_twin, str(self.store.path), model),
            is_simulated=candidate.is_imitated,
        )

    def _write(
        self,
        cell: Cell,
        outcome: Iterable[Measurement] | Failure,
        versions: dict[str, int],
        of: PassResult | None = None,
    ) -> None:
        """Store what is known of a cell, with the machine that found it: this one, or another."""
        if isinstance(outcome, Failure):
            self.store.write_failure(cell.key, outcome, label=self._label(cell))
            self.progress.warn(f"{self._label(cell)}: {outcome.message}")
            return
        notes = () if of is None else of.notes
        machine = self.machine if of is None else self._machine_of(of)
        self.store.write_cell(Shard(cell, tuple(outcome), machine, versions, notes))

    def _machine_of(self, result: PassResult) -> str:
        """Return the key of the machine that measured, described in the run directory."""
        if not result.environment:
            return self.machine
        key = environment_key(result.environment)
        if key not in self._machines:
            self.store.write_environment(key, result.environment)
            self._machines.add(key)
        return key

    @cached_property
    def _machines(self) -> set[str]:
        """Keys of the machines that are described in the run directory."""
        return {self.machine}

    def _rewrite(self, shard: Shard, outcome: Sequence[Measurement] | Failure) -> None:
        """Store new metrics of a cell; whoever predicted it stays named."""
        if isinstance(outcome, Failure):
            self._write(shard.cell, outcome, self._versions)
        else:
            made = replace(shard, measurements=tuple(outcome), versions=self._versions)
            self.store.write_cell(made)

    def _label(self, cell: Cell) -> str:
        where = f" {cell.condition} on {cell.split}" if cell.split else ""
        how = f" {cell.method}" if cell.method else ""
        return f"{self.candidates[cell.candidate].label} {cell.evaluator}{how}{where}"
