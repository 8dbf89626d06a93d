"""Commands on studies: check, plan, run, status."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from shrinkproof.cli import DONE, UNFINISHED
from shrinkproof.cli.options import AsCsv, AsJson, Limit, Root, RunFolder, Scale, StudyFile, roots
from shrinkproof.cli.output import print_csv, print_json
from shrinkproof.errors import UsageError

if TYPE_CHECKING:
    from shrinkproof.protocols import Engine
    from shrinkproof.records import Json


def check(
    study: StudyFile,
    load: Annotated[
        bool,
        typer.Option(
            "--load",
            help="Also read the data, build each model, and run every recipe on a few images.",
        ),
    ] = False,
    scale: Scale = None,
    root: Root = None,
) -> int:
    """Check a study file: names, fields, needs, splits, files present; --load reads them."""
    from shrinkproof.study import Study

    found = Study.load(study, roots=roots(root), scale=scale)
    found.inputs.check_present()
    spec = found.spec
    recipes, conditions = len(spec.candidate_recipes()), len(spec.conditions_list())
    typer.echo(
        f"{study}: ok, {len(spec.models)} model(s), {recipes} recipe(s), {conditions} condition(s)"
    )
    if spec.scale_note:
        typer.echo(spec.scale_note)
    if load:
        from shrinkproof.study.rehearsal import rehearse

        for line in rehearse(found):
            typer.echo(line)
    return DONE


def plan(
    study: StudyFile,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Leave out what is done in this run directory."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers that the run will have; default: as `run`.")
    ] = None,
    no_probe: Annotated[
        bool,
        typer.Option("--no-probe", help="Measure nothing: no estimate of time and memory."),
    ] = False,
    scale: Scale = None,
    limit: Limit = None,
    root: Root = None,
    json: AsJson = False,
) -> int:
    """Show what a study wants, and estimate its time, memory and disk by a short probe."""
    from shrinkproof.cli.planned import json_of, print_estimate, print_plan
    from shrinkproof.cli.progress import watcher
    from shrinkproof.store import Store
    from shrinkproof.study import Study
    from shrinkproof.study.estimate import estimate_study, work_of

    start = time.perf_counter()
    found = Study.load(study, roots=roots(root), limit=limit, scale=scale)
    wanted = found.plan()
    planned = time.perf_counter() - start
    work = work_of(found.spec, wanted, None if out is None else Store.open(out))
    if not json:
        print_plan(wanted, work)
    values: dict[str, Any] = {}
    is_probed = not no_probe and not work.is_done
    if is_probed:
        spec = found.spec
        engine = engine_of("auto", workers, spec.threads, spec.measure.inference.device)
        with watcher() as progress:
            estimate, rates = estimate_study(
                found.inputs, work, workers=engine.beside, planned=planned, progress=progress
            )
        values = {"estimate": estimate.as_json(), "probe": rates.as_json()}
    if json:
        print_json(
            candidates=[candidate.as_json() for candidate in wanted.candidates],
            cells=[cell.as_json() for cell in wanted.cells],
            splits=wanted.splits,
            notes=wanted.notes,
            contamination=wanted.contamination,
            work=json_of(work),
            **values,
        )
    elif is_probed:
        print_estimate(estimate, rates)
    return DONE


def run(
    study: StudyFile,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run directory; default runs/<study>[-<scale>]."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="inline, processes, ray, or auto: inline or processes.")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Pieces of work at once; default: one per core or GPU."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only recipes whose model/recipe matches."),
    ] = None,
    scale: Scale = None,
    limit: Limit = None,
    root: Root = None,
    no_retry: Annotated[
        bool, typer.Option("--no-retry", help="Leave earlier failures alone.")
    ] = False,
    stage: Annotated[
        Literal["prepare", "measure"] | None,
        typer.Option(help="Only prepare candidates, or only measure them on images."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only share I of N of the stage, e.g. 3/16."),
    ] = None,
) -> int:
    """Run what is missing of a study; the same command continues, repairs and extends."""
    from shrinkproof.cli.progress import watcher
    from shrinkproof.cli.tables import print_outcome
    from shrinkproof.study import Study

    found = Study.load(study, roots=roots(root), limit=limit, scale=scale)
    folder = out or Path("runs") / found.spec.full_name
    chosen = engine_of(engine, workers, found.spec.threads, found.spec.measure.inference.device)
    if stage is not None or shard is not None:
        from shrinkproof.cli.stages import print_stage

        with watcher() as progress:
            portion = found.run_stage(
                folder,
                stage,
                shard,
                engine=chosen,
                only=only,
                retry=not no_retry,
                progress=progress,
            )
        return DONE if print_stage(portion) else UNFINISHED
    with watcher() as progress:
        results = found.run(folder, engine=chosen, only=only, retry=not no_retry, progress=progress)
    print_outcome(results)
    return UNFINISHED if results.failures else DONE


def engine_of(name: str, workers: int | None, threads: int, device: str = "cpu") -> Engine:
    """Return the engine of a name; ``auto`` takes processes where there are devices for two.

    Args:
        name: as registered, or ``auto``.
        workers: most pieces of work at once; None for one per device.
        threads: cores of a piece of work.
        device: ``cpu``, or ``cuda``: each piece of work has a GPU.
    """
    from shrinkproof.engines import ENGINES
    from shrinkproof.engines.devices import visible_gpus
    from shrinkproof.environment import usable_cores

    gpus = visible_gpus() if device == "cuda" else ()
    count = workers or len(gpus) or max(1, usable_cores() // threads)
    if name == "auto":
        name = "processes" if count > 1 else "inline"
    if name == "inline" and workers not in (None, 1):
        raise UsageError(f"--workers: the inline engine has one worker, got {workers}")
    settings: dict[str, Json] = {
        "processes": {"workers": count, "devices": gpus},
        "ray": {"workers": workers, "cpus": threads, "gpus": float(device == "cuda")},
    }
    engine: Engine = ENGINES.create(name, settings.get(name, {}))
    return engine


def score(
    folder: RunFolder,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also compute this metric; may be repeated."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="inline, processes, ray, or auto: inline or processes.")
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
        print_json(
            **results.progress,
            failures=failures,
            missing_of=results.missing,
            scale=results.spec.scale_note,
        )
    elif csv:
        from shrinkproof.results.states import states_of

        print_csv(states_of(results))
    else:
        from shrinkproof.cli.tables import print_status

        print_status(results)
    return UNFINISHED if results.failures else DONE
