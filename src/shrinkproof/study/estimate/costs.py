"""Time, memory and disk of a study: what there is to do times what each piece takes."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean
from typing import Final

from shrinkproof.evaluators.fidelity import Fidelity
from shrinkproof.evaluators.latency import Latency
from shrinkproof.records import Condition, Json
from shrinkproof.study.estimate.neighbors import looked_of, made_of, shown_of
from shrinkproof.study.estimate.rates import Made, Rates, Scored, Timed
from shrinkproof.study.estimate.sizes import disk_of, memory_of
from shrinkproof.study.estimate.work import Explanation, Making, Showing, Work

_NAMED: Final = 3
"""Pieces that a note names."""

_FILLED: Final = 4
"""Bytes of memory that a pass reserves for each byte of an exported file."""

_FORK: Final = 0.05
"""Seconds to fork the process that measures the memory of one file."""

_CALLS: Final = 2
"""Inferences of each of those processes."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: as the progress of a run calls it.
        items: pieces of work.
        seconds: how long it lasts.
        work: seconds of all workers together.
    """

    name: str
    items: int
    seconds: float
    work: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a study costs.

    Attributes:
        workers: pieces of work side by side.
        stages: in order; those without work are left out.
        memory: highest bytes of memory of one worker.
        disk: what is written -> bytes, in the end.
        notes: what the numbers leave out.
    """

    workers: int
    stages: tuple[Stage, ...]
    memory: float
    disk: Mapping[str, float]
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long the run lasts."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def work(self) -> float:
        """Seconds of all workers together."""
        return sum(stage.work for stage in self.stages)

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return {
            "workers": self.workers,
            "seconds": self.seconds,
            "work": self.work,
            "stages": [asdict(stage) for stage in self.stages],
            "memory": self.memory,
            "disk": dict(self.disk),
            "notes": list(self.notes),
        }


def estimate_of(
    work: Work,
    rates: Rates,
    *,
    workers: int,
    replicates: int = 1000,
    latency: Latency | None = None,
    overlaps: bool = False,
    room: float = float("inf"),
    planned: float = 0.0,
) -> Estimate:
    """Return what some work costs on machines like the one that was probed.

    Args:
        work: what there is to do.
        rates: what each piece takes.
        workers: how many pieces are done side by side, >= 1.
        replicates: bootstrap replicates of the intervals.
        latency: how inference is timed; None where it is not.
        overlaps: whether there are cores on which the next images are read while some are
            predicted.
        room: bytes that the loaded candidates of one worker may fill.
        planned: seconds to read the study and the data for the plan.
    """
    settings = (replicates, latency, overlaps, room, planned)
    return _Costs(work, rates, workers, *settings).estimate()


def makespan(durations: Iterable[float], workers: int) -> float:
    """Return when the last piece ends if each, in order, goes to the first worker that is free.

    Args:
        durations: seconds of each piece, in order.
        workers: how many there are, >= 1.
    """
    ends = [0.0] * workers
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


@dataclass(frozen=True)
class _Costs:
    work: Work
    rates: Rates
    workers: int
    replicates: int
    latency: Latency | None
    overlaps: bool
    room: float
    planned: float

    def estimate(self) -> Estimate:
        stages = [
            Stage("plan", 1 if self.planned else 0, self.planned, self.planned),
            self._prepare(),
            self._measure(),
            self._verify(),
            self._score(),
            self._explain(),
            self._time(),
            self._end(),
        ]
        return Estimate(
            workers=self.workers,
            stages=tuple(stage for stage in stages if stage.items),
            memory=memory_of(self.work, self.rates, self.made, self.replicates, self.room),
            disk=disk_of(self.work, self.rates, self.made),
            notes=tuple(self._notes()),
        )

    @cached_property
    def made(self) -> dict[str, Made]:
        """What every candidate takes."""
        return made_of(self.work, self.rates)

    def _predict(self, key: str, form: str) -> float:
        """Return the seconds per image of a candidate."""
        return self.made[key].predict.get(form, 0.0)

    # stages

    def _stage(
        self, name: str, durations: Sequence[float], once: float, *, cells: int = 0
    ) -> Stage:
        """Return a stage whose workers each do something once before their first piece."""
        if not durations:
            return Stage(name, 0, 0.0, 0.0)
        busy = min(self.workers, len(durations))
        stored = cells * self.rates.write
        seconds = self.rates.start + once + makespan(durations, self.workers) + stored / busy
        work = busy * (self.rates.start + once) + sum(durations) + stored
        return Stage(name, len(durations), seconds, work)

    def _prepare(self) -> Stage:
        reads = {split for making in self.work.making for split in making.reads}
        once = self.rates.first + sum(self.rates.reading.get(split, 0.0) for split in reads)
        return self._stage("prepare", [self._making(m) for m in self.work.making], once)

    def _making(self, making: Making) -> float:
        made = self.made[making.candidate.key]
        return made.fixed + made.epoch * making.epochs

    def _measure(self) -> Stage:
        passes = self.work.passes
        splits = {showing.split for showing in passes}
        once = sum(self.rates.reading.get(split, 0.0) for split in splits)
        once += self.rates.opening if any(not s.condition.is_clean for s in passes) else 0.0
        if self.groups == 1:
            once += sum(self.made[key].load for key in {k for s in passes for k, _ in s.cells})
        durations: list[float] = []
        for showing in passes:
            parts = self.work.splits[showing.split].parts
            durations += [self._showing(showing, parts) / parts] * parts
        return self._stage("measure", durations, once, cells=sum(len(s.cells) for s in passes))

    @cached_property
    def groups(self) -> int:
        """In how many groups the candidates of a pass are loaded."""
        files = (sum(self.made[k].network for k, _ in s.cells) for s in self.work.passes)
        filled = _FILLED * max(files, default=0.0)
        return max(1, math.ceil(filled / self.room))

    def _showing(self, showing: Showing, parts: int) -> float:
        """Return the seconds of a whole pass."""
        count = self.work.splits[showing.split].count
        models = {self._models[key] for key, _ in showing.cells}
        shown = self._shown(showing.condition) + self.rates.prepared * len(models)
        shown *= count * self.groups
        predicted = count * sum(self._predict(key, form) for key, form in showing.cells)
        if self.groups > 1:
            predicted += parts * sum(self.made[key].load for key, _ in showing.cells)
        both = max(shown, predicted) if self.overlaps else shown + predicted
        scored = self._scored(showing.split)
        return both + (0.0 if parts > 1 else scored.once + scored.fast * len(showing.cells))

    @cached_property
    def _models(self) -> dict[str, str]:
        return {c.key: c.model for c in self.work.candidates}

    def _shown(self, condition: Condition) -> float:
        """Return the seconds per image of a condition."""
        return shown_of(self.rates.shown, condition)

    def _scored(self, split: str) -> Scored:
        return self.rates.scored.get(split, Scored(0.0, 0.0, 0.0, 0.0))

    def _verify(self) -> Stage:
        """Return the comparison with float32, which is one piece of work for each split."""
        forwards = Fidelity().images * 2
        keys = {key for showing in self.work.passes for key, form in showing.cells
                if form == "twin"}  # fmt: skip
        each = [2 * self.made[key].load + forwards * self._predict(key, "twin") for key in keys]
        mean = fmean(each) if each else 0.0
        count = self.work.verifying
        return self._stage("verify", [mean * count] if count else [], 0.0, cells=count)

    def _score(self) -> Stage:
        durations: list[float] = []
        for split, count in self.work.scoring.items():
            scored = self._scored(split)
            joined = scored.fast if self.work.splits[split].parts > 1 else 0.0
            durations += [scored.slow + joined] * count
        once = sum(self._scored(split).once for split in self.work.scoring)
        return self._stage("score", durations, once, cells=len(durations))

    def _explain(self) -> Stage:
        durations: dict[tuple[str, str, Condition], float] = {}
        for each in self.work.explaining:
            place = (each.model, each.split, each.condition)
            durations[place] = durations.get(place, 0.0) + self._explanation(each)
        splits = {each.split for each in self.work.explaining}
        once = sum(self.rates.reading.get(split, 0.0) for split in splits)
        cells = sum(len(each.candidates) for each in self.work.explaining)
        return self._stage("explain", list(durations.values()), once, cells=cells)

    def _explanation(self, each: Explanation) -> float:
        looked = looked_of(self.rates, each)
        images = min(self.work.explained, self.work.splits[each.split].count)
        others = sum(key not in self._baselines for key in each.candidates)
        baselines = len(each.candidates) - others
        return (
            images * (baselines * looked.baseline + others * looked.candidate)
            + len(each.candidates) * looked.cell
            + images * self._shown(each.condition)
        )

    @cached_property
    def _baselines(self) -> frozenset[str]:
        return self.work.baselines

    def _time(self) -> Stage:
        """Return latency, which is measured while nothing else runs."""
        count = sum(map(len, self.work.timed.values()))
        if self.latency is None or not count:
            return Stage("latency", 0, 0.0, 0.0)
        seconds = sum(self._heat(m, keys) for m, keys in self.work.timed.items())
        seconds += count * self.rates.write
        return Stage("latency", count, seconds, seconds)

    def _heat(self, model: str, keys: Sequence[str]) -> float:
        """Return the seconds of all candidates of a model that are timed in turns."""
        assert self.latency is not None, "only what is timed takes time"
        timed = next((t for t in self.rates.timed if t.model == model), None)
        if timed is None:
            return 0.0
        threads = self.latency.threads
        settings = len(threads) if isinstance(threads, tuple) else 1
        runs = self.latency.repeats + self.latency.warmup
        each = [self._inferences(timed, model, key) for key in keys]
        own = sum(each) + self._inferences(timed, model, "")
        total = 0.0
        for runtime in self.latency.runtimes:
            process = timed.start.get(runtime, 0.0) + (len(keys) + 1) * timed.load + runs * own
            total += settings * self.latency.processes * process
        first = self.latency.batches[0]
        forks = len(keys) * (timed.load + _FORK + _CALLS * timed.inference.get(first, 0.0))
        return total + timed.start.get("onnxruntime", 0.0) + forks

    def _inferences(self, timed: Timed, model: str, key: str) -> float:
        """Return the seconds of one inference of each batch size; of the baseline without a key."""
        base = next((k for k in self._baselines if self._models[k] == model), key)
        ours, theirs = self._predict(key or base, "artifact"), self._predict(base, "artifact")
        ratio = ours / theirs if theirs else 1.0
        return ratio * sum(timed.inference.values())

    def _end(self) -> Stage:
        ended = self.rates.ended
        if ended is None or not self.work.missing:
            return Stage("summary", 0, 0.0, 0.0)
        seconds = ended.fixed + ended.cell * self.work.scored
        return Stage("summary", 1, seconds, seconds)

    def _notes(self) -> Iterable[str]:
        trained = [m.candidate for m in self.work.making if m.epochs]
        if trained and not any(self.made[c.key].epoch for c in trained):
            yield "training is left out: there was no time to measure it"
        if any("select" in making.reads for making in self.work.making):
            yield "training that may stop early is counted to its end"
        skipped = self.rates.skipped
        if skipped:
            more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
            yield f"there was no time to measure {', '.join(skipped[:_NAMED])}{more}"
        if self.groups > 1:
            yield f"candidates are loaded in {self.groups} groups, because of memory"
