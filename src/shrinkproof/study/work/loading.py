"""Candidates, loaded and ready to be measured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.engines.inline import attempt
from shrinkproof.errors import ModelError
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.predictions import Objects
from shrinkproof.records import Candidate, Cell, Failure
from shrinkproof.store import Store
from shrinkproof.study.work.workplace import Workplace

if TYPE_CHECKING:
    from torch import nn


def load_subject(
    place: Workplace, store: Store, scene: Scene, cell: Cell, candidate: Candidate
) -> Subject | Failure:
    """Return a candidate in the form of a cell, or why it cannot be measured."""

    def load(cell: Cell) -> Subject:
        base = place.base(candidate.model)
        check_fit(base, scene.images, candidate.model)
        return Subject(
            cell=cell,
            predict=_predictor(place, store, cell, base),
            preprocess=base.preprocess,
            num_classes=base.num_classes,
            detector=base.detector,
            scene=scene,
            folder=store.candidate(cell.candidate),
            keep=functools.partial(store.write_predictions, cell.key),
        )

    return attempt(load, cell)


def check_fit(base: LoadedModel, images: ImageSet, model: str) -> None:
    """Refuse images or labels that the model cannot have been made for.

    Raises:
        ModelError: size of the images, kind of the answers, or number of classes disagree.
    """
    has_objects = isinstance(images.target, Objects)
    if has_objects != (base.detector is not None):
        raise ModelError(
            f"{model}: must be a detector for images with annotated boxes ({images.source}), got a "
            "network that is none; see docs/detection.md for the methods it needs"
            if has_objects
            else f"{model}: must be a classifier for images with one class each "
            f"({images.source}), got a detector; write task: detection and give data with boxes"
        )
    shape = base.preprocess.size or images.shape
    if shape != base.input_shape[1:]:
        found = "several sizes" if shape is None else "x".join(map(str, shape))
        told = f"{found} after resizing" if base.preprocess.size else found
        raise ModelError(
            f"{model}: the images of {images.source} must be "
            f"{base.input_shape[1]}x{base.input_shape[2]} pixels, got {told}"
        )
    if len(images.classes) != base.num_classes:
        raise ModelError(
            f"{model}: the model has {base.num_classes} classes but {images.source} has "
            f"{len(images.classes)}; the numbers of one would be nonsense for the other"
        )


def _predictor(
    place: Workplace, store: Store, cell: Cell, base: LoadedModel
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    from shrinkproof.artifacts.candidate import load_candidate
    from shrinkproof.artifacts.session import Session
    from shrinkproof.models.onnx_network import OnnxNetwork

    key = (cell.candidate, cell.form)
    if key not in place.predictors:
        folder = store.candidate(cell.candidate)
        if cell.form == "artifact" and not isinstance(base.module, OnnxNetwork):
            place.predictors[key] = Session(
                folder / "model.onnx", threads=place.inputs.spec.threads
            )
        else:
            place.predictors[key] = _twin(load_candidate(folder, base.module))
    return place.predictors[key]


def _twin(module: nn.Module) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    import torch

    def predict(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            outputs: NDArray[np.float32] = module(torch.from_numpy(inputs)).numpy()
        return outputs

    return predict
