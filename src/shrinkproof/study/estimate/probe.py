"""A short probe: a few pieces of every kind of work of a study, done as the run would do them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from shrinkproof.engines.processes import Processes
from shrinkproof.environment import usable_cores
from shrinkproof.evaluators.latency import Latency
from shrinkproof.records import Candidate, Condition, Failure
from shrinkproof.store import Store
from shrinkproof.study.estimate.costs import Estimate, estimate_of
from shrinkproof.study.estimate.desk import Clock, Desk, Found, desk, peak
from shrinkproof.study.estimate.rates import Made, Rates
from shrinkproof.study.estimate.work import Work
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.plan import latency_of, printing_of
from shrinkproof.study.progress import Progress, Silence
from shrinkproof.study.work.memory import room

SECONDS: Final = 60.0
"""How long a probe may last; what is not measured by then is left out."""

_ESSENTIAL: Final = 3.0
"""How many times as long it may last for what no estimate can do without."""

_GRACE: Final = 1.5
"""How much longer than that a piece may take that has begun before."""

_ENDS: Final = 2
"""Candidates of a family that are made, at most: the first and the last."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Something to measure.

    Attributes:
        run: the directory of the probe.
        clock: which seconds are meant.
        sent: time of day when the probe began.
        until: time of day after which nothing new is begun.
        splits: those that the study reads.
        printed: split whose numbers are printed.
    """

    run: str
    clock: Clock
    sent: float
    until: float
    splits: tuple[str, ...]
    printed: str


@dataclass(frozen=True, slots=True)
class MakingPiece(Piece):
    """Make a candidate.

    Attributes:
        candidate: who.
        forms: in which it is measured.
    """

    candidate: Candidate
    forms: tuple[str, ...]

    def __str__(self) -> str:
        return self.candidate.label

    def measure(self, at: Desk) -> dict[str, Any]:
        """Return what it takes."""
        from shrinkproof.study.estimate.making import observe, within

        with within(_GRACE * (self.until - self.sent)):
            made, how, prepared = observe(at, self.candidate, self.forms, self.printed)
        return {"made": {self.candidate.key: made}, "first": how.first, "prepared": prepared}


@dataclass(frozen=True, slots=True)
class LookingPiece(Piece):
    """Make heat maps of a baseline that is made, and time it.

    Attributes:
        baseline: who.
        looks: whether there are heat maps.
        latency: how inference is timed; None where it is not.
    """

    baseline: Candidate
    looks: bool
    latency: Latency | None

    def __str__(self) -> str:
        names = ["heat maps"] * self.looks + ["latency"] * (self.latency is not None)
        return f"{' and '.join(names)} of {self.baseline.model}"

    def measure(self, at: Desk) -> dict[str, Any]:
        """Return what it takes."""
        from shrinkproof.study.estimate.making import make, within
        from shrinkproof.study.estimate.measuring import look, time_inference

        found: dict[str, Any] = {}
        with within(_GRACE * (self.until - self.sent)):
            if not at.store.has_candidate(self.baseline.key):
                make(at, self.baseline)
            if self.looks:
                found["looked"] = tuple(look(at, self.baseline, self.printed))
            if self.latency is not None:
                found["timed"] = (time_inference(at, self.baseline, self.latency),)
        return found


@dataclass(frozen=True, slots=True)
class ShowingPiece(Piece):
    """Read and corrupt some images.

    Attributes:
        conditions: what the world does to them.
    """

    conditions: tuple[Condition, ...]

    def __str__(self) -> str:
        return self.conditions[0].corruption

    def measure(self, at: Desk) -> dict[str, Any]:
        """Return what it takes."""
        from shrinkproof.study.estimate.measuring import show

        shown, opening = show(at, self.printed, self.conditions, self.until)
        return {"shown": shown, "opening": opening}


@dataclass(frozen=True, slots=True)
class ScoringPiece(Piece):
    """Compute the metrics of a cell.

    Attributes:
        split: whose.
    """

    split: str

    def __str__(self) -> str:
        return f"metrics on {self.split}"

    def measure(self, at: Desk) -> dict[str, Any]:
        """Return what it takes."""
        from shrinkproof.study.estimate.measuring import score

        scored, write = score(at, self.split)
        return {"scored": {self.split: scored}, "write": write}


@dataclass(frozen=True, slots=True)
class EndingPiece(Piece):
    """Make tables and page.

    Attributes:
        candidates: of the study.
        measured: splits that are measured.
    """

    candidates: tuple[Candidate, ...]
    measured: tuple[str, ...]

    def __str__(self) -> str:
        return "tables and page"

    def measure(self, at: Desk) -> dict[str, Any]:
        """Return what it takes."""
        from shrinkproof.study.estimate.ending import end

        return {"ended": end(at, self.candidates, self.measured)}


_Common = tuple[str, Clock, float, float, tuple[str, ...], str]
"""The attributes of every piece."""

AnyPiece = MakingPiece | LookingPiece | ShowingPiece | ScoringPiece | EndingPiece


def observe(piece: AnyPiece) -> Found:
    """Measure one piece in this process, unless there is no time left."""
    at = desk(piece.run, piece.splits, piece.clock, piece.sent)
    start = at.take_start()
    values: dict[str, Any] = {"start": start, "reading": at.reading, "idle": at.idle}
    if time.time() > piece.until:
        return Found(**values, skipped=(str(piece),))
    values |= piece.measure(at)
    return Found(**values, peak=peak())


def probe(
    inputs: Inputs,
    work: Work,
    *,
    processes: int = 1,
    seconds: float = SECONDS,
    clock: Clock = "wall",
    progress: Progress | None = None,
) -> Rates:
    """Return what each kind of work takes on this machine.

    The pieces are done in a directory that is removed afterwards, by as many processes as the run
    would have, so that these share caches and memory as they would.

    Args:
        inputs: the study.
        work: what there is to do.
        processes: how many work side by side.
        seconds: after how long nothing new is begun.
        clock: which seconds are meant.
        progress: who is told.
    """
    told = progress or Silence()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="shrinkproof-probe-") as folder:
        store = Store.create(Path(folder) / "run")
        store.write_json("inputs.json", inputs.as_json())
        pieces = _pieces(inputs, work, str(store.path), clock, seconds)
        told.begin("probe", len(pieces))
        found: list[Found] = []
        for piece, outcome in Processes(workers=processes).map(observe, pieces):
            if isinstance(outcome, Failure):
                told.warn(f"probe: {piece}: {outcome.message}")
                outcome = Found(skipped=(str(piece),))
            found.append(outcome)
            told.advance(str(piece))
        told.end("probe", time.perf_counter() - begun)
    return _rates(found, min(processes, len(pieces)), time.perf_counter() - begun)


def _pieces(inputs: Inputs, work: Work, run: str, clock: Clock, seconds: float) -> list[AnyPiece]:
    """Return what is measured, the most important first."""
    now = time.time()
    measured = tuple(name for name in ("select", "report") if name in work.splits)
    read = {split for making in work.making for split in making.reads}
    splits = tuple(n for n in work.splits if n in read or n in measured)
    common: _Common = (run, clock, now, now + seconds, splits, printing_of(measured))
    longer: _Common = (run, clock, now, now + _ESSENTIAL * seconds, *common[4:])
    baselines, others = _chosen(work)
    trained = {m.candidate.key for m in work.making if m.epochs}
    learner = next((c for c in others if c.key in trained), None)
    needed = [*baselines, *([learner] if learner else [])]
    rest = [MakingPiece(*common, c, _forms(work, c)) for c in others if c is not learner]
    return [
        *(MakingPiece(*longer, c, _forms(work, c)) for c in needed),
        *(ShowingPiece(*longer, tuple(some)) for some in _conditions(work)),
        *(ScoringPiece(*longer, split) for split in measured if work.passes),
        *_looks(inputs, work, baselines, common),
        *([EndingPiece(*common, work.candidates, measured)] if work.scored else []),
        *rest,
    ]


def _looks(
    inputs: Inputs, work: Work, baselines: Iterable[Candidate], common: _Common
) -> Iterator[LookingPiece]:
    """Yield what is measured of baselines once they are made."""
    latency = latency_of(inputs) if work.timed else None
    for baseline in baselines:
        looks = any(each.model == baseline.model for each in work.explaining)
        timing = latency if baseline.model in work.timed else None
        if looks or timing is not None:
            yield LookingPiece(*common, baseline, looks, timing)


def _chosen(work: Work) -> tuple[list[Candidate], list[Candidate]]:
    """Return the baselines, and of every family first one candidate, then the others."""
    wanted = {m.candidate.key for m in work.making}
    wanted |= {key for showing in work.passes for key, _ in showing.cells}
    families: dict[str, list[Candidate]] = {}
    for candidate in work.candidates:
        if candidate.key in wanted and candidate.role != "baseline":
            families.setdefault(work.families[candidate.key], []).append(candidate)
    ends = [_ends(family) for family in families.values()]
    rounds = [[some[k] for some in ends if k < len(some)] for k in range(_ENDS)]
    baselines = [c for c in work.candidates if c.role == "baseline"]
    return baselines, [candidate for each in rounds for candidate in each]


def _ends(family: Sequence[Candidate]) -> list[Candidate]:
    """Return the first and the last candidate of a family, as far as it has them."""
    return [family[place] for place in dict.fromkeys((0, len(family) - 1))]


def _forms(work: Work, candidate: Candidate) -> tuple[str, ...]:
    forms = {form for showing in work.passes for key, form in showing.cells if key == candidate.key}
    return tuple(sorted(forms)) or ("artifact",)


def _conditions(work: Work) -> list[list[Condition]]:
    """Return all conditions, those of one corruption together."""
    shown = {s.condition: None for s in work.passes} | {e.condition: None for e in work.explaining}
    found: dict[str, list[Condition]] = {}
    for condition in shown:
        found.setdefault(condition.corruption, []).append(condition)
    return list(found.values())


def _rates(found: Sequence[Found], processes: int, seconds: float) -> Rates:
    """Return everything that was found in one value."""
    made: dict[str, Made] = {}
    for each in found:
        made |= each.made
    reading = {split: fmean(f.reading[split] for f in found if split in f.reading)
               for split in {s for f in found for s in f.reading}}  # fmt: skip
    return Rates(
        processes=processes,
        start=_mean(f.start for f in found),
        first=_mean(f.first for f in found),
        reading=reading,
        made=made,
        shown={name: value for f in found for name, value in f.shown.items()},
        opening=sum(f.opening for f in found),
        prepared=_mean(f.prepared for f in found),
        scored={name: value for f in found for name, value in f.scored.items()},
        looked=tuple(looked for f in found for looked in f.looked),
        timed=tuple(timed for f in found for timed in f.timed),
        ended=next((f.ended for f in found if f.ended is not None), None),
        write=_mean(f.write for f in found),
        idle=max((f.idle for f in found), default=0.0),
        peak=max((f.peak for f in found), default=0.0),
        seconds=seconds,
        skipped=tuple(name for f in found for name in f.skipped),
    )


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return fmean(known) if known else 0.0


def estimate_study(
    inputs: Inputs,
    work: Work,
    *,
    workers: int,
    seconds: float = SECONDS,
    clock: Clock = "wall",
    planned: float = 0.0,
    progress: Progress | None = None,
) -> tuple[Estimate, Rates]:
    """Return what some work of a study costs with so many workers, and what the probe has found.

    Where there are more workers than cores, the others are on machines like this one.

    Args:
        inputs: the study.
        work: what there is to do.
        workers: pieces of work that are done side by side.
        seconds: after how long the probe begins nothing new.
        clock: which seconds are meant.
        planned: seconds that the plan has taken.
        progress: who is told how far the probe is.
    """
    threads, cores = inputs.spec.threads, usable_cores()
    here = min(workers, max(1, cores // threads))
    rates = probe(inputs, work, processes=here, seconds=seconds, clock=clock, progress=progress)
    found = estimate_of(
        work,
        rates,
        workers=workers,
        replicates=inputs.spec.measure.intervals.replicates,
        latency=latency_of(inputs),
        overlaps=clock == "wall" and cores >= 2 * here * threads,
        room=room(here),
        planned=planned,
    )
    return found, rates
