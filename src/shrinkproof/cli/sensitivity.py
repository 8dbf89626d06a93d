"""The command that compresses one layer at a time: sensitivity."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from shrinkproof.cli import DONE
from shrinkproof.cli.inputs import data_ref, model_spec, step_of
from shrinkproof.cli.options import AsJson, Root, roots
from shrinkproof.cli.output import print_json

if TYPE_CHECKING:
    from shrinkproof.compression.sensitivity import LayerSensitivity
    from shrinkproof.data.imageset import ImageSet
    from shrinkproof.models.loaded import LoadedModel

_WIDTH: Final = 80
_NAME: Final = 31
"""Longest name of a layer in the table."""


def sensitivity(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model reference as for the command compress.")
    ],
    step: Annotated[
        str,
        typer.Argument(
            metavar="STEP",
            help="One step that does not train, as for the command compress: "
            "'prune.weights:ratio=0.5', 'cluster:levels=16', quantize.weights, ...",
        ),
    ],
    images: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="Images that the logits are compared on: a data reference, or '{use: "
            "cifar10:test, count: 256}'.",
        ),
    ],
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Setting of the model, as in a study: classes=10, arch=cifar:resnet20; may be "
            "repeated.",
        ),
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(metavar="DATA", help="Images for observers and criteria.")
    ] = None,
    root: Root = None,
    seed: Annotated[int, typer.Option(min=0, help="Root of the randomness.")] = 0,
    json: AsJson = False,
) -> int:
    """Compress one layer at a time and tell how far the logits move, most sensitive first."""
    from shrinkproof.compression import as_steps
    from shrinkproof.compression.sensitivity import sensitivity as sensitivity_
    from shrinkproof.models.reference import load_model
    from shrinkproof.study.inputs import roots_of_environment

    (chosen,) = as_steps([step_of(step, "STEP")])
    references = {"--images": data_ref(images, "--images")}
    if calibrate:
        references["--calibrate"] = data_ref(calibrate, "--calibrate")
    places = {**roots_of_environment(), **roots(root)}
    spec = model_spec(model, set or [], needs_images=True)
    loaded = load_model(spec, places)
    sets = {n: _images(ref, n, loaded, spec.use, places) for n, ref in references.items()}
    import torch

    rows = sensitivity_(
        loaded.module,
        chosen,
        example=torch.zeros((1, *loaded.input_shape)),
        images=sets["--images"],
        calibration=sets.get("--calibrate"),
        preprocess=loaded.preprocess,
        seed=seed,
    )
    if json:
        print_json(
            step=chosen.name,
            images=len(sets["--images"]),
            layers=[asdict(row) for row in rows],
        )
        return DONE
    for line in _lines(rows, len(sets["--images"])):
        typer.echo(line)
    return DONE


def _images(
    reference: Any, label: str, loaded: LoadedModel, use: str, places: dict[str, Path]
) -> ImageSet:
    """Return the images of a reference, after checking that the network takes them."""
    from shrinkproof.data.splits import DataSpec, load_splits
    from shrinkproof.study.work.loading import check_fit

    # One set at a time: the images that are compared on may calibrate, too.
    splits = load_splits(DataSpec(report=reference), roots=places)
    for note in splits.notes:
        typer.echo(f"note: {label}: {note.removeprefix('report: ')}", err=True)
    found = splits.sets["report"]
    check_fit(loaded, found, use)
    return found


def _lines(rows: Sequence[LayerSensitivity], count: int) -> list[str]:
    """Return the table, most sensitive first, and what cannot be compressed alone."""
    measured = [row for row in rows if row.divergence is not None]
    measured.sort(key=lambda row: -(row.divergence or 0.0))
    width = min(_NAME, max((len(row.layer) for row in rows), default=0))
    width = max(width, len("layer"))
    lines = [
        f"{'':{width}}  {'':>11}  {'divergence':>10}  {'largest':>10}  {'same top-1':>10}",
        f"{'layer':{width}}  {'parameters':>11}  {'nat':>10}  {'difference':>10}  {'%':>10}",
    ]
    lines += [
        f"{_short(row.layer):{width}}  {row.parameters:>11,}  {row.divergence:>10.3g}  "
        f"{row.largest_difference:>10.3g}  {100 * (row.agreement or 0.0):>10.1f}"
        for row in measured
    ]
    left = [row for row in rows if row.divergence is None]
    if left:
        lines += ["", "not compressed alone:"]
    for row in left:
        lines += textwrap.wrap(
            f"{row.layer}: {row.reason}",
            _WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
    return [
        *lines,
        "",
        *textwrap.wrap(
            f"{count} images, one layer compressed at a time; divergence is the mean "
            "Kullback-Leibler divergence of the class probabilities, difference is that of a "
            "logit, both from the uncompressed network.",
            _WIDTH,
        ),
    ]


def _short(name: str) -> str:
    """Return a name, without its middle where it is too long."""
    if len(name) <= _NAME:
        return name
    half = (_NAME - 3) // 2
    return f"{name[:half]}...{name[half + 3 - _NAME :]}"
