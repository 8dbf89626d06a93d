"""What there is to do in a study, counted: pure arithmetic on its plan, without torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from shrinkproof.compressors.partial import PartialTraining, whole_of
from shrinkproof.evaluators.fidelity import Fidelity
from shrinkproof.evaluators.latency import Latency
from shrinkproof.evaluators.saliency import Saliency
from shrinkproof.evaluators.scores import Scores
from shrinkproof.metrics.spelling import metric_of
from shrinkproof.predictions.half import is_large
from shrinkproof.protocols import Needs
from shrinkproof.records import Candidate, Cell, Condition, canonical_json
from shrinkproof.registry import identity_of
from shrinkproof.spec import StudySpec
from shrinkproof.store import Store
from shrinkproof.study.plan import Plan, recipe_of, splits_for

_NUMBER: Final = re.compile(r"(?<![\w\"])-?\d+(\.\d+)?([eE][-+]?\d+)?(?![\w\"])")
"""A number in canonical JSON, but none within a text."""

_BESIDE_LOGITS: Final = 40
"""Bytes that are stored of each image beside its logits: truth, prediction, scores, index."""

_CHANNELS: Final = 3
"""Bytes of a pixel."""


@dataclass(frozen=True, slots=True)
class Making:
    """One candidate that must be made.

    Attributes:
        candidate: who it is.
        family: what it has in common with candidates that differ in numbers only.
        epochs: epochs of training, without those that another checkpoint has done before.
        reads: splits that its steps read.
    """

    candidate: Candidate
    family: str
    epochs: int
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Showing:
    """One pass: images of a split under a condition, shown to candidates.

    Attributes:
        split: whose images.
        condition: what the world does to them.
        cells: candidate and form of everything that predicts.
    """

    split: str
    condition: Condition
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Heat maps of one method of the candidates of one model under one condition.

    Attributes:
        model: name of the model in the study.
        method: name of the method.
        split: whose images.
        condition: what the world does to them.
        candidates: keys of those that have a map.
    """

    model: str
    method: str
    split: str
    condition: Condition
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Images of one split.

    Attributes:
        count: how many.
        pixels: height times width of one, of the largest one where sizes differ.
        classes: how many classes they have.
        batch: how many a network is given at a time.
        parts: how many parts a pass over them has.
    """

    count: int
    pixels: int
    classes: int
    batch: int
    parts: int = 1

    @property
    def bytes(self) -> int:
        """Size of all images once they are decoded."""
        return self.count * self.pixels * _CHANNELS


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that there is to do.

    Attributes:
        task: ``classification`` or ``detection``.
        splits: the images, by split.
        candidates: all candidates of the study, also those that are made.
        families: key of each candidate -> its family.
        making: what must be made, in order.
        passes: what must be measured, in order.
        verifying: how many candidates are compared with themselves in float32.
        scoring: split -> cells whose metrics are computed after the pass.
        explaining: heat maps.
        explained: images of each heat map.
        timed: model -> keys of the candidates that are timed.
        scored: cells of predictions of the study, also those that are measured.
        cells: all cells of the study, also those that are measured.
        missing: cells that must be measured.
    """

    task: str
    splits: Mapping[str, Split]
    candidates: tuple[Candidate, ...]
    families: Mapping[str, str]
    making: tuple[Making, ...]
    passes: tuple[Showing, ...]
    verifying: int
    scoring: Mapping[str, int]
    explaining: tuple[Explanation, ...]
    explained: int
    timed: Mapping[str, tuple[str, ...]]
    scored: int
    cells: int
    missing: int

    @property
    def baselines(self) -> frozenset[str]:
        """Keys of the baselines."""
        return frozenset(c.key for c in self.candidates if c.role == "baseline")

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return not self.making and not self.missing

    @property
    def trained(self) -> int:
        """How many of the candidates that must be made are trained."""
        return sum(making.epochs > 0 for making in self.making)

    @property
    def parts(self) -> int:
        """Pieces of work that the passes are divided into."""
        return sum(self.splits[showing.split].parts for showing in self.passes)

    @property
    def forwards(self) -> int:
        """How often some network predicts some image in the passes."""
        return sum(len(s.cells) * self.splits[s.split].count for s in self.passes)

    @property
    def training(self) -> int:
        """How often some network learns from some image."""
        images = self.splits["train"].count if "train" in self.splits else 0
        return images * sum(making.epochs for making in self.making)

    @property
    def read(self) -> int:
        """Bytes of pixels that passes, heat maps and training read."""
        shown = sum(self.splits[showing.split].bytes for showing in self.passes)
        looked = sum(
            min(self.explained, self.splits[each.split].count)
            * (self.splits[each.split].bytes // max(1, self.splits[each.split].count))
            for each in self.explaining
        )
        train = self.splits["train"].bytes if "train" in self.splits else 0
        return shown + looked + train * sum(making.epochs for making in self.making)

    @property
    def predictions(self) -> int | None:
        """Bytes of predictions that the passes write; None for boxes, whose number is not known."""
        if self.task != "classification":
            return None
        return sum(len(s.cells) * predictions_of(self.splits[s.split]) for s in self.passes)


def predictions_of(split: Split) -> int:
    """Return the bytes of a cell's predictions of all images of a split."""
    logits = split.count * split.classes
    half = is_large(split.count, split.classes)
    stored = 2 * logits + 4 * split.count if half else 4 * logits
    return stored + _BESIDE_LOGITS * split.count


def work_of(spec: StudySpec, plan: Plan, store: Store | None = None) -> Work:
    """Return what there is to do.

    Args:
        spec: the study.
        plan: what it wants.
        store: a run directory in which part of it may be done; None for a new one.

    Raises:
        StoreError: the run directory cannot be read.
    """
    finished = frozenset() if store is None else store.finished()
    made = {c.key for c in plan.candidates if store is not None and store.has_candidate(c.key)}
    missing = [cell for cell in plan.cells if cell.key not in finished]
    models = {c.key: c.model for c in plan.candidates}
    splits = {
        name: Split(s["count"], plan.pixels[name], len(s["classes"]), s["batch"], s["parts"])
        for name, s in plan.splits.items()
    }
    saliency = spec.measure.saliency
    is_slow = any(not metric_of(name).is_fast for name in spec.measure.scores)
    scored = [cell for cell in missing if cell.evaluator == Scores.name]
    later = [c for c in scored if is_slow or splits[c.split].parts > 1]
    return Work(
        task=spec.task,
        splits=splits,
        candidates=plan.candidates,
        families={c.key: _family(c) for c in plan.candidates},
        making=tuple(_makings(plan.candidates, made)),
        passes=tuple(_showings(scored)),
        verifying=sum(cell.evaluator == Fidelity.name for cell in missing),
        scoring=Counter(cell.split for cell in later),
        explaining=tuple(_explanations(missing, models)),
        explained=0 if saliency is None else saliency.images,
        timed=_by_model((c for c in missing if c.evaluator == Latency.name), models),
        scored=sum(cell.evaluator == Scores.name for cell in plan.cells),
        cells=len(plan.cells),
        missing=len(missing),
    )


def _family(candidate: Candidate) -> str:
    """Return what a candidate has in common with those that differ in numbers only."""
    steps = [identity_of(step) for step in whole_of(recipe_of(candidate).steps)]
    text = canonical_json([candidate.model, steps])
    return _NUMBER.sub("0", text)


def _makings(candidates: Iterable[Candidate], made: Collection[str]) -> Iterator[Making]:
    """Yield what must be made; checkpoints of one training go on from one another."""
    done: dict[tuple[str, str, int], int] = {}
    for candidate in candidates:
        recipe = recipe_of(candidate)
        whole = canonical_json([identity_of(step) for step in whole_of(recipe.steps)])
        training = (candidate.model, whole, candidate.repeat)
        epochs = sum(_epochs(step) for step in recipe.recovery)
        before = done.get(training, 0) if candidate.role == "control" else 0
        if candidate.role == "control":
            done[training] = max(before, epochs)
        if candidate.key not in made:
            left = max(0, epochs - before)
            yield Making(candidate, _family(candidate), left, splits_for(recipe.needs))


def _epochs(step: object) -> int:
    """Return how many epochs a step of a dense control takes; none where it only recalibrates."""
    if isinstance(step, PartialTraining):
        return step.epoch
    trains = Needs.TRAINING in getattr(step, "needs", Needs.NOTHING)
    return int(getattr(step, "epochs", 0)) if trains else 0


def _showings(cells: Iterable[Cell]) -> Iterator[Showing]:
    found: dict[tuple[str, Condition], list[tuple[str, str]]] = {}
    for cell in cells:
        found.setdefault((cell.split, cell.condition), []).append((cell.candidate, cell.form))
    for (split, condition), shown in found.items():
        yield Showing(split, condition, tuple(shown))


def _explanations(cells: Iterable[Cell], models: Mapping[str, str]) -> Iterator[Explanation]:
    found: dict[tuple[str, str, str, Condition], list[str]] = {}
    for cell in cells:
        if cell.evaluator == Saliency.name:
            place = (models[cell.candidate], cell.method, cell.split, cell.condition)
            found.setdefault(place, []).append(cell.candidate)
    for place, keys in found.items():
        yield Explanation(*place, tuple(keys))


def _by_model(cells: Iterable[Cell], models: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for cell in cells:
        found.setdefault(models[cell.candidate], []).append(cell.candidate)
    return {model: tuple(keys) for model, keys in found.items()}
