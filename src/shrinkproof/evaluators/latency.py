"""How long one inference of the real file takes on this machine, and how much memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final

import numpy as np
import pydantic

from shrinkproof.artifacts.candidate import NETWORK
from shrinkproof.artifacts.footprint import Footprint, Load, can_measure, measure_footprints
from shrinkproof.artifacts.fresh import run_fresh
from shrinkproof.artifacts.stopwatch import Lap, Race, Runtime, run_race
from shrinkproof.engines.inline import attempt
from shrinkproof.environment import describe_cpu, usable_cores
from shrinkproof.errors import ModelError
from shrinkproof.evaluators.heats import REFERENCE, Heat, heats_of, why_no_file
from shrinkproof.evaluators.spread import Estimate, over_processes
from shrinkproof.evaluators.subject import Subject
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.protocols import Measurement
from shrinkproof.records import Condition, Failure
from shrinkproof.registry import component
from shrinkproof.spec.schema import Batches, Runtimes, Threads

_MEDIAN, _P95, _RATIO = _LATENCIES = (
    "cost.latency_median",
    "cost.latency_p95",
    "cost.latency_ratio",
)
_MEMORY: Final = "cost.memory_peak"
_PERCENTILE: Final = 0.95
_ALONE: Final = {"OPENBLAS_NUM_THREADS": "1"}
"""Spares a process that only runs files the idle threads of numpy."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """What takes its turns in processes of its own: a runtime with so many threads.

    Attributes:
        runtime: what executes the networks.
        threads: threads of one inference.
        label: how a slice calls it.
    """

    runtime: Runtime
    threads: int
    label: str


_Laps = dict[_Setting, list[Lap] | Failure]


@component
class Latency:
    """Time of one inference of the exported file, and the memory it takes.

    All candidates of a model take turns with its baseline, in a new order every round, so that
    whatever else the machine does hits all of them and the ratio of the medians holds where the
    times themselves do not. This is repeated in fresh processes, because inferences of one process
    resemble each other (same memory layout, same neighbors, same frequency): each process gives a
    median, a 95th percentile and a ratio; stated are their medians over the processes and 95 %
    t-intervals on their logarithms. Nothing else runs meanwhile: the study calls this evaluator
    after all other work.

    The first batch, threads and runtime give the numbers without a slice. Memory is the highest
    resident memory of a process that loads and runs the file, minus that just before loading it.

    Attributes:
        batch: images per inference; a number or several.
        threads: threads of the runtime; a number, ``all`` cores, or several of these.
        runtimes: ``onnxruntime`` runs the exported file, ``pytorch`` the network before export,
            which says nothing about the file and is left out where it only imitates integers.
        repeats: timed inferences in each process.
        warmup: untimed inferences before them.
        processes: fresh processes; intervals need 5.
    """

    name: ClassVar[str] = "latency"
    version: ClassVar[int] = 2
    exclusive: ClassVar[bool] = True

    batch: Batches = 1
    threads: Threads = 1
    runtimes: Runtimes = ("onnxruntime",)
    repeats: Annotated[int, pydantic.Field(ge=20)] = 40
    warmup: Annotated[int, pydantic.Field(ge=1)] = 10
    processes: Annotated[int, pydantic.Field(ge=1)] = 5

    @property
    def batches(self) -> tuple[int, ...]:
        """All batch sizes, the headline's first."""
        return (self.batch,) if isinstance(self.batch, int) else self.batch

    def measure(
        self,
        subjects: Sequence[Subject],
        condition: Condition,  # noqa: ARG002 - the clock does not depend on the weather
    ) -> Iterator[tuple[Subject, Sequence[Measurement] | Failure]]:
        """Yield the times of each subject, taken in turns with those of the same baseline."""
        heats, failed = heats_of(subjects)
        yield from failed
        for heat in heats:
            yield from self._measure(heat)

    def _measure(self, heat: Heat) -> Iterator[tuple[Subject, Sequence[Measurement] | Failure]]:
        laps = attempt(self._race, heat)
        if isinstance(laps, Failure):
            if len(heat.subjects) == 1:
                yield heat.subjects[0], laps
            else:  # one of them ended the process of all: only alone it shows which
                for alone in heat.apart():
                    yield from self._measure(alone)
            return
        footprints = self._footprints(heat)
        for place, subject in enumerate(heat.subjects):
            times = attempt(functools.partial(self._measurements, heat, laps), place)
            if isinstance(times, Failure):
                yield subject, times
            else:
                missing = why_no_file(subject)
                memory = Failure("ModelError", missing) if missing else footprints[place]
                yield subject, [*times, _memory(memory)]

    def _settings(self) -> tuple[_Setting, ...]:
        threads = self.threads if isinstance(self.threads, tuple) else (self.threads,)
        return tuple(
            _Setting(
                runtime,
                usable_cores() if count == "all" else count,
                f"{count} {'thread' if count == 1 else 'threads'}, {runtime}",
            )
            for runtime in self.runtimes
            for count in threads
        )

    def _race(self, heat: Heat) -> _Laps:
        """Return the laps of every setting, one per process.

        A candidate that is alone may fail in another setting than the first and keep the others.

        Raises:
            ModelError: a process died.
        """
        found: _Laps = {}
        for setting in self._settings():
            laps = attempt(functools.partial(self._laps, heat), setting)
            if isinstance(laps, Failure) and (not found or len(heat.subjects) > 1):
                raise ModelError(laps.message)
            found[setting] = laps
        return found

    def _laps(self, heat: Heat, setting: _Setting) -> list[Lap]:
        is_file = setting.runtime == "onnxruntime"
        sources = heat.files() if is_file else heat.twins()
        return [
            run_fresh(
                run_race,
                Race(
                    runtime=setting.runtime,
                    sources=sources,
                    input_shape=heat.input_shape,
                    batches=self.batches,
                    threads=setting.threads,
                    repeats=self.repeats,
                    warmup=self.warmup,
                    process=process,
                ),
                variables=_ALONE if is_file else None,
            )
            for process in range(self.processes if sources else 0)
        ]

    def _footprints(self, heat: Heat) -> list[Footprint | Failure]:
        """Return the memory of every candidate with the settings of the headline, or why not."""
        if not can_measure():
            why = Failure("OSError", "the peak of a process is only told by Linux, in /proc")
            return [why for _ in heat.subjects]
        load = Load(
            paths=tuple(subject.folder / NETWORK for subject in heat.subjects),
            input_shape=heat.input_shape,
            batch=self.batches[0],
            threads=self._settings()[0].threads,
        )
        found = attempt(functools.partial(run_fresh, measure_footprints, variables=_ALONE), load)
        return [found for _ in heat.subjects] if isinstance(found, Failure) else found

    def _measurements(self, heat: Heat, laps: _Laps, place: int) -> list[Measurement]:
        """Return everything that is known about one candidate.

        Raises:
            ModelError: it has no headline, although it has an exported file.
        """
        found: list[Measurement] = []
        for setting, some in laps.items():
            for batch in self.batches:
                where = f"batch {batch}, {setting.label}"
                try:
                    times = self._times(heat.subjects[place], setting, some, batch, place)
                except ModelError as error:
                    if not found and not why_no_file(heat.subjects[place]):
                        raise
                    times = [_measurement(name, None, reason=str(error)) for name in _LATENCIES]
                found += [replace(m, slice=where if found else "") for m in times]
        return found

    def _times(
        self,
        subject: Subject,
        setting: _Setting,
        laps: Sequence[Lap] | Failure,
        batch: int,
        place: int,
    ) -> list[Measurement]:
        """Return median, 95th percentile and ratio of one candidate in one setting.

        Raises:
            ModelError: there are none; the message says why.
        """
        if isinstance(laps, Failure):
            raise ModelError(laps.message)
        if setting.runtime == "pytorch":
            _refuse_imitation(subject)
        elif why_no_file(subject):
            raise ModelError(why_no_file(subject))
        pairs = [(_seconds(lap, batch, place), _seconds(lap, batch, REFERENCE)) for lap in laps]
        values = {
            _MEDIAN: [float(np.median(own)) for own, _ in pairs],
            _P95: [float(np.quantile(own, _PERCENTILE)) for own, _ in pairs],
            _RATIO: [float(np.median(own) / np.median(other)) for own, other in pairs],
        }
        told = self._told(setting, laps, batch)
        count = len(laps) * self.repeats
        return [
            _measurement(name, over_processes(each), count=count, reason=told)
            for name, each in values.items()
        ]

    def _told(self, setting: _Setting, laps: Sequence[Lap], batch: int) -> str:
        """Return what a reader must know about the numbers of a setting."""
        cpu = describe_cpu()
        known = [lap.frequency for lap in laps if lap.frequency is not None]
        speed = f" at {np.median(known) / 1e9:.1f} GHz" if known else ", frequency unknown"
        governor = f", governor {cpu['governor']}" if cpu["governor"] else ""
        label = setting.label.replace(setting.runtime, laps[0].runtime)
        label = label.replace("all threads", f"all {setting.threads} threads")
        return (
            f"batch {batch}, {label} on {cpu['model'] or 'an unknown CPU'}{speed}{governor}; "
            f"{len(laps)} processes of {self.repeats} inferences"
        )


def _refuse_imitation(subject: Subject) -> None:
    if subject.is_simulated:
        raise ModelError(
            "not timed: PyTorch only imitates the arithmetic of this file, and the time of an "
            "imitation says nothing about it"
        )
    if subject.load_twin is None:
        raise ModelError("not timed: nobody can load the PyTorch form of this candidate")


def _seconds(lap: Lap, batch: int, place: int) -> list[float]:
    """Return the times of one network.

    Raises:
        ModelError: it failed.
    """
    found = lap.seconds[batch][place]
    if isinstance(found, Failure):
        whose = "the baseline cannot be timed: " if place == REFERENCE else ""
        raise ModelError(whose + found.message)
    return found


def _memory(footprint: Footprint | Failure) -> Measurement:
    if isinstance(footprint, Failure):
        return _measurement(_MEMORY, None, reason=footprint.message)
    told = f"of this, {footprint.code / 1e6:.1f} MB are code of the runtime"
    return _measurement(_MEMORY, Estimate(float(footprint.peak)), count=1, reason=told)


def _measurement(
    name: str, estimate: Estimate | None, *, count: int = 0, reason: str
) -> Measurement:
    known = METRIC_NAMES[name]
    stated = estimate or Estimate(0.0)
    return Measurement(
        metric=name,
        value=None if estimate is None else estimate.value,
        unit=known.unit,
        better=known.better.value,
        low=stated.low,
        high=stated.high,
        interval=stated.method,
        count=count,
        reason="; ".join(text for text in (reason, stated.reason) if text),
    )
