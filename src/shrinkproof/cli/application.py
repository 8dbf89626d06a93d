"""All commands, in the groups that ``--help`` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import typer

from shrinkproof.cli import (
    certify,
    compare,
    compress,
    corrupt,
    decide,
    deliver,
    explain,
    export,
    foreign,
    gallery,
    gate,
    sensitivity,
    start,
    study,
    tools,
    verdict,
)

app = typer.Typer(
    name="shrinkproof",
    help="Compress a CNN after training and prove what that did to it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={
        "help_option_names": ["--help", "-h"],
        "auto_envvar_prefix": "SHRINKPROOF",
    },
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(
        # A variable called SHRINKPROOF_VERSION may well exist, and mean something else.
        False,
        "--version",
        help="Print the version and stop.",
        allow_from_autoenv=False,
    ),
) -> None:
    if version:
        from shrinkproof import __version__

        typer.echo(f"shrinkproof {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_GROUPS: Final[dict[str, tuple[Callable[..., int], ...]]] = {
    "Start": (start.demo, start.init, compress.compress, start.doctor),
    "Study": (study.check, study.plan, study.run, study.score, study.status),
    "Decide": (
        decide.results,
        decide.pareto,
        certify.certify,
        explain.explain,
        compare.compare,
        gate.gate,
        verdict.verdict,
    ),
    "Deliver": (deliver.report, export.export),
    "Tools": (
        *(corrupt.corrupt, gallery.gallery, sensitivity.sensitivity, foreign.kit),
        *(tools.list_, tools.schema),
    ),
}

for group, commands in _GROUPS.items():
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel=group)(command)

app.add_typer(foreign.import_, name="import", rich_help_panel="Tools")
