"""Train the detectors that a study compresses, each on the study's own train split.

    python studies/train_detector.py studies/bccd.yaml

Every model ``checkpoint:FILE`` of the study whose file is missing is drawn from its ``arch``,
trained, and written beside the study file. Killed and started again it goes on with the last epoch
(``--scratch``); a finished file is never touched.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import typer
from safetensors.torch import save_file

from shrinkproof import randomness
from shrinkproof.models.reference import ModelSpec, load_model
from shrinkproof.protocols import Context
from shrinkproof.study import Study
from shrinkproof.tasks import TASKS
from shrinkproof.training.feed import ImageFeed
from shrinkproof.training.settings import Training


def train(study: Study, name: str, settings: Training, scratch: Path) -> Path | None:
    """Train one model of a study; return the file that was written, None if there is nothing to do.

    Args:
        study: the checked study.
        name: the model.
        settings: how it is trained.
        scratch: folder for what lets a killed training go on; removed at the end.
    """
    spec = study.spec.models[name]
    path = study.inputs.folder / spec.rest
    if spec.scheme != "checkpoint" or path.is_file():
        return None
    untrained = ModelSpec(
        use=spec.arch,
        classes=spec.classes,
        preprocess=spec.preprocess,
        input_shape=spec.input_shape,
    )
    model = load_model(untrained, study.inputs.places)
    images = study.inputs.splits(["train"]).sets["train"]
    typer.echo(f"{name}: {len(images)} images, {settings.epochs} epochs")
    context = Context(
        task=TASKS.get(study.spec.task).of(model.module),
        example=torch.zeros((1, *model.input_shape)),
        device=torch.device("cpu"),
        stream=functools.partial(randomness.stream, "train detector", name),
        training=ImageFeed(images, model.preprocess),
        note=_tell,
        scratch=scratch,
    )
    settings.run(model.module, context)
    state = {key: tensor.contiguous() for key, tensor in model.module.state_dict().items()}
    save_file(state, path)
    shutil.rmtree(scratch, ignore_errors=True)
    return path


def _tell(values: Mapping[str, Any]) -> None:
    typer.echo(
        f"epoch {values['epoch']} of {values['epochs']}: loss {values['loss']:.3f}, "
        f"{values.get('seconds_left', 0):.0f} s left"
    )


def main() -> None:
    """Read the command line and train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--augment", nargs="*", default=["crop", "flip"])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--scratch", type=Path, default=None)
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    settings = Training(
        epochs=given.epochs,
        learning_rate=given.learning_rate,
        weight_decay=given.weight_decay,
        optimizer="adam",
        schedule="onecycle",
        batch=given.batch,
        augment=tuple(given.augment),
        precision="bfloat16",
    )
    study = Study.load(given.study)
    for name in study.spec.models:
        start = time.perf_counter()
        scratch = given.scratch or given.study.parent / f".{name}-training"
        written = train(study, name, settings, scratch)
        if written is None:
            typer.echo(f"{name}: nothing to train")
        else:
            typer.echo(f"{name}: {written}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
