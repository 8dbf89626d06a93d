"""The command for continuous integration: rules that a candidate must keep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from shrinkproof.cli import DONE, UNFINISHED
from shrinkproof.cli.options import AsJson, RunFolder
from shrinkproof.cli.output import print_json
from shrinkproof.cli.tables import console_of, empty_table
from shrinkproof.errors import UsageError

if TYPE_CHECKING:
    from shrinkproof.decision.gate import Finding, Gate


def gate(
    folder: RunFolder,
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", help="Which one; default: the chosen one.")
    ] = "",
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="'accuracy.top1@clean >= 0.9', 'change(accuracy.top1@clean) >= -0.01' or "
            "'ratio(cost.bytes) <= 1.05'; may be repeated.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run of the baseline, for changes and ratios."),
    ] = None,
    baseline: Annotated[
        str, typer.Option(metavar="LABEL", help="Candidate of that run; default: the chosen one.")
    ] = "",
    sure: Annotated[
        bool,
        typer.Option("--sure", help="The end of the interval must keep the rule, too."),
    ] = False,
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write this look at the images to a ledger and spend its error; implies --sure.",
        ),
    ] = None,
    looks: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many looks the ledger plans for."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the outcome as JUnit XML.")
    ] = None,
    json: AsJson = False,
) -> int:
    """Check rules, against another run where they need one; exit with 1 if one is broken."""
    from shrinkproof.results import Results
    from shrinkproof.results.gating import Looks
    from shrinkproof.results.gating import gate as check

    if (ledger is None) != (looks is None):
        raise UsageError(
            "--ledger: must come with --looks, the number of looks planned, and only then; give "
            "both or none"
        )
    results = Results.load(folder)
    is_one = against is not None and against.resolve() == folder.resolve()
    found = check(
        results,
        rule or (),
        candidate=candidate,
        against=None if against is None else results if is_one else Results.load(against),
        baseline=baseline,
        sure=sure,
        looks=None if ledger is None or looks is None else Looks(ledger, looks),
    )
    if junit is not None:
        _write(found, junit)
    if json:
        print_json(**found.as_json())
    else:
        print_gate(found)
    return DONE if found.is_open else UNFINISHED


def _write(found: Gate, path: Path) -> None:
    import datetime

    from shrinkproof.atomic import explained, replace_file
    from shrinkproof.decision.junit import as_junit

    content = as_junit(found, datetime.datetime.now(datetime.UTC))
    with explained(path):
        replace_file(path, lambda file: file.write(content))


def print_gate(found: Gate) -> None:
    """Print the rules with their numbers, then those that are broken, and the verdict."""
    console = console_of()
    console.print(f"{found.candidate or 'no candidate was chosen'} of {found.run}", markup=False)
    if found.against:
        what = found.baseline or "no candidate was chosen"
        console.print(f"against {what} of {found.against}", markup=False)
    console.print(f"{found.split} split, {found.count} images\n", markup=False)
    table = empty_table("", "rule", "value", f"{100 * found.level:.4g} % interval", "holds", left=2)
    for outcome in found.outcomes:
        table.add_row(
            "" if outcome.holds else "x",
            escape(str(outcome.rule)),
            _number(outcome.finding.value),
            _interval(outcome.finding),
            "surely" if outcome.is_sure and outcome.holds else "yes" if outcome.holds else "no",
            style=None if outcome.holds else "bold red",
        )
    console.print(table)
    console.print()
    for outcome in found.broken:
        console.print(f"broken: {outcome.rule}: {outcome.why}", markup=False)
    for note in found.notes:
        console.print(f"note: {note}", markup=False)
    console.print(_verdict(found), style="bold green" if found.is_open else "bold red")


def _verdict(found: Gate) -> str:
    count = len(found.outcomes)
    if not found.is_valid:
        return "closed: this look was not planned, so nothing it shows counts"
    if found.broken:
        return f"closed: {len(found.broken)} of {count} rule(s) broken"
    unsure = sum(not outcome.is_sure for outcome in found.outcomes)
    if unsure:
        return f"open: {count} rule(s) hold, {unsure} of them only as a point estimate"
    return f"open: {count} rule(s) hold surely"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _interval(finding: Finding) -> str:
    if finding.low is None or finding.high is None:
        return "none"
    if finding.low == finding.high:
        return "exact"
    return f"{finding.low:.4g} to {finding.high:.4g}"
