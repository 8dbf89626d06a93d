"""The part of a study file about its certificate, and its checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_type_hints

import pydantic
from pydantic import BeforeValidator, Discriminator, Field, Tag

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.records import CLEAN, Condition
from shrinkproof.registry import OpenFraction, Strings, component
from shrinkproof.spec.document import MISSING, Path
from shrinkproof.spec.problems import Problems, shown, unknown

EVERY: Final = "every"
MEAN: Final = "mean"
LOSSES: Final = ("error", "miss", "brier", "negative_flip", "excess_error")
"""What can be promised: a number of each image within known bounds."""

_NO_MEAN: Final = "so no test of it holds in every finite sample"
_FAMILIES: Final[Mapping[str, str]] = {
    "calibration": (
        f"compares bins or ranks that mix images and is no mean over images, {_NO_MEAN}; promise "
        "brier instead"
    ),
    "selective": (
        f"depends on the order of all images and is no mean over images, {_NO_MEAN}; promise error "
        "instead"
    ),
    "robustness": (
        f"is made of the errors of several conditions or networks and is no mean over images, "
        f"{_NO_MEAN}; promise error over mean, or excess_error, instead"
    ),
    "saliency": f"compares heat maps and has no tested bound, {_NO_MEAN}; remove it",
    "cost": "is measured on a file or a machine, not on images; put it in select.require instead",
}
"""Families of metrics that cannot be certified, and why."""

_REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("accuracy", "top1"),
        "is promised by its complement; write error: 0.2 for an accuracy of at least 0.8",
    ),
    **dict.fromkeys(("ap", "map", "average_precision"), _FAMILIES["selective"]),
    **dict.fromkeys(("mce", "rpc"), _FAMILIES["robustness"]),
    **dict.fromkeys(("latency", "p95"), _FAMILIES["cost"]),
    "nll": "has no upper bound for a single image; promise brier instead",
    "recall": "is promised by its complement; write {miss: 0.1, class: cat} for a recall of 0.9",
    "worst_class": (
        "is the lowest of several numbers; write one promise {miss: ..., class: ...} for each class"
    ),
}
"""Other numbers that cannot be certified, by their last names, and why."""


def _number_of(value: Any) -> str:
    """Tell lists from single values, so that a finding is about the one that was written."""
    return "several" if isinstance(value, list | tuple) else "one"


def _as_text(value: Any) -> Any:
    """Return the name of a class that YAML takes for a number, a digit for example."""
    return str(value) if type(value) is int else value


Takers = Annotated[
    Annotated[Literal["front", "all"], Tag("one")]
    | Annotated[tuple[str, ...], Field(min_length=1, strict=False), Tag("several")],
    Discriminator(_number_of),
]

SignedFraction = Annotated[float, Field(gt=-1, lt=1, json_schema_extra={"unit": "fraction"})]


@component
class PromiseSpec:
    """One promise: the mean of a loss over new images is at most a limit.

    Exactly one loss is given, with its limit.

    Attributes:
        error: share of images that are classified wrongly.
        miss: share of the images of one class that are taken for another.
        brier: half the squared distance of the softmax to the true class, 0 to 1.
        negative_flip: share of images that the baseline classifies rightly and the candidate
            wrongly.
        excess_error: error minus the baseline's error; a limit of 0.02 allows two points more.
        class_: which class, for ``miss`` (``class`` in the study file).
        over: ``every`` condition (clean and all corrupted ones, each on its own), the ``mean`` of
            the corrupted conditions, ``clean``, or one condition, ``fog:3``.
        up_to_severity: ``every`` and ``mean`` leave out what is more severe.
        corruptions: ``every`` and ``mean`` take only these; empty for all of the study.
    """

    error: OpenFraction | None = None
    miss: OpenFraction | None = None
    brier: OpenFraction | None = None
    negative_flip: OpenFraction | None = None
    excess_error: SignedFraction | None = None
    class_: Annotated[
        str | None,
        Field(alias="class"),
        BeforeValidator(_as_text, json_schema_input_type=str | int | None),
    ] = None
    over: str = EVERY
    up_to_severity: Annotated[int, Field(ge=1, le=5)] | None = None
    corruptions: Strings = ()

    @pydantic.model_validator(mode="after")
    def _check(self) -> PromiseSpec:
        given = [name for name in LOSSES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"must limit exactly one of {', '.join(LOSSES)}, got "
                f"{' and '.join(given) or 'none'}; write for example {{error: 0.2, over: every}}"
            )
        if (given == ["miss"]) != (self.class_ is not None):
            raise ValueError(
                "miss needs the class whose images may be missed, and nothing else has one; write "
                "for example {miss: 0.1, class: cat}"
            )
        if self.over not in (EVERY, MEAN) and (self.up_to_severity or self.corruptions):
            raise ValueError(
                f"up_to_severity and corruptions narrow down 'every' and 'mean', got over: "
                f"{self.over}; remove them"
            )
        return self

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return next(name for name in LOSSES if getattr(self, name) is not None)

    @property
    def limit(self) -> float:
        """What its mean must not exceed."""
        return float(getattr(self, self.loss))

    def conditions_list(self, measured: Collection[Condition]) -> tuple[Condition, ...]:
        """Return the conditions that the promise is about, in the order of the study.

        Args:
            measured: all conditions of the study.

        Raises:
            ValueError: ``over`` is no condition.
        """
        if self.over not in (EVERY, MEAN):
            return (Condition.parse(self.over),)
        return tuple(
            c
            for c in measured
            if (c.is_clean and self.over == EVERY)
            or (
                not c.is_clean
                and c.severity <= (self.up_to_severity or 5)
                and (not self.corruptions or c.corruption in self.corruptions)
            )
        )


@component
class CertifySpec:
    """What is promised of new images, and which candidates are tested for it.

    Attributes:
        promises: what a certified candidate keeps, all of it together.
        confidence: probability, over the draw of the certify images, that no candidate is
            certified that breaks a promise.
        candidates: ``front`` (front and choice on the select split), ``all`` recipes, or a list of
            patterns of labels.
        method: ``holm`` tests all candidates at once; ``chains`` tests the recipes of each sweep
            one after the other, those with the largest margin on the select split first.
        looks: how often candidates may be tested on the same images; each look gets an equal part
            of the error probability.
        test: test of losses that are not just right or wrong (those have the exact binomial one):
            ``betting``, or ``hoeffding-bentkus``, which needs more images.
    """

    promises: Annotated[tuple[PromiseSpec, ...], Field(min_length=1, strict=False)]
    confidence: OpenFraction = 0.95
    candidates: Takers = "front"
    method: Literal["holm", "chains"] = "holm"
    looks: Annotated[int, Field(ge=1)] = 1
    test: Literal["betting", "hoeffding-bentkus"] = "betting"


@dataclass(frozen=True)
class CertifyCheck:
    """Reads the ``certify`` block of a study and finds everything that is wrong with it.

    Attributes:
        problems: where the findings go.
        read: returns the validated value at a path, or None after noting what is wrong with it.
        splits: names of the splits that the study's data give.
        conditions: what the study measures under; None where that is itself wrong.
        chooses: whether the study has a ``select`` block.
    """

    problems: Problems
    read: Any
    splits: Collection[str]
    conditions: tuple[Condition, ...] | None
    chooses: bool

    path: Path = ("certify",)

    def check(self) -> CertifySpec | None:
        """Return the block, or None after noting its problems."""
        before = len(self.problems)
        content = self.problems.document.at(self.path)
        if not isinstance(content, dict):
            self.problems.add(self.path, f"must be a mapping of fields, got {shown(content)}")
            return None
        fields: dict[str, Any] = {}
        known = get_type_hints(CertifySpec, include_extras=True)
        for name in content:
            if name not in known:
                rule = unknown("unknown field", name, known)
                self.problems.add((*self.path, name), rule, is_key=True)
            elif name != "promises":
                fields[name] = self.read((*self.path, name), known[name])
        fields["promises"] = self._promises()
        self._check_surroundings(fields)
        return None if len(self.problems) > before else CertifySpec(**fields)

    def _check_surroundings(self, fields: Mapping[str, Any]) -> None:
        if "certify" not in self.splits:
            rule = (
                "needs images that nothing else has used; add data.certify, or give data.split a "
                "size for 'certify'"
            )
            self.problems.add(self.path, rule, is_key=True)
        if fields.get("candidates", "front") == "front" and not self.chooses:
            rule = (
                "candidates: front needs a front; add select with objectives, or write "
                "'candidates: all'"
            )
            self.problems.add(self.path, rule, is_key=True)

    def _promises(self) -> tuple[PromiseSpec, ...]:
        path: Path = (*self.path, "promises")
        content = self.problems.document.at(path)
        if content is MISSING:
            self.problems.add(path, "is required")
            return ()
        if not isinstance(content, list) or not content:
            rule = "must be a list of promises, each for example {error: 0.2, over: every}"
            self.problems.add(path, f"{rule}, got {shown(content)}")
            return ()
        found: list[PromiseSpec] = []
        for position, entry in enumerate(content):
            place: Path = (*path, position)
            promise = self._promise(place, entry)
            if promise is not None:
                twin = next((p for p in found if _subject(p) == _subject(promise)), None)
                if twin is not None:
                    rule = "is given twice; remove one"
                    if twin.limit != promise.limit:
                        limits = f"{twin.limit:g} and {promise.limit:g}"
                        rule = f"is given twice, with the limits {limits}; keep the lower one"
                    self.problems.add(place, rule)
                found.append(promise)
        return tuple(found)

    def _promise(self, path: Path, entry: Any) -> PromiseSpec | None:
        refused = [name for name in entry if _refusal(name)] if isinstance(entry, dict) else []
        for name in refused:
            rule = f"cannot be certified: it {_refusal(name)}"
            self.problems.add((*path, name), rule, is_key=True)
        promise: PromiseSpec | None = None if refused else self.read(path, PromiseSpec)
        if promise is not None and self.conditions is not None:
            self._check_conditions(path, promise, self.conditions)
        return promise

    def _check_conditions(
        self, path: Path, promise: PromiseSpec, measured: tuple[Condition, ...]
    ) -> None:
        corruptions = {c.corruption for c in measured} - {CLEAN.corruption}
        absent = [name for name in promise.corruptions if name not in corruptions]
        for name in absent:
            place: Path = (*path, "corruptions", promise.corruptions.index(name))
            self.problems.add(place, _unmeasured(name, corruptions))
        if absent:
            return
        place = (*path, "over") if self._has(path, "over") else path
        if promise.over in (EVERY, MEAN):
            if not promise.conditions_list(measured):
                rule = (
                    "must be about at least one condition, got none; add conditions to the study, "
                    "or write 'over: clean'"
                )
                self.problems.add(place, rule)
        elif promise.over not in map(str, measured):
            self.problems.add(place, _wrong_place(promise.over, corruptions))

    def _has(self, path: Path, name: str) -> bool:
        return self.problems.document.at((*path, name)) is not MISSING


def _subject(promise: PromiseSpec) -> tuple[object, ...]:
    """Return what a promise is about: everything but its limit."""
    narrowed = promise.up_to_severity, frozenset(promise.corruptions)
    return promise.loss, promise.class_, promise.over, *narrowed


def _refusal(name: object) -> str:
    """Return why a number cannot be certified; empty where it can, or where nobody knows it."""
    if not isinstance(name, str) or name in LOSSES:
        return ""
    family, _, last = name.partition("[")[0].rpartition(".")
    if last in _REFUSED:
        return _REFUSED[last]
    known = (*METRIC_NAMES, *METRICS.names())
    families = (
        [family] if family else [n.partition(".")[0] for n in known if n.endswith(f".{last}")]
    )
    return next((_FAMILIES[f] for f in families if f in _FAMILIES), "")


def _unmeasured(name: str, known: Collection[str]) -> str:
    if name.partition(":")[0] in CORRUPTIONS:
        return f"{name} is not measured by this study; add it to conditions"
    return unknown(f"unknown condition {name!r}", name, known)


def _wrong_place(over: str, corruptions: Collection[str]) -> str:
    if over in corruptions:
        return (
            f"must be every, mean, clean or a corruption with its severity, got {over!r}; write "
            f"for example {over}:3, or {{over: mean, corruptions: [{over}]}}"
        )
    return _unmeasured(over, (EVERY, MEAN, CLEAN.corruption, *corruptions))
