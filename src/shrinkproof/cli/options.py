"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shrinkproof.errors import UsageError

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study file (YAML).")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV, one row per line.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Evaluate on a stratified subset of N images per split."),
]
Scale = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which of the scales that the study file offers."),
]
Root = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=PATH",
        help="Where data or weights are, e.g. cifar10=~/data; or SHRINKPROOF_CIFAR10, "
        "SHRINKPROOF_WEIGHTS.",
    ),
]


def roots(pairs: list[str] | None) -> dict[str, Path]:
    """Return the named places of ``NAME=PATH`` options.

    Raises:
        UsageError: a pair is not of that form, or its path does not exist.
    """
    found = {}
    for pair in pairs or []:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--root: must be NAME=PATH, got {pair!r}; e.g. cifar10=~/data")
        place = Path(path).expanduser()
        if not place.exists():
            raise UsageError(f"--root {name}: {place} does not exist")
        found[name] = place.resolve()
    return found
