"""The one table of all metric names: unit, direction, meaning, and whether there is a condition.

Registered metrics (``METRICS``) and derived numbers stand here side by side; plugins add their own
through their class attributes and need no line here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shrinkproof.protocols import Better

_HIGHER, _LOWER, _NONE = Better.HIGHER, Better.LOWER, Better.NONE


@dataclass(frozen=True, slots=True)
class MetricName:
    """What everybody must know about a metric without importing its code.

    Attributes:
        name: dotted name, as in study files and tables.
        unit: ``fraction`` (0 to 1), ``ratio`` (a plain number), ``nat``, ``count``, ``bytes`` or
            ``seconds``.
        better: which direction is better.
        summary: what it is, in one line.
        per_condition: True where it is measured under one condition (selectors then need
            ``@condition``); False where there is one number per candidate.
    """

    name: str
    unit: str
    better: Better
    summary: str
    per_condition: bool


def _table(*rows: MetricName) -> dict[str, MetricName]:
    return {row.name: row for row in rows}


def _at_condition(name: str, unit: str, better: Better, summary: str) -> MetricName:
    return MetricName(name, unit, better, summary, per_condition=True)


def _alone(name: str, unit: str, better: Better, summary: str) -> MetricName:
    return MetricName(name, unit, better, summary, per_condition=False)


METRIC_NAMES: Final[dict[str, MetricName]] = _table(
    _at_condition("accuracy.top1", "fraction", _HIGHER, "share of images classified correctly"),
    _at_condition("accuracy.nll", "nat", _LOWER, "mean negative log-likelihood of the true class"),
    _at_condition(
        "accuracy.nll_scaled", "nat", _LOWER, "negative log-likelihood after temperature scaling"
    ),
    _at_condition("accuracy.brier", "ratio", _LOWER, "Brier score, sum over classes, 0 to 2"),
    _at_condition(
        "calibration.ece", "fraction", _LOWER, "expected calibration error, equal-width bins"
    ),
    _at_condition(
        "calibration.ece_equal_mass",
        "fraction",
        _LOWER,
        "expected calibration error, bins of equal mass",
    ),
    _at_condition(
        "calibration.ece_scaled",
        "fraction",
        _LOWER,
        "expected calibration error after temperature scaling",
    ),
    _alone("calibration.temperature", "ratio", _NONE, "temperature fitted on the select split"),
    _at_condition(
        "fidelity.agreement",
        "fraction",
        _HIGHER,
        "share of images on which twin and artifact predict the same class",
    ),
    _alone(
        "robustness.mean_error",
        "fraction",
        _LOWER,
        "top-1 error, mean over the corrupted conditions of the study",
    ),
    _alone(
        "robustness.mce",
        "ratio",
        _LOWER,
        "corruption error relative to a named reference, mean over the 15 standard corruptions",
    ),
    _alone("cost.parameters", "count", _LOWER, "number of parameters"),
    _alone("cost.nonzero", "count", _LOWER, "number of parameters that are not zero"),
    _alone("cost.macs", "count", _LOWER, "multiply-accumulates for one image"),
    _alone("cost.bytes", "bytes", _LOWER, "size of the exported file"),
    _alone("cost.bytes_zip", "bytes", _LOWER, "size of the exported file after deflating"),
    _alone("cost.bytes_dense", "bytes", _LOWER, "size of the weights, every number in full"),
    _alone("cost.bytes_packed", "bytes", _LOWER, "size of the weights in the fewest bytes"),
    _alone(
        "cost.compression_ratio",
        "ratio",
        _HIGHER,
        "size of the baseline's exported file divided by the candidate's",
    ),
    _alone(
        "cost.compression_ratio_zip",
        "ratio",
        _HIGHER,
        "size of the baseline's deflated file divided by the candidate's",
    ),
    _alone(
        "cost.compression_ratio_packed",
        "ratio",
        _HIGHER,
        "size of the baseline's packed weights divided by the candidate's",
    ),
    _alone("cost.parameters_ratio", "ratio", _LOWER, "parameters divided by the baseline's"),
    _alone("cost.macs_ratio", "ratio", _LOWER, "multiply-accumulates divided by the baseline's"),
    _alone("cost.latency_median", "seconds", _LOWER, "median time for one batch"),
    _alone("cost.latency_p95", "seconds", _LOWER, "95th percentile of the time for one batch"),
    _alone("cost.latency_ratio", "ratio", _LOWER, "median latency divided by the baseline's"),
    _alone("cost.memory_peak", "bytes", _LOWER, "peak memory of loading and running the file"),
)
"""All built-in metric names, in the order in which tables and reports show them."""
