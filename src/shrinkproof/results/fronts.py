"""The fronts of a run: of each network, across networks, in absolute and in relative values.

Who is on a front is found on the split that decides; numbers of the split whose numbers are
printed stand beside it, for whoever prints a front. Controls are yardsticks and stay out, so do
options that break a rule of the study, and costs within the study's tolerances make no front. All
this is as in the decision: the front across networks in absolute values is the decision's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from shrinkproof.decision.choice import Objective
from shrinkproof.decision.fronts import Axis, Front, Relation, Values, make_front
from shrinkproof.errors import UsageError
from shrinkproof.metrics.names import CHANGE, FROM_CONTROL, bare_name
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Better
from shrinkproof.results.uncertain import tolerances
from shrinkproof.selectors import Selector
from shrinkproof.spec.tolerance import COSTS, tolerances_of
from shrinkproof.table import Number

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

OWN_BASELINE: Final = "baseline"
"""Name of the reference of corruption errors that is each network's own."""

_AGAINST_REFERENCE: Final = (
    "robustness.ce",
    "robustness.ce_difference",
    "robustness.relative_ce",
    "robustness.relative_ce_difference",
    "robustness.mce",
    "robustness.relative_mce",
)
"""Relative to the reference of the study, which may be each network's own baseline."""

_AGAINST_BASELINE: Final = ("cost.compression_ratio", "robustness.relative", "flips.", "saliency.")
"""Beginnings of names of numbers that are defined against the baseline."""

_ON_A_RATIO_SCALE: Final = (
    "robustness.error",
    "robustness.mean_error",
    "robustness.worst_error",
    "robustness.mce_alexnet",
)
"""Errors: half the baseline's means the same whatever the baseline's is."""


def fronts_of(results: Results, objectives: Sequence[Objective] | None = None) -> tuple[Front, ...]:
    """Return the front of each network and, for several, those across them in both bases.

    Args:
        results: a run.
        objectives: what to improve; None for the study's own. Empty gives no front.

    Raises:
        UsageError: an objective has no direction.
    """
    wanted = results.objectives if objectives is None else tuple(objectives)
    for objective in wanted:
        if objective.better is Better.NONE:
            raise UsageError(
                f"objectives: {objective.selector} has no better direction, so it cannot be an "
                "objective; choose another metric"
            )
    return tuple(_fronts(results, wanted)) if wanted else ()


def deciding_front(results: Results) -> Front | None:
    """Return the front that the choice is made from: all options, in absolute values.

    None where the study has no objectives.
    """
    fronts = results.fronts
    across = [front for front in fronts if front.across and front.basis == "absolute"]
    return next(iter((*across, *fronts)), None)


def relation_of(metric: str, reference: str = OWN_BASELINE) -> Relation:
    """Return how a number is made relative to the baseline's.

    Counts, bytes, seconds and error rates under corruption are divided by the baseline's; numbers
    that are defined against it stay as they are; of all others the baseline's is subtracted
    (ratios of accuracies or calibration errors would hide how large they are).

    Args:
        metric: its name, with settings and prefixes.
        reference: name of what corruption errors are relative to in this study.
    """
    bare = bare_name(metric)
    if metric.startswith((CHANGE, FROM_CONTROL)):
        return "relative by nature"
    if bare in _AGAINST_REFERENCE and reference == OWN_BASELINE:
        return "relative by nature"
    is_cost_ratio = bare.startswith("cost.") and bare.endswith("_ratio")
    if is_cost_ratio or (
        bare.startswith(_AGAINST_BASELINE) and not bare.startswith(_AGAINST_REFERENCE)
    ):
        return "relative by nature"
    known = described(metric)
    if known is not None and known.unit in ("count", "bytes", "seconds"):
        return "ratio"
    return "ratio" if bare in _ON_A_RATIO_SCALE else "difference"


def _fronts(results: Results, objectives: Sequence[Objective]) -> Iterator[Front]:
    reference = results.settings.reference["name"]
    axes = [
        Axis(str(o.selector), o.better, relation_of(o.selector.metric, reference))
        for o in objectives
    ]
    natures = [axis.selector for axis in axes if axis.relation == "relative by nature"]
    absolute = [a if a.selector in natures else replace(a, relation="absolute") for a in axes]
    marked = [f"{name} is relative to each network's own baseline by nature" for name in natures]
    options, left_out = _options(results, objectives)
    printed = _printed(results, options, objectives)
    owner = {c.label: c.model for c in results.candidates}
    models = tuple(dict.fromkeys(owner.values()))
    where = f"decided on the {results.deciding} split"
    for model in models:
        yield make_front(
            {label: row for label, row in options.items() if owner[label] == model},
            absolute,
            name=f"{model}, {where}",
            model=model,
            printed=printed,
            tolerances=_of_costs(tolerances(results, objectives, model)),
            left_out={label: why for label, why in left_out.items() if owner[label] == model},
            notes=marked,
        )
    if len(models) < 2:
        return
    yield make_front(
        options,
        absolute,
        name=f"{len(models)} networks, absolute values, {where}",
        printed=printed,
        tolerances=_of_costs(tolerances(results, objectives)),
        left_out=left_out,
        notes=[f"{text}, so this front is not fully absolute" for text in marked],
    )
    relative, without = _relative(results, options, axes, results.deciding)
    yield make_front(
        relative,
        axes,
        name=f"{len(models)} networks, relative to each one's baseline, {where}",
        basis="relative",
        printed=None if printed is None else _relative(results, printed, axes, results.printing)[0],
        tolerances=_relative_tolerances(results, relative, objectives),
        left_out={**left_out, **without},
        notes=[
            *marked,
            "values relative to different baselines hide how good the baselines are: a weak "
            "network that gains much can stand before a strong one that is better in every number",
        ],
    )


def _of_costs(found: Mapping[str, float]) -> dict[str, float]:
    """Return the tolerances of costs; estimated numbers are compared as they are."""
    return {selector: number for selector, number in found.items() if selector.startswith(COSTS)}


def _options(
    results: Results, objectives: Sequence[Objective]
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Return the numbers of everybody who is compared, and why others are not."""
    options: dict[str, dict[str, float]] = {}
    left_out: dict[str, str] = {}
    for candidate in results.candidates:
        if candidate.role == "control":
            continue
        label = candidate.label
        found, gaps = _numbers(
            results, label, [str(o.selector) for o in objectives], results.deciding
        )
        problems = [*_broken(results, label), *gaps]
        if problems:
            left_out[label] = "; ".join(problems)
        else:
            options[label] = found
    return options, left_out


def _broken(results: Results, label: str) -> Iterator[str]:
    """Yield the rules of the study that a candidate breaks, or that it has no number for."""
    for rule in results.constraints:
        number = results.numbers.find(label, results.deciding, rule.selector)
        if number.value is None:
            yield _missing(str(rule.selector), number)
        elif not rule.is_met(number.value):
            yield f"{rule}, got {number.value:.6g}"


def _missing(name: str, number: Number) -> str:
    """Return why a number does not exist, with its name once."""
    is_named = number.reason.startswith(name)
    return number.reason if is_named else f"{name} is {number.status}: {number.reason}"


def _numbers(
    results: Results, label: str, selectors: Sequence[str], split: str
) -> tuple[dict[str, float], list[str]]:
    """Return a candidate's values, and why others are missing."""
    values, gaps = {}, []
    for name in selectors:
        number = results.numbers.find(label, split, Selector.parse(name))
        if number.value is None:
            gaps.append(_missing(name, number))
        else:
            values[name] = number.value
    return values, gaps


def _printed(results: Results, options: Values, objectives: Sequence[Objective]) -> Values | None:
    """Return the numbers of the printed split; None where it is the one that decides."""
    if results.printing == results.deciding:
        return None
    selectors = [str(o.selector) for o in objectives]
    found = {label: _numbers(results, label, selectors, results.printing) for label in options}
    return {label: values for label, (values, gaps) in found.items() if not gaps}


def _relative(
    results: Results, options: Values, axes: Sequence[Axis], split: str
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Return the values relative to the baseline of each network, and who has none."""
    selectors = [axis.selector for axis in axes]
    baselines = {
        c.model: _numbers(results, c.label, selectors, split)
        for c in results.candidates
        if c.role == "baseline"
    }
    found: dict[str, dict[str, float]] = {}
    without: dict[str, str] = {}
    for candidate in results.candidates:
        row = options.get(candidate.label)
        if row is None:
            continue
        theirs, gaps = baselines.get(candidate.model, ({}, ["the network has no baseline here"]))
        gaps = [*gaps, *_zeros(theirs, axes)]
        if gaps:
            without[candidate.label] = f"no value relative to the baseline: {'; '.join(gaps)}"
        else:
            found[candidate.label] = {
                axis.selector: _related(row[axis.selector], theirs[axis.selector], axis.relation)
                for axis in axes
            }
    return found, without


def _relative_tolerances(
    results: Results, relative: Values, objectives: Sequence[Objective]
) -> dict[str, float]:
    """Return the tolerances of relative costs: those that are a share have one here as well."""
    if not relative:
        return {}
    selectors = [objective.selector for objective in objectives]
    stated = tolerances_of(selectors, results.spec.select, results.spec.measure.margins)
    return {
        name: found.of(min(abs(row[name]) for row in relative.values()))
        for name, found in stated.items()
        if name.startswith(COSTS) and found.is_relative
    }


def _zeros(baseline: Mapping[str, float], axes: Sequence[Axis]) -> Iterator[str]:
    """Yield what cannot be divided by."""
    for axis in axes:
        if axis.relation == "ratio" and baseline.get(axis.selector) == 0:
            yield f"{axis.selector} of the baseline is 0"


def _related(value: float, baseline: float, relation: Relation) -> float:
    if relation == "ratio":
        return value / baseline
    return value - baseline if relation == "difference" else value
