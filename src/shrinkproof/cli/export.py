"""The command that hands a candidate over: export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shrinkproof.cli import DONE
from shrinkproof.cli.options import AsJson, Root, RunFolder, roots
from shrinkproof.cli.output import print_json

if TYPE_CHECKING:
    from shrinkproof.export import Exported


def export(
    folder: RunFolder,
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE",
            help="Whose files: MODEL/RECIPE, RECIPE where only one model has it, or chosen.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FOLDER",
            help="Where to write them; default exports/STUDY/CANDIDATE.",
        ),
    ] = None,
    root: Root = None,
    images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images on which the files are compared.")
    ] = 256,
    json: AsJson = False,
) -> int:
    """Write the files of a candidate with a model card, after checking them on real images."""
    from shrinkproof.export import export_candidate

    found = export_candidate(folder, candidate, out, roots=roots(root), images=images)
    if json:
        print_json(
            folder=str(found.path),
            candidate=found.candidate.label,
            files=dict(found.files),
            missing=dict(found.missing),
            agreement=[item.as_json() for item in found.agreement],
        )
        return DONE
    for line in _lines(found):
        typer.echo(line)
    for name, reason in found.missing.items():
        typer.echo(f"note: {name} was not written: {reason}", err=True)
    return DONE


def _lines(found: Exported) -> Iterator[str]:
    """Yield what was written, and how far it agrees, the worst of all conditions."""
    size = sum(about["bytes"] for about in found.files.values())
    yield f"{found.candidate.label}: {len(found.files) + 1} files, {size / 1e6:.2f} MB, in"
    yield str(found.path)
    conditions = dict.fromkeys(item.condition for item in found.agreement)
    images = found.agreement[0].images
    yield f"loaded again and run on {images} images, {' and '.join(conditions)}:"
    pairs = dict.fromkeys((item.first, item.second) for item in found.agreement)
    width = max(len(first) for first, _ in pairs)
    for first, second in pairs:
        items = [item for item in found.agreement if (item.first, item.second) == (first, second)]
        worst = max(item.difference for item in items)
        fewest = min(items, key=lambda item: item.same - item.count)
        what = "classes, logits" if fewest.boxes is None else "boxes, numbers"
        text = f"{fewest.same} of {fewest.count} {what} to {worst:.1g}"
        text = "bit for bit" if worst == 0 else text
        yield f"  {first:{width}}  as {second}: {text}"
