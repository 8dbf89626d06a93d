"""Commands that show corruptions: gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shrinkproof.cli import DONE


def gallery(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE",
            help="A picture file. It is turned upright, made RGB, resized to cover the preset's "
            "square and cut to its middle (imagenet: short side 256, the middle 224 x 224); with "
            "imagecorruptions only reduced, to 320 pixels at most.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Where to write it; the suffix says the format, e.g. .png, .jpg, .webp.",
        ),
    ] = Path("gallery.png"),
    preset: Annotated[
        str,
        typer.Option(help="Whose constants: cifar, tiny, imagenet, inception or imagecorruptions."),
    ] = "imagenet",
    seed: Annotated[int, typer.Option(help="Root of the randomness.")] = 0,
    frost_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with the original frost photos, or SHRINKPROOF_FROST_DIR; without them "
            "frost is procedural.",
        ),
    ] = None,
    cell: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Side of each picture in pixels, reached by a whole factor as nearly as possible; "
            "default: as they are, small ones enlarged.",
        ),
    ] = None,
) -> int:
    """Draw what all 19 corruptions do to an image at every severity: one picture."""
    from shrinkproof.corruptions.anyimage import frost_folder
    from shrinkproof.corruptions.gallery import check_format, read_fitted, save
    from shrinkproof.corruptions.gallery import gallery as draw

    check_format(out)
    found = read_fitted(image, preset)
    picture = draw(
        found.pixels,
        preset=preset,
        seed=seed,
        frost_dir=frost_folder(frost_dir),
        cell=cell,
        account=found.account,
    )
    save(picture, out)
    typer.echo(str(out))
    return DONE
