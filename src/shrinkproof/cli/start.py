"""Commands to start with: demo, init, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shrinkproof.cli import DONE, UNFINISHED
from shrinkproof.demo import Task
from shrinkproof.errors import UsageError


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write the demo.")] = Path(
        "demo-run"
    ),
    task: Annotated[
        Task,
        typer.Option("--task", help="'classification' of digits, or 'detection' in scenes."),
    ] = "classification",
) -> int:
    """Train, compress and prove a small network on real digits; no download, about a minute.

    Detection takes up to three minutes.
    """
    from shrinkproof.cli.progress import watcher
    from shrinkproof.cli.tables import print_outcome
    from shrinkproof.demo import run_demo

    with watcher() as progress:
        results = run_demo(folder, progress, task)
    print_outcome(results)
    return UNFINISHED if results.failures else DONE


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file to write.")] = Path(
        "study.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> int:
    """Write a commented study file to start from."""
    from shrinkproof.spec import example_study

    if file.exists() and not force:
        raise UsageError(f"{file} exists; choose another name, or replace it with --force")
    try:
        file.write_text(example_study(), "utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from error
    typer.echo(f"wrote {file}; edit it, then: shrinkproof check {file}")
    return DONE


def doctor() -> int:
    """Show versions and devices, and what is broken with the command that repairs it."""
    from shrinkproof.cli.tables import print_findings
    from shrinkproof.doctor import report_doctor

    findings = report_doctor()
    print_findings(findings)
    return UNFINISHED if any(finding.status == "error" for finding in findings) else DONE
