"""Numbers and names in readers' words; the only place where fractions become percent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shrinkproof.summary import CHANGE, FROM_CONTROL

Row = Mapping[str, Any]
"""One row of the tidy table, by column name."""

SPACE: Final = "\N{NO-BREAK SPACE}"
MINUS: Final = "\N{MINUS SIGN}"
NOT_MEASURED: Final = "not measured"
_NOISE: Final = 1.05
"""Latencies closer than this factor are called about the same: the clock tells no more."""

_NAMES: Final = {
    "accuracy.top1": "Top-1 accuracy",
    "accuracy.nll": "Negative log-likelihood",
    "accuracy.brier": "Brier score",
    "accuracy.nll_scaled": "NLL after temperature scaling",
    "calibration.ece": "Calibration error (ECE)",
    "calibration.ece_equal_mass": "Calibration error, equal mass",
    "calibration.ece_scaled": "ECE after temperature scaling",
    "calibration.temperature": "Fitted temperature",
    "robustness.mean_error": "Mean corrupted error",
    "robustness.mce": "mCE",
    "fidelity.agreement": "Same class in file and PyTorch",
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
_PERCENT_RATIOS: Final = {"robustness.mce"}
_NOT_PERCENT: Final = {"accuracy.brier"}
_FINE: Final = ("calibration.", "fidelity.")
"""Families printed with two decimals of percent: 99.95 % must not become 100.0 %."""
_NOT_TIMES: Final = {"calibration.temperature"}
"""A ratio of no two measurements: printed without the sign of multiplication."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How numbers of one unit are printed: ``value * factor``, then the suffix."""

    factor: float
    suffix: str
    decimals: int


def metric_name(metric: str) -> str:
    """Return the reader's name of a metric; the metric's own name where it has none."""
    return _NAMES.get(metric, metric)


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
    words = {"": "", "clean": "clean images", "corrupted": "all corruptions"}
    name = words.get(condition, condition.replace("_", " "))
    return f"{name}, severity {severity}" if severity else name


def is_percent(metric: str, unit: str) -> bool:
    """Return whether a metric is printed in percent."""
    metric = bare(metric)
    return (unit == "fraction" and metric not in _NOT_PERCENT) or metric in _PERCENT_RATIOS


def scale(metric: str, unit: str, largest: float) -> Scale:
    """Return how to print a metric whose largest number is ``largest``."""
    metric = bare(metric)
    if is_percent(metric, unit):
        return Scale(100.0, f"{SPACE}%", 2 if metric.startswith(_FINE) else 1)
    if unit == "bytes":
        return _metric_prefix(largest, ((1e6, "MB"), (1e3, "kB"), (1.0, "B")))
    if unit == "count":
        return _metric_prefix(largest, ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")))
    if unit == "seconds":
        return Scale(1e3, f"{SPACE}ms", _decimals(largest * 1e3))
    if unit == "ratio" and metric not in _NOT_TIMES:
        return Scale(1.0, f"{SPACE}\N{MULTIPLICATION SIGN}", 2)
    return Scale(1.0, f"{SPACE}{unit}" if unit == "nat" else "", 2 if unit == "ratio" else 3)


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
    """Return a value with its unit: ``97.3 %``, ``1.24 MB``, ``8.31 ms``."""
    how = scale(metric, unit, abs(value))
    return number(value * how.factor, how.decimals) + how.suffix


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
