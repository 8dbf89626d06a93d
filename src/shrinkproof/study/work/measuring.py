"""Measure every candidate of a pass on the same images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shrinkproof.artifacts.candidate import NETWORK, WEIGHTS
from shrinkproof.engines.inline import attempt
from shrinkproof.evaluators.fitting import grouped, loaded_bytes
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.predictions import Objects, half
from shrinkproof.protocols import Measurement
from shrinkproof.records import Cell, Condition, Failure, Json
from shrinkproof.store import Part, Store
from shrinkproof.study.plan import scores_of
from shrinkproof.study.work.loading import load_subject, remarks_of
from shrinkproof.study.work.memory import room
from shrinkproof.study.work.workplace import Workplace, workplace


@dataclass(frozen=True, slots=True)
class Pass:
    """Measure every candidate that lacks it under one condition of one split.

    Attributes:
        run: the run directory, absolute.
        split: whose images are shown.
        condition: what the world does to them.
        cells: what is measured.
        workers: how many pieces of work share the machine.
        part: which images, where they are too many for one piece of work; None for all.
    """

    run: str
    split: str
    condition: Condition
    cells: tuple[Cell, ...]
    workers: int = 1
    part: Part | None = None

    def __str__(self) -> str:
        """Return what it does, for readers."""
        what = f"{self.condition} on {self.split}"
        return what if self.part is None else f"{what}, {self.part}"


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a pass found.

    Attributes:
        measured: cell key -> numbers, or why there are none; a part that was stored has none.
        notes: caveats, such as candidates taken in groups.
        environment: description of the machine that measured.
        remarks: cell key -> caveats of that cell alone.
        stored: keys of the cells of which a part was stored.
    """

    measured: Mapping[str, tuple[Measurement, ...] | Failure]
    notes: tuple[str, ...] = ()
    environment: Json = field(default_factory=dict)
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stored: frozenset[str] = frozenset()


def measure(work: Pass) -> PassResult:
    """Measure every candidate of a pass on the same images.

    Of a part of the images only the predictions are stored: metrics need all of them.
    """
    place = workplace(work.run)
    store = Store(place.run)
    scene = _scene(place, work)
    candidates = {c.key: c for c in store.read_candidates()}
    measured: dict[str, tuple[Measurement, ...] | Failure] = {}
    remarks: dict[str, tuple[str, ...]] = {}
    groups = _groups(place, store, work, _answered(scene))
    notes = (
        (f"candidates measured in {len(groups)} groups, because of memory",)
        if len(groups) > 1
        else ()
    )

    def told(subject: Subject) -> tuple[str, ...]:
        found = remarks_of(subject, candidates[subject.cell.candidate])
        if work.part is None and store.is_rounded(subject.key):
            found = (*found, half.NOTE)
        remarks[subject.key] = found
        return (*notes, *found)

    for group in groups:
        subjects = []
        for cell in group:
            if cell.form == "artifact" and _has_no_file(store, cell):
                measured[cell.key] = ()  # why is told by its sizes
                continue
            subject = load_subject(place, store, scene, cell, candidates[cell.candidate])
            if isinstance(subject, Failure):
                measured[cell.key] = subject
            else:
                subjects.append(subject)
        if not subjects:
            continue
        for subject, outcome in _outcomes(place, work, subjects, told):
            measured[subject.key] = outcome
        if len(groups) > 1:
            place.predictors.clear()
    done = frozenset(key for key in remarks if not isinstance(measured[key], Failure))
    stored = frozenset() if work.part is None else done
    return PassResult(measured, notes, place.machine, remarks, stored)


def _scene(place: Workplace, work: Pass) -> Scene:
    """Return the images of a pass; batches and corruptions are those of the whole split."""
    images = place.images([work.split])[work.split]
    world = None if work.condition.is_clean else place.inputs.world(images)
    batch = place.inputs.batch_of(images)
    if work.part is not None:
        images = images.take(np.arange(work.part.start, work.part.stop, dtype=np.int64))
    return Scene(images, work.condition, world, batch)


def _outcomes(
    place: Workplace,
    work: Pass,
    subjects: Sequence[Subject],
    told: Callable[[Subject], tuple[str, ...]],
) -> Iterator[tuple[Subject, tuple[Measurement, ...] | Failure]]:
    """Yield each subject with its numbers, or with none once its part is stored.

    Args:
        place: what the process keeps.
        work: the pass.
        subjects: candidates that share the scene of the pass.
        told: returns and remembers what a reader must know of a subject that was predicted.
    """
    scores = scores_of(place.inputs).fast()
    if work.part is None:
        for subject, numbers in scores.measure(subjects, work.condition):
            told(subject)
            yield subject, numbers if isinstance(numbers, Failure) else tuple(numbers)
        return
    store = Store(place.run)
    for subject, found in scores.predict(subjects):
        made = {"machine": place.machine, "notes": told(subject)}
        write = functools.partial(store.parts(subject.key).write, work.part, made=made)
        outcome = found if isinstance(found, Failure) else attempt(write, found)
        yield subject, () if outcome is None else outcome


def _has_no_file(store: Store, cell: Cell) -> bool:
    """Return whether a candidate is only there as a PyTorch network, because it has no export."""
    facts = store.read_json(f"candidates/{cell.candidate}/complete.json") or {}
    return "cost.bytes" in facts.get("undefined", {})


def _groups(place: Workplace, store: Store, work: Pass, answered: float) -> list[tuple[Cell, ...]]:
    """Return the cells of a pass in groups that fit into memory together, with their answers.

    Args:
        place: what the process keeps.
        store: the run directory.
        work: the pass.
        answered: bytes of what one candidate says of the images.
    """
    device = place.inputs.spec.measure.inference.device

    def groups() -> list[tuple[Cell, ...]]:
        more = functools.partial(_filled_by, store, frozenset(place.predictors), answered)
        return list(grouped(work.cells, more, room(work.workers, device)))

    found = groups()
    if len(found) > 1 and place.predictors:
        # What earlier passes have loaded may be of no use to this one.
        place.predictors.clear()
        found = groups()
    return found


def _answered(scene: Scene) -> float:
    """Return how many bytes the logits of one candidate fill until a pass ends; boxes are few."""
    images = scene.images
    return 0.0 if isinstance(images.target, Objects) else 4.0 * len(images) * len(images.classes)


def _filled_by(
    store: Store, loaded: Collection[tuple[str, str]], answered: float, cell: Cell
) -> float:
    """Return how many more bytes of memory are filled once the candidate of a cell has answered."""
    if (cell.candidate, cell.form) in loaded:
        return answered
    folder = store.candidate(cell.candidate)
    return answered + (loaded_bytes(folder / NETWORK) or loaded_bytes(folder / WEIGHTS))
