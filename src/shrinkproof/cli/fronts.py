"""The fronts of a run on the terminal: members, ranks, and why others are dominated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from shrinkproof.cli.tables import console_of, empty_table, heading_of, spelled_number
from shrinkproof.results.fronts import deciding_front
from shrinkproof.selectors import Selector
from shrinkproof.table import Number

if TYPE_CHECKING:
    from rich.table import Table

    from shrinkproof.decision.fronts import Axis, Front
    from shrinkproof.results import Results


def print_fronts(results: Results, fronts: Sequence[Front]) -> None:
    """Print fronts: its members, the ranks behind it, and by whom others are dominated.

    The table of members is left out where it would repeat the one of the decision, and so is what
    dominates a candidate across networks where its own network has said so before.
    """
    console = console_of()
    told: set[str] = set()
    for front in fronts:
        console.print()
        console.print(_title(front), markup=False, style="bold")
        if front.members and not _is_the_decisions(results, front):
            console.print(_members(front))
        for line in _lines(front, told):
            console.print(line, markup=False)
        told |= set(front.why)
    notes = dict.fromkeys(note for front in fronts for note in front.notes)
    if results.printing != results.deciding:
        notes[
            f"numbers are those of the {results.printing} split; ranks and hypervolumes are of the "
            f"{results.deciding} split"
        ] = None
    if notes:
        console.print()
    for note in notes:
        console.print(f"note: {note}", markup=False)


def _title(front: Front) -> str:
    count = f"{len(front.members)} of {len(front.values)} options"
    volume = "" if front.hypervolume is None else f", hypervolume {front.hypervolume:.3f}"
    return f"front of {front.name}: {count}{volume}"


def _is_the_decisions(results: Results, front: Front) -> bool:
    return results.decision is not None and front is deciding_front(results)


def _members(front: Front) -> Table:
    """Return the members with their printed numbers, and what each adds to the hypervolume."""
    headers = (heading_of(axis.selector) for axis in front.objectives)
    adds = ("adds",) if front.contributions else ()
    table = empty_table("candidate", *headers, *adds, left=1)
    for label in front.members:
        row = front.shown.get(label)
        cells = [
            "-" if row is None else _cell(axis, row[axis.selector]) for axis in front.objectives
        ]
        added = [f"{front.contributions[label]:.3f}"] if front.contributions else []
        table.add_row(escape(_short(front, label)), *cells, *added)
    return table


def _cell(axis: Axis, value: float) -> str:
    """Return a value in its unit; relative ones as a factor or with their sign."""
    if axis.relation == "ratio":
        return f"{value:.3g}x"
    metric = Selector.parse(axis.selector).metric
    text = spelled_number(Number(value, status="ok"), metric)
    return f"+{text}" if axis.relation == "difference" and value >= 0 else text


def _lines(front: Front, told: set[str]) -> Iterator[str]:
    """Yield the ranks behind the front, and who dominates whom."""
    deepest = max(front.ranks.values(), default=0)
    for rank in range(1, deepest + 1):
        labels = [_short(front, label) for label, at in front.ranks.items() if at == rank]
        yield f"rank {rank + 1}: {', '.join(labels)}"
    for label, why in front.why.items():
        if label not in told:
            yield f"dominated {_short(front, label)}: {_without_model(front, why)}"
    for label, why in front.left_out.items():
        if front.model:
            yield f"left out {_short(front, label)}: {why}"


def _short(front: Front, label: str) -> str:
    """Return a label without its network where the front is about one."""
    return label.removeprefix(f"{front.model}/") if front.model else label


def _without_model(front: Front, text: str) -> str:
    return text.removeprefix(f"{front.model}/") if front.model else text
