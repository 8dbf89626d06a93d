"""Numbers and names in readers' words; the only place where fractions become percent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shrinkproof.metrics.detection.names import ISOTONIC, PLATT
from shrinkproof.metrics.names import (
    ACROSS_REPEATS,
    ACROSS_REPEATS_SD,
    CHANGE,
    EQUIVALENT_P,
    FROM_CONTROL,
    MCNEMAR_P,
    MCNEMAR_P_HOLM,
    NONINFERIOR_P,
    NONINFERIOR_P_HOLM,
    NULL_MEAN,
    NULL_P,
    NULL_Q95,
    PROBABILITY,
    SCALED,
    SCALED_BY_BASELINE,
    bare_name,
)

Row = Mapping[str, Any]
"""One row of the tidy table, by column name."""

SPACE: Final = "\N{NO-BREAK SPACE}"
MINUS: Final = "\N{MINUS SIGN}"
NOT_MEASURED: Final = "not measured"
_NOISE: Final = 1.05
"""Latencies closer than this factor are called about the same: the clock tells no more."""

_NAMES: Final = {
    "accuracy.top1": "Top-1 accuracy",
    "accuracy.recall": "Recall",
    "accuracy.worst_class": "Smallest recall of a class",
    "accuracy.nll": "Negative log-likelihood",
    "accuracy.brier": "Brier score",
    "accuracy.brier_top": "Brier score of the predicted class",
    "calibration.ece": "Calibration error (ECE)",
    "calibration.ece_equal_mass": "Calibration error, equal mass",
    "calibration.ece_l2": "Calibration error, root mean square",
    "calibration.ece_max": "Calibration error, largest gap",
    "calibration.ece_debiased": "Calibration error, debiased",
    "calibration.ece_sweep": "Calibration error, swept bins",
    "calibration.ace": "Adaptive calibration error",
    "calibration.classwise_ece": "Classwise calibration error",
    "calibration.smooth_ece": "Smooth calibration error",
    "calibration.ks": "Calibration error, Kolmogorov-Smirnov",
    "calibration.confidence_gap": "Confidence minus accuracy",
    "calibration.overconfidence": "Overconfidence",
    "calibration.underconfidence": "Underconfidence",
    "calibration.murphy_reliability": "Reliability (Murphy)",
    "calibration.murphy_resolution": "Resolution (Murphy)",
    "calibration.murphy_uncertainty": "Uncertainty (Murphy)",
    "calibration.murphy_within": "Spread within bins (Murphy)",
    "calibration.corp_miscalibration": "Miscalibration (CORP)",
    "calibration.corp_discrimination": "Discrimination (CORP)",
    "calibration.corp_uncertainty": "Uncertainty (CORP)",
    "calibration.temperature": "Fitted temperature",
    "selective.auroc": "AUROC of finding errors",
    "selective.aupr_error": "AUPR of finding errors",
    "selective.aupr_success": "AUPR of finding right answers",
    "selective.fpr95": "Errors kept with 95 % of right answers",
    "selective.aurc": "AURC",
    "selective.eaurc": "Excess AURC",
    "selective.augrc": "AUGRC",
    "selective.risk_at_coverage": "Error at stated coverage",
    "selective.coverage_at_risk": "Coverage at stated error",
    "fidelity.agreement": "Same class in file and PyTorch",
    "fidelity.float32_agreement": "Same class as in float32",
    "fidelity.float32_difference": "Largest difference from float32",
    "flips.churn": "Churn",
    "flips.negative": "Negative flips",
    "flips.positive": "Positive flips",
    "flips.churn_from_control": "Churn against the control",
    "flips.negative_from_control": "Negative flips against the control",
    "flips.positive_from_control": "Positive flips against the control",
    "flips.worst_class_change": "Largest loss of a class",
    "robustness.error": "Error of the corruption",
    "robustness.ce": "Corruption error (CE)",
    "robustness.ce_difference": "Error minus the reference's",
    "robustness.relative_ce": "Relative CE",
    "robustness.relative_ce_difference": "Added error minus the reference's",
    "robustness.mean_error": "Mean corrupted error",
    "robustness.mce": "mCE",
    "robustness.relative_mce": "Relative mCE",
    "robustness.mce_alexnet": "mCE against AlexNet",
    "robustness.worst_error": "Error under the worst corruption",
    "robustness.retention": "Accuracy kept under corruption",
    "robustness.relative": "Relative robustness",
    "robustness.effective": "Effective robustness",
    "robustness.mpc": "mPC",
    "robustness.rpc": "rPC",
    "robustness.mpc_of_baseline": "mPC over the baseline's AP",
    "detection.ap": "AP",
    "detection.ap50": "AP at IoU 0.50",
    "detection.ap75": "AP at IoU 0.75",
    "detection.ap_small": "AP, small objects",
    "detection.ap_medium": "AP, medium objects",
    "detection.ap_large": "AP, large objects",
    "detection.ar1": "AR, 1 detection",
    "detection.ar10": "AR, 10 detections",
    "detection.ar100": "AR, 100 detections",
    "detection.ar_small": "AR, small objects",
    "detection.ar_medium": "AR, medium objects",
    "detection.ar_large": "AR, large objects",
    "detection.d_ece": "Calibration error (D-ECE)",
    "detection.laece": "Localization-aware error (LaECE)",
    "detection.laace": "Localization-aware error per box (LaACE)",
    "boxes.threshold": "Score threshold",
    "boxes.miss_rate": "Missed objects",
    "boxes.false_per_image": "Wrong boxes per image",
    "boxes.lost": "Lost boxes",
    "boxes.new": "New boxes per image",
    "boxes.flipped": "Boxes of another class",
    "saliency.hcc": "Heat-map correlation (HCC)",
    "saliency.hcc_spread": "Spread of HCC",
    "saliency.hcc_common": "HCC on common images",
    "saliency.hcc_zero": "HCC with undefined as 0",
    "saliency.undefined": "Undefined heat maps",
    "saliency.unmatched": "Boxes without counterpart",
    "saliency.spearman": "Rank correlation of heat maps",
    "saliency.cosine": "Cosine of heat maps",
    "saliency.ssim": "SSIM of heat maps",
    "saliency.topk": "Overlap of the hottest pixels",
    "cost.parameters": "Parameters",
    "cost.nonzero": "Nonzero parameters",
    "cost.macs": "MACs",
    "cost.bytes": "File size",
    "cost.bytes_zip": "Zipped size",
    "cost.bytes_dense": "Weights, dense",
    "cost.bytes_packed": "Weights, packed",
    "cost.compression_ratio": "Compression ratio",
    "cost.compression_ratio_zip": "Compression ratio, zipped",
    "cost.compression_ratio_packed": "Compression ratio, packed",
    "cost.parameters_ratio": "Parameters against baseline",
    "cost.macs_ratio": "MACs against baseline",
    "cost.latency_median": "Latency, median",
    "cost.latency_p95": "Latency, 95th percentile",
    "cost.latency_ratio": "Latency against baseline",
    "cost.memory_peak": "Peak memory",
}
_PREFIXED: Final = {
    CHANGE: "Change of {}",
    FROM_CONTROL: "Change from the control of {}",
    SCALED: "{} after temperature scaling",
    SCALED_BY_BASELINE: "{} with the baseline's temperature",
    ISOTONIC: "{} after isotonic regression",
    PLATT: "{} after Platt scaling",
    NULL_MEAN: "{} of a calibrated model, mean",
    NULL_Q95: "{} of a calibrated model, 95 % quantile",
    NULL_P: "p-value of calibration, {}",
    MCNEMAR_P: "p-value of no change, {}",
    MCNEMAR_P_HOLM: "p-value of no change (Holm), {}",
    NONINFERIOR_P: "p-value against the margin, {}",
    NONINFERIOR_P_HOLM: "p-value against the margin (Holm), {}",
    EQUIVALENT_P: "p-value against the margin either way, {}",
    ACROSS_REPEATS: "{} over repeats, mean",
    ACROSS_REPEATS_SD: "{} over repeats, standard deviation",
}
"""How the name of a number reads that was computed from another one."""

_PERCENT_RATIOS: Final = {
    "robustness.mce",
    "robustness.mce_alexnet",
    "robustness.relative_mce",
    "robustness.ce",
    "robustness.relative_ce",
    "robustness.retention",
    "robustness.rpc",
    "robustness.mpc_of_baseline",
}
_ABOUT_INTERVAL: Final = re.compile("interval|resampl|the spread rests")
_NOT_PERCENT: Final = {"accuracy.brier"}
_FINE: Final = (
    *("calibration.", "fidelity.", "selective.", "flips."),
    *("detection.d_ece", "detection.laece", "detection.laace"),
)
"""Families printed with two decimals of percent: 99.95 % must not become 100.0 %."""
_TIMES: Final = "cost."
"""Only ratios of two costs are printed with the sign of multiplication."""
_DECIMALS: Final = {"accuracy.": 3, "calibration.murphy": 4, "calibration.corp": 4}
"""Decimals of plain numbers by family; 2 for all others."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How numbers of one unit are printed: ``value * factor``, then the suffix."""

    factor: float
    suffix: str
    decimals: int


def metric_name(metric: str) -> str:
    """Return the reader's name of a metric; the metric's own name where it has none."""
    for prefix, words in _PREFIXED.items():
        if metric.startswith(prefix):
            inner = metric_name(metric.removeprefix(prefix))
            return words.format(inner if words.startswith("{") else phrase(inner))
    name, bracket, settings = metric.partition("[")
    if name not in _NAMES:
        return metric
    return _NAMES[name] + (f", {settings.removesuffix(']')}" if bracket else "")


def bare(metric: str) -> str:
    """Return the metric that a change is about; a metric that is no change stays as it is."""
    return metric.removeprefix(CHANGE).removeprefix(FROM_CONTROL)


def is_change(metric: str) -> bool:
    """Return whether a metric is a difference to the baseline or to a control."""
    return metric.startswith((CHANGE, FROM_CONTROL))


def phrase(name: str) -> str:
    """Return a name as it stands inside a sentence; abbreviations keep their capitals."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def place_name(condition: str, severity: int) -> str:
    """Return the reader's name of a condition; empty for numbers without one."""
    words = {
        "": "",
        "clean": "clean images",
        "corrupted": "all corruptions",
        "pooled": "all corruptions pooled",
    }
    name = words.get(condition, condition.replace("_", " "))
    return f"{name}, severity {severity}" if severity else name


def condition_name(text: str) -> str:
    """Return the reader's name of a spelled condition: ``fog:3``, ``clean``."""
    name, _, severity = text.partition(":")
    return place_name(name, int(severity or 0))


def is_percent(metric: str, unit: str) -> bool:
    """Return whether a metric is printed in percent."""
    metric = bare_name(metric)
    return (unit == "fraction" and metric not in _NOT_PERCENT) or (
        unit == "ratio" and metric in _PERCENT_RATIOS
    )


def scale(metric: str, unit: str, largest: float) -> Scale:
    """Return how to print a metric whose largest number is ``largest``."""
    metric = bare_name(metric)
    if is_percent(metric, unit):
        return Scale(100.0, f"{SPACE}%", 2 if metric.startswith(_FINE) else 1)
    if unit == "bytes":
        return _metric_prefix(largest, ((1e6, "MB"), (1e3, "kB"), (1.0, "B")))
    if unit == "count":
        return _metric_prefix(largest, ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")))
    if unit == "seconds":
        return Scale(1e3, f"{SPACE}ms", _decimals(largest * 1e3))
    if unit == "ratio" and metric.startswith(_TIMES):
        return Scale(1.0, f"{SPACE}\N{MULTIPLICATION SIGN}", 2)
    if unit == "ratio":
        family = next((name for name in _DECIMALS if metric.startswith(name)), "")
        return Scale(1.0, "", _DECIMALS.get(family, 2))
    return Scale(1.0, f"{SPACE}{unit}" if unit == "nat" else "", 3)


def _metric_prefix(largest: float, steps: tuple[tuple[float, str], ...]) -> Scale:
    for size, suffix in steps:
        if abs(largest) >= size or size == 1.0:
            decimals = 0 if size == 1.0 else _decimals(largest / size)
            return Scale(1.0 / size, f"{SPACE}{suffix}" if suffix else "", decimals)
    raise AssertionError("the last step has size 1")


def _decimals(number: float) -> int:
    """Return the decimals that leave three significant digits."""
    return 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """Return a number with a real minus sign, never a negative zero."""
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        return text.lstrip("-")
    if text.startswith("-"):
        return MINUS + text[1:]
    return f"+{text}" if signed else text


def amount(metric: str, unit: str, value: float) -> str:
    """Return a value with its unit: ``97.3 %``, ``1.24 MB``, ``8.31 ms``, ``p = 0.012``."""
    if unit == PROBABILITY:
        return p_value(value)
    how = scale(metric, unit, abs(value))
    return number(value * how.factor, how.decimals) + how.suffix


def p_value(value: float) -> str:
    """Return a p-value: ``p = 0.012``, ``p < 0.001``."""
    if value < 0.001:
        return f"p{SPACE}<{SPACE}0.001"
    text = f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"
    return f"p{SPACE}={SPACE}{text}"


def points(value: float) -> str:
    """Return a margin of a fraction in words: ``1 point``, ``0.5 points``."""
    text = f"{100 * value:g}"
    return f"{text}{SPACE}point" + ("" if text == "1" else "s")


def difference(metric: str, unit: str, value: float) -> str:
    """Return a signed change; changes of percentages are percentage points (pp)."""
    if is_percent(metric, unit):
        return number(value * 100, 2, signed=True) + f"{SPACE}pp"
    how = scale(metric, unit, abs(value))
    return number(value * how.factor, how.decimals, signed=True) + how.suffix


def span(row: Row) -> str:
    """Return the 95 % interval of a row's value, in the row's unit; empty where none is stated."""
    low, high = row["low"], row["high"]
    if low is None or high is None:
        return ""
    metric, unit = row["metric"], row["unit"]
    is_signed = is_change(metric)
    if is_percent(metric, unit):
        factor, decimals = 100.0, 2 if is_signed else scale(metric, unit, 1.0).decimals
    else:
        how = scale(metric, unit, max(abs(low), abs(high)))
        factor, decimals = how.factor, how.decimals
    return (
        f"{number(low * factor, decimals, signed=is_signed)} to "
        f"{number(high * factor, decimals, signed=is_signed)}"
    )


def measured(text: str, interval: str) -> str:
    """Return a printed number with its interval in parentheses, where it has one."""
    return f"{text} (95{SPACE}% interval {interval})" if interval else text


def without_interval(note: str) -> str:
    """Return what a note says about a number itself, without why it has no interval."""
    return "; ".join(part for part in note.split("; ") if not _ABOUT_INTERVAL.search(part))


def times(value: float, base: float) -> str:
    """Return how many times smaller or larger an exact positive size is than its base."""
    if value == base:
        return "unchanged"
    ratio, word = (base / value, "smaller") if value < base else (value / base, "larger")
    if ratio < 1.005:
        return f"about{SPACE}equal"
    return f"{ratio:.2f}{SPACE}\N{MULTIPLICATION SIGN}{SPACE}{word}"


def pace(ratio: float) -> str:
    """Return a ratio of latencies; differences below 5 % are not called faster or slower."""
    if max(ratio, 1 / ratio) < _NOISE:
        return f"about{SPACE}the{SPACE}same ({ratio:.2f}{SPACE}\N{MULTIPLICATION SIGN})"
    factor, word = (1 / ratio, "faster") if ratio < 1 else (ratio, "slower")
    return f"{factor:.2f}{SPACE}\N{MULTIPLICATION SIGN}{SPACE}{word}"
