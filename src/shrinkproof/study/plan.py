"""From a study file to the candidates and cells it wants; no torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any, Final, Literal

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.partial import checkpoints_of
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.environment import environment_key
from shrinkproof.errors import SpecError, UsageError
from shrinkproof.evaluators.box_saliency import BoxSaliency
from shrinkproof.evaluators.fidelity import Fidelity
from shrinkproof.evaluators.latency import Latency
from shrinkproof.evaluators.saliency import Saliency
from shrinkproof.evaluators.scores import Scores
from shrinkproof.evaluators.size import Size
from shrinkproof.evaluators.world import World
from shrinkproof.protocols import Needs, Role
from shrinkproof.records import CLEAN, Candidate, Cell, Condition, Form, Json, key_of
from shrinkproof.registry import identity_of
from shrinkproof.store import Part
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.work.parts import parts_of

MEASURED: Final = ("select", "report")
"""Splits whose images are evaluated; ``certify`` is kept untouched for certificates."""

CHECKPOINT: Final = ".epoch"
"""Stands in the names of dense checkpoints, between the control's name and the epoch."""

ARTIFACT_FORMAT: Final = 2
"""Raise it when the exported file of the same candidate changes."""


@dataclass(frozen=True)
class Plan:
    """Everything a study wants.

    Attributes:
        candidates: baselines, controls and recipes, in the order of the study file.
        cells: what is measured of them.
        splits: per split its source, count and fingerprint.
        notes: caveats about the data, such as subsets, and about the arithmetic of the networks.
        contamination: model -> split -> why its numbers cannot be trusted.
        origins: split -> condition -> what each of its records says about its images.
        pixels: split -> height times width of an image, of the largest one where sizes differ.
        parts: split -> the parts of a pass over it; one where the images are not many.
    """

    candidates: tuple[Candidate, ...]
    cells: tuple[Cell, ...]
    splits: Mapping[str, Json] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    contamination: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pixels: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)

    def only(self, pattern: str) -> Plan:
        """Return the plan of the candidates whose label matches, with baselines and their controls.

        Raises:
            UsageError: the pattern matches nothing.
        """
        chosen = [c for c in self.candidates if fnmatchcase(c.label, pattern)]
        if not chosen:
            labels = ", ".join(c.label for c in self.candidates)
            raise UsageError(f"only: must match a candidate, got {pattern!r}; there are {labels}")
        kept = {c.key for c in self.candidates if c.role == "baseline"}
        kept |= {key for c in chosen for key in (c.key, c.control)}
        scratch = [(c.model, c.repeat, _scratch_identities(c)) for c in chosen]
        whole = {
            (c.model, c.recipe) for c in self.candidates if c.key in kept and c.role == "control"
        }
        kept |= {
            c.key
            for c in self.candidates
            if c.role == "control"
            and (
                (c.model, c.repeat, c.steps) in scratch
                or (c.model, c.recipe.rpartition(CHECKPOINT)[0]) in whole
            )
        }
        return replace(
            self,
            candidates=tuple(c for c in self.candidates if c.key in kept),
            cells=tuple(c for c in self.cells if c.candidate in kept),
        )


def scores_of(inputs: Inputs) -> Scores:
    """Return the study's scores evaluator."""
    spec = inputs.spec
    return Scores(
        metrics=tuple(spec.measure.scores),
        replicates=spec.measure.intervals.replicates,
        seed=spec.seed,
    )


def latency_of(inputs: Inputs) -> Latency | None:
    """Return the study's latency evaluator, or None where it does not ask for one."""
    cost = inputs.spec.measure.cost
    if cost is None or cost.latency is None:
        return None
    return Latency(**asdict(cost.latency))


def saliencies_of(inputs: Inputs, model: str) -> dict[str, Saliency]:
    """Return the study's saliency evaluators for the candidates of a model, by method."""
    spec = inputs.spec.measure.saliency
    if spec is None:
        return {}
    evaluator: Callable[..., Saliency] = Saliency
    if inputs.spec.task == "detection":
        evaluator = functools.partial(
            BoxSaliency, boxes=spec.boxes, score=spec.score, overlap=spec.overlap
        )
    return {
        name: evaluator(
            method=name,
            settings=settings,
            layer=spec.layer_of(model),
            images=spec.images,
            label=name if position else "",
            replicates=inputs.spec.measure.intervals.replicates,
            seed=inputs.spec.seed,
        )
        for position, (name, settings) in enumerate(spec.methods_with_settings())
    }


def printing_of(measuring: Sequence[str]) -> str:
    """Return the split whose numbers are printed."""
    return "report" if "report" in measuring else "select"


def make_plan(inputs: Inputs, environment: Json) -> Plan:
    """Return everything a study wants.

    Args:
        inputs: the study.
        environment: description of this machine; latency cells belong to it.
    """
    return _Planner(inputs, environment).plan()


class _Planner:
    """Reads the data and the model files once, then spells out every candidate and cell."""

    def __init__(self, inputs: Inputs, environment: Json) -> None:
        self.inputs = inputs
        self.spec = inputs.spec
        self.environment = environment_key(environment)
        self.data = inputs.splits()
        self.prints = {name: images.fingerprint for name, images in self.data.sets.items()}
        self._check_task()
        self.measuring = tuple(name for name in MEASURED if name in self.data.sets)
        self.conditions = self.spec.conditions_list()
        self.corrupted = tuple(c for c in self.conditions if not c.is_clean)
        sets = self.data.sets if self.corrupted else {}
        self.batches = {name: inputs.batch_of(images) for name, images in self.data.sets.items()}
        self.parts = {name: parts_of(s, self.batches[name]) for name, s in self.data.sets.items()}
        self.inference = self.spec.measure.inference
        self.worlds = {name: inputs.world(sets[name]) for name in self.measuring if name in sets}
        self.corruptions: dict[tuple[str, Condition], Json] = {}
        self.form: Form = "twin" if self.spec.measure.form == "twin" else "artifact"
        self.latency = latency_of(inputs)

    def _check_task(self) -> None:
        """Refuse data that do not belong to the task.

        Raises:
            DataError: images have boxes where each needs one class, or the other way round.
        """
        for images in self.data.sets.values():
            _ = images.objects if self.spec.task == "detection" else images.labels

    def plan(self) -> Plan:
        candidates: list[Candidate] = []
        cells: list[Cell] = []
        for model in self.spec.models:
            mine = list(self._candidates(model, self.inputs.fingerprint(model)))
            self._check_distinct(mine, candidates)
            candidates += mine
            for candidate in mine:
                cells += self._cells(candidate, mine[0].key)
        return Plan(
            tuple(candidates),
            tuple(cells),
            {
                name: {
                    "source": s.source,
                    "count": len(s),
                    "fingerprint": self.prints[name],
                    "classes": list(s.classes),
                    "batch": self.batches[name],
                    "parts": len(self.parts[name]),
                }
                for name, s in self.data.sets.items()
            },
            (
                *filter(None, [self.spec.scale_note]),
                *self.data.notes,
                *self._world_notes(),
                *self._stopping_notes(candidates),
                *filter(None, [self.inference.caveat]),
            ),
            {m: self.inputs.contamination(m, self.data.sets) for m in self.spec.models},
            {split: self._origins(world) for split, world in self.worlds.items()},
            {name: images.pixels for name, images in self.data.sets.items()},
            self.parts,
        )

    def _check_distinct(self, new: list[Candidate], known: list[Candidate]) -> None:
        """Refuse the same work under two names: its numbers would count twice in every choice.

        Raises:
            SpecError: two recipes, or two models, are the same.
        """
        labels = {candidate.key: candidate.label for candidate in known}
        for candidate in new:
            other = labels.setdefault(candidate.key, candidate.label)
            if other != candidate.label:
                raise SpecError(
                    [
                        f"{self.inputs.filename}: {candidate.label} must differ from {other}, got "
                        "the same model and the same steps; remove one of them"
                    ]
                )

    def _world_notes(self) -> Iterator[str]:
        """Yield what a reader must know about the corrupted images of each split."""
        told: dict[str, list[str]] = {}
        for name, world in self.worlds.items():
            for note in world.check(self.data.sets[name], self.corrupted):
                told.setdefault(note, []).append(name)
        for note, names in told.items():
            yield f"{' and '.join(names)}: {note}"

    def _stopping_notes(self, candidates: Sequence[Candidate]) -> Iterator[str]:
        """Yield whose numbers on the split 'select' are optimistic."""
        labels = [c.label for c in candidates if Needs.VALIDATION in recipe_of(c).needs]
        if labels:
            shown = ", ".join(labels[:3]) + f" and {len(labels) - 3} more" * (len(labels) > 3)
            yield f"select: its images decided when to stop training; optimistic for {shown}"

    def _origins(self, world: World) -> dict[str, str]:
        told = {str(condition): world.origin(condition) for condition in self.corrupted}
        return {condition: text for condition, text in told.items() if text}

    def _candidates(self, model: str, identity: str) -> Iterator[Candidate]:
        baseline = self._candidate(model, identity, "baseline", "baseline", ())
        yield baseline
        recipes = self.spec.candidate_recipes(model)
        if recipes and self.spec.models[model].scheme == "onnx":
            raise SpecError(
                [
                    f"{self.inputs.filename}: models.{model}: an exported file must be measured "
                    f"without recipes, got {', '.join(recipes)}; put it into a study of its own"
                ]
            )
        controls: dict[tuple[str, int], Candidate] = {}
        scratch: set[str] = set()
        for steps in recipes.values() if self.spec.controls != "none" else ():
            schedule = _schedule(steps)
            name = _control_name(schedule)
            for repeat in range(_repeats(self.spec.repeats, schedule) if schedule else 0):
                if (name, repeat) not in controls:
                    control = self._candidate(model, identity, name, "control", schedule, repeat)
                    controls[name, repeat] = control
                    parts = checkpoints_of(schedule, self.spec.snapshots)
                    for epoch, part in parts if repeat == 0 else ():
                        label = f"{name}{CHECKPOINT}{epoch}"
                        yield self._candidate(model, identity, label, "control", part)
                    yield control
        for name, steps in recipes.items():
            schedule = _schedule(steps)
            for repeat in range(_repeats(self.spec.repeats, steps)):
                of = _control_name(schedule)
                control = controls.get((of, repeat)) or controls.get((of, 0), baseline)
                yield self._candidate(model, identity, name, "recipe", steps, repeat, control.key)
            anew = _from_scratch(steps) if self.spec.controls == "all" else ()
            for repeat in range(_repeats(self.spec.repeats, anew) if anew else 0):
                control = self._candidate(
                    model, identity, f"control.scratch-{name}", "control", anew, repeat
                )
                # Recipes that prune and train alike share it, under the name of the first one.
                if control.key not in scratch:
                    scratch.add(control.key)
                    yield control

    def _candidate(
        self,
        model: str,
        identity: str,
        recipe: str,
        role: Literal["baseline", "control", "recipe"],
        steps: tuple[Any, ...],
        repeat: int = 0,
        control: str = "",
    ) -> Candidate:
        identities = tuple(identity_of(step) for step in steps)
        parts: Json = {
            "artifact": ARTIFACT_FORMAT,
            "data": {name: self.prints[name] for name in splits_for(Recipe(steps).needs)},
            "model": identity,
            "repeat": repeat,
            "role": role,
            "seed": self.spec.seed if steps else 0,
            "steps": identities,
            "threads": self.spec.threads,
        }
        if steps and self.inference.device != "cpu":
            parts["device"] = self.inference.device
        return Candidate(
            key_of("candidate", parts), model, recipe, repeat, role, control, identities
        )

    def _cells(self, candidate: Candidate, baseline: str) -> Iterator[Cell]:
        for split in self.measuring:
            for condition in self.conditions:
                yield self._scores_cell(candidate, self.form, split, condition)
            other: Form = "artifact" if self.form == "twin" else "twin"
            yield self._scores_cell(candidate, other, split, CLEAN)
        yield from self._saliency_cells(candidate, baseline)
        if self.form == "twin" and not self.inference.is_exact:
            yield self._fidelity_cell(candidate)
        parts: Json = {"candidate": candidate.key, "version": Size.version}
        yield Cell(key_of("size", parts), candidate.key, "size", "artifact")
        if self.latency is not None:
            parts = {
                "baseline": baseline,
                "candidate": candidate.key,
                "environment": self.environment,
                "evaluator": identity_of(self.latency),
            }
            yield Cell(key_of("latency", parts), candidate.key, "latency", "artifact")

    def _fidelity_cell(self, candidate: Candidate) -> Cell:
        split = printing_of(self.measuring)
        parts: Json = {
            "batch": self.batches[split],
            "candidate": candidate.key,
            "evaluator": identity_of(Fidelity()),
            "images": self.prints[split],
            "threads": self.spec.threads,
            **self.inference.parts("twin"),
        }
        return Cell(key_of("fidelity", parts), candidate.key, Fidelity.name, "twin", split, CLEAN)

    def _saliency_cells(self, candidate: Candidate, baseline: str) -> Iterator[Cell]:
        """Yield one cell per method and condition, on the split that is printed.

        Dense checkpoints from within a control's training have none: they are there for their
        errors. How numbers are made from the maps is no part of the key: they are recomputed.
        """
        spec = self.spec.measure.saliency
        is_part = candidate.role == "control" and CHECKPOINT in candidate.recipe
        if spec is None or is_part:
            return
        split = printing_of(self.measuring)
        for name, saliency in saliencies_of(self.inputs, candidate.model).items():
            parts: Json = {
                "baseline": baseline,
                "batch": self.batches[split],
                "candidate": candidate.key,
                "count": saliency.images,
                "images": self.prints[split],
                "layer": saliency.layer,
                "method": identity_of(saliency.attribution),
                "seed": saliency.seed,
                "threads": self.spec.threads,
                "version": Saliency.version,
                **saliency.explained,
            }
            twin = spec.twin_of(candidate.model)
            if candidate.key == baseline:
                parts["randomized"] = COMPRESSORS.get("reinitialize").version
            if candidate.key == baseline and twin is not None:
                identity = self.inputs.fingerprint(twin)
                parts["twin"] = {
                    "candidate": self._candidate(twin, identity, "baseline", "baseline", ()).key,
                    "layer": spec.layer_of(twin),
                }
            for condition in spec.conditions_list():
                place: Json = {"condition": str(condition)}
                if not condition.is_clean:
                    place["corruption"] = self._corruption(split, condition)
                key = key_of("saliency", {**parts, **place})
                form = saliency.form
                yield Cell(key, candidate.key, "saliency", form, split, condition, name)

    def _scores_cell(
        self, candidate: Candidate, form: Form, split: str, condition: Condition
    ) -> Cell:
        """The metrics are no part of the key: they are recomputed from the predictions."""
        parts: Json = {
            "batch": self.batches[split],
            "candidate": candidate.key,
            "condition": str(condition),
            "form": form,
            "images": self.prints[split],
            "threads": self.spec.threads,
            "version": Scores.version,
            **self.inference.parts(form),
        }
        if not condition.is_clean:
            parts["corruption"] = self._corruption(split, condition)
        return Cell(key_of("scores", parts), candidate.key, "scores", form, split, condition)

    def _corruption(self, split: str, condition: Condition) -> Json:
        """Return what decides about the corrupted pixels; the same for every candidate."""
        place = (split, condition)
        if place not in self.corruptions:
            self.corruptions[place] = self.worlds[split].identity(condition)
        return self.corruptions[place]


def splits_for(needs: Needs) -> tuple[str, ...]:
    """Return the splits that a recipe with these needs reads."""
    reads = {
        "train": Needs.TRAINING,
        "calibrate": Needs.CALIBRATION,
        "select": Needs.VALIDATION,
    }
    return tuple(name for name, need in reads.items() if need in needs)


def _schedule(steps: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the part of a recipe that a dense control repeats: everything but compression.

    A recipe that compresses nothing would be its own control and gets none.
    """
    compresses = any(step.role is not Role.RECOVER for step in steps)
    return Recipe(steps).recovery if compresses else ()


def _from_scratch(steps: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the steps that train the pruned shape of a recipe from scratch, at equal budget.

    A recipe that prunes nothing, or never trains, has no such control.
    """
    pruning = [i for i, step in enumerate(steps) if step.name.partition(".")[0] == "prune"]
    schedule = Recipe(steps).recovery
    if not pruning or not any(Needs.TRAINING in step.needs for step in schedule):
        return ()
    return (*steps[: pruning[-1] + 1], COMPRESSORS.create("reinitialize"), *schedule)


def recipe_of(candidate: Candidate) -> Recipe:
    """Return the recipe behind a candidate."""
    return Recipe(tuple(COMPRESSORS.create(s["name"], s["fields"]) for s in candidate.steps))


def _scratch_identities(candidate: Candidate) -> tuple[Json, ...] | None:
    """Return the steps of the control that trains the pruned shape of a recipe from scratch."""
    anew = _from_scratch(recipe_of(candidate).steps) if candidate.role == "recipe" else ()
    return tuple(identity_of(step) for step in anew) or None


def _repeats(repeats: int, steps: tuple[Any, ...]) -> int:
    """Return how often a recipe is made: more than once only where it trains."""
    return repeats if any(Needs.TRAINING in step.needs for step in steps) else 1


def _control_name(schedule: tuple[Any, ...]) -> str:
    identities = Recipe(schedule).schedule()
    runs = [(name, len(list(run))) for name, run in groupby(i["name"] for i in identities)]
    words = "+".join(name if count == 1 else f"{count}x{name}" for name, count in runs)
    return f"control.{words}-{key_of('schedule', identities)[:4]}"
