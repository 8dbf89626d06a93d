"""From promises of a study to losses of images, and to one verdict for each candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError, UsageError, suggestions
from shrinkproof.metrics.derived import derived
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import Condition, Json
from shrinkproof.spec.certify import EVERY, MEAN, PromiseSpec
from shrinkproof.statistics.risk import RiskTest, independent_units, risk_test
from shrinkproof.statistics.tails import RiskMethod

# Shape suffixes: N images, S conditions.

_PAIRED: Final = ("negative_flip", "excess_error")
"""Losses that compare a candidate with its baseline."""

_WORDS: Final[Mapping[str, str]] = {
    "error": "error",
    "miss": "share of missed images of class {class_name}",
    "brier": "Brier score (0 to 1)",
    "negative_flip": "share of images that only the baseline has right",
    "excess_error": "error minus the baseline's",
}


@dataclass(frozen=True, slots=True)
class Promise:
    """The mean of a bounded loss over new images is at most a limit.

    Attributes:
        name: short name, unique within a certificate.
        loss: ``error``, ``miss``, ``brier``, ``negative_flip`` or ``excess_error``.
        limit: what the mean must not exceed.
        over: ``every`` condition on its own, their ``mean``, or the one condition.
        conditions: what it is about, in the order of the study.
        class_name: class whose images count; empty for all.
    """

    name: str
    loss: str
    limit: float
    over: str
    conditions: tuple[Condition, ...]
    class_name: str = ""

    @property
    def is_paired(self) -> bool:
        """Whether the loss compares a candidate with its baseline."""
        return self.loss in _PAIRED

    @property
    def low(self) -> float:
        """The smallest loss that an image can have; the largest one is 1."""
        return -1.0 if self.loss == "excess_error" else 0.0

    @property
    def words(self) -> str:
        """The promise in plain words."""
        what = _WORDS[self.loss].format(class_name=self.class_name)
        unit = " points" if self.loss == "excess_error" else " %"
        limit = f"{100 * self.limit:.4g}" + unit if self.loss != "brier" else f"{self.limit:.4g}"
        return f"{what} at most {limit} {self._where()}"

    def _where(self) -> str:
        if self.over not in (EVERY, MEAN):
            return "on clean images" if self.conditions[0].is_clean else f"under {self.over}"
        corrupted = [c for c in self.conditions if not c.is_clean]
        if not corrupted:
            return "on clean images"
        kinds = len({c.corruption for c in corrupted})
        worst = max(c.severity for c in corrupted)
        many = (
            f"{_count(len(corrupted), 'corrupted condition')} "
            f"({_count(kinds, 'corruption')} up to severity {worst})"
        )
        if self.over == MEAN:
            return f"in the mean over {many}"
        clean = "on clean images and " if len(corrupted) < len(self.conditions) else ""
        return f"{clean}under each of {many}"

    def as_json(self) -> Json:
        """Return plain JSON values; conditions as their selector spelling."""
        return {
            **asdict(self),
            "conditions": [str(condition) for condition in self.conditions],
            "words": self.words,
        }


def promises_of(specs: Sequence[PromiseSpec], measured: Sequence[Condition]) -> tuple[Promise, ...]:
    """Return the promises of a study.

    Args:
        specs: what stands in the study file.
        measured: all conditions of the study.
    """
    return tuple(
        Promise(
            _name(spec),
            spec.loss,
            spec.limit,
            spec.over,
            spec.conditions_list(measured),
            spec.class_ or "",
        )
        for spec in specs
    )


def _name(spec: PromiseSpec) -> str:
    """Return the shortest name that tells the promises of a study apart."""
    part = f"{{class={spec.class_}}}" if spec.class_ else ""
    which = f"({'+'.join(spec.corruptions)})" if spec.corruptions else ""
    limit = f"<={spec.up_to_severity}" if spec.up_to_severity else ""
    return f"{spec.loss}{part}@{spec.over}{which}{limit}"


def class_of(promise: Promise, classes: Sequence[str]) -> int | None:
    """Return the number of the class that a promise is about, None for all classes.

    Raises:
        UsageError: the data have no such class.
    """
    if not promise.class_name:
        return None
    if promise.class_name not in classes:
        similar = suggestions(promise.class_name, classes)
        advice = (
            f"did you mean {' or '.join(similar)}?" if similar else f"known: {', '.join(classes)}"
        )
        raise UsageError(
            f"certify: {promise.name}: class must be one of the {len(classes)} classes of the "
            f"data, got {promise.class_name!r}; {advice}"
        )
    return list(classes).index(promise.class_name)


def losses_of(
    promise: Promise,
    shown: ClassificationPredictions,
    baseline: ClassificationPredictions | None = None,
) -> NDArray[Any]:
    """Return the loss of every image under one condition, (N,), whatever its class.

    Losses that are right or wrong are booleans, differences of them whole numbers: that is what
    the choice of an exact test goes by.

    Args:
        promise: which loss.
        shown: what the candidate said.
        baseline: what its baseline said of the same images; for paired losses.

    Raises:
        DataError: the baseline's predictions are missing, or they are about other images.
    """
    if promise.loss == "brier":
        # Half the squared distance lies in [0, 1]; rounding must not put it a hair outside.
        return np.asarray(np.clip(derived(shown).brier / 2, 0.0, 1.0))
    wrong_N = np.asarray(shown.prediction() != shown.target)
    if not promise.is_paired:
        return wrong_N
    if baseline is None or not np.array_equal(baseline.index, shown.index):
        raise DataError(
            f"certify: {promise.name}: the baseline must have predicted the same images, got "
            f"{'none' if baseline is None else 'others'}; measure both again"
        )
    baseline_wrong_N = np.asarray(baseline.prediction() != baseline.target)
    if promise.loss == "negative_flip":
        return np.asarray(wrong_N & ~baseline_wrong_N)
    return np.asarray(wrong_N.astype(np.int8) - baseline_wrong_N.astype(np.int8))


def method_of(losses_U: NDArray[Any], test: RiskMethod = "betting") -> RiskMethod:
    """Return the test for the losses of units, by their kind alone.

    Right or wrong has an exact test. All other losses (means over conditions or groups, the Brier
    score, differences) spread far less than their bounds allow, which only betting makes use of:
    for means over 75 conditions it needs about a third of the units that Hoeffding-Bentkus needs.

    Args:
        losses_U: (U,) losses; boolean where they are right or wrong.
        test: what the study file asks for in the other cases.
    """
    return "binomial" if losses_U.dtype.kind == "b" else test


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the images say about one promise of one candidate.

    Attributes:
        name: name of the promise.
        p: p-value of "the promise is broken", 0 to 1.
        risk: mean loss of the units; over every condition that of the worst one.
        upper: upper confidence bound of that risk, for this candidate and promise alone.
        worst: condition with the largest p-value, or the largest loss where a mean is promised.
        units: number of independent units.
        method: the test.
    """

    name: str
    p: float
    risk: float
    upper: float
    worst: str
    units: int
    method: str

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(eq=False)
class Evidence:
    """Losses of one candidate, gathered condition by condition.

    Attributes:
        promises: what is promised.
        classes: names of the classes of the data.
    """

    promises: tuple[Promise, ...]
    classes: Sequence[str]
    _losses: dict[str, dict[Condition, NDArray[Any]]] = field(default_factory=dict)
    _target: NDArray[np.int64] | None = None
    _groups: NDArray[np.str_] | None = None

    def add(
        self,
        condition: Condition,
        shown: ClassificationPredictions,
        baseline: ClassificationPredictions | None = None,
    ) -> None:
        """Take in what a candidate, and its baseline, said under a condition.

        Raises:
            DataError: the baseline's predictions are missing or do not fit.
        """
        self._target, self._groups = shown.target, shown.groups
        for promise in self.promises:
            if condition in promise.conditions:
                losses = losses_of(promise, shown, baseline)
                self._losses.setdefault(promise.name, {})[condition] = losses

    def units(self, promise: Promise) -> list[tuple[str, NDArray[Any]]]:
        """Return the name and the losses (U,) of the units of each test of a promise.

        A promise over every condition has a test for each, one over their mean a single one.

        Raises:
            UsageError: the data have no such class.
            DataError: a condition is missing, or no image is of the class.
        """
        found = self._losses.get(promise.name, {})
        missing = [str(c) for c in promise.conditions if c not in found]
        if missing or self._target is None:
            raise DataError(
                f"certify: {promise.name}: must be measured under every condition, got none for "
                f"{', '.join(missing)}; measure again"
            )
        rows = self._rows(promise, self._target)
        groups = None if self._groups is None else self._groups[rows]
        if promise.over == MEAN:
            losses_SN = np.stack([found[c][rows] for c in promise.conditions])
            # The mean of one condition keeps its type: it is still right or wrong.
            mean_N = losses_SN[0] if len(losses_SN) == 1 else losses_SN.mean(axis=0)
            worst = promise.conditions[int(losses_SN.mean(axis=1).argmax())]
            return [(str(worst), independent_units(mean_N, groups))]
        return [(str(c), independent_units(found[c][rows], groups)) for c in promise.conditions]

    def _rows(self, promise: Promise, target: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of the images that a promise is about."""
        wanted = class_of(promise, self.classes)
        if wanted is None:
            return np.arange(len(target))
        rows = np.flatnonzero(target == wanted)
        if not len(rows):
            raise DataError(
                f"certify: {promise.name}: at least one image must be of class "
                f"{promise.class_name}, got none of {len(target)}; give the split more images"
            )
        return rows

    def verdict(self, promise: Promise, error: float, test: RiskMethod = "betting") -> Verdict:
        """Return what the images say about a promise.

        A promise over every condition is broken where one condition breaks it, so all tests must
        reject: its p-value is the largest one (intersection-union test, Berger 1982,
        doi:10.1080/00401706.1982.10487790), and no correction for their number is needed. The
        largest of the upper bounds bounds the largest risk for the same reason.

        Args:
            promise: which one.
            error: the upper bound holds with a confidence of 1 - ``error``.
            test: test of losses that are not just right or wrong.
        """
        tests: dict[str, RiskTest] = {
            where: risk_test(
                losses_U,
                promise.limit,
                low=promise.low,
                method=method_of(losses_U, test),
                error=error,
            )
            for where, losses_U in self.units(promise)
        }
        worst = max(tests, key=lambda where: (tests[where].p, tests[where].risk))
        return Verdict(
            name=promise.name,
            p=tests[worst].p,
            risk=tests[worst].risk,
            upper=max(test.upper for test in tests.values()),
            worst=worst,
            units=tests[worst].count,
            method=tests[worst].method,
        )

    def risk(self, promise: Promise) -> float:
        """Return the mean loss of a promise; over every condition that of the worst one."""
        return max(float(losses_U.mean()) for _, losses_U in self.units(promise))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
