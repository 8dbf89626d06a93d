"""Measure every candidate of a pass on the same images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from shrinkproof.evaluators.subject import Scene
from shrinkproof.protocols import Measurement
from shrinkproof.records import Cell, Condition, Failure, Json
from shrinkproof.store import Store
from shrinkproof.study.plan import scores_of
from shrinkproof.study.work.loading import load_subject
from shrinkproof.study.work.workplace import workplace

_MEMORY_SHARE: Final = 0.25
"""Part of the machine's memory that loaded candidates may fill before a pass takes groups."""

_BYTES_PER_FILE_BYTE: Final = 4
"""A loaded session holds the weights several times: file, packed kernels, arena."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Measure every candidate that lacks it under one condition of one split.

    Attributes:
        run: the run directory, absolute.
        split: whose images are shown.
        condition: what the world does to them.
        cells: what is measured.
        workers: how many pieces of work share the machine.
    """

    run: str
    split: str
    condition: Condition
    cells: tuple[Cell, ...]
    workers: int = 1


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a pass found.

    Attributes:
        measured: cell key -> numbers, or why there are none.
        notes: caveats, such as candidates taken in groups.
        environment: description of the machine that measured.
    """

    measured: Mapping[str, tuple[Measurement, ...] | Failure]
    notes: tuple[str, ...] = ()
    environment: Json = field(default_factory=dict)


def measure(work: Pass) -> PassResult:
    """Measure every candidate of a pass on the same images."""
    place = workplace(work.run)
    store = Store(place.run)
    images = place.images([work.split])[work.split]
    scene = Scene(
        images,
        work.condition,
        None if work.condition.is_clean else place.inputs.world(images),
        place.inputs.spec.data.batch,
    )
    scores = scores_of(place.inputs).fast()
    candidates = {c.key: c for c in store.read_candidates()}
    measured: dict[str, tuple[Measurement, ...] | Failure] = {}
    groups = list(_groups(store, work.cells))
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
        for subject, outcome in scores.measure(subjects, work.condition):
            done = outcome if isinstance(outcome, Failure) else tuple(outcome)
            measured[subject.cell.key] = done
        if len(groups) > 1:
            place.predictors.clear()
    notes = (
        (f"candidates measured in {len(groups)} groups, because of memory",)
        if len(groups) > 1
        else ()
    )
    return PassResult(measured, notes, place.machine)


def _has_no_file(store: Store, cell: Cell) -> bool:
    """Return whether a candidate is only there as a PyTorch network, because it has no export."""
    facts = store.read_json(f"candidates/{cell.candidate}/complete.json") or {}
    return "cost.bytes" in facts.get("undefined", {})


def _groups(store: Store, cells: tuple[Cell, ...]) -> Iterator[tuple[Cell, ...]]:
    """Yield the cells in groups whose models fit into memory together."""
    room = _MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group: list[Cell] = []
    used = 0.0
    for cell in cells:
        file = store.candidate(cell.candidate) / "model.onnx"
        size = _BYTES_PER_FILE_BYTE * file.stat().st_size if file.is_file() else 0
        if group and used + size > room:
            yield tuple(group)
            group, used = [], 0.0
        group.append(cell)
        used += size
    if group:
        yield tuple(group)
