"""Cells that were predicted elsewhere: kept apart from the plan, which each run rewrites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from shrinkproof.records import Candidate, Cell, Json
from shrinkproof.store import Store

IMPORTED: Final = "imported.json"
"""File of a run: candidates and cells that were predicted elsewhere."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What was imported into a run and still fits it.

    Attributes:
        candidates: with the control that the candidate they were made from has now.
        cells: on images and conditions that the run measures now.
        notes: what was left out, and why.
    """

    candidates: tuple[Candidate, ...] = ()
    cells: tuple[Cell, ...] = ()
    notes: tuple[str, ...] = ()


def read_imported(store: Store, candidates: Sequence[Candidate], cells: Sequence[Cell]) -> Imported:
    """Return what was imported into a run, beside its plan.

    An imported cell is comparable only where the same image and pixels were measured: the plan must
    still hold the cell beside which it was imported, whose key covers both.

    Args:
        store: the run directory.
        candidates: of the plan.
        cells: of the plan.

    Raises:
        StoreError: the file is damaged.
    """
    kept: Json | None = store.read_json(IMPORTED)
    if kept is None:
        return Imported()
    by_key = {candidate.key: candidate for candidate in candidates}
    baselines = {c.model: c.key for c in candidates if c.role == "baseline"}
    taken = {candidate.label for candidate in candidates}
    wanted = {cell.key for cell in cells}
    found, notes = {}, []
    for item in kept["candidates"]:
        candidate = Candidate.from_json(item["candidate"])
        of = by_key.get(item["of"])
        if of is None or candidate.label in taken:
            why = (
                "the study has a candidate of this name now"
                if of is not None
                else f"the study has no longer the candidate it was made from ({item['label']})"
            )
            notes.append(f"{candidate.label}, imported, is left out: {why}")
            continue
        control = of.control or baselines[of.model]
        found[candidate.key] = replace(candidate, control=control)
    mine: list[Cell] = []
    for item in kept["cells"]:
        cell = Cell.from_json(item["cell"])
        if cell.candidate not in found:
            continue
        if item["beside"] in wanted or not item["beside"]:
            mine.append(cell)
        else:
            notes.append(
                f"{found[cell.candidate].label} under {cell.condition} on {cell.split}, imported, "
                "is left out: the study measures other images or in another way now; write the "
                "kit again and import new predictions"
            )
    return Imported(tuple(found.values()), tuple(mine), tuple(notes))
