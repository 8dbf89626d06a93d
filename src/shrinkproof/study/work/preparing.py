"""Make one candidate of a run."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shrinkproof import randomness
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.partial import whole_of
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import StoreError
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.protocols import Context
from shrinkproof.records import Candidate, Json, key_of
from shrinkproof.registry import identity_of
from shrinkproof.store import Store
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.plan import splits_for
from shrinkproof.study.work.workplace import Workplace, workplace


@dataclass(frozen=True, slots=True)
class Preparation:
    """Make one candidate."""

    run: str
    candidate: Candidate


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

    base = place.base(candidate.model)
    history: list[Mapping[str, Any]] = []
    recipe = Recipe(tuple(COMPRESSORS.create(s["name"], s["fields"]) for s in candidate.steps))
    training = training_key(place.inputs, candidate, recipe)
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
            module=module.cpu(),
            changes=changes,
            candidate=candidate,
            example=example,
            needs_file=place.inputs.spec.measure.form != "twin",
        )
        lines = "".join(json.dumps(dict(line), sort_keys=True) + "\n" for line in history)
        store.write_text(folder / "history.jsonl", lines)
        return {**facts, "input_shape": list(base.input_shape)}

    _check_wanted(store, candidate)
    store.write_candidate(candidate, write)
    store.forget_scratch(candidate.key)
    if candidate.key == training or whole_of(recipe.steps) == recipe.steps:
        store.forget_scratch(training)
    return dict(store.read_json(f"candidates/{candidate.key}/complete.json"))


def _check_wanted(store: Store, candidate: Candidate) -> None:
    """Refuse a candidate of another study than the one that was read from the run directory.

    Somebody may have begun to run that one in it after this piece of work was handed out. Its plan
    is written last, and keys hold everything that decides about a candidate.

    Raises:
        StoreError: the plan has no such candidate.
    """
    if candidate.key not in {wanted.key for wanted in store.read_candidates()}:
        raise StoreError(
            f"{candidate.label}: must be in the plan of {store.path}, but another study has been "
            "run in that directory meanwhile; run one study at a time in it"
        )


def training_key(inputs: Inputs, candidate: Candidate, recipe: Recipe) -> str:
    """Return under which key the training of a candidate is kept while it is made.

    Dense checkpoints along a control's training share its folder: each goes on from the last.

    Args:
        inputs: the study.
        candidate: whose training.
        recipe: its steps.
    """
    if candidate.role != "control" or not inputs.spec.snapshots:
        return candidate.key
    steps = [identity_of(step) for step in whole_of(recipe.steps)]
    parts = [inputs.fingerprint(candidate.model), candidate.repeat, steps]
    device = inputs.spec.measure.inference.device
    return key_of("training", parts if device == "cpu" else [*parts, device])


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

    from shrinkproof.artifacts.forward import check_device
    from shrinkproof.artifacts.probe import FileProbe
    from shrinkproof.tasks import TASKS
    from shrinkproof.training.feed import ImageFeed

    device = inputs.spec.measure.inference.device
    check_device(device)
    feeds = {name: ImageFeed(images, base.preprocess) for name, images in sets.items()}
    example = torch.zeros((1, *base.input_shape))
    return Context(
        task=TASKS.get(inputs.spec.task).of(base.module),
        example=example,
        device=torch.device(device),
        stream=functools.partial(randomness.stream, inputs.spec.seed, "prepare", repeat),
        calibration=feeds.get("calibrate"),
        training=feeds.get("train"),
        validation=feeds.get("select"),
        note=note,
        scratch=scratch,
        probe=FileProbe(base.module, example),
    )
