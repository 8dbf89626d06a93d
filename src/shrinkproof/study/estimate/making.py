"""Candidates made with short trainings, for an estimate of what whole ones take."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from shrinkproof.artifacts.candidate import NETWORK
from shrinkproof.compressors.partial import PartialTraining
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.evaluators.answers import BoxAnswers
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.protocols import Context, Needs
from shrinkproof.records import CLEAN, Candidate, Cell, Failure, Json
from shrinkproof.study.estimate.desk import Desk, bytes_of, kept, timed
from shrinkproof.study.estimate.feeds import Loop, ShortFeed
from shrinkproof.study.estimate.rates import Made
from shrinkproof.study.plan import recipe_of, splits_for
from shrinkproof.study.rehearsal import shortened
from shrinkproof.study.work.loading import load_subject
from shrinkproof.study.work.preparing import make_context

if TYPE_CHECKING:
    from torch import nn

_SECONDS: Final = 1.5
"""How long each training and each calibration may last, if two batches do not take longer."""

_LONG: Final = 0.6
"""How long a candidate predicts in the form that is shown to all conditions."""

_SHORT: Final = 0.1
"""The same in its other form, which is only shown clean images."""

_LEARNING: Final = frozenset({"train", "select"})
"""Splits that are read once in every epoch."""


class OutOfTimeError(Exception):
    """A piece of measuring takes longer than it may."""


@dataclasses.dataclass(frozen=True, slots=True)
class Making:
    """What it took to make one candidate.

    Attributes:
        fixed: seconds of everything but training.
        epoch: seconds per epoch of training.
        first: seconds that it took longer because the process had made none before.
    """

    fixed: float
    epoch: float
    first: float | None


def observe(
    desk: Desk, candidate: Candidate, forms: Sequence[str], split: str
) -> tuple[Made, Making, float]:
    """Make a candidate, load its forms and let them predict some images.

    Returns:
        What it took, how it was made, and the seconds per image of preprocessing.
    """
    making = make(desk, candidate)
    before = kept()
    images = desk.place.images([split])[split]
    batch = desk.place.inputs.batch_of(images)
    scene = Scene(images, CLEAN, None, batch)
    predict: dict[str, float] = {}
    load = prepared = filled = 0.0
    for form in forms:
        is_main = form == ("twin" if desk.place.inputs.spec.measure.form == "twin" else "artifact")
        cell = Cell(f"{candidate.key}-{form}", candidate.key, "scores", form, split)  # type: ignore[arg-type]
        start = desk.clock()
        subject = load_subject(desk.place, desk.store, scene, cell, candidate)
        if isinstance(subject, Failure):
            continue
        load += desk.clock() - start
        predict[form], prepared = _predicting(desk, subject, scene, _LONG if is_main else _SHORT)
        filled = max(filled, kept() - before)
    made = Made(
        fixed=making.fixed,
        epoch=making.epoch,
        predict=predict,
        load=load,
        bytes=bytes_of(desk.store.candidate(candidate.key)),
        network=bytes_of(desk.store.candidate(candidate.key), NETWORK),
        resident=filled,
    )
    desk.place.predictors.clear()
    return made, making, prepared


def _predicting(desk: Desk, subject: Subject, scene: Scene, seconds: float) -> tuple[float, float]:
    """Return the seconds per image of a candidate, and of its preprocessing."""
    positions, pixels = next(scene.batches())
    count = len(positions)
    prepared = timed(lambda: subject.preprocess(pixels), desk.clock, seconds=0.1) / count
    inputs = subject.hand_over(subject.preprocess(pixels))

    def predict() -> None:
        outputs = subject.predict(inputs)
        if subject.detector is not None:
            answers = BoxAnswers(scene.images, subject.detector, subject.preprocess)
            answers.add(positions, outputs, (pixels.shape[1], pixels.shape[2]))

    return timed(predict, desk.clock, most=8, seconds=seconds) / count, prepared


def make(desk: Desk, candidate: Candidate) -> Making:
    """Make a candidate in the run directory of the probe, with short trainings."""
    import torch

    base = desk.place.base(candidate.model)
    recipe = recipe_of(candidate)
    short = Recipe(tuple(_short(step) for step in recipe.steps))
    loops: list[Loop] = []
    sets = {name: desk.place.images([name])[name] for name in splits_for(recipe.needs)}
    context = make_context(desk.place.inputs, base, sets, note=lambda values: None)  # noqa: ARG005
    context = _shortened(context, loops, desk)
    start = desk.clock()
    module, changes = short.apply(base.module, context)
    applied = desk.clock() - start
    example = torch.zeros((1, *base.input_shape))
    write = functools.partial(
        _write, desk, module=module, changes=changes, candidate=candidate, example=example
    )
    cold = _cold(desk, write)
    start = desk.clock()
    desk.store.write_candidate(candidate, write)
    written = desk.clock() - start
    first = None if cold is None else max(0.0, cold - written)
    epochs = [_epochs_of(step) for step in recipe.recovery]
    fixed, epoch = split_up(applied, loops, [e for e in epochs if e])
    return Making(fixed + written, epoch, first)


def _short(step: Any) -> Any:
    if isinstance(step, PartialTraining):
        return dataclasses.replace(step, training=shortened(step.training), epoch=1)
    return shortened(step)


def _epochs_of(step: Any) -> int:
    if isinstance(step, PartialTraining):
        return step.epoch
    return int(getattr(step, "epochs", 0)) if Needs.TRAINING in step.needs else 0


def split_up(applied: float, loops: Sequence[Loop], epochs: Sequence[int]) -> tuple[float, float]:
    """Return the seconds of everything but training, and those of one epoch.

    Where a recipe trains several times, the epoch is the mean over all epochs of the recipe.

    Args:
        applied: seconds of the recipe with short loops.
        loops: passes over the images that it made, in order.
        epochs: epochs of each training of the whole recipe, in order.
    """
    spent = sum(sum(loop.seconds) for loop in loops)
    training = [loop for loop in loops if loop.split in _LEARNING] if epochs else []
    others = [loop for loop in loops if loop not in training]
    fixed = max(0.0, applied - spent)
    fixed += sum(loop.whole for loop in others) + sum(loop.settling for loop in loops)
    learning = [loop for loop in training if loop.split == "train"]
    if not learning:
        return fixed, 0.0
    if len(learning) == len(epochs):
        whole = sum(loop.whole * e for loop, e in zip(learning, epochs, strict=True)) / sum(epochs)
    else:
        whole = sum(loop.whole for loop in learning) / len(learning)
    checked = [loop.whole for loop in training if loop.split != "train"]
    return fixed, whole + (sum(checked) / len(checked) if checked else 0.0)


def _shortened(context: Context, loops: list[Loop], desk: Desk) -> Context:
    given = {
        "train": context.training,
        "calibrate": context.calibration,
        "select": context.validation,
    }
    short = {
        name: None if feed is None else ShortFeed(name, feed, loops, _SECONDS, desk.clock)
        for name, feed in given.items()
    }
    return dataclasses.replace(
        context,
        training=short["train"],
        calibration=short["calibrate"],
        validation=short["select"],
    )


def _write(
    desk: Desk, folder: Path, *, module: nn.Module, changes: Any, candidate: Candidate, example: Any
) -> Json:
    from shrinkproof.artifacts.making import make_files

    facts = make_files(
        folder,
        module=module,
        changes=changes,
        candidate=candidate,
        example=example,
        needs_file=desk.place.inputs.spec.measure.form != "twin",
    )
    return {**facts, "input_shape": list(example.shape[1:])}


def _cold(desk: Desk, write: Callable[[Path], Json]) -> float | None:
    """Return the seconds of the first export of this process, made in vain; None for later ones."""
    if not desk.is_fresh:
        return None
    desk.is_fresh = False
    with tempfile.TemporaryDirectory() as folder:
        start = desk.clock()
        write(Path(folder))
        return desk.clock() - start


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt a block that lasts longer; only where the system has alarms.

    Raises:
        OutOfTimeError: the time is over.
    """
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise OutOfTimeError(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
