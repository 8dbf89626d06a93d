"""Sizes and latency of candidates: measured by the driver itself, while nothing else runs."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from shrinkproof.engines.inline import attempt
from shrinkproof.errors import StoreError
from shrinkproof.evaluators.latency import Latency
from shrinkproof.evaluators.size import Size
from shrinkproof.evaluators.subject import Subject
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Cell, Failure
from shrinkproof.store import Store
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.plan import latency_of
from shrinkproof.study.progress import Progress
from shrinkproof.study.recorder import Recorder
from shrinkproof.study.twin import load_twin


@dataclass(frozen=True)
class Exclusive:
    """Measures what needs the machine for itself, or next to nothing.

    Attributes:
        inputs: the study.
        store: the run directory.
        records: who writes the cells.
        progress: who is told.
    """

    inputs: Inputs
    store: Store
    records: Recorder
    progress: Progress

    def read_sizes(self, missing: Sequence[Cell]) -> None:
        """Read the sizes of candidates from their files.

        Args:
            missing: cells that nobody has measured, of any kind.
        """
        for cell in missing:
            if cell.evaluator == Size.name:
                for _, outcome in Size().measure([self._subject(cell)], CLEAN):
                    self.records.write(cell, outcome, {Size.name: Size.version})

    def time(self, missing: Sequence[Cell]) -> None:
        """Measure latency, the candidates of each model in turns.

        Args:
            missing: cells that nobody has measured, of any kind.
        """
        latency = latency_of(self.inputs)
        cells = [cell for cell in missing if cell.evaluator == Latency.name]
        if latency is None or not cells:
            return
        start = time.perf_counter()
        self.progress.begin(Latency.name, len(cells))
        subjects = []
        for cell in cells:
            subject = attempt(self._subject, cell)
            if isinstance(subject, Failure):
                self._timed(cell, subject, latency)
            else:
                subjects.append(subject)
        for subject, outcome in latency.measure(subjects, CLEAN):
            self._timed(subject.cell, outcome, latency)
        self.progress.end(Latency.name, time.perf_counter() - start)

    def _timed(
        self, cell: Cell, outcome: Sequence[Measurement] | Failure, latency: Latency
    ) -> None:
        self.records.write(cell, outcome, {Latency.name: latency.version})
        self.progress.advance(self.records.label(cell))

    def _subject(self, cell: Cell) -> Subject:
        candidate = self.records.candidates[cell.candidate]
        facts = self.store.read_json(f"candidates/{cell.candidate}/complete.json")
        if facts is None:
            raise StoreError(f"candidate {cell.candidate} has disappeared; run the study again")
        return Subject(
            cell=cell,
            predict=lambda inputs: inputs,
            preprocess=Preprocess(),
            num_classes=0,
            folder=self.store.candidate(cell.candidate),
            reference=self.store.candidate(self.records.baseline_of(cell)),
            facts=facts,
            load_twin=functools.partial(load_twin, str(self.store.path), candidate.model),
            is_simulated=candidate.is_imitated,
        )
