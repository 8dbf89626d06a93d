"""The command that tests candidates for promises, and its table at 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from shrinkproof.cli import DONE, UNFINISHED
from shrinkproof.cli.options import AsJson, RunFolder
from shrinkproof.cli.output import print_json
from shrinkproof.cli.tables import console_of, empty_table

if TYPE_CHECKING:
    from rich.table import Table

    from shrinkproof.records import Json


def certify(
    folder: RunFolder,
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Ledger of the looks at certify images; default: certify-ledger.jsonl beside the "
            "study file.",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="inline, processes, ray, or auto: inline or processes.")
    ] = "auto",
    json: AsJson = False,
) -> int:
    """Test candidates for the study's promises, on images that nothing else has touched."""
    from shrinkproof.cli.progress import watcher
    from shrinkproof.cli.study import engine_of
    from shrinkproof.study.certifying import certify as test

    with watcher() as progress:
        found = test(folder, ledger=ledger, engine=engine_of(engine, None, 1), progress=progress)
    if json:
        print_json(certificate=found)
    else:
        print_certificate(found)
    return DONE if found["certified"] else UNFINISHED


def print_certificate(certificate: Json) -> None:
    """Print promises, candidates and scope."""
    console = console_of()
    is_valid = certificate["status"] == "valid"
    style = "bold green" if certificate["certified"] else "bold red"
    console.print(
        f"certificate {certificate['status']}: {certificate['why']}", style=style, markup=False
    )
    if not is_valid:
        console.print("Nothing is certified. The numbers below are exploration.", style="bold red")
    console.print("\npromised of new images:")
    for number, promise in enumerate(certificate["promises"], 1):
        console.print(f"{number}. {promise['words']}", markup=False)
    console.print()
    console.print(_table(certificate))
    console.print()
    for line in _lines(certificate):
        console.print(line, markup=False)


def _table(certificate: Json) -> Table:
    """Return the candidates, smallest file first, with a row for each promise."""
    table = empty_table(
        "", "candidate", "file\nkB", "#", "worst", "risk", "at\nmost", "p", "adj.\np", left=2
    )
    short = _shortened([row["label"] for row in certificate["candidates"]])
    for row in certificate["candidates"]:
        mark = ">" if row["label"] == certificate["smallest"] else "+" * row["certified"]
        first = [mark, escape(short[row["label"]]), f"{row['bytes'] / 1000:.1f}"]
        style = "bold green" if row["certified"] else None
        family = f"{row['adjusted_p']:.2g}"
        if not row["promises"]:
            table.add_row(*first, "", "not tested", "", "", "", family)
        for number, verdict in enumerate(row["promises"], 1):
            cells = [
                *(first if number == 1 else ("", "", "")),
                str(number),
                verdict["worst"],
                f"{verdict['risk']:.3f}",
                f"{_rounded_up(verdict['upper']):.3f}",
                f"{verdict['p']:.2g}",
                family if number == 1 else "",
            ]
            table.add_row(*cells, style=style)
    return table


def _rounded_up(bound: float) -> float:
    """Return an upper bound with three decimals: a smaller one would say more than was shown."""
    return math.ceil(round(1000 * bound, 6)) / 1000


def _shortened(labels: Sequence[str]) -> dict[str, str]:
    """Return the labels without the name of their model where all have the same."""
    models = {label.partition("/")[0] for label in labels}
    return {label: label.partition("/")[2] if len(models) == 1 else label for label in labels}


def _lines(certificate: Json) -> Iterator[str]:
    """Yield what the table means, who failed and why, and the scope."""
    look = certificate["look"]
    confidence = f"{100 * certificate['confidence']:.4g} %"
    units = certificate["units"]
    groups = f" in {units} groups" if units != certificate["images"] else ""
    yield (
        f"{certificate['images']} images{groups}, look {look['number']} of {look['of']}, "
        f"confidence {confidence}, method {certificate['method']}, plan {certificate['plan'][:12]}"
    )
    sure = 1 - look["error"] if look["error"] else certificate["confidence"]
    yield (
        f"at most: upper bound of the risk, with {100 * sure:.4g} % confidence for this candidate "
        "and promise alone"
    )
    if certificate["smallest"]:
        yield f"smallest certified file (>): {certificate['smallest']}"
    for row in certificate["candidates"]:
        if not row["certified"]:
            yield f"not certified {row['label']}: {row['why']}"
    needed = certificate["needed"]
    if needed is not None and needed["images"] is not None:
        yield (
            f"about {needed['images']} images would certify {needed['label']} with a probability "
            f"of {100 * needed['power']:.0f} %, if its risk is that of the {needed['split']} split"
        )
    elif needed is not None:
        yield f"no number of images is enough for {needed['label']}: {needed['why']}"
    for sentence in certificate["scope"]:
        yield f"scope: {sentence}"
