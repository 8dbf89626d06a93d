"""The values that cross boundaries: small, frozen, and plain JSON."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

KEY_FORMAT: Final = 1
"""Raise it when the meaning of a key changes: old results then never match new ones."""

SPLITS: Final = ("train", "calibrate", "select", "certify", "report")
"""The five parts of the data, never mixed."""

STANDARD_15: Final = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The corruptions of ImageNet-C and CIFAR-C that mCE is defined on, in their published order."""

SEVERITIES: Final = (1, 2, 3, 4, 5)
"""The severities of every corruption; mCE is defined on all of them."""

Json = dict[str, Any]
Status = Literal["ok", "undefined", "failed", "contaminated"]
Basis = Literal["measured", "derived", "simulated"]
Form = Literal["twin", "artifact", ""]


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: object) -> str:
    """Return the one JSON spelling of a value: sorted keys, no spaces, no NaN."""
    return _CANONICAL.encode(value)


def key_of(kind: str, parts: object) -> str:
    """Return the identity of a piece of work: 16 hex digits of SHA-256 over canonical JSON."""
    text = canonical_json([KEY_FORMAT, kind, parts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, order=True)
class Condition:
    """The state of the images: ``clean``, or a corruption at a severity of 1 to 5."""

    corruption: str = "clean"
    severity: int = 0

    def __post_init__(self) -> None:
        """Check that exactly the clean condition has no severity."""
        if (self.corruption == "clean") != (self.severity == 0) or not 0 <= self.severity <= 5:
            raise ValueError(
                "condition: severity must be 1 to 5, and 0 only for clean; "
                f"got {self.corruption!r} at severity {self.severity!r}"
            )

    @property
    def is_clean(self) -> bool:
        """True for the uncorrupted images."""
        return self.severity == 0

    def __str__(self) -> str:
        """Return the selector spelling, ``clean`` or ``fog:3``."""
        return self.corruption if self.is_clean else f"{self.corruption}:{self.severity}"

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Return the condition spelled ``clean`` or ``fog:3``.

        Raises:
            ValueError: the text is neither.
        """
        return _parsed(text)


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Condition:
    """Return the condition of a spelling; a plan spells each of a few thousands of times."""
    name, colon, severity = text.partition(":")
    if not colon:
        return Condition(name, 0)
    if not severity.isdigit():
        raise ValueError(f"condition: write 'clean' or 'name:severity', got {text!r}")
    return Condition(name, int(severity))


CLEAN: Final = Condition()


@dataclass(frozen=True, slots=True)
class Change:
    """A JSON account of what one step did to one model.

    It serves three masters: reloading (`restore` needs no data), the audit trail, and the columns
    "requested" and "achieved".

    Attributes:
        step: registered name of the step.
        version: the step's version when it ran.
        fields: the step's settings, as in the study file.
        requested: what was asked, by name (for example ``{"ratio": 0.5}``).
        achieved: what was reached, under the same names where possible.
        layers: per treated layer or tensor, what `restore` and the reader need.
        structure: what else `restore` needs: the new form of the network, without its numbers.
        untouched: layers left alone although a reader would expect them, each with the reason.
    """

    step: str
    version: int
    fields: Json = field(default_factory=dict)
    requested: Json = field(default_factory=dict)
    achieved: Json = field(default_factory=dict)
    layers: Json = field(default_factory=dict)
    untouched: Json = field(default_factory=dict)
    structure: Json = field(default_factory=dict)

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Change:
        """Return the change that `as_json` described."""
        return cls(**value)


def label_of(model: str, recipe: str, repeat: int) -> str:
    """Return the readable name of a candidate, unique within a study."""
    return f"{model}/{recipe}" + (f"#{repeat}" if repeat else "")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model after a recipe: identity only, plain JSON.

    Attributes:
        key: identity, from model, steps, repeat, data and seed.
        model: name of the model in the study.
        recipe: name of the recipe, ``baseline``, or a control's reserved name.
        repeat: 0, 1, ...: the same recipe with other random streams.
        role: ``baseline``, ``control`` or ``recipe``.
        control: key of the candidate this one must be compared with to credit compression.
        steps: ``{"name", "version", "fields"}`` per step, in order.
    """

    key: str
    model: str
    recipe: str
    repeat: int = 0
    role: Literal["baseline", "control", "recipe"] = "recipe"
    control: str = ""
    steps: tuple[Json, ...] = ()

    @property
    def label(self) -> str:
        """Readable name, unique within a study."""
        return label_of(self.model, self.recipe, self.repeat)

    @property
    def is_imitated(self) -> bool:
        """True where its PyTorch form only imitates the integer arithmetic of its file.

        Weights alone in few bits change no arithmetic: both forms multiply in floating point.
        """
        names = [step["name"] for step in self.steps]
        return any(n.startswith("quantize.") and n != "quantize.weights" for n in names)

    def as_json(self) -> Json:
        """Return plain JSON values."""
        value = asdict(self)
        value["steps"] = list(self.steps)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Candidate:
        """Return the candidate that `as_json` described."""
        return cls(**{**value, "steps": tuple(value["steps"])})


@dataclass(frozen=True, slots=True)
class Cell:
    """One candidate, measured one way, in one form, under one condition, on one split.

    Attributes:
        key: identity, from the candidate's key and everything that can change a number.
        candidate: key of the candidate.
        evaluator: registered name of the evaluator.
        form: ``twin`` (PyTorch) or ``artifact`` (the exported file in its real runtime).
        split: which part of the data; empty where no images are read.
        condition: what the world does to the images.
        method: which of several ways the evaluator measures in; empty where it has one.
    """

    key: str
    candidate: str
    evaluator: str
    form: Form
    split: str = ""
    condition: Condition = CLEAN
    method: str = ""

    def as_json(self) -> Json:
        """Return plain JSON values; the condition as its selector spelling."""
        # All of them are immutable: `asdict` would copy each, ten times as slowly.
        value = {name: getattr(self, name) for name in _CELL}
        value["condition"] = str(self.condition)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cell:
        """Return the cell that `as_json` described."""
        return cls(**{**value, "condition": Condition.parse(value["condition"])})


_CELL: Final = tuple(f.name for f in fields(Cell))


@dataclass(frozen=True, slots=True)
class Record:
    """One measured number: one row of the tidy table.

    ``value`` is None exactly when ``status`` is ``undefined`` or ``failed``, and then ``reason``
    says why. ``contaminated`` keeps its value: the network had seen images it was measured on.
    Fractions are 0 to 1, sizes are bytes, times are seconds.
    """

    study: str
    cell: str
    model: str
    recipe: str
    repeat: int
    role: str
    control: str
    evaluator: str
    form: str
    split: str
    slice: str
    condition: str
    severity: int
    metric: str
    value: float | None
    unit: str
    better: str
    low: float | None
    high: float | None
    interval: str
    count: int
    basis: str
    status: str
    reason: str
    environment: str

    def __post_init__(self) -> None:
        """Refuse what must never reach a table: a bare NaN, or a number without a status."""
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(
                    f"record {self.metric}: {name} must be finite or None with a reason, "
                    f"got {number!r}"
                )
        if (self.value is None) != (self.status in ("undefined", "failed")):
            raise ValueError(
                f"record {self.metric}: value {self.value!r} does not fit status {self.status!r}"
            )

    def as_json(self) -> Json:
        """Return plain JSON values in column order."""
        # All of them are immutable: `asdict` would copy each, ten times as slowly.
        return {name: getattr(self, name) for name in COLUMNS}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Record:
        """Return the record that `as_json` described."""
        return cls(**value)


COLUMNS: Final = tuple(f.name for f in fields(Record))
"""Column order of every table of records."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a piece of work gave no result; a value, so that one failure never costs the others."""

    type: str
    message: str
    traceback: str = ""

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return asdict(self)
