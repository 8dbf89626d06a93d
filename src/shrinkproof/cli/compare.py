"""The command that says what differs between two candidates, at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from shrinkproof.cli import DONE
from shrinkproof.cli.options import AsCsv, AsJson, RunFolder
from shrinkproof.cli.output import print_csv, print_json
from shrinkproof.cli.tables import console_of, empty_table
from shrinkproof.metrics.detection.names import MPC

if TYPE_CHECKING:
    from rich.console import Console

    from shrinkproof.results.comparing import Comparison, Row


def compare(
    folder: RunFolder,
    first: Annotated[
        str, typer.Argument(metavar="A", help="Candidate to compare with, MODEL/RECIPE or RECIPE.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="Candidate that is compared with A.")],
    other: Annotated[
        Path | None,
        typer.Option("--with", metavar="DIR", help="Run of B, where it is another one."),
    ] = None,
    json: AsJson = False,
    csv: AsCsv = False,
) -> int:
    """Show what differs from candidate A to candidate B, paired where the images are the same."""
    from shrinkproof.results import Results
    from shrinkproof.results.comparing import as_table
    from shrinkproof.results.comparing import compare as of_two

    results = Results.load(folder)
    is_one = other is None or other.resolve() == folder.resolve()
    found = of_two(results, first, results if is_one else Results.load(other or folder), second)
    if json:
        print_json(**found.as_json())
    elif csv:
        print_csv(as_table(found))
    else:
        print_comparison(found)
    return DONE


def print_comparison(found: Comparison) -> None:
    """Print the comparison; only what changed of its long lists."""
    console = console_of()
    how = f"{found.count} images, paired" if not found.unpaired else "not paired"
    for letter, label, run in zip("AB", (found.first, found.second), found.runs, strict=True):
        console.print(f"{letter} {label} of {run}", markup=False)
    console.print(f"{found.split} split, {how}", markup=False)
    _print_rows(console, "clean images", found.clean)
    _print_rows(console, "all corrupted conditions", found.corrupted)
    is_of_boxes = any(row.selector.startswith(MPC) for row in found.corruptions)
    what = ("mPC", "AP") if is_of_boxes else ("error", "accuracy")
    _print_rows(console, f"{what[0]} by corruption", found.corruptions)
    _print_rows(console, "sizes and times", found.costs)
    _print_long(console, "conditions", f"{what[1]} under", found.conditions)
    _print_long(console, "classes", "recall of", found.classes)
    _print_flips(console, found)
    console.print()
    for line in _legend(found):
        console.print(line, markup=False)
    for caveat in found.caveats:
        console.print(f"caveat: {caveat}", markup=False)


def _print_rows(console: Console, title: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    table = empty_table(title, "A", "B", "B - A", "95 %\ninterval", "p", "B is")
    for row in rows:
        style = "green" if row.verdict == "better" else "red" if row.verdict == "worse" else None
        table.add_row(
            escape(_name(row)),
            _short(row.first),
            _short(row.second),
            _ratio(row) if row.ratio is not None else _signed(row.difference),
            _interval(row),
            _p(row),
            _verdict(row),
            style=style,
        )
    table.columns[-1].justify = "left"
    table.columns[-1].no_wrap = False
    console.print()
    console.print(table)


def _print_long(console: Console, noun: str, title: str, rows: Sequence[Row]) -> None:
    """Print how many of many rows changed, and which."""
    if not rows:
        return
    counts = {v: [row for row in rows if row.verdict == v] for v in ("better", "worse")}
    text = f"{title} {len(rows)} {noun}: " + ", ".join(
        f"{len(found)} {verdict}" for verdict, found in counts.items()
    )
    apart = sum(row.verdict == "not comparable" for row in rows)
    rest = len(rows) - sum(map(len, counts.values())) - apart
    text += f", {rest} without a difference shown" + f", {apart} not comparable" * bool(apart)
    console.print(f"\n{text}", markup=False)
    for verdict, found in counts.items():
        names = [f"{_place(row)} {_signed(row.difference)}" for row in _largest(found)]
        if names:
            more = f" and {len(found) - len(names)} more" if len(found) > len(names) else ""
            console.print(f"  {verdict}: {', '.join(names)}{more}", markup=False)


def _largest(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -abs(row.difference or 0))[:6]


def _print_flips(console: Console, found: Comparison) -> None:
    clean = next((f for f in found.flips if f.condition == "clean"), None)
    corrupted = [f for f in found.flips if f.condition != "clean"]
    if clean is not None:
        console.print(
            f"\nclean images: {clean.lost} right only in A, {clean.gained} right only in B, "
            f"{clean.changed} of {clean.count} with another class",
            markup=False,
        )
    if corrupted:
        worst = max(corrupted, key=lambda f: f.lost - f.gained)
        console.print(
            f"corrupted images: {sum(f.lost for f in corrupted)} right only in A, "
            f"{sum(f.gained for f in corrupted)} only in B, of {sum(f.count for f in corrupted)}; "
            f"most lost under {worst.condition}: {worst.lost} to {worst.gained}",
            markup=False,
        )


def _legend(found: Comparison) -> list[str]:
    rows = found.rows
    lines = ["B - A is B/A for sizes and times; 'no diff.' means that no difference is shown."]
    if any(row.p is not None for row in rows):
        lines.append(
            "p is McNemar's test; by corruption and by condition after Holm's correction. Other "
            "intervals hold one at a time, those of classes all at once."
        )
    shown = (*found.clean, *found.corrupted, *found.corruptions, *found.costs)
    if any(_is_untested(row) for row in shown):
        lines.append("'untested' means: no interval of this difference has a tested coverage.")
    if any(row.margin is not None for row in rows):
        lines.append("'kept' means: shown by a test to be worse by less than the margin.")
    return lines


def _name(row: Row) -> str:
    """Return a selector without its family and what the title of its table says."""
    name = row.selector
    for end in ("@clean", "@corrupted"):
        name = name.removesuffix(end)
    return name.rpartition("@")[2] if "@" in name else name.partition(".")[2]


def _place(row: Row) -> str:
    """Return the condition of a row, or its class."""
    if "{class=" in row.selector:
        return row.selector.partition("{class=")[2].partition("}")[0]
    return row.selector.partition("@")[2]


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def _ratio(row: Row) -> str:
    return "-" if row.ratio is None else f"x{row.ratio:.3g}"


def _interval(row: Row) -> str:
    if row.low is None or row.high is None:
        return ""
    if row.low == row.high:
        return "exact"
    if row.ratio_low is not None and row.ratio_high is not None:
        return f"x{row.ratio_low:.3g} x{row.ratio_high:.3g}"
    return f"{row.low:+.2g} {row.high:+.2g}"


def _p(row: Row) -> str:
    p = row.p if row.adjusted_p is None else row.adjusted_p
    return "" if p is None else "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _is_untested(row: Row) -> bool:
    """Return whether a difference has neither a test nor an interval."""
    return row.difference is not None and row.p is None and row.low is None


def _verdict(row: Row) -> str:
    if row.verdict == "no difference shown" and _is_untested(row):
        return "untested"
    words = {"kept within margin": "kept", "no difference shown": "no diff."}
    text = words.get(row.verdict, row.verdict)
    return f"{text}, kept" if row.verdict == "worse" and row.is_kept else text
