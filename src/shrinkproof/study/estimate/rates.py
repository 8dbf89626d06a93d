"""What each kind of work takes on this machine, as a short probe has found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from shrinkproof.records import Json


@dataclass(frozen=True, slots=True)
class Made:
    """One candidate that was made with short trainings, loaded, and shown some images.

    Attributes:
        fixed: seconds of everything but training: compression, calibration, export, sizes.
        epoch: seconds per epoch of training; 0 where it does not train.
        predict: form -> seconds per image.
        load: seconds to load all its forms.
        bytes: size of its files.
        network: size of its exported file alone.
        resident: bytes of memory that it keeps filled while it is loaded.
    """

    fixed: float
    epoch: float = 0.0
    predict: Mapping[str, float] = field(default_factory=dict)
    load: float = 0.0
    bytes: float = 0.0
    network: float = 0.0
    resident: float = 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """The metrics of one cell of a split.

    Attributes:
        once: seconds that a pass takes before the first candidate.
        fast: seconds of a cell in the pass: its metrics with intervals, its predictions stored.
        slow: seconds of a cell after the pass, from stored predictions.
        bytes: size of its stored predictions.
    """

    once: float
    fast: float
    slow: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Looked:
    """Heat maps of one method.

    Attributes:
        model: name of the model in the study.
        method: name of the method.
        baseline: seconds per image of the baseline with its controls.
        candidate: seconds per image of another candidate.
        cell: seconds of a cell besides.
        bytes: of stored maps per image of a candidate.
        bytes_baseline: the same of the baseline, with its controls.
    """

    model: str
    method: str
    baseline: float
    candidate: float
    cell: float
    bytes: float
    bytes_baseline: float


@dataclass(frozen=True, slots=True)
class Timed:
    """The baseline of a model, timed as candidates are timed in the end.

    Attributes:
        model: name of the model in the study.
        start: seconds until a fresh process of each runtime can load networks.
        load: seconds to load the network.
        inference: seconds of one inference for each batch size.
    """

    model: str
    start: Mapping[str, float]
    load: float
    inference: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Ended:
    """The tables and the page of a study.

    Attributes:
        fixed: seconds for any study.
        cell: seconds for each cell of predictions.
        bytes: of files for each cell of predictions.
    """

    fixed: float
    cell: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What each kind of work takes on this machine.

    Times are those of one process while as many others work beside it as in the run, so that
    caches and memory are shared as they will be.

    Attributes:
        processes: how many worked side by side.
        start: seconds until a worker can work: a new process, its imports, the models.
        first: seconds that the first candidate of a process takes longer than the next.
        reading: split -> seconds to open it.
        made: key of a candidate -> what it took.
        shown: condition -> seconds per image to read and corrupt it.
        opening: seconds that a process takes longer for the first image of all conditions.
        prepared: seconds per image to make input of pixels, for one kind of preprocessing.
        scored: split -> what a cell takes.
        looked: heat maps.
        timed: latency.
        ended: tables and page; None where this was not measured.
        write: seconds to store the numbers of a cell.
        idle: bytes of memory of a worker that has read the data and holds no candidate.
        peak: highest bytes of memory of a worker that made candidates.
        seconds: how long the probe took.
        skipped: what there was no time for.
    """

    processes: int
    start: float
    first: float = 0.0
    reading: Mapping[str, float] = field(default_factory=dict)
    made: Mapping[str, Made] = field(default_factory=dict)
    shown: Mapping[str, float] = field(default_factory=dict)
    opening: float = 0.0
    prepared: float = 0.0
    scored: Mapping[str, Scored] = field(default_factory=dict)
    looked: tuple[Looked, ...] = ()
    timed: tuple[Timed, ...] = ()
    ended: Ended | None = None
    write: float = 0.0
    idle: float = 0.0
    peak: float = 0.0
    seconds: float = 0.0
    skipped: tuple[str, ...] = ()

    def as_json(self) -> Json:
        """Return plain JSON values."""
        value = asdict(self)
        for name in ("looked", "timed", "skipped"):
            value[name] = list(value[name])
        return value
