"""What derived numbers are made of, and what they depend on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

from shrinkproof.metrics.detection.names import precision_of
from shrinkproof.metrics.names import NULL_MEAN, NULL_P, NULL_Q95
from shrinkproof.metrics.robustness import CORRUPTED as CORRUPTED
from shrinkproof.metrics.spelling import described
from shrinkproof.predictions import Predictions
from shrinkproof.protocols import Measurement, Undefined
from shrinkproof.records import Condition, Json
from shrinkproof.statistics import Interval, Terms, estimate

POOLED: Final = "pooled"
"""Name of the condition in which the images of all corrupted conditions are one sample."""

NO_INTERVAL: Final = Interval(reason="no interval with tested coverage for this number")

_SIMULATED = (NULL_MEAN, NULL_Q95, NULL_P)
"""Numbers that say themselves what chance does."""

Read = Callable[[str], Predictions | None]
"""Cell key -> stored predictions, or None."""

Number = Terms | float
"""A metric of some images: per-image terms where it has them, else its value."""

Key = tuple[str, str, int]
"""Metric, condition without severity, severity."""


@dataclass(frozen=True, slots=True)
class Derived:
    """One derived number.

    Attributes:
        candidate: key of the candidate.
        split: part of the data it is about.
        condition: selector spelling without severity; ``corrupted`` for all of them.
        severity: 1 to 5, or 0.
        form: form of the candidate whose predictions it was computed from.
        measurement: the number.
    """

    candidate: str
    split: str
    condition: str
    severity: int
    form: str
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Exhibit:
    """What no single number says: images hit hardest, the potential of a sweep, ranks.

    Attributes:
        kind: which kind; the page has a section for each.
        value: plain JSON.
    """

    kind: str
    value: Json


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """The numbers that decide on every resampled data set, and every pair of candidates compared.

    R resampled data sets, C candidates, W watched selectors, T of them tested. A p-value that is
    not stated is NaN, and ``reasons`` says why.

    Attributes:
        candidates: C keys.
        watched: W spelled selectors.
        tested: T spelled selectors, the objectives that are measured on images.
        values: (R, C, W) float32; NaN where a candidate has no such number.
        no_worse: (T, C, C) p-value of the row losing at least the tolerance to the column.
        better: (T, C, C) p-value of the row being no better than the column.
        spread: (T, C, C) standard deviation of the difference per independent image.
        reasons: (T, C, C) position in ``texts`` of why p-values are not stated.
        texts: the reasons; the first one is empty.
        images: number of images, N.
    """

    candidates: tuple[str, ...]
    watched: tuple[str, ...]
    tested: tuple[str, ...]
    values: NDArray[Any]
    no_worse: NDArray[Any]
    better: NDArray[Any]
    spread: NDArray[Any]
    reasons: NDArray[Any]
    texts: tuple[str, ...]
    images: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything derived from the cells of a run.

    Attributes:
        rows: derived numbers.
        exhibits: what is no number, in the order in which it was found.
        resampled: what the uncertainty of the decision is made of; None where the study decides
            nothing, or there are no predictions.
    """

    rows: tuple[Derived, ...]
    exhibits: tuple[Exhibit, ...] = ()
    resampled: Resampled | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """Recipes that differ in one number of their study file's grid.

    Attributes:
        name: name of the recipe in the study file, ``prune{ratio}``.
        parameter: name of the number, ``ratio``.
        members: value -> full name of the recipe, in ascending order of the values.
    """

    name: str
    parameter: str
    members: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What derived numbers depend on besides the predictions.

    Attributes:
        form: form in which candidates are measured.
        conditions: all that the study wants; a mean over them exists only where none is missing,
            because a mean over fewer would be no equal of the other candidates'.
        metrics: names of the metrics that the study scores.
        replicates: bootstrap replicates.
        seed: the study's seed.
        classes: names of the classes, in the order of the logits; empty where unknown.
        margins: metric -> by how much it may be worse and still count as kept.
        sweeps: recipes that differ in one number.
        reference: what corruption errors are relative to, see ``RobustnessSpec``.
        origins: what is special about the corrupted images, for numbers that need certain ones.
        printing: split whose numbers are printed; empty for report, or select without one.
        deciding: split on which candidates are compared; empty where nothing is decided.
        watched: spelled selectors of the objectives and rules that decide.
        tolerances: spelled objective -> by how much it may be worse and still count as no worse,
            in its unit; only those that are measured on images.
        task: ``classification`` or ``detection``.
    """

    form: str
    conditions: tuple[Condition, ...]
    metrics: tuple[str, ...]
    replicates: int
    seed: int
    classes: tuple[str, ...] = ()
    margins: Mapping[str, float] = field(default_factory=dict)
    sweeps: tuple[Sweep, ...] = ()
    reference: Json = field(default_factory=dict)
    origins: Json = field(default_factory=dict)
    printing: str = ""
    deciding: str = ""
    watched: tuple[str, ...] = ()
    tolerances: Mapping[str, float] = field(default_factory=dict)
    task: str = "classification"

    @property
    def quality(self) -> str:
        """The metric that says how good the answers are: top-1 accuracy, or average precision."""
        return precision_of(self.metrics) if self.task == "detection" else "accuracy.top1"


def value_of(number: Number) -> float:
    """Return a number's value; ``nan`` where it is undefined."""
    return number if isinstance(number, float) else estimate(number)


def measured(
    metric: str,
    number: Number | Undefined,
    stated: Interval | None = None,
    *,
    count: int = 0,
    caveat: str = "",
    part: str = "",
) -> Measurement:
    """Return a derived number as a measurement; an undefined one keeps its reason.

    Args:
        metric: its name, with prefixes.
        number: the number.
        stated: its interval; None where no interval with tested coverage exists.
        count: images behind it.
        caveat: what a reader must know about it.
        part: the part of the images it is about; empty for all.
    """
    known = described(metric)
    unit, better = (known.unit, known.better.value) if known else ("", "none")
    value = None if isinstance(number, Undefined) else value_of(number)
    if value is not None and not math.isfinite(value):
        reason = "undefined" if math.isnan(value) else "infinite"
        number, value = Undefined(f"{reason} for these images"), None
    if isinstance(number, Undefined):
        shown = Interval(reason=number.reason)
    else:
        shown = stated or (Interval() if metric.startswith(_SIMULATED) else NO_INTERVAL)
    return Measurement(
        metric=metric,
        value=value,
        unit=unit,
        better=better,
        low=shown.low,
        high=shown.high,
        interval=shown.method,
        count=count,
        basis="derived",
        reason="; ".join(text for text in (caveat, shown.reason) if text),
        slice=part,
    )
