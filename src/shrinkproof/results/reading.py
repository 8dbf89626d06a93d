"""A run directory read back: records, derived numbers, the decision, what failed."""

from __future__ import annotations

import functools
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shrinkproof.decision.choice import Decision, Objective
from shrinkproof.decision.fronts import Front
from shrinkproof.decision.uncertain import Uncertainty
from shrinkproof.errors import StoreError, UsageError
from shrinkproof.metrics.references import Reference
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate, Cell, Condition, Json, Record, key_of
from shrinkproof.results.certificate import newest_certificate
from shrinkproof.results.deciding import RuleCheck, decide_on, objectives_of, rules_on_report
from shrinkproof.results.derived import read_summary, write_summary
from shrinkproof.results.fronts import fronts_of
from shrinkproof.results.imported import read_imported
from shrinkproof.results.pictures import Pictures
from shrinkproof.results.recording import derived_records, measured_records
from shrinkproof.results.reference import reference_digest, reference_in
from shrinkproof.results.uncertain import quality_tolerances, uncertainty_of, watched_of
from shrinkproof.selectors import Constraint
from shrinkproof.spec import StudySpec, load_study_spec
from shrinkproof.spec.recipes import sweeps_of
from shrinkproof.store import Shard, Store
from shrinkproof.summary import (
    Settings,
    Summary,
    Sweep,
    summarize,
)
from shrinkproof.summary.detection import summarize_detection
from shrinkproof.summary.split import Split
from shrinkproof.table import Numbers, record_frame

if TYPE_CHECKING:
    import polars as pl

SUMMARY_VERSION: Final = 13
"""Raise it when derived numbers change: cached ones are then computed again."""


@dataclass(frozen=True)
class Results:
    """What a run directory says.

    Attributes:
        store: the run directory.
        spec: its study.
        candidates: what the study wants.
        cells: what the study wants measured.
    """

    store: Store
    spec: StudySpec
    candidates: tuple[Candidate, ...]
    cells: tuple[Cell, ...]

    @classmethod
    def load(cls, path: Path | str) -> Results:
        """Return the results of a run directory.

        Raises:
            StoreError: there is no run in it, or its plan or study file is damaged.
        """
        store = Store.open(Path(path))
        file = store.path / "study.yaml"
        try:
            text = file.read_text("utf-8")
        except OSError as error:
            raise StoreError(
                f"{file} cannot be read ({error.strerror}); run the study again into this "
                "directory, finished cells are kept"
            ) from error
        spec = load_study_spec(text, filename=str(file))
        candidates, cells = store.read_plan()
        found = read_imported(store, candidates, cells)
        return cls(store, spec, (*candidates, *found.candidates), (*cells, *found.cells))

    @property
    def form(self) -> str:
        """Form in which candidates are measured; the other one serves their agreement."""
        return "twin" if self.spec.measure.form == "twin" else "artifact"

    @cached_property
    def by_key(self) -> Mapping[str, Candidate]:
        """Candidates by key."""
        return {candidate.key: candidate for candidate in self.candidates}

    def short(self, label: str) -> str:
        """Return the shortest name of a candidate that is unique: without its only model."""
        is_one = len({candidate.model for candidate in self.candidates}) == 1
        return label.partition("/")[2] if is_one else label

    @cached_property
    def data(self) -> Json:
        """Counts, fingerprints, notes and contamination of the splits."""
        found = self.store.read_json("data.json")
        return dict(found or {"splits": {}, "notes": [], "contamination": {}})

    @cached_property
    def measuring(self) -> tuple[str, ...]:
        """Splits with measurements."""
        return tuple(dict.fromkeys(cell.split for cell in self.cells if cell.split))

    @property
    def deciding(self) -> str:
        """Split on which the front and the choice are computed."""
        return "select" if "select" in self.measuring else "report"

    @property
    def printing(self) -> str:
        """Split whose numbers are printed."""
        return "report" if "report" in self.measuring else "select"

    @cached_property
    def finished(self) -> frozenset[str]:
        """Keys of all cells with a shard, damaged ones among them."""
        return self.store.finished()

    @cached_property
    def shards(self) -> Mapping[str, Shard]:
        """Finished cells of the plan, by key; damaged ones are left out."""
        found = {}
        for cell in self.cells:
            shard = self.store.read_cell(cell.key) if cell.key in self.finished else None
            if shard is not None:
                found[cell.key] = shard
        return found

    def scored(self, candidate: str, split: str) -> Mapping[Condition, Shard]:
        """Return what the predictions of a candidate gave on a split, in the study's order.

        Args:
            candidate: its key.
            split: name of the split.
        """
        found = self._scored.get((candidate, split), {})
        return {c: found[c] for c in self.settings.conditions if c in found}

    @cached_property
    def _scored(self) -> Mapping[tuple[str, str], Mapping[Condition, Shard]]:
        found: dict[tuple[str, str], dict[Condition, Shard]] = {}
        for shard in self.shards.values():
            cell = shard.cell
            if (cell.evaluator, cell.form) == ("scores", self.form):
                found.setdefault((cell.candidate, cell.split), {})[cell.condition] = shard
        return found

    @cached_property
    def failures(self) -> tuple[Json, ...]:
        """What failed, in the order of the plan: key, label, type, message, traceback."""
        stored = self.store.failures()
        wanted = (*self.by_key, *(cell.key for cell in self.cells))
        return tuple({"key": key, **stored[key]} for key in wanted if key in stored)

    @cached_property
    def progress(self) -> Json:
        """How many candidates and cells are done, failed and missing."""
        failed = {failure["key"] for failure in self.failures}
        done = self.finished
        cells = [cell.key for cell in self.cells]
        prepared = sum(self.store.has_candidate(c.key) for c in self.candidates)
        finished = sum(key in done for key in cells)
        broken = sum(key in failed and key not in done for key in cells)
        return {
            "candidates": len(self.candidates),
            "prepared": prepared,
            "cells": len(cells),
            "done": finished,
            "failed": broken + sum(c.key in failed for c in self.candidates),
            "missing": sum(self.missing.values()),
        }

    @cached_property
    def missing(self) -> Mapping[str, int]:
        """Cells that another run would measure, by label; a failed candidate's are not counted."""
        settled = self.finished | {failure["key"] for failure in self.failures}
        return Counter(
            self.by_key[cell.candidate].label
            for cell in self.cells
            if cell.key not in settled and cell.candidate not in settled
        )

    # records

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """All numbers, measured and derived, one record each, in the order of the plan."""
        return (*measured_records(self), *derived_records(self))

    def frame(self) -> pl.DataFrame:
        """Return the records as a tidy polars frame; ``to_pandas()`` gives the other kind."""
        return record_frame(self.records)

    def write_records(self, path: Path | str) -> Path:
        """Write all records, one row each, and return the path.

        Args:
            path: the ending says which form: ``.csv``, ``.parquet`` or ``.jsonl``.

        Raises:
            UsageError: another ending.
            StoreError: the file cannot be written.
        """
        target = Path(path)
        forms = {".csv": "write_csv", ".parquet": "write_parquet", ".jsonl": "write_ndjson"}
        if target.suffix not in forms:
            raise UsageError(
                f"records: the file must end in {', '.join(forms)}, got {target.name!r}"
            )
        content = io.BytesIO()
        getattr(self.frame(), forms[target.suffix])(content)
        self.store.write_bytes(target, content.getvalue())
        return target

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of the predictions: the study's, and those that `score` has added."""
        added = self.store.read_json("scores.json") or []
        return tuple(dict.fromkeys([*self.spec.measure.scores, *added]))

    @cached_property
    def settings(self) -> Settings:
        """What derived numbers depend on besides the predictions."""
        measure = self.spec.measure
        classes = [split.get("classes", ()) for split in self.data["splits"].values()]
        return Settings(
            form=self.form,
            conditions=self.spec.conditions_list(),
            metrics=self.metrics,
            printing=self.printing,
            replicates=measure.intervals.replicates,
            seed=self.spec.seed,
            classes=tuple(classes[0]) if classes else (),
            margins=dict(measure.margins),
            sweeps=tuple(Sweep(*sweep) for sweep in sweeps_of(self.spec.recipes)),
            reference={
                "name": measure.robustness.reference,
                "rounded": measure.robustness.rounded,
                "run": measure.robustness.run,
            },
            origins={
                "preset": self.spec.data.preset or _preset_of(self.spec.data.stored),
                "told": self.data.get("origins", {}),
                "notes": list(self.data["notes"]),
            },
            deciding=self.deciding,
            watched=watched_of(self),
            tolerances=quality_tolerances(self),
            task=self.spec.task,
        )

    @property
    def _foreign_run(self) -> Path | None:
        """The other run to which the reference of corruption errors belongs; None for this one."""
        run = self.spec.measure.robustness.run
        inputs = self.store.read_json("inputs.json") or {}
        return None if run is None else Path(inputs.get("folder", ".")) / run

    @property
    def _foreign_reference(self) -> Callable[[Split], Reference | Undefined] | None:
        """What gives the reference of corruption errors where it belongs to another run."""
        folder, label = self._foreign_run, self.spec.measure.robustness.reference
        return None if folder is None else functools.partial(reference_in, folder, label)

    def _stored(self, key: str) -> dict[str, float]:
        """Return the numbers of all images of a cell."""
        return {
            m.metric: m.value
            for m in self.shards[key].measurements
            if m.value is not None and not m.slice
        }

    @cached_property
    def summary(self) -> Summary:
        """Derived numbers and exhibits; kept in the run directory until a cell changes."""
        digest = key_of(
            "summary",
            {
                "version": SUMMARY_VERSION,
                "cells": {key: self._digested(shard) for key, shard in self.shards.items()},
                "candidates": [c.as_json() for c in self.candidates],
                "settings": asdict(self.settings),
            },
        )
        folder, label = self._foreign_run, self.spec.measure.robustness.reference
        reference = None if folder is None else reference_digest(folder, label)
        kept = read_summary(self.store, digest, reference)
        if kept is not None:
            return kept
        found = self._summarized()
        write_summary(self.store, found, digest, reference)
        return found

    def _summarized(self) -> Summary:
        """Return derived numbers and exhibits, computed anew."""
        cells = [shard.cell for shard in self.shards.values()]
        if self.spec.task == "detection":
            return summarize_detection(
                self.candidates,
                cells,
                self.store.read_boxes,
                self.settings,
                self._stored,
                self.store.read_maps,
            )
        return summarize(
            self.candidates,
            cells,
            self.store.read_logits,
            self.settings,
            self._stored,
            self._foreign_reference,
            self.store.read_maps,
        )

    def _digested(self, shard: Shard) -> Json:
        """Return what a derived number can depend on of a cell.

        Values stand for the predictions behind them: others would have given other values.
        """
        key, is_scores = shard.cell.key, shard.cell.evaluator == "scores"
        return {
            "versions": dict(shard.versions),
            "values": " ".join(repr(m.value) for m in shard.measurements),
            "sources": (self.store.has_predictions if is_scores else self.store.has_maps)(key),
        }

    def exhibits(self, kind: str) -> list[Json]:
        """Return what is no number of one kind: exemplars, potentials, ranks, ..."""
        return [item.value for item in self.summary.exhibits if item.kind == kind]

    @cached_property
    def pictures(self) -> Pictures:
        """Small pictures of the images hit hardest."""
        return Pictures(self.store)

    # decision

    @cached_property
    def numbers(self) -> Numbers:
        """The records, found by candidate, split and selector."""
        return Numbers(self.records, self.form, self.spec.conditions_list())

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What the study wants to improve."""
        select = self.spec.select
        return () if select is None else objectives_of(select.minimize, select.maximize)

    @cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        """What a candidate must satisfy."""
        select = self.spec.select
        return () if select is None else tuple(Constraint.parse(text) for text in select.require)

    @cached_property
    def decision(self) -> Decision | None:
        """Front and choice, computed on the select split; None where the study asks for none."""
        if self.spec.select is None:
            return None
        return self.decide(self.objectives, self.constraints)

    def decide(
        self, objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
    ) -> Decision:
        """Return front and choice for any objectives, computed on the select split."""
        return decide_on(self, objectives, constraints)

    @cached_property
    def rules_on_report(self) -> tuple[RuleCheck, ...]:
        """The hard rules, checked for the chosen candidate on the images that are printed."""
        return rules_on_report(self)

    @cached_property
    def uncertainty(self) -> Uncertainty | None:
        """How sure front and choice are; None where the study asks for no choice."""
        return uncertainty_of(self)

    def front(
        self, *, minimize: Sequence[str] = (), maximize: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Return the labels of the candidates that no other one dominates.

        Args:
            minimize: selectors such as ``robustness.mean_error`` or ``calibration.ece@clean``.
            maximize: selectors such as ``accuracy.top1@clean``.
        """
        return self.decide(objectives_of(minimize, maximize)).front

    @cached_property
    def fronts(self) -> tuple[Front, ...]:
        """Fronts of each network and across them; empty where the study has no objectives."""
        return fronts_of(self)

    def report(self, path: Path | str | None = None) -> Path:
        """Write the report, one HTML file, and return its path; default ``report.html`` here.

        Raises:
            StoreError: the file cannot be written.
        """
        from shrinkproof.report.page import render
        from shrinkproof.results.page import make_page

        target = self.store.path / "report.html" if path is None else Path(path)
        self.store.write_text(target, render(make_page(self)))
        return target

    @property
    def certificate(self) -> Json | None:
        """The newest certificate, as written by `shrinkproof certify`; None where there is none."""
        return newest_certificate(self.store)

    # caveats

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """Everything a reader must know before believing the numbers."""
        from shrinkproof.results.caveats import caveats_of

        return tuple(caveats_of(self))


def _preset_of(stored: str | None) -> str:
    """Return whose corruptions a stored set has, where its format says so."""
    return "imagenet" if (stored or "").startswith("imagenet-c:") else ""
