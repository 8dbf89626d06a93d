"""What images, metrics, heat maps, latency and the page take in a process of a run."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from shrinkproof.artifacts.candidate import NETWORK
from shrinkproof.artifacts.fresh import run_fresh
from shrinkproof.artifacts.session import Session
from shrinkproof.artifacts.stopwatch import Race, run_race
from shrinkproof.data.imageset import ImageSet
from shrinkproof.evaluators.heats import REFERENCE
from shrinkproof.evaluators.latency import Latency
from shrinkproof.evaluators.saliency import Saliency
from shrinkproof.evaluators.scores import Scores
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.metrics.heatmaps import HeatMaps
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Candidate, Cell, Condition, Failure
from shrinkproof.store import Shard
from shrinkproof.study.estimate.desk import Desk, bytes_of, timed
from shrinkproof.study.estimate.invented import invented
from shrinkproof.study.estimate.rates import Looked, Scored, Timed
from shrinkproof.study.plan import saliencies_of, scores_of
from shrinkproof.study.twin import load_twin

_NUMBERS: Final = 5_000_000
"""Logits of invented predictions, at most; what they cost is scaled to the rest."""

_FEW: Final = 4
"""Images of the first look, and of the first heat maps."""

_MANY: Final = 12
"""Images of the second heat maps, where the first ones were fast."""

_FAST: Final = 4.0
"""Seconds of the first heat maps, above which there are no second ones."""

_REPEATS: Final = 20
"""Timed inferences of the baseline."""


def show(
    desk: Desk, split: str, conditions: Sequence[Condition], until: float
) -> tuple[dict[str, float], float]:
    """Return the seconds per image of conditions, and what the first images took longer.

    Args:
        desk: of this process.
        split: whose images.
        conditions: what the world does to them.
        until: time of day after which no further condition is looked at.
    """
    images = desk.place.images([split])[split]
    batch = desk.place.inputs.batch_of(images)
    world = desk.place.inputs.world(images) if any(not c.is_clean for c in conditions) else None
    found: dict[str, float] = {}
    opening = 0.0
    for condition in conditions:
        if time.time() > until:
            break
        start = desk.clock()
        _look(images.take(np.arange(min(_FEW, len(images)))), condition, world, batch)
        first = desk.clock() - start
        some = images.take(np.arange(min(batch, len(images))))
        look = functools.partial(_look, some, condition, world, batch)
        start = desk.clock()
        look()
        once = desk.clock() - start
        seconds = min(once, timed(look, desk.clock, most=3, seconds=0.05)) if once < 0.1 else once
        found[str(condition)] = seconds / len(some)
        opening += max(0.0, first - _FEW * found[str(condition)])
    return found, opening


def _look(images: ImageSet, condition: Condition, world: Any, batch: int) -> None:
    for _ in Scene(images, condition, world, batch).batches():
        pass


def score(desk: Desk, split: str) -> tuple[Scored, float]:
    """Return what the metrics of a cell of a split take, and the seconds to store its numbers."""
    images = desk.place.images([split])[split]
    count = len(images)
    some = min(count, max(1000, _NUMBERS // max(1, len(images.classes))))
    predictions = invented(images.take(np.arange(some)))
    scores = scores_of(desk.place.inputs)
    fast = scores.fast()
    once = timed(lambda: fast.weights(some, predictions.groups), desk.clock, most=2)
    weights = fast.weights(some, predictions.groups)
    key = f"invented-{split}"

    def in_pass() -> None:
        desk.store.write_predictions(key, predictions)
        fast.score(predictions, weights)

    def after_pass() -> None:
        desk.store.read_predictions(key)
        scores.score(predictions, weights)

    inside = timed(in_pass, desk.clock, least=2, most=3)
    after = timed(after_pass, desk.clock, most=2)
    numbers = tuple(scores.score(predictions, weights))
    factor = count / some
    size = bytes_of(desk.store.path / "predictions" / key)
    found = Scored(once * factor, inside * factor, after * factor, size * factor)
    return found, _write(desk, split, numbers, scores)


def _write(desk: Desk, split: str, numbers: tuple[Measurement, ...], scores: Scores) -> float:
    cell = Cell(f"invented-{split}", "invented", "scores", "artifact", split)
    shard = Shard(cell, numbers, "", scores.versions())
    return timed(lambda: desk.store.write_cell(shard), desk.clock, least=3, most=5)


def look(desk: Desk, baseline: Candidate, split: str) -> list[Looked]:
    """Return what heat maps of a model take, from its baseline, which must be made."""
    images = desk.place.images([split])[split]
    spec = desk.place.inputs.spec.measure.saliency
    has_twin = spec is not None and spec.twin_of(baseline.model) is not None
    found = []
    for name, saliency in saliencies_of(desk.place.inputs, baseline.model).items():
        subject = _explained(desk, baseline, saliency, images)
        few = min(_FEW, len(images))
        own, other, maps = _maps(desk, replace(saliency, images=few), subject)
        slope, slope_other, cell = own / few, other / few, 0.0
        many = min(_MANY, saliency.images, len(images))
        if own < _FAST and many > few:
            more, more_other, maps = _maps(desk, replace(saliency, images=many), subject)
            slope = max(0.0, (more - own) / (many - few))
            slope_other = max(0.0, (more_other - other) / (many - few))
            cell = max(0.0, other - few * slope_other)
            few = many
        slope += slope_other if has_twin else 0.0
        desk.store.write_maps(name, maps)
        size = (desk.store.path / "saliency" / f"{name}.npz").stat().st_size
        plain = next(iter(maps.maps.values())).nbytes
        found.append(
            Looked(baseline.model, name, slope, slope_other, cell, plain / few, size / few)
        )
    return found


def _maps(desk: Desk, saliency: Saliency, subject: Subject) -> tuple[float, float, HeatMaps]:
    """Return the seconds of a baseline and of another candidate, and the maps."""
    kept: list[HeatMaps] = []

    def keep(subject: Subject, maps: HeatMaps) -> None:  # noqa: ARG001
        kept.append(maps)

    beside = desk.store.path / f"beside-{subject.folder.name}"
    if not beside.exists():
        shutil.copytree(subject.folder, beside)
    seconds = []
    for which in (subject, replace(subject, reference=beside)):
        known = kept[0] if kept else None
        start = desk.clock()
        for _, outcome in saliency.explain([which], known=known, keep=keep):
            if isinstance(outcome, Failure):
                raise RuntimeError(outcome.message)
        seconds.append(desk.clock() - start)
    return seconds[0], seconds[1], kept[0]


def _explained(desk: Desk, baseline: Candidate, saliency: Saliency, images: ImageSet) -> Subject:
    base = desk.place.base(baseline.model)
    folder = desk.store.candidate(baseline.key)
    session = Session(folder / NETWORK, threads=desk.place.inputs.spec.threads)
    return Subject(
        cell=Cell("heat-maps", baseline.key, Saliency.name, saliency.form),
        predict=session,
        preprocess=base.preprocess,
        num_classes=base.num_classes,
        detector=base.detector,
        scene=Scene(images, CLEAN, None, desk.place.inputs.batch_of(images)),
        folder=folder,
        reference=folder,
        load_twin=functools.partial(load_twin, str(desk.store.path), baseline.model),
    )


def time_inference(desk: Desk, baseline: Candidate, latency: Latency) -> Timed:
    """Return what timing takes of a model, from its baseline, which must be made."""
    base = desk.place.base(baseline.model)
    file = desk.store.candidate(baseline.key) / NETWORK
    start = desk.clock()
    Session(file, threads=1)
    load = desk.clock() - start
    inference: Mapping[int, float] = {}
    starts: dict[str, float] = {}
    for runtime in latency.runtimes:
        is_file = runtime == "onnxruntime"
        source = file if is_file else functools.partial(
            load_twin, str(desk.store.path), baseline.model, file.parent
        )  # fmt: skip
        race = Race(
            runtime=runtime,
            sources={REFERENCE: source},
            input_shape=base.input_shape,
            batches=latency.batches,
            threads=desk.place.inputs.spec.threads,
            repeats=_REPEATS,
            warmup=1,
        )
        starts[runtime], medians = _race(race, desk.waits)
        inference = inference or medians
    return Timed(baseline.model, starts, load, inference)


def _race(race: Race, clock: Callable[[], float]) -> tuple[float, dict[int, float]]:
    """Return the seconds of a process besides its inferences, and the median of these."""
    start = clock()
    lap = run_fresh(run_race, race)
    whole = clock() - start
    medians: dict[int, float] = {}
    for batch, found in lap.seconds.items():
        seconds = found[REFERENCE]
        if isinstance(seconds, Failure):
            raise RuntimeError(seconds.message)
        medians[batch] = float(np.median(seconds))
        whole -= sum(seconds) + race.warmup * medians[batch]
    return max(0.0, whole), medians
