"""Commands that hand something over: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shrinkproof.cli import DONE
from shrinkproof.cli.options import RunFolder


def report(
    folder: RunFolder,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Where to write it; default DIR/report.html.")
    ] = None,
) -> int:
    """Write the report of a run: one HTML file that needs no network."""
    from shrinkproof.results import Results

    path = Results.load(folder).report(out)
    typer.echo(str(path))
    return DONE
