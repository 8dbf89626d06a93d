"""The two kinds of work a study sends to an engine: prepare a candidate, measure a pass.

Both are module-level functions of small frozen values, so that any engine can carry them; models
and images are loaded where the work happens and kept there for the next piece of work.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof import randomness
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.partial import whole_of
from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import ModelError
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.predictions import Objects
from shrinkproof.protocols import Context, Measurement
from shrinkproof.records import Candidate, Cell, Condition, Failure, Json, key_of
from shrinkproof.registry import identity_of
from shrinkproof.store import Store
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.plan import scores_of, splits_for

if TYPE_CHECKING:
    from torch import nn

    from shrinkproof.compressors.recipe import Recipe

_MEMORY_SHARE: Final = 0.25
"""Part of the machine's memory that loaded candidates may fill before a pass takes groups."""

_BYTES_PER_FILE_BYTE: Final = 4
"""A loaded session holds the weights several times: file, packed kernels, arena."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """Make one candidate."""

    run: str
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Pass:
    """Measure every candidate that lacks it under one condition of one split."""

    run: str
    split: str
    condition: Condition
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a pass found.

    Attributes:
        measured: cell key -> numbers, or why there are none.
        notes: caveats, such as candidates taken in groups.
    """

    measured: Mapping[str, tuple[Measurement, ...] | Failure]
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class Workplace:
    """What a process keeps between two pieces of work on one run."""

    run: Path
    inputs: Inputs
    sets: dict[str, ImageSet] = field(default_factory=dict)
    bases: dict[str, LoadedModel] = field(default_factory=dict)
    predictors: dict[tuple[str, str], Callable[..., Any]] = field(default_factory=dict)

    def images(self, wanted: Collection[str]) -> dict[str, ImageSet]:
        """Return all splits that were read, the wanted ones among them."""
        missing = [name for name in wanted if name not in self.sets]
        if missing:
            self.sets.update(self.inputs.splits(missing).sets)
        return self.sets

    def base(self, model: str) -> LoadedModel:
        """Return an uncompressed model of the study."""
        from shrinkproof.models.reference import load_model

        if model not in self.bases:
            loaded = load_model(self.inputs.spec.models[model], self.inputs.places)
            _check_unchanged(self.run, model, loaded)
            self.bases[model] = loaded
        return self.bases[model]


def _check_unchanged(run: Path, model: str, loaded: LoadedModel) -> None:
    """Refuse a model whose weights are not those of the run's other candidates.

    The identity of a model comes from its reference, without running code; a user's function may
    still give other weights one day under the same identity.

    Raises:
        ModelError: the weights have changed.
    """
    digest = hashlib.sha256()
    for name, tensor in loaded.module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    store = Store(run)
    known = store.read_json(f"models/{loaded.fingerprint}.json")
    if known is None:
        store.write_json(f"models/{loaded.fingerprint}.json", {"sha256": digest.hexdigest()})
    elif known["sha256"] != digest.hexdigest():
        raise ModelError(
            f"{model}: the weights must stay what they were when this run began, but the same "
            "reference now gives others; use a new run directory, or a checkpoint instead of code"
        )


@functools.lru_cache(maxsize=1)
def workplace(run: str) -> Workplace:
    """Return the workplace of a run; a process works on one run at a time."""
    import torch

    value = Store(Path(run)).read_json("inputs.json")
    inputs = Inputs.from_json(value)
    torch.set_num_threads(inputs.spec.threads)
    _keep_bars_in_process()
    return Workplace(Path(run), inputs)


def _keep_bars_in_process() -> None:
    """Give the progress bars of torch's exporter, which nobody sees, a lock of this process.

    Otherwise they make a semaphore, and a killed process leaves Python complaining of a leak.
    """
    with contextlib.suppress(ImportError):
        from tqdm import tqdm  # type: ignore[import-untyped]

        tqdm.set_lock(threading.RLock())


def forget_workplace() -> None:
    """Drop what this process keeps: the study of its run has changed."""
    workplace.cache_clear()


def prepare(work: Preparation) -> Json:
    """Make one candidate: apply its recipe, export it, write everything that reloads it.

    Returns:
        Sizes of the candidate, as written to its directory.
    """
    place = workplace(work.run)
    store = Store(place.run)
    candidate = work.candidate
    if store.has_candidate(candidate.key):
        return dict(store.read_json(f"candidates/{candidate.key}/complete.json"))
    return _make(place, store, candidate)


def _make(place: Workplace, store: Store, candidate: Candidate) -> Json:
    import torch

    from shrinkproof.artifacts.making import make_files
    from shrinkproof.compressors.recipe import Recipe

    base = place.base(candidate.model)
    history: list[Mapping[str, Any]] = []
    recipe = Recipe(tuple(COMPRESSORS.create(s["name"], s["fields"]) for s in candidate.steps))
    training = _training_key(place.inputs, candidate, recipe)
    wanted = splits_for(recipe.needs)
    sets = place.images(wanted)

    def note(values: Mapping[str, Any]) -> None:
        history.append(values)
        if "epoch" in values:
            store.write_progress(candidate, values)

    context = make_context(
        place.inputs,
        base,
        {name: sets[name] for name in wanted},
        repeat=candidate.repeat,
        note=note,
        scratch=store.scratch(training),
    )
    module, changes = recipe.apply(base.module, context)
    example = torch.zeros((1, *base.input_shape))

    def write(folder: Path) -> Json:
        facts = make_files(
            folder,
            module=module,
            changes=changes,
            candidate=candidate,
            example=example,
            needs_file=place.inputs.spec.measure.form != "twin",
        )
        lines = "".join(json.dumps(dict(line), sort_keys=True) + "\n" for line in history)
        store.write_text(folder / "history.jsonl", lines)
        return {**facts, "input_shape": list(base.input_shape)}

    store.write_candidate(candidate, write)
    store.forget_scratch(candidate.key)
    if candidate.key == training or whole_of(recipe.steps) == recipe.steps:
        store.forget_scratch(training)
    return dict(store.read_json(f"candidates/{candidate.key}/complete.json"))


def _training_key(inputs: Inputs, candidate: Candidate, recipe: Recipe) -> str:
    """Return under which key the training of a candidate is kept while it is made.

    Dense checkpoints along a control's training share its folder: each goes on from the last.
    """
    if candidate.role != "control" or not inputs.spec.snapshots:
        return candidate.key
    steps = [identity_of(step) for step in whole_of(recipe.steps)]
    return key_of("training", [inputs.fingerprint(candidate.model), candidate.repeat, steps])


def make_context(
    inputs: Inputs,
    base: LoadedModel,
    sets: Mapping[str, ImageSet],
    *,
    repeat: int = 0,
    note: Callable[[Mapping[str, Any]], None],
    scratch: Path | None = None,
) -> Context:
    """Return what a recipe may use.

    A recipe and its dense control draw the same random streams (they depend on the seed and the
    repeat, not on the recipe), so that the order of the training images is no difference between
    them.

    Args:
        inputs: the study.
        base: the model that is compressed.
        sets: the splits that the recipe needs.
        repeat: which repeat of the recipe.
        note: receives progress and history.
        scratch: folder for what lets training go on after a kill.
    """
    import torch

    from shrinkproof.artifacts.probe import FileProbe
    from shrinkproof.tasks import TASKS
    from shrinkproof.training.feed import ImageFeed

    feeds = {name: ImageFeed(images, base.preprocess) for name, images in sets.items()}
    example = torch.zeros((1, *base.input_shape))
    return Context(
        task=TASKS.get(inputs.spec.task).of(base.module),
        example=example,
        device=torch.device("cpu"),
        stream=functools.partial(randomness.stream, inputs.spec.seed, "prepare", repeat),
        calibration=feeds.get("calibrate"),
        training=feeds.get("train"),
        validation=feeds.get("select"),
        note=note,
        scratch=scratch,
        probe=FileProbe(base.module, example),
    )


def measure(work: Pass) -> PassResult:
    """Measure every candidate of a pass on the same images."""
    place = workplace(work.run)
    store = Store(place.run)
    images = place.images([work.split])[work.split]
    scene = Scene(
        images,
        work.condition,
        None if work.condition.is_clean else place.inputs.world(images),
        place.inputs.spec.data.batch,
    )
    scores = scores_of(place.inputs).fast()
    candidates = {c.key: c for c in store.read_candidates()}
    measured: dict[str, tuple[Measurement, ...] | Failure] = {}
    groups = list(_groups(store, work.cells))
    for group in groups:
        subjects = []
        for cell in group:
            if cell.form == "artifact" and _has_no_file(store, cell):
                measured[cell.key] = ()  # why is told by its sizes
                continue
            subject = _load(place, store, scene, cell, candidates[cell.candidate])
            if isinstance(subject, Failure):
                measured[cell.key] = subject
            else:
                subjects.append(subject)
        if not subjects:
            continue
        for subject, outcome in scores.measure(subjects, work.condition):
            done = outcome if isinstance(outcome, Failure) else tuple(outcome)
            measured[subject.cell.key] = done
        if len(groups) > 1:
            place.predictors.clear()
    notes = (
        (f"candidates measured in {len(groups)} groups, because of memory",)
        if len(groups) > 1
        else ()
    )
    return PassResult(measured, notes)


def _has_no_file(store: Store, cell: Cell) -> bool:
    """Return whether a candidate is only there as a PyTorch network, because it has no export."""
    facts = store.read_json(f"candidates/{cell.candidate}/complete.json") or {}
    return "cost.bytes" in facts.get("undefined", {})


def _groups(store: Store, cells: tuple[Cell, ...]) -> Iterator[tuple[Cell, ...]]:
    """Yield the cells in groups whose models fit into memory together."""
    room = _MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group: list[Cell] = []
    used = 0.0
    for cell in cells:
        file = store.candidate(cell.candidate) / "model.onnx"
        size = _BYTES_PER_FILE_BYTE * file.stat().st_size if file.is_file() else 0
        if group and used + size > room:
            yield tuple(group)
            group, used = [], 0.0
        group.append(cell)
        used += size
    if group:
        yield tuple(group)


def _load(
    place: Workplace, store: Store, scene: Scene, cell: Cell, candidate: Candidate
) -> Subject | Failure:
    from shrinkproof.engines.inline import attempt

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
