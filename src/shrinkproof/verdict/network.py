"""One network of a run as a claim sees it: its original, its recipes, and their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from shrinkproof.metrics.names import bare_name
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate, Form, Json
from shrinkproof.selectors import Selector
from shrinkproof.statistics import Replicated
from shrinkproof.verdict.contrasts import bias_of
from shrinkproof.verdict.methods import (
    RECOVERY,
    Treatment,
    is_published,
    predicted_elsewhere,
    trains,
    treatments_of,
)
from shrinkproof.verdict.numbers import Reader

if TYPE_CHECKING:
    from shrinkproof.results import Results

_BINNED: Final = ("calibration.", "detection.d_ece", "detection.laece")
"""Metrics that are sums of absolute gaps, whose estimates are too large on average."""


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a run.

    Attributes:
        reader: numbers of the run.
        model: its name in the study.
    """

    reader: Reader
    model: str

    @property
    def results(self) -> Results:
        """The run."""
        return self.reader.results

    @cached_property
    def is_published(self) -> bool:
        """True where its numbers were measured elsewhere."""
        return is_published(self.results)

    @cached_property
    def reference(self) -> str:
        """The network as study files name it, ``cifar:vgg16_bn``, without its weights."""
        spec = self.results.spec.models[self.model]
        return (spec.arch or spec.use).partition("/")[0]

    @cached_property
    def short(self) -> str:
        """The network without the scheme before it, and without the data of an import."""
        if not self.is_published:
            return self.reference.partition(":")[2]
        return self.model.partition("-")[2] or self.model

    @cached_property
    def treatments(self) -> tuple[Treatment, ...]:
        """All recipes."""
        return treatments_of(self.results, self.model)

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """What other engines predicted: the same compressed networks a second time."""
        found = predicted_elsewhere(self.results)
        return tuple(c.label for c in found if c.model == self.model)

    @cached_property
    def original(self) -> Candidate:
        """The uncompressed network."""
        return next(
            c for c in self.results.candidates if c.model == self.model and c.role == "baseline"
        )

    def chosen(self, method: str, levels: tuple[float, float] = (0.0, 1.0)) -> list[Treatment]:
        """Return the recipes of a method at some levels, by level."""
        found = [t for t in self.treatments if t.is_of(method, levels)]
        return sorted(found, key=lambda t: (t.level or 0.0, t.recipe))

    def control_of(self, candidate: Candidate) -> Candidate | Undefined:
        """Return the dense network that was trained as long as a candidate.

        That of a candidate that changes nothing but what it compresses is the original.
        """
        control = self.results.by_key.get(candidate.control)
        if control is not None and control.role == "control":
            return control
        if not self.is_published and not recovers(candidate):
            return self.original
        return Undefined("the run has no dense network that was trained as long")

    def number(
        self, candidate: Candidate, form: Form, selector: Selector
    ) -> Replicated | Undefined:
        """Return a number with its values on resampled images, or why there is none."""
        found = self.reader.number(candidate, form, selector)
        failure = self.failures.get(candidate.key)
        if isinstance(found, Undefined) and failure is not None:
            return Undefined(f"{candidate.label} failed: {failure}")
        return found

    @cached_property
    def failures(self) -> dict[str, str]:
        """Key of what failed -> the first line of why."""
        return {
            str(item["key"]): str(item["message"]).partition("\n")[0]
            for item in self.results.failures
        }


def bias_in(selector: Selector, number: Replicated) -> float:
    """Return by how much a number may be too large on average; 0 but for binned errors."""
    return bias_of(number) if bare_name(selector.metric).startswith(_BINNED) else 0.0


def recovers(candidate: Candidate) -> bool:
    """Return whether a candidate is trained or recalibrated, so that it needs a control."""
    return trains(candidate.steps) or any(s["name"] == "recalibrate" for s in candidate.steps)


def epochs_of(candidate: Candidate) -> float:
    """Return how many epochs of recovery follow the last compression that any follow; 0 for none.

    A step that prunes in several iterations trains after each of them, and they count.
    """
    total = 0.0
    for step in reversed(candidate.steps):
        total += _epochs_in(step["name"], step["fields"])
        if total and step["name"] not in RECOVERY:
            break
    return total


def _epochs_in(name: str, fields: Json) -> float:
    training = fields if name == "finetune" else fields.get("finetune")
    if not training:
        return 0.0
    rounds = fields.get("iterations", 1)
    times = fields.get("groups") if rounds == "layers" else rounds
    return float(training.get("epochs", 0)) * float(times or 1)
