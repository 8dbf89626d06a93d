"""What `check --load` does: read the data, build each model, run every recipe on a few images."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import ExportError
from shrinkproof.study.plan import MEASURED, splits_for
from shrinkproof.study.work.loading import check_fit
from shrinkproof.study.work.preparing import make_context
from shrinkproof.training.settings import Training

if TYPE_CHECKING:
    from shrinkproof.models.loaded import LoadedModel
    from shrinkproof.study import Study

IMAGES: Final = 32
"""Images of each split that a rehearsal uses; training steps run for one epoch on them."""


def rehearse(study: Study) -> Iterator[str]:
    """Yield one line per thing that works; every recipe is applied, exported and executed.

    Raises:
        ShrinkproofError: the first thing that does not work.
    """
    from shrinkproof.models.reference import load_model

    found = study.inputs.splits()
    sets = {
        name: images.take(np.arange(min(IMAGES, len(images)), dtype=np.int64))
        for name, images in found.sets.items()
    }
    for name, images in found.sets.items():
        yield f"data.{name}: {len(images)} images of {images.source}"
    for name, spec in study.spec.models.items():
        base = load_model(spec, study.inputs.places)
        for split in MEASURED:
            if split in sets:
                check_fit(base, sets[split], name)
        yield f"models.{name}: {base.num_classes} classes, input {base.input_shape}"
        for recipe, steps in {"baseline": (), **study.spec.candidate_recipes(name)}.items():
            start = time.perf_counter()
            _try(study, base, sets, steps)
            yield f"{name}/{recipe}: works, {time.perf_counter() - start:.1f} s"


def _try(
    study: Study, base: LoadedModel, sets: Mapping[str, ImageSet], steps: tuple[Any, ...]
) -> None:
    """Apply a recipe to a few images, export the result, and run it."""
    import torch

    from shrinkproof.artifacts.export import export_onnx
    from shrinkproof.artifacts.session import Session
    from shrinkproof.compressors.recipe import Recipe
    from shrinkproof.models.onnx_network import OnnxNetwork

    if isinstance(base.module, OnnxNetwork):
        # The model is the exported file, and has no recipes.
        base.module(torch.zeros((2, *base.input_shape)))
        return
    recipe = Recipe(tuple(shortened(step) for step in steps))
    wanted = {name: sets[name] for name in splits_for(recipe.needs)}
    context = make_context(study.inputs, base, wanted, note=lambda values: None)  # noqa: ARG005
    module, changes = recipe.apply(base.module, context)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        try:
            export_onnx(module, torch.zeros((1, *base.input_shape)), file, changes=changes)
        except ExportError:
            if study.spec.measure.form != "twin":
                raise
            return
        Session(file)(np.zeros((2, *base.input_shape), dtype=np.float32))


def shortened(step: Any) -> Any:
    """Return a step that trains for a single epoch where it trains; other steps as they are."""
    if isinstance(step, Training):
        return dataclasses.replace(
            step, epochs=1, schedule="constant", milestones=(), gamma=Training.gamma
        )
    names = {field.name for field in dataclasses.fields(step)}
    inner = getattr(step, "finetune", None) if "finetune" in names else None
    return step if inner is None else dataclasses.replace(step, finetune=shortened(inner))
