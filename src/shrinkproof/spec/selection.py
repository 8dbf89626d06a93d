"""Checks of ``select``: every number it names must exist in the study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.errors import PluginError
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.detection.names import (
    AP,
    DETECTION_NAMES,
    ISOTONIC,
    MISS_RATE,
    MPC,
    MPC_OF_BASELINE,
    PLATT,
    RPC,
    SIZES,
    THRESHOLD,
)
from shrinkproof.metrics.names import (
    ACROSS_REPEATS,
    ACROSS_REPEATS_SD,
    EQUIVALENT_P,
    MCNEMAR_P,
    MCNEMAR_P_HOLM,
    METRIC_NAMES,
    NONINFERIOR_P,
    NONINFERIOR_P_HOLM,
    NULL_MEAN,
    NULL_P,
    NULL_Q95,
    SCALED,
    SCALED_BY_BASELINE,
    bare_name,
    without_prefixes,
)
from shrinkproof.metrics.naming import MetricName
from shrinkproof.metrics.robustness import CORRUPTED
from shrinkproof.metrics.robustness import GROUPS as MEMBERS
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Better
from shrinkproof.records import STANDARD_15, Condition
from shrinkproof.selectors import Constraint, Selector
from shrinkproof.spec.document import Path
from shrinkproof.spec.problems import Problems, unknown

GROUPS: Final = {group: set(members) for group, members in MEMBERS.items()}
"""Corruptions of each group, of which ``robustness.error@noise`` is the mean."""


_RECALL: Final = "accuracy.recall"
_CLASS: Final = "class"
_SIZE: Final = "size"

_OF_DETECTION: Final = frozenset(known.name for known in DETECTION_NAMES)
_OF_CLASSES: Final = ("accuracy.", "calibration.", "selective.", "flips.", "robustness.")
"""Beginnings of the names of numbers about the classes of images."""

_OF_BOTH: Final = ("calibration.temperature",)

_OF_CORRUPTION: Final = (MPC, RPC, MPC_OF_BASELINE)
"""Means over the severities of each corruption, over groups of them, and over all."""

_OVER_ALL: Final = (CORRUPTED, "pooled")
"""All corrupted conditions: the mean of their numbers, and their images as one sample."""

_POOLED: Final = "calibration.ece"
"""The metric whose images of all corrupted conditions are pooled."""

_STANDARDIZED: Final = ("robustness.mce", "robustness.relative_mce", "robustness.mce_alexnet")
"""Means over the standard corruptions, which refuse partial input."""

_PRINTED: Final = (
    *(NULL_MEAN, NULL_Q95, NULL_P, ACROSS_REPEATS, ACROSS_REPEATS_SD),
    *(MCNEMAR_P, MCNEMAR_P_HOLM, NONINFERIOR_P, NONINFERIOR_P_HOLM, EQUIVALENT_P),
    "flips.worst_class_change",
)
"""Numbers of the split that is printed, by what stands in their names."""


@dataclass(frozen=True)
class SelectionCheck:
    """Finds everything that is wrong with the ``select`` block of a study.

    Attributes:
        problems: where the findings go.
        scores: metrics that the study measures; None where that is itself wrong.
        is_timed: whether the study times inference.
        conditions: what the study measures under; None where that is itself wrong.
        is_explained: whether heat maps are compared on the images that decide.
        is_apart: whether other images decide than those whose numbers are printed.
        columns: columns of the data by whose values results are also reported; None where the data
            themselves bring columns that the study file does not name.
        task: ``classification`` or ``detection``.
    """

    problems: Problems
    scores: tuple[str, ...] | None
    is_timed: bool
    conditions: tuple[Condition, ...] | None
    is_explained: bool = False
    is_apart: bool = False
    columns: frozenset[str] | None = frozenset()
    task: str = "classification"

    def check(self, select: Mapping[str, tuple[str, ...]]) -> None:
        """Note the problems of all objectives and constraints.

        Args:
            select: ``minimize``, ``maximize``, ``require`` -> what stands there.
        """
        if not select["minimize"] and not select["maximize"]:
            rule = (
                "needs at least one objective; add minimize or maximize, for example "
                "minimize: [cost.bytes]"
            )
            self.problems.add(("select",), rule, is_key=True)
        seen: set[str] = set()
        for word, better in (("minimize", Better.LOWER), ("maximize", Better.HIGHER)):
            for position, text in enumerate(select[word]):
                path: Path = ("select", word, position)
                self._check_objective(path, text, better)
                if text in seen:
                    self.problems.add(path, f"is an objective twice: {text!r}; remove one")
                seen.add(text)
        for position, text in enumerate(select["require"]):
            path = ("select", "require", position)
            try:
                constraint = Constraint.parse(text)
            except ValueError as error:
                self.problems.add(path, str(error))
            else:
                self._check_selector(path, constraint.selector)

    def _check_objective(self, path: Path, text: str, better: Better) -> None:
        try:
            selector = Selector.parse(text)
        except ValueError as error:
            self.problems.add(path, str(error))
            return
        metric = self._check_selector(path, selector)
        if metric is None or metric.better is better:
            return
        if metric.better is Better.NONE:
            rule = f"{metric.name} has no better direction and cannot be an objective"
        else:
            word = {Better.HIGHER: "maximize", Better.LOWER: "minimize"}[metric.better]
            rule = f"{metric.name} is better when {metric.better.value}; put it under {word!r}"
        self.problems.add(path, rule)

    def _check_selector(self, path: Path, selector: Selector) -> MetricName | None:
        try:
            metric = described(selector.metric)
        except PluginError as error:
            self.problems.add(path, str(error))
            return None
        if metric is None:
            known = {*METRIC_NAMES, *METRICS.names()}
            rule = unknown(f"unknown metric {selector.metric!r}", selector.metric, known)
            self.problems.add(path, rule)
            return None
        broken = (
            self._task_rule(bare_name(metric.name))
            or self._condition_rule(metric, selector)
            or self._part_rule(metric, selector)
            or self._measure_rule(metric)
        )
        if broken:
            self.problems.add(path, broken)
        return metric

    def _task_rule(self, name: str) -> str:
        """Return why a number does not exist for the task of the study."""
        if name in _OF_DETECTION and self.task != "detection":
            return f"{name} is about detected boxes, and the task is {self.task}"
        is_of_boxes = name in _OF_DETECTION or name in _OF_BOTH
        if self.task == "detection" and name.startswith(_OF_CLASSES) and not is_of_boxes:
            return (
                f"{name} is about the classes of images, and the task is detection; use {AP}, "
                f"{MPC} or detection.d_ece"
            )
        return ""

    def _condition_rule(self, metric: MetricName, selector: Selector) -> str:
        if not metric.per_condition:
            if selector.condition:
                return f"{metric.name} has no condition; write it alone, got {str(selector)!r}"
            return ""
        if not selector.condition:
            at = CORRUPTED if bare_name(metric.name) in _OF_CORRUPTION else "clean"
            return f"{metric.name} needs a condition, for example {metric.name}@{at}"
        if self.conditions is None:
            return ""
        return self._place_rule(metric, selector, self.conditions)

    def _place_rule(
        self, metric: MetricName, selector: Selector, conditions: tuple[Condition, ...]
    ) -> str:
        at, severity = selector.condition, selector.severity
        corruptions = {c.corruption for c in conditions} - {"clean"}
        if bare_name(metric.name) in _OF_CORRUPTION and (at == "clean" or severity):
            return (
                f"{metric.name} is a mean over severities of corruptions; write "
                f"{metric.name}@{CORRUPTED}, got {str(selector)!r}"
            )
        if at in ("clean", *_OVER_ALL):
            if severity:
                return f"{at} has no severity, got {str(selector)!r}"
            if at != "clean" and not corruptions:
                return "this study measures no corruptions; add conditions, or write '@clean'"
            if at == "pooled" and bare_name(metric.name) != _POOLED:
                return f"only {_POOLED} is pooled, got {str(selector)!r}; write '@corrupted'"
            return ""
        if bare_name(metric.name).startswith("robustness.") and GROUPS.get(at, set()) & corruptions:
            return ""
        if at not in corruptions:
            if at in CORRUPTIONS:
                return f"{at} is not measured by this study; add it to conditions"
            return unknown(f"unknown condition {at!r}", at, ("clean", *_OVER_ALL, *corruptions))
        if severity and Condition(at, severity) not in conditions:
            return f"{at}:{severity} is not measured by this study; add it to conditions"
        return ""

    def _part_rule(self, metric: MetricName, selector: Selector) -> str:
        """Return why a metric does not exist for a part of the images."""
        name, (column, _, value) = metric.name, selector.part.partition("=")
        if name == MISS_RATE and column in (_CLASS, _SIZE):
            return _miss_rate_rule(selector, column, value)
        if name == _RECALL:
            if column != _CLASS:
                return (
                    f"{name} has one value per class; write {name}{{class=NAME}}@"
                    f"{selector.condition}, or accuracy.worst_class"
                )
            if selector.condition not in ("clean", CORRUPTED):
                return (
                    f"{name} is computed for clean images and for all corrupted conditions; write "
                    f"{name}{{class={value}}}@clean or @{CORRUPTED}, got {str(selector)!r}"
                )
            return ""
        if not selector.part:
            return ""
        if column == _CLASS:
            own = MISS_RATE if self.task == "detection" else _RECALL
            return f"only {own} is computed class by class; write {own}{{{selector.part}}}"
        if name not in METRICS or selector.condition == "pooled":
            return (
                f"{selector} does not exist: only metrics of measure.scores are computed for parts "
                "of the images, under each condition"
            )
        if self.columns is not None and column not in self.columns:
            return unknown(f"unknown column {column!r} of the data", column, self.columns) + (
                "; name it under slices of the data reference"
            )
        return ""

    def _measure_rule(self, metric: MetricName) -> str:
        name = metric.name
        scored = without_prefixes(name)
        is_scored = bare_name(name) in METRICS and name != _RECALL
        if self.scores is not None and is_scored and scored not in self.scores:
            return f"{scored} is not measured by this study; add it to measure.scores"
        if name.startswith(("cost.latency", "cost.memory")) and not self.is_timed:
            return f"{name} is not measured by this study; add measure.cost.latency"
        if bare_name(name).startswith("saliency.") and not self.is_explained:
            return (
                f"{name} is measured on the images that are printed, with measure.saliency, and "
                "cannot choose among candidates; remove it"
            )
        return self._decision_rule(name) or self._robustness_rule(bare_name(name))

    def _decision_rule(self, name: str) -> str:
        """Return why a number does not exist on the images that decide."""
        if SCALED in name or SCALED_BY_BASELINE in name:
            return (
                f"{name} has a temperature that was fitted on the select split, which cannot judge "
                "it, and so cannot choose among candidates; remove it"
            )
        if ISOTONIC in name or PLATT in name:
            return (
                f"{name} has a calibration that was fitted on the select split, which cannot judge "
                "it, and so cannot choose among candidates; remove it"
            )
        if name == THRESHOLD:
            return f"{name} belongs to the baseline, and is the same for all candidates; remove it"
        if bare_name(name) == _RECALL and name != _RECALL:
            return f"{name} has one value per class; write accuracy.worst_class"
        if self.is_apart and any(text in name for text in _PRINTED):
            return (
                f"{name} is computed on the images that are printed, and cannot choose among "
                "candidates; remove it"
            )
        return ""

    def _robustness_rule(self, name: str) -> str:
        if self.conditions is None:
            return ""
        if name in _STANDARDIZED:
            return _mce_rule(name, self.conditions)
        if name.startswith("robustness.") and len(self.conditions) == 1:
            return f"{name} needs corruptions; add conditions"
        return ""


def _miss_rate_rule(selector: Selector, column: str, value: str) -> str:
    """Return why there is no miss rate of a class or of a size of the objects."""
    if column == _SIZE and value not in SIZES:
        return unknown(f"unknown size {value!r}", value, SIZES)
    if selector.condition not in ("clean", CORRUPTED):
        part = f"{MISS_RATE}{{{selector.part}}}"
        return (
            f"{part} is computed for clean images and for all corrupted conditions; write "
            f"{part}@clean or @{CORRUPTED}, got {str(selector)!r}"
        )
    return ""


def _mce_rule(name: str, conditions: Iterable[Condition]) -> str:
    measured = {(c.corruption, c.severity) for c in conditions}
    missing = []
    for corruption in STANDARD_15:
        absent = [str(s) for s in range(1, 6) if (corruption, s) not in measured]
        if len(absent) == 5:
            missing.append(corruption)
        elif absent:
            missing.append(f"{corruption} at {', '.join(absent)}")
    if not missing:
        return ""
    return (
        f"{name} needs all 15 standard corruptions at severities 1 to 5; missing: "
        f"{', '.join(missing)}. Use robustness.mean_error for the mean over what is measured"
    )
