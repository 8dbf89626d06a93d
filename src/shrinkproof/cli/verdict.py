"""The command that judges the claims of a paper by finished runs, at 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape
from rich.padding import Padding

from shrinkproof.cli import DONE
from shrinkproof.cli.options import AsJson
from shrinkproof.cli.output import print_json
from shrinkproof.cli.tables import console_of, empty_table
from shrinkproof.errors import UnknownNameError

if TYPE_CHECKING:
    from rich.console import Console

    from shrinkproof.verdict.claims import Paper
    from shrinkproof.verdict.outcomes import Outcome

_STYLES: Final = {"reproduced": "green", "not reproduced": "red"}
_INDENT: Final = (0, 0, 0, 2)
_WORDS: Final = ("verdict", "notes")
_APART: Final = "not comparable"


def verdict(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Finished runs.")],
    paper: Annotated[
        str,
        typer.Option(metavar="NAME", help="Whose claims: mitra2024, mantowsky2023, dasilva2025."),
    ],
    json: AsJson = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown tables, for documents.")
    ] = False,
) -> int:
    """Show which claims of a paper hold in runs: ours with interval, verdict and reasons."""
    from shrinkproof.results import Results
    from shrinkproof.verdict.judging import judge
    from shrinkproof.verdict.papers import PAPERS
    from shrinkproof.verdict.showing import as_json, as_markdown

    if paper not in PAPERS:
        raise UnknownNameError("paper", paper, PAPERS)
    chosen = PAPERS[paper]
    outcomes = judge(chosen, [Results.load(folder) for folder in folders])
    if json:
        print_json(**as_json(chosen, outcomes))
    elif markdown:
        typer.echo(as_markdown(chosen, outcomes))
    else:
        print_verdicts(chosen, outcomes)
    return DONE


def print_verdicts(paper: Paper, outcomes: Sequence[Outcome]) -> None:
    """Print the claims one after the other, a row per network, and the notes at the end."""
    from shrinkproof.verdict.showing import by_claim, legend, numbered

    console = console_of()
    console.print(f"{paper.title}\n{paper.reference}", markup=False)
    notes = numbered(reason for outcome in outcomes for reason in _beside(outcome))
    for claim, found in by_claim(paper, outcomes):
        console.print(f"\n{claim.name}  {claim.says}", markup=False, style="bold")
        _print_text(console, f"published: {claim.published} ({claim.where})", 2)
        _print_claim(console, found, notes)
    if notes:
        console.print("\nNotes", style="bold")
    for text, number in notes.items():
        _print_text(console, f"{number:3}  {text}", 0, hanging=5)
    console.print()
    for line in legend(paper, outcomes):
        _print_text(console, line, 0)


def _print_text(console: Console, text: str, indent: int, hanging: int | None = None) -> None:
    """Print a text in lines of the width of the terminal."""
    blanks = " " * indent, " " * (indent if hanging is None else hanging)
    lines = textwrap.fill(
        text,
        console.width,
        initial_indent=blanks[0],
        subsequent_indent=blanks[1],
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(lines, markup=False, soft_wrap=True)


def _print_claim(console: Console, outcomes: Sequence[Outcome], notes: Mapping[str, int]) -> None:
    """Print the tests of a claim; controls that lack the same as their claim in one line."""
    obstacles = {outcome.reasons[:1] for outcome in outcomes if outcome.verdict == _APART}
    is_apart = len(obstacles) == 1 and all(o.verdict == _APART for o in outcomes)
    for is_control, same in groupby(outcomes, key=lambda outcome: outcome.is_control):
        if is_control and is_apart:
            _print_text(console, "controls: not comparable, for the same reason", 2)
            continue
        for test, rows in groupby(same, key=lambda outcome: outcome.test):
            _print_test(console, test, list(rows), notes, is_control=is_control)


def _print_test(
    console: Console,
    test: str,
    outcomes: Sequence[Outcome],
    notes: Mapping[str, int],
    *,
    is_control: bool,
) -> None:
    """Print one test: where it cannot be compared in a line, else a row per network."""
    from shrinkproof.verdict.showing import (
        amount,
        ends,
        has_one_run,
        notes_of,
        p_text,
        place_of,
    )

    _print_text(console, f"control: {test}" if is_control else test, 2)
    is_one = has_one_run(outcomes)
    shown = [outcome for outcome in outcomes if outcome.verdict != _APART]
    if shown:
        rows = [
            {
                "where": escape(place_of(outcome, is_one_run=is_one)),
                "ours": amount(outcome.value, outcome.unit),
                "95 % interval": ends(outcome),
                "p": p_text(outcome),
                "verdict": outcome.verdict,
                "notes": notes_of(_beside(outcome), notes),
            }
            for outcome in shown
        ]
        columns = [name for name in rows[0] if any(row[name] for row in rows)]
        table = empty_table(*columns)
        table.show_header = not is_control
        for outcome, row in zip(shown, rows, strict=True):
            style = _STYLES.get(outcome.verdict)
            table.add_row(*(row[name] for name in columns), style=style)
        table.columns[0].vertical = "top"
        for column, name in zip(table.columns, columns, strict=True):
            if name in _WORDS:
                column.justify, column.no_wrap = "left", False
                column.min_width = max(len(word) for row in rows for word in row[name].split(" "))
        console.print(Padding(table, _INDENT, expand=False))
    missing = sorted((o for o in outcomes if o.verdict == _APART), key=lambda o: o.reasons[:1])
    for reasons, same in groupby(missing, key=lambda o: o.reasons[:1]):
        members = list(same)
        where = ", ".join(place_of(o, is_one_run=is_one) + _ours(o) for o in members)
        why = reasons[0] if reasons else "nothing is known"
        numbers = notes_of([r for outcome in members for r in _beside(outcome)], notes)
        more = f" (notes {numbers})" if numbers else ""
        _print_text(console, f"{_APART}: {where}: {why}{more}", 4)


def _beside(outcome: Outcome) -> tuple[str, ...]:
    """Return the reasons that stand in notes; the first one of what is apart stands in its line."""
    return outcome.reasons[1:] if outcome.verdict == _APART else outcome.reasons


def _ours(outcome: Outcome) -> str:
    """Return our value in brackets where there is one although it cannot be compared."""
    from shrinkproof.verdict.showing import amount

    return "" if outcome.value is None else f" (ours {amount(outcome.value, outcome.unit)})"
