"""Commands on studies: check, plan, run, status."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shrinkproof.cli import DONE, UNFINISHED
from shrinkproof.cli.options import AsCsv, AsJson, Limit, Root, RunFolder, StudyFile, roots
from shrinkproof.cli.output import print_csv, print_json
from shrinkproof.errors import UsageError

if TYPE_CHECKING:
    from shrinkproof.protocols import Engine


def check(
    study: StudyFile,
    load: Annotated[
        bool,
        typer.Option(
            "--load",
            help="Also read the data, build each model, and run every recipe on a few images.",
        ),
    ] = False,
    root: Root = None,
) -> int:
    """Check a study file: names, fields, needs, splits, files present; --load reads them."""
    from shrinkproof.study import Study

    found = Study.load(study, roots=roots(root))
    found.inputs.check_present()
    spec = found.spec
    recipes, conditions = len(spec.candidate_recipes()), len(spec.conditions_list())
    typer.echo(
        f"{study}: ok, {len(spec.models)} model(s), {recipes} recipe(s), {conditions} condition(s)"
    )
    if load:
        from shrinkproof.study.rehearsal import rehearse

        for line in rehearse(found):
            typer.echo(line)
    return DONE


def plan(study: StudyFile, limit: Limit = None, root: Root = None, json: AsJson = False) -> int:
    """Show the candidates and cells that a study wants, and the controls it gets."""
    from shrinkproof.study import Study

    wanted = Study.load(study, roots=roots(root), limit=limit).plan()
    if json:
        print_json(
            candidates=[candidate.as_json() for candidate in wanted.candidates],
            cells=[cell.as_json() for cell in wanted.cells],
            splits=wanted.splits,
            notes=wanted.notes,
            contamination=wanted.contamination,
        )
        return DONE
    from shrinkproof.cli.tables import print_plan

    print_plan(wanted)
    return DONE


def run(
    study: StudyFile,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run directory; default runs/<study>.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="inline, processes, or auto: processes where there are cores.")
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; default: one per core.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only recipes whose model/recipe matches."),
    ] = None,
    limit: Limit = None,
    root: Root = None,
    no_retry: Annotated[
        bool, typer.Option("--no-retry", help="Leave earlier failures alone.")
    ] = False,
) -> int:
    """Run what is missing of a study; the same command continues, repairs and extends."""
    from shrinkproof.cli.progress import watcher
    from shrinkproof.cli.tables import print_outcome
    from shrinkproof.study import Study

    found = Study.load(study, roots=roots(root), limit=limit)
    folder = out or Path("runs") / found.spec.study
    with watcher() as progress:
        results = found.run(
            folder,
            engine=engine_of(engine, workers, found.spec.threads),
            only=only,
            retry=not no_retry,
            progress=progress,
        )
    print_outcome(results)
    return UNFINISHED if results.failures else DONE


def engine_of(name: str, workers: int | None, threads: int) -> Engine:
    """Return the engine of a name; ``auto`` takes processes where there are cores for two."""
    from shrinkproof.engines import ENGINES

    count = workers or max(1, (os.cpu_count() or 1) // threads)
    if name == "auto":
        name = "processes" if count > 1 else "inline"
    if name == "inline" and workers not in (None, 1):
        raise UsageError(f"--workers: the inline engine has one worker, got {workers}")
    settings = {"workers": count} if name == "processes" else {}
    engine: Engine = ENGINES.create(name, settings)
    return engine


def score(
    folder: RunFolder,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also compute this metric; may be repeated."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="inline, processes, or auto: processes where there are cores.")
    ] = "auto",
) -> int:
    """Recompute all metrics of a run from its stored predictions; no model is needed."""
    from shrinkproof.cli.progress import watcher
    from shrinkproof.cli.tables import print_outcome
    from shrinkproof.study.scoring import rescore

    with watcher() as progress:
        results = rescore(
            folder, add=metric or (), engine=engine_of(engine, None, 1), progress=progress
        )
    print_outcome(results)
    return UNFINISHED if results.failures else DONE


def status(folder: RunFolder, json: AsJson = False, csv: AsCsv = False) -> int:
    """Show what of a run is done, failed and missing."""
    from shrinkproof.results import Results

    results = Results.load(folder)
    if json:
        failures = [
            {k: f[k] for k in ("key", "label", "type", "message")} for f in results.failures
        ]
        print_json(**results.progress, failures=failures, missing_of=results.missing)
    elif csv:
        from shrinkproof.results.states import states_of

        print_csv(states_of(results))
    else:
        from shrinkproof.cli.tables import print_status

        print_status(results)
    return UNFINISHED if results.failures else DONE
