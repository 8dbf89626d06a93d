"""The command that compresses one network without a study: compress."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from shrinkproof.cli import DONE
from shrinkproof.cli.inputs import data_ref, model_spec, step_of
from shrinkproof.cli.options import AsJson, Root, roots
from shrinkproof.cli.output import print_json

if TYPE_CHECKING:
    from shrinkproof.compression import CompressedModel
    from shrinkproof.data.imageset import ImageSet
    from shrinkproof.models.loaded import LoadedModel
    from shrinkproof.models.reference import ModelSpec

_SPLITS: Final = ("calibrate", "train", "select")


def compress(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model reference as in a study: torchvision:resnet18/DEFAULT, timm:NAME, "
            "checkpoint:FILE with --set arch=..., import:MODULE:FUNCTION or cifar:NAME.",
        ),
    ],
    steps: Annotated[
        list[str],
        typer.Argument(
            metavar="STEP",
            help="Steps in order: a name, 'name:key=value,key=value', or YAML as in a study, "
            "'{prune.weights: {ratio: 0.5}}'.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Where to write the result.")
    ],
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Setting of the model, as in a study: arch=cifar:resnet20, classes=10, "
            "input_shape=[3, 32, 32], preprocess={mean: [...], std: [...]}; may be repeated.",
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Images for observers and statistics: a data reference, or '{use: cifar10:train, "
            "count: 512}'.",
        ),
    ] = None,
    train: Annotated[
        str | None, typer.Option(metavar="DATA", help="Images for fine-tuning.")
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Images that decide when training stops."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Where steps train: cpu, cuda, or auto: a GPU where PyTorch sees one."),
    ] = "auto",
    root: Root = None,
    seed: Annotated[int, typer.Option(min=0, help="Root of the randomness.")] = 0,
    json: AsJson = False,
) -> int:
    """Compress one network: weights, recipe and ONNX file in a directory; sizes on the screen."""
    from shrinkproof.compression import SCRATCH, as_steps, check_place
    from shrinkproof.compression import compress as compress_
    from shrinkproof.study.inputs import roots_of_environment

    check_place(out)
    recipe = as_steps([step_of(text, f"step {n}") for n, text in enumerate(steps, start=1)])
    given = {n: v for n, v in zip(_SPLITS, (calibrate, train, select), strict=True) if v}
    places = {**roots_of_environment(), **roots(root)}
    spec = model_spec(model, set or [], needs_images=bool(given))
    loaded, sets = _load(spec, given, places)
    import torch

    small = compress_(
        loaded.module.to(place_of(device)),
        recipe,
        example=torch.zeros((1, *loaded.input_shape)),
        calibration=sets.get("calibrate"),
        training=sets.get("train"),
        validation=sets.get("select"),
        preprocess=loaded.preprocess,
        seed=seed,
        scratch=out / SCRATCH,
        note=_tell,
    )
    small.save(out)
    shutil.rmtree(out / SCRATCH, ignore_errors=True)
    _print(small, out, json)
    return DONE


def _load(
    spec: ModelSpec, given: Mapping[str, str], places: Mapping[str, Path]
) -> tuple[LoadedModel, Mapping[str, ImageSet]]:
    """Return the network and the images of each split, after checking that they fit."""
    from shrinkproof.data.splits import DataSpec, load_splits
    from shrinkproof.models.reference import load_model
    from shrinkproof.study.work.loading import check_fit

    # References are checked before a network is loaded, which may take long.
    references = {name: data_ref(text, f"--{name}") for name, text in given.items()}
    loaded = load_model(spec, places)
    if not references:
        return loaded, {}
    data = DataSpec(**references)
    splits = load_splits(data, roots=places)
    for note in splits.notes:
        typer.echo(f"note: {note}", err=True)
    for images in splits.sets.values():
        check_fit(loaded, images, spec.use)
    return loaded, splits.sets


def place_of(device: Literal["auto", "cpu", "cuda"]) -> str:
    """Return where the network is compressed, and name a GPU."""
    import torch

    from shrinkproof.artifacts.forward import check_device

    check_device(device, "--device")
    if device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    typer.echo(f"note: device cuda, {torch.cuda.get_device_name()}", err=True)
    return "cuda"


def _tell(values: Mapping[str, Any]) -> None:
    """Print a line about each epoch of training, and what a step wants to be known."""
    if "message" in values:
        typer.echo(f"note: {values['message']}", err=True)
    if "epoch" not in values:
        return
    shown = [f"epoch {values['epoch']}/{values.get('epochs', '?')}"]
    shown += [f"{n} {values[n]:.4g}" for n in ("loss", "accuracy") if n in values]
    if "seconds_left" in values:
        shown.append(f"about {values['seconds_left']:.0f} s left")
    typer.echo(", ".join(shown), err=True)


def _print(small: CompressedModel, out: Path, json: bool) -> None:
    if json:
        print_json(
            directory=str(out),
            before=asdict(small.before),
            after=asdict(small.after),
            steps=[change.as_json() for change in small.changes],
        )
        return
    typer.echo(small.summary())
    typer.echo(f"\nwritten to {out}")
