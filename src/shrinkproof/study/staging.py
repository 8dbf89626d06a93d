"""One stage of a study, all of it or one share: what it does, what it needs, what is left.

Several launchers work on one run directory without locks and without talking to each other. Each
takes its share of the same plan, so they must have the same study; the stored plan shows it.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, get_args

from shrinkproof.errors import StoreError, UsageError
from shrinkproof.evaluators.latency import Latency
from shrinkproof.evaluators.saliency import Saliency
from shrinkproof.evaluators.scores import Scores
from shrinkproof.records import Candidate, Cell
from shrinkproof.store import Part, Store
from shrinkproof.study.inputs import Inputs, roots_of_environment
from shrinkproof.study.plan import Plan
from shrinkproof.study.shares import Share, Unit, groups_of, units_of

Stage = Literal["prepare", "measure"]

DONE: Final = "done"
FAILED: Final = "failed"
MISSING: Final = "missing"
_STATES: Final = (DONE, FAILED, MISSING)

_NAMED: Final = 4
"""Candidates or commands that a message names."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of some work is done.

    Attributes:
        done: candidates that are prepared, or cells that are measured.
        failed: those that gave no result.
        missing: those that nobody has done yet.
    """

    done: int
    failed: int
    missing: int

    @classmethod
    def of(cls, works: Iterable[Mapping[str, str]]) -> Standing:
        """Return the standing of some keys; one that is in several works is as far as its last."""
        worst: dict[str, str] = {}
        for key, state in (item for work in works for item in work.items()):
            worst[key] = max(worst.get(key, DONE), state, key=_STATES.index)
        found = list(worst.values())
        return cls(*(found.count(state) for state in _STATES))

    @property
    def total(self) -> int:
        """All of them."""
        return self.done + self.failed + self.missing


@dataclass(frozen=True)
class Portion:
    """What one of several launchers does of a study.

    Attributes:
        inputs: the study.
        plan: all that it wants; what ``only`` leaves out is dealt all the same.
        store: the run directory.
        out: its path, as the user has written it.
        stage: ``prepare`` makes candidates; ``measure`` does passes, their scores and heat maps.
        share: which share of it; None for all of it.
        only: which candidates besides, by the pattern of their labels.
    """

    inputs: Inputs
    plan: Plan
    store: Store
    out: Path
    stage: Stage
    share: Share | None = None
    only: str | None = None

    @property
    def name(self) -> str:
        """The stage with the share, ``measure 3/16``."""
        return f"{self.stage} {self.share}" if self.share else self.stage

    @cached_property
    def chosen(self) -> Plan:
        """What ``only`` leaves of the plan."""
        return self.plan.only(self.only) if self.only else self.plan

    @cached_property
    def groups(self) -> list[tuple[Candidate, ...]]:
        """All candidates, in groups that are prepared by one share."""
        return groups_of(self.inputs, self.plan.candidates)

    @cached_property
    def passes(self) -> dict[Unit, list[Cell]]:
        """All passes and heat maps, with their cells."""
        parts = {split: len(parts) for split, parts in self.plan.parts.items()}
        return units_of(self.plan.candidates, self.plan.cells, parts)

    @property
    def units(self) -> frozenset[Unit]:
        """The passes and heat maps of this share."""
        return frozenset((self.share or Share()).of(tuple(self.passes)))

    @cached_property
    def part(self) -> Plan:
        """The part of the plan that this share works on.

        While candidates are prepared nothing is measured; while cells are measured, every chosen
        candidate may be needed.
        """
        share, plan = self.share or Share(), self.chosen
        if self.stage == "prepare":
            keys = {c.key for group in share.of(self.groups) for c in group}
            mine = tuple(c for c in plan.candidates if c.key in keys)
            return replace(plan, candidates=mine, cells=())
        keys = {cell.key for cells in share.of(tuple(self.passes.values())) for cell in cells}
        return replace(plan, cells=tuple(cell for cell in plan.cells if cell.key in keys))

    def command(self, stage: Stage | None = None, share: Share | None = None) -> str:
        """Return the command line of a stage of this study; of all that is left without one."""
        inputs, known = self.inputs, roots_of_environment()
        words = ["shrinkproof", "run", inputs.filename, "--out", str(self.out)]
        for name, path in inputs.roots.items():
            words += ["--root", f"{name}={path}"] if known.get(name) != path else []
        words += ["--scale", inputs.spec.scale] if inputs.spec.scale else []
        words += [] if inputs.limit is None else ["--limit", str(inputs.limit)]
        words += [] if self.only is None else ["--only", self.only]
        words += [] if stage is None else ["--stage", stage]
        words += [] if share is None else ["--shard", str(share)]
        return shlex.join(words)

    # before the work

    def check(self) -> bool:
        """Refuse work that would spoil what others do, or that cannot be done yet.

        Where everything that a stored plan wants of the stages is done or has failed, nobody can be
        working on it, and another version of the study may take its place.

        Returns:
            Whether the stored plan is this one; machines differ in the keys of latency only.

        Raises:
            StoreError: the directory has the unfinished plan of another study.
            UsageError: a candidate that is measured here was neither prepared nor has it failed.
        """
        store, stored = self.store, _stored(self.store)
        is_mine = stored is not None and _keys(stored) == _keys(self.plan)
        if stored is not None and not is_mine and not _is_over(store, stored):
            told = "; ".join(_differences(store, stored, self.plan, self.inputs))
            raise StoreError(
                f"{store.path}: all launchers must have the same study, got one that differs from "
                f"the unfinished plan in there: {told}. Give the study of that plan, or take "
                "another directory. Where nobody works on that plan any more, remove "
                f"{store.path / 'plan.jsonl'}: what is finished is kept"
            )
        if self.stage == "measure":
            self._check_prepared()
        # Models and recipes may have been renamed, which is in no key.
        return is_mine and stored is not None and _labels(stored) == _labels(self.plan)

    def _check_prepared(self) -> None:
        store = self.store
        needed = self._needed(store.finished()) - store.failures().keys()
        absent = [
            c for c in self.plan.candidates if c.key in needed and not store.has_candidate(c.key)
        ]
        if not absent:
            return
        labels = [candidate.label for candidate in absent]
        commands = [self.command("prepare", share) for share in self._preparing(absent)]
        raise UsageError(
            f"run --stage measure: every candidate must be prepared first, got {len(absent)} that "
            f"are not: {_listed(labels, ', ')}; run first\n{_listed(commands, chr(10))}"
        )

    def warnings(self) -> list[str]:
        """Return which candidates cannot be measured, because they could not be made, and why."""
        if self.stage == "prepare":
            return []
        wanted, failures = {c.candidate for c in self.part.cells}, self.store.failures()
        failed = wanted & failures.keys()
        return [
            f"{c.label}: is not prepared: {failures[c.key]['message']}"
            for c in self.plan.candidates
            if c.key in failed and not self.store.has_candidate(c.key)
        ]

    def _needed(self, finished: Collection[str]) -> set[str]:
        """Return the keys of the candidates without which cells of this share lack something."""
        cells = [cell for cell in self.part.cells if cell.key not in finished]
        models = {c.key: c.model for c in self.plan.candidates}
        explained = {models[c.candidate] for c in cells if c.evaluator == Saliency.name}
        spec = self.inputs.spec.measure.saliency
        twins = set() if spec is None else {spec.twin_of(model) for model in explained}
        baselines = [c for c in self.plan.candidates if c.role == "baseline"]
        return {c.candidate for c in cells} | {c.key for c in baselines if c.model in twins}

    def _preparing(self, absent: Iterable[Candidate]) -> list[Share | None]:
        """Return the shares that prepare some candidates."""
        if self.share is None:
            return [None]
        keys, count = {candidate.key for candidate in absent}, self.share.count
        places = [i for i, group in enumerate(self.groups) if keys & {c.key for c in group}]
        return [Share(k, count) for k in sorted({place % count + 1 for place in places})]

    # after the work

    def standing(self) -> tuple[Standing, Standing, tuple[Share, ...]]:
        """Return how much is done of this share and of all, and which shares lack something.

        Of a cell that is predicted in parts, a share has done its own when these are stored; to all
        it counts when it is measured.
        """
        share, known = self.share or Share(), _Known.of(self.store)
        works = [self._state(work, known) for work in self._works()]
        behind = {i % share.count + 1 for i, work in enumerate(works) if MISSING in work.values()}
        cells = {key: candidate for _, work in self._works() for key, candidate in work.items()}
        return (
            Standing.of(share.of(works)),
            Standing.of([{key: known.state(key, of) for key, of in cells.items()}]),
            tuple(Share(k, share.count) for k in sorted(behind)),
        )

    def _works(self) -> list[tuple[Unit | None, dict[str, str]]]:
        """Return the chosen work in the order in which it is dealt: keys, with the candidates'."""
        if self.stage == "prepare":
            chosen = {c.key for c in self.chosen.candidates}
            return [(None, {c.key: c.key for c in g if c.key in chosen}) for g in self.groups]
        chosen = {c.key for c in self.chosen.cells}
        return [
            (unit, {c.key: c.candidate for c in cells if c.key in chosen})
            for unit, cells in self.passes.items()
        ]

    def _state(self, work: tuple[Unit | None, dict[str, str]], known: _Known) -> dict[str, str]:
        unit, keys = work
        parts = (
            self.plan.parts.get(unit.split, ()) if unit and unit.evaluator == Scores.name else ()
        )
        part = parts[unit.part] if unit and len(parts) > 1 else None
        return {key: known.state(key, candidate, part) for key, candidate in keys.items()}


@dataclass(frozen=True, slots=True)
class _Known:
    """What a run directory has, read once.

    Attributes:
        store: the run directory.
        finished: keys of its cells.
        failed: keys of what gave no result.
    """

    store: Store
    finished: frozenset[str]
    failed: frozenset[str]

    @classmethod
    def of(cls, store: Store) -> _Known:
        return cls(store, store.finished(), frozenset(store.failures()))

    def state(self, key: str, candidate: str, part: Part | None = None) -> str:
        """Return how a cell is, or a candidate, which is its own; or one part of a cell."""
        if key in self.finished or (key == candidate and self.store.has_candidate(key)):
            return DONE
        if {key, candidate} & self.failed:
            return FAILED
        return DONE if part is not None and self.store.parts(key).has(part) else MISSING


def checked(stage: Stage | None, share: str | None) -> tuple[Stage, Share | None]:
    """Return a stage with the share that a text names.

    Raises:
        UsageError: there is a share of no stage, no such stage, or the text names no share.
    """
    if stage is None:
        raise UsageError(
            f"--shard: must come with --stage prepare or --stage measure, got {share!r} alone; "
            "share the candidates first, and the passes when all candidates are prepared"
        )
    if stage not in get_args(Stage):
        raise UsageError(f"stage: must be {' or '.join(get_args(Stage))}, got {stage!r}")
    return stage, None if share is None else Share.parse(share)


def _stored(store: Store) -> Plan | None:
    """Return the stored plan, or None where it is missing or damaged: it is written again."""
    try:
        return Plan(*store.read_plan())
    except (StoreError, FileNotFoundError):
        return None


def _keys(plan: Plan) -> set[str]:
    cells = {c.key for c in plan.cells if c.evaluator != Latency.name}
    return cells | {c.key for c in plan.candidates}


def _labels(plan: Plan) -> dict[str, str]:
    return {candidate.key: candidate.label for candidate in plan.candidates}


def _is_over(store: Store, plan: Plan) -> bool:
    """Return whether both stages of a plan are done, but for what has failed."""
    known = _Known.of(store)
    works = [{c.key: c.key for c in plan.candidates}]
    units = units_of(plan.candidates, plan.cells).values()
    works += [{c.key: c.candidate for c in cells} for cells in units]
    items = (item for work in works for item in work.items())
    return all(known.state(key, candidate) != MISSING for key, candidate in items)


def _differences(store: Store, stored: Plan, plan: Plan, inputs: Inputs) -> list[str]:
    """Return in what a study differs from the stored one, in words."""
    told = []
    theirs = store.read_json("inputs.json") or {}
    limit = theirs.get("limit")
    if limit != inputs.limit:
        here = inputs.limit or "not given"
        told.append(f"--limit is {limit or 'not given'} there and {here} here")
    if theirs.get("text") != inputs.text:
        told.append("the study file has another text")
    for where, one, other in (("there", stored, plan), ("here", plan, stored)):
        known = {c.label for c in other.candidates}
        labels = [c.label for c in one.candidates if c.label not in known]
        if labels:
            told.append(f"only {where}: {_listed(labels, ', ')}")
    count = len(_keys(stored) ^ _keys(plan))
    return [*told, f"{count} candidates or cells are of one of the two only"]


def _listed(names: list[str], between: str) -> str:
    """Return the first of some names, and how many more there are."""
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return between.join([*names[:_NAMED], *more])
