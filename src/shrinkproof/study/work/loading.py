"""Candidates, loaded and ready to be measured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.engines.inline import attempt
from shrinkproof.errors import ModelError
from shrinkproof.evaluators.halving import Halving
from shrinkproof.evaluators.subject import HandOver, Scene, Subject, as_it_is
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.predictions import Objects
from shrinkproof.records import Candidate, Cell, Failure
from shrinkproof.store import Store
from shrinkproof.study.work.workplace import Workplace

if TYPE_CHECKING:
    from shrinkproof.artifacts.forward import Forward
    from shrinkproof.artifacts.session import Session


def load_subject(
    place: Workplace, store: Store, scene: Scene, cell: Cell, candidate: Candidate
) -> Subject | Failure:
    """Return a candidate in the form of a cell, or why it cannot be measured."""

    def load(cell: Cell) -> Subject:
        base = place.base(candidate.model)
        check_fit(base, scene.images, candidate.model)
        return Subject(
            cell=cell,
            predict=Halving(_predictor(place, store, cell, base, scene.batch)),
            preprocess=base.preprocess,
            num_classes=base.num_classes,
            detector=base.detector,
            scene=scene,
            folder=store.candidate(cell.candidate),
            keep=functools.partial(store.write_predictions, cell.key),
            hand_over=_hand_over(place, cell, base),
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


def remarks_of(subject: Subject, candidate: Candidate) -> tuple[str, ...]:
    """Return what a reader must know of a candidate that was measured, beside its numbers."""
    note = subject.predict.note if isinstance(subject.predict, Halving) else ""
    return (f"{candidate.label}: {note}",) if note else ()


def _predictor(
    place: Workplace, store: Store, cell: Cell, base: LoadedModel, batch: int
) -> Callable[[Any], NDArray[np.float32]]:
    """Return what predicts; a process loads each candidate once."""
    from shrinkproof.artifacts.forward import Forward

    key = (cell.candidate, cell.form)
    if key not in place.predictors:
        folder = store.candidate(cell.candidate)
        place.predictors[key] = (
            _file(place, folder) if _runs_file(cell, base) else _network(place, folder, base)
        )
    found = place.predictors[key]
    if isinstance(found, Forward):
        found.begin(batch)
    return found


def _runs_file(cell: Cell, base: LoadedModel) -> bool:
    """Return whether the exported file is run here; a model that came as one runs itself."""
    from shrinkproof.models.onnx_network import OnnxNetwork

    return cell.form == "artifact" and not isinstance(base.module, OnnxNetwork)


def _file(place: Workplace, folder: Path) -> Session:
    from shrinkproof.artifacts.damage import check_network
    from shrinkproof.artifacts.session import Session

    check_network(folder)
    spec = place.inputs.spec
    return Session(
        folder / "model.onnx", threads=spec.threads, device=spec.measure.inference.device
    )


def _network(place: Workplace, folder: Path, base: LoadedModel) -> Forward:
    from shrinkproof.artifacts.candidate import load_candidate
    from shrinkproof.artifacts.forward import Forward

    chosen = place.inputs.spec.measure.inference
    return Forward(
        load_candidate(folder, base.module),
        device=chosen.device,
        precision=chosen.precision,
        memory_format=chosen.memory_format,
        is_compiled=chosen.compile,
    )


def _hand_over(place: Workplace, cell: Cell, base: LoadedModel) -> HandOver:
    """Return what brings images to the candidate; all networks on a GPU share one copy."""
    if place.inputs.spec.measure.inference.device != "cuda" or _runs_file(cell, base):
        return as_it_is
    from shrinkproof.artifacts.forward import on_gpu

    return on_gpu
