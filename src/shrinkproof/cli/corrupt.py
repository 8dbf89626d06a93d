"""The command that writes corrupted sets: corrupt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shrinkproof.cli import DONE, UNFINISHED
from shrinkproof.cli.options import Root, roots
from shrinkproof.errors import UsageError

if TYPE_CHECKING:
    from shrinkproof.stored.writing import Written


def corrupt(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Data reference as in a study: cifar10:test, digits or arrays:FILE.npz become "
            "arrays as CIFAR-10-C, imagefolder:DIR becomes folders of JPEG files as ImageNet-C.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Where to write the set.")
    ],
    preset: Annotated[
        str,
        typer.Option(
            help="Whose constants: cifar, tiny, imagenet, inception or imagecorruptions; default "
            "those of the data."
        ),
    ] = "",
    severity: Annotated[
        str,
        typer.Option(metavar="LIST", help="Such as 1-5 or 1,3,5; arrays need all five."),
    ] = "1-5",
    corruption: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Corruption, or a set such as all-corruptions; may be repeated; default the 15 "
            "common ones.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Root of the randomness.")] = 0,
    frost_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with the original frost photos, or SHRINKPROOF_FROST_DIR; without them "
            "frost is procedural.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; default: one per core.")
    ] = None,
    root: Root = None,
) -> int:
    """Write a corrupted set in the format of the published ones; the same command continues."""
    from shrinkproof.cli.progress import watcher
    from shrinkproof.cli.study import engine_of
    from shrinkproof.corruptions.anyimage import frost_folder
    from shrinkproof.data.reading import load_images
    from shrinkproof.records import STANDARD_15
    from shrinkproof.stored.writing import write_corrupted_set
    from shrinkproof.study.inputs import roots_of_environment

    levels = _levels(severity)
    places = {**roots_of_environment(), **roots(root)}
    images = load_images(data, places)
    with watcher() as progress:
        written = write_corrupted_set(
            images,
            out,
            corruptions=corruption or STANDARD_15,
            severities=levels,
            preset=preset,
            seed=seed,
            frost_dir=frost_folder(frost_dir or places.get("frost_dir")),
            engine=engine_of("auto", workers, threads=1),
            progress=progress,
        )
    _print(written)
    return UNFINISHED if written.failures else DONE


def _levels(text: str) -> list[int]:
    """Return the severities of ``1-5``, ``3`` or ``1,3,5``."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"--severity: must be such as 1-5 or 1,3,5, got {text!r}")
        found += range(int(first), int(last or first) + 1)
    return found


def _print(written: Written) -> None:
    complete = len(written.files)
    typer.echo(f"{written.folder}: {complete} file(s) or folder(s) complete, see manifest.json")
    for caveat in written.caveats:
        typer.echo(f"note: {caveat}")
    for condition, failure in written.failures.items():
        typer.echo(f"failed {condition}: {failure.type}: {failure.message}")
    if not written.failures:
        typer.echo(f"read it with: stored: {written.format}:{written.folder}")
