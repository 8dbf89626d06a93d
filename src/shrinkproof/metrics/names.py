"""The one table of all metric names: unit, direction, meaning, and whether there is a condition.

Registered metrics (``METRICS``) and derived numbers stand here side by side; plugins add their own
through their class attributes and need no line here. A name may carry settings in brackets,
``calibration.ece[bins=10]``, and what is computed from a number carries a prefix before its name,
``change.accuracy.top1``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from shrinkproof.metrics.detection.names import DETECTION_NAMES, ISOTONIC, PLATT
from shrinkproof.metrics.naming import MetricName, alone, at_condition, table
from shrinkproof.protocols import Better

_HIGHER, _LOWER, _NONE = Better.HIGHER, Better.LOWER, Better.NONE

PROBABILITY: Final = "probability"
"""Unit of p-values."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is computed from another number.

    Attributes:
        text: what stands before the other number's name, with its dot.
        summary: what it is, in front of the other number's summary.
        keeps: which of ``unit`` and ``better`` are those of the other number.
    """

    text: str
    summary: str
    keeps: Literal["both", "unit", "none"] = "both"


CHANGE: Final = "change."
FROM_CONTROL: Final = "change_from_control."
SCALED: Final = "scaled."
SCALED_BY_BASELINE: Final = "scaled_by_baseline."
NULL_MEAN: Final = "null_mean."
NULL_Q95: Final = "null_q95."
NULL_P: Final = "null_p."
MCNEMAR_P: Final = "mcnemar_p."
MCNEMAR_P_HOLM: Final = "mcnemar_p_holm."
NONINFERIOR_P: Final = "noninferior_p."
NONINFERIOR_P_HOLM: Final = "noninferior_p_holm."
EQUIVALENT_P: Final = "equivalent_p."
ACROSS_REPEATS: Final = "across_repeats."
ACROSS_REPEATS_SD: Final = "across_repeats_sd."

PREFIXES: Final = (
    Prefix(CHANGE, "candidate minus baseline:"),
    Prefix(FROM_CONTROL, "candidate minus control:"),
    Prefix(SCALED, "after scaling with its own temperature:"),
    Prefix(SCALED_BY_BASELINE, "after scaling with the baseline's temperature:"),
    Prefix(ISOTONIC, "after isotonic calibration of its scores:"),
    Prefix(PLATT, "after logistic calibration of its scores:"),
    Prefix(NULL_MEAN, "mean that a perfectly calibrated model would show:", "unit"),
    Prefix(NULL_Q95, "95 % quantile that a perfectly calibrated model would show:", "unit"),
    Prefix(NULL_P, "p-value of perfect calibration:", "none"),
    Prefix(MCNEMAR_P, "p-value of no difference to the baseline, McNemar:", "none"),
    Prefix(MCNEMAR_P_HOLM, "the same after Holm's correction over the family:", "none"),
    Prefix(NONINFERIOR_P, "p-value of being worse than the margin allows:", "none"),
    Prefix(NONINFERIOR_P_HOLM, "the same after Holm's correction over the family:", "none"),
    Prefix(EQUIVALENT_P, "p-value of differing by more than the margin, either way:", "none"),
    Prefix(ACROSS_REPEATS, "mean over trainings with other seeds:"),
    Prefix(ACROSS_REPEATS_SD, "standard deviation over trainings with other seeds:", "unit"),
)
"""All prefixes; a name may carry several, the last computed first."""


def known_metric(
    name: str, others: Callable[[str], MetricName | None] = lambda _: None
) -> MetricName | None:
    """Return what is known of a name with its settings and prefixes, or None for unknown ones.

    Args:
        name: with settings and prefixes.
        others: what is known of names that are not built in, without settings and prefixes.
    """
    for prefix in PREFIXES:
        if name.startswith(prefix.text):
            inner = known_metric(name.removeprefix(prefix.text), others)
            return None if inner is None else _prefixed(prefix, name, inner)
    bare = name.partition("[")[0]
    found = METRIC_NAMES.get(bare) or others(bare)
    return None if found is None else replace(found, name=name)


def _prefixed(prefix: Prefix, name: str, inner: MetricName) -> MetricName:
    return replace(
        inner,
        name=name,
        unit=PROBABILITY if prefix.keeps == "none" else inner.unit,
        better=inner.better if prefix.keeps == "both" else _NONE,
        summary=f"{prefix.summary} {inner.summary}",
    )


def without_prefixes(name: str) -> str:
    """Return the name of the number that a name with prefixes was computed from."""
    for prefix in PREFIXES:
        if name.startswith(prefix.text):
            return without_prefixes(name.removeprefix(prefix.text))
    return name


def bare_name(name: str) -> str:
    """Return a name without its prefixes and settings."""
    return without_prefixes(name).partition("[")[0]


METRIC_NAMES: Final[dict[str, MetricName]] = table(
    at_condition("accuracy.top1", "fraction", _HIGHER, "share of images classified correctly"),
    at_condition(
        "accuracy.recall",
        "fraction",
        _HIGHER,
        "share of the images of a class classified correctly",
    ),
    at_condition("accuracy.worst_class", "fraction", _HIGHER, "smallest recall of a class"),
    at_condition("accuracy.nll", "nat", _LOWER, "mean negative log-likelihood of the true class"),
    at_condition("accuracy.brier", "ratio", _LOWER, "Brier score, sum over classes, 0 to 2"),
    at_condition(
        "accuracy.brier_top", "ratio", _LOWER, "Brier score of the predicted class alone, 0 to 1"
    ),
    at_condition(
        "calibration.ece", "fraction", _LOWER, "expected calibration error, equal-width bins"
    ),
    at_condition(
        "calibration.ece_equal_mass",
        "fraction",
        _LOWER,
        "expected calibration error, bins of equal mass",
    ),
    at_condition(
        "calibration.ece_l2", "fraction", _LOWER, "root mean squared calibration error over bins"
    ),
    at_condition("calibration.ece_max", "fraction", _LOWER, "largest gap of a bin"),
    at_condition(
        "calibration.ece_debiased",
        "fraction",
        _LOWER,
        "root mean squared calibration error, bias removed",
    ),
    at_condition(
        "calibration.ece_sweep",
        "fraction",
        _LOWER,
        "calibration error with as many bins as stay monotone",
    ),
    at_condition(
        "calibration.ace", "fraction", _LOWER, "adaptive calibration error: every class, equal mass"
    ),
    at_condition(
        "calibration.classwise_ece",
        "fraction",
        _LOWER,
        "expected calibration error, mean over the classes",
    ),
    at_condition(
        "calibration.smooth_ece",
        "fraction",
        _LOWER,
        "calibration error of smoothed residuals, without bins",
    ),
    at_condition(
        "calibration.ks", "fraction", _LOWER, "largest cumulated gap over confidence, without bins"
    ),
    at_condition("calibration.confidence_gap", "fraction", _NONE, "mean confidence minus accuracy"),
    at_condition(
        "calibration.overconfidence",
        "fraction",
        _LOWER,
        "part of the calibration error from bins too sure",
    ),
    at_condition(
        "calibration.underconfidence",
        "fraction",
        _LOWER,
        "part of the calibration error from bins too unsure",
    ),
    at_condition(
        "calibration.murphy_reliability",
        "ratio",
        _LOWER,
        "reliability: part of the Brier score from miscalibration",
    ),
    at_condition(
        "calibration.murphy_resolution", "ratio", _HIGHER, "resolution: what the bins tell apart"
    ),
    at_condition(
        "calibration.murphy_uncertainty",
        "ratio",
        _NONE,
        "uncertainty: Brier score of the base rate",
    ),
    at_condition(
        "calibration.murphy_within",
        "ratio",
        _NONE,
        "spread within bins that reliability and resolution miss",
    ),
    at_condition(
        "calibration.corp_miscalibration",
        "ratio",
        _LOWER,
        "miscalibration by isotonic recalibration (CORP)",
    ),
    at_condition(
        "calibration.corp_discrimination",
        "ratio",
        _HIGHER,
        "discrimination by isotonic recalibration (CORP)",
    ),
    at_condition(
        "calibration.corp_uncertainty", "ratio", _NONE, "uncertainty of the CORP decomposition"
    ),
    alone("calibration.temperature", "ratio", _NONE, "temperature fitted on the select split"),
    at_condition(
        "selective.auroc",
        "fraction",
        _HIGHER,
        "how well confidence ranks right above wrong answers",
    ),
    at_condition(
        "selective.aupr_error",
        "fraction",
        _HIGHER,
        "precision-recall area of finding wrong answers",
    ),
    at_condition(
        "selective.aupr_success",
        "fraction",
        _HIGHER,
        "precision-recall area of finding right answers",
    ),
    at_condition(
        "selective.fpr95", "fraction", _LOWER, "wrong answers kept where 95 % of the right ones are"
    ),
    at_condition(
        "selective.aurc", "fraction", _LOWER, "error among the most confident, mean over coverages"
    ),
    at_condition(
        "selective.eaurc",
        "fraction",
        _LOWER,
        "area under the risk-coverage curve above the optimum",
    ),
    at_condition("selective.augrc", "fraction", _LOWER, "undetected errors, mean over coverages"),
    at_condition(
        "selective.risk_at_coverage",
        "fraction",
        _LOWER,
        "error among the most confident share of the images",
    ),
    at_condition(
        "selective.coverage_at_risk",
        "fraction",
        _HIGHER,
        "largest share of images at an acceptable error",
    ),
    at_condition(
        "fidelity.agreement",
        "fraction",
        _HIGHER,
        "share of images on which twin and artifact predict the same class",
    ),
    at_condition(
        "fidelity.float32_agreement",
        "fraction",
        _HIGHER,
        "share of a sample of images that get the class they get in float32",
    ),
    at_condition(
        "fidelity.float32_difference",
        "ratio",
        _LOWER,
        "largest difference from an output in float32, divided by the largest output",
    ),
    at_condition(
        "flips.churn",
        "fraction",
        _NONE,
        "share of images whose predicted class is not the baseline's",
    ),
    at_condition(
        "flips.negative", "fraction", _LOWER, "share of images that only the baseline gets right"
    ),
    at_condition(
        "flips.positive", "fraction", _HIGHER, "share of images that only the candidate gets right"
    ),
    at_condition(
        "flips.churn_from_control",
        "fraction",
        _NONE,
        "share of images whose predicted class is not the control's",
    ),
    at_condition(
        "flips.negative_from_control",
        "fraction",
        _LOWER,
        "share of images that only the control gets right",
    ),
    at_condition(
        "flips.positive_from_control",
        "fraction",
        _HIGHER,
        "share of images that the control alone gets wrong",
    ),
    at_condition(
        "flips.worst_class_change",
        "fraction",
        _HIGHER,
        "largest loss of recall of a class, against the baseline",
    ),
    at_condition(
        "robustness.error",
        "fraction",
        _LOWER,
        "top-1 error, mean over the severities of a corruption or group",
    ),
    at_condition(
        "robustness.ce", "ratio", _LOWER, "corruption error relative to a named reference"
    ),
    at_condition(
        "robustness.ce_difference",
        "fraction",
        _LOWER,
        "error under a corruption minus the reference's",
    ),
    at_condition(
        "robustness.relative_ce",
        "ratio",
        _LOWER,
        "error added by a corruption relative to a named reference",
    ),
    at_condition(
        "robustness.relative_ce_difference",
        "fraction",
        _LOWER,
        "error added by a corruption minus the reference's",
    ),
    alone(
        "robustness.mean_error",
        "fraction",
        _LOWER,
        "top-1 error, mean over the corrupted conditions of the study",
    ),
    alone(
        "robustness.mce",
        "ratio",
        _LOWER,
        "corruption error relative to a named reference, mean over the 15 standard corruptions",
    ),
    alone(
        "robustness.relative_mce",
        "ratio",
        _LOWER,
        "added error relative to a named reference, mean over the 15 standard corruptions",
    ),
    alone(
        "robustness.mce_alexnet",
        "ratio",
        _LOWER,
        "mean corruption error relative to AlexNet, as published for ImageNet-C",
    ),
    alone(
        "robustness.worst_error",
        "fraction",
        _LOWER,
        "top-1 error under the worst corruption, mean over severities",
    ),
    alone(
        "robustness.retention",
        "ratio",
        _HIGHER,
        "accuracy under corruption divided by clean accuracy",
    ),
    alone(
        "robustness.relative", "fraction", _HIGHER, "accuracy under corruption minus the baseline's"
    ),
    alone(
        "robustness.effective",
        "fraction",
        _HIGHER,
        "accuracy under corruption minus that of dense networks of equal clean accuracy",
    ),
    at_condition(
        "saliency.hcc", "ratio", _HIGHER, "heat-map correlation with the baseline, mean over images"
    ),
    at_condition(
        "saliency.hcc_spread",
        "ratio",
        _NONE,
        "standard deviation of the heat-map correlation over images",
    ),
    at_condition(
        "saliency.hcc_common",
        "ratio",
        _HIGHER,
        "heat-map correlation on the images defined for all candidates",
    ),
    at_condition(
        "saliency.hcc_zero", "ratio", _HIGHER, "heat-map correlation, undefined ones counted as 0"
    ),
    at_condition(
        "saliency.undefined",
        "fraction",
        _NONE,
        "share of images whose heat-map correlation is undefined",
    ),
    at_condition(
        "saliency.unmatched",
        "fraction",
        _LOWER,
        "share of the baseline's boxes without a counterpart, so without a heat map to compare",
    ),
    at_condition(
        "saliency.spearman", "ratio", _HIGHER, "rank correlation of the heat maps, mean over images"
    ),
    at_condition(
        "saliency.cosine", "ratio", _HIGHER, "cosine similarity of the heat maps, mean over images"
    ),
    at_condition(
        "saliency.ssim",
        "ratio",
        _HIGHER,
        "structural similarity of the heat maps, mean over images",
    ),
    at_condition(
        "saliency.topk", "fraction", _HIGHER, "overlap of the hottest pixels, mean over images"
    ),
    *DETECTION_NAMES,
    alone("cost.parameters", "count", _LOWER, "number of parameters"),
    alone("cost.nonzero", "count", _LOWER, "number of parameters that are not zero"),
    alone("cost.macs", "count", _LOWER, "multiply-accumulates for one image"),
    alone("cost.bytes", "bytes", _LOWER, "size of the exported file"),
    alone("cost.bytes_zip", "bytes", _LOWER, "size of the exported file after deflating"),
    alone("cost.bytes_dense", "bytes", _LOWER, "size of the weights, every number in full"),
    alone("cost.bytes_packed", "bytes", _LOWER, "size of the weights in the fewest bytes"),
    alone(
        "cost.compression_ratio",
        "ratio",
        _HIGHER,
        "size of the baseline's exported file divided by the candidate's",
    ),
    alone(
        "cost.compression_ratio_zip",
        "ratio",
        _HIGHER,
        "size of the baseline's deflated file divided by the candidate's",
    ),
    alone(
        "cost.compression_ratio_packed",
        "ratio",
        _HIGHER,
        "size of the baseline's packed weights divided by the candidate's",
    ),
    alone("cost.parameters_ratio", "ratio", _LOWER, "parameters divided by the baseline's"),
    alone("cost.macs_ratio", "ratio", _LOWER, "multiply-accumulates divided by the baseline's"),
    alone("cost.latency_median", "seconds", _LOWER, "median time for one batch"),
    alone("cost.latency_p95", "seconds", _LOWER, "95th percentile of the time for one batch"),
    alone("cost.latency_ratio", "ratio", _LOWER, "median latency divided by the baseline's"),
    alone("cost.memory_peak", "bytes", _LOWER, "peak memory of loading and running the file"),
)
"""All built-in metric names, in the order in which tables and reports show them."""
