"""Which passes measure what is missing, and which cells can be put together from their parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from shrinkproof.evaluators.scores import Scores
from shrinkproof.records import Cell, Condition
from shrinkproof.store import Part, Store
from shrinkproof.study.scoring import Assembling
from shrinkproof.study.shares import Unit
from shrinkproof.study.work.measuring import Pass


def passes_of(
    store: Store,
    missing: Iterable[Cell],
    parts: Mapping[str, Sequence[Part]],
    *,
    workers: int,
    takes: Callable[[Unit], bool],
) -> Iterator[Pass]:
    """Yield the passes that measure the missing scores, in the order of the plan.

    A pass over a split of several parts is as many pieces of work; parts that are stored from
    before a kill are left out.

    Args:
        store: the run directory, absolute.
        missing: cells that nobody has measured.
        parts: split -> the parts of a pass over it.
        workers: how many pieces of work share the machine.
        takes: whether some work is this launcher's.
    """
    places: dict[tuple[str, Condition], list[Cell]] = {}
    for cell in missing:
        if cell.evaluator == Scores.name:
            places.setdefault((cell.split, cell.condition), []).append(cell)
    for (split, condition), cells in places.items():
        divided = parts.get(split, ())
        for part in divided if len(divided) > 1 else (None,):
            if not takes(Unit(Scores.name, split, condition, part=part.index if part else 0)):
                continue
            lacking = tuple(c for c in cells if part is None or not store.parts(c.key).has(part))
            if lacking:
                yield Pass(str(store.path), split, condition, lacking, workers, part)


def assemblings_of(
    store: Store,
    cells: Iterable[Cell],
    parts: Mapping[str, Sequence[Part]],
    scores: Scores,
    *,
    failed: Collection[str],
    is_done: Callable[[Cell], bool],
) -> Iterator[Assembling]:
    """Yield what puts together the cells of which all parts are stored.

    Parts of cells that are done, left by a kill just after, are removed.

    Args:
        store: the run directory.
        cells: what the study wants.
        parts: split -> the parts of a pass over it.
        scores: how the numbers are made.
        failed: keys of the cells that are not tried again.
        is_done: whether a cell has all its numbers.
    """
    begun = store.in_parts()
    for cell in cells if begun else ():
        if cell.key not in begun or cell.key in failed:
            continue
        divided = tuple(parts.get(cell.split, ()))
        if is_done(cell):
            store.parts(cell.key).forget()
        elif len(divided) > 1 and all(store.parts(cell.key).has(part) for part in divided):
            yield Assembling(str(store.path), scores, cell, divided)
