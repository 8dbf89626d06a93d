"""Commands that read a run: results, pareto."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shrinkproof.cli import DONE, UNFINISHED
from shrinkproof.cli.options import AsCsv, AsJson, RunFolder
from shrinkproof.cli.output import print_csv, print_json
from shrinkproof.errors import UsageError

if TYPE_CHECKING:
    from shrinkproof.results import Results


def results(
    folder: RunFolder,
    json: AsJson = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print all records as CSV, one number per row.")
    ] = False,
    tidy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what was measured on the printed split as CSV (.csv or .csv.gz) that "
            "import reads.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --tidy, only these metrics; may be repeated."),
    ] = None,
) -> int:
    """Show the candidates with their numbers; all records with --json or --csv."""
    from shrinkproof.results import Results

    found = Results.load(folder)
    if metric and tidy is None:
        raise UsageError("--metric: needs --tidy FILE, got none; add it, or leave --metric out")
    if tidy is not None:
        from shrinkproof.results.tidy import write_tidy

        write_tidy(found, tidy, metric or ())
    if json:
        print_json(records=[record.as_json() for record in found.records], caveats=found.caveats)
    elif csv:
        typer.echo(found.frame().write_csv(), nl=False)
    elif tidy is not None:
        typer.echo(tidy)
    else:
        from shrinkproof.cli.tables import print_results

        print_results(found)
    return UNFINISHED if found.failures else DONE


def pareto(
    folder: RunFolder,
    minimize: Annotated[
        list[str] | None,
        typer.Option(metavar="SELECTOR", help="Fronts of other objectives; may be repeated."),
    ] = None,
    maximize: Annotated[
        list[str] | None,
        typer.Option(metavar="SELECTOR", help="Fronts of other objectives; may be repeated."),
    ] = None,
    json: AsJson = False,
    csv: AsCsv = False,
) -> int:
    """Show the front and the choice, computed on the select split."""
    from shrinkproof.results import Results
    from shrinkproof.results.deciding import decision_rows, with_trades

    found = Results.load(folder)
    if minimize or maximize:
        return _fronts(found, minimize or (), maximize or (), json=json, csv=csv)
    decision = found.decision
    if decision is None:
        raise UsageError(
            f"{folder}: the study has no 'select' section, so there is nothing to choose by; add "
            "one, for example select: {minimize: [robustness.mean_error, cost.bytes]}, and run it "
            "again"
        )
    decision = with_trades(found, decision)
    if json:
        uncertainty = found.uncertainty
        print_json(
            split=found.deciding,
            **asdict(decision),
            rules_on_report=[check.as_json() for check in found.rules_on_report],
            uncertainty=uncertainty.as_json() if uncertainty else None,
            fronts=[front.as_json() for front in found.fronts],
            candidates=decision_rows(found, decision),
            caveats=found.caveats,
        )
    elif csv:
        print_csv(decision_rows(found, decision))
    else:
        from shrinkproof.cli.decisions import print_decision
        from shrinkproof.cli.fronts import print_fronts

        print_decision(found, decision)
        if len(found.fronts) > 1:
            print_fronts(found, found.fronts)
    return DONE if decision.chosen else UNFINISHED


def _fronts(
    found: Results, minimize: Sequence[str], maximize: Sequence[str], *, json: bool, csv: bool
) -> int:
    """Show the fronts of objectives that are not the study's."""
    from shrinkproof.cli.fronts import print_fronts
    from shrinkproof.cli.tables import print_scale
    from shrinkproof.results.deciding import objectives_of
    from shrinkproof.results.fronts import fronts_of

    fronts = fronts_of(found, objectives_of(minimize, maximize))
    if json:
        print_json(fronts=[front.as_json() for front in fronts], caveats=found.caveats)
    elif csv:
        study = found.spec.full_name
        print_csv([{**row, "study": study} for front in fronts for row in front.as_rows()])
    else:
        print_fronts(found, fronts)
        print_scale(found)
    return DONE if any(front.members for front in fronts) else UNFINISHED
