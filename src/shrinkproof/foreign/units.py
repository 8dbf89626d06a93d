"""Units of foreign numbers, and what the name of a column says about metric and unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shrinkproof.errors import UsageError
from shrinkproof.metrics.names import known_metric

FOREIGN: Final = "foreign."
"""Starts the names of numbers that we neither compute nor know."""

UNITS: Final[Mapping[str, tuple[str, float]]] = {
    "percent": ("fraction", 0.01),
    "pct": ("fraction", 0.01),
    "%": ("fraction", 0.01),
    "fraction": ("fraction", 1.0),
    "ratio": ("ratio", 1.0),
    "nat": ("nat", 1.0),
    "count": ("count", 1.0),
    "s": ("seconds", 1.0),
    "sec": ("seconds", 1.0),
    "seconds": ("seconds", 1.0),
    "ms": ("seconds", 1e-3),
    "us": ("seconds", 1e-6),
    "b": ("bytes", 1.0),
    "bytes": ("bytes", 1.0),
    "kb": ("bytes", 1e3),
    "mb": ("bytes", 1e6),
    "gb": ("bytes", 1e9),
    "kib": ("bytes", 2.0**10),
    "mib": ("bytes", 2.0**20),
    "gib": ("bytes", 2.0**30),
}
"""Unit of a file -> our unit, and what to multiply by."""

_SUMMARY: Final[Mapping[str, str]] = {
    "accuracy": "accuracy.top1",
    "compression_ratio": "cost.compression_ratio_zip",
    "zip": "cost.bytes_zip",
    "zip_size": "cost.bytes_zip",
    "size_zip": "cost.bytes_zip",
    "size": "cost.bytes",
    "file": "cost.bytes",
    "file_size": "cost.bytes",
    "model_size": "cost.bytes",
    "parameters": "cost.parameters",
    "params": "cost.parameters",
    "macs": "cost.macs",
    "latency_median": "cost.latency_median",
    "latency_p50": "cost.latency_median",
    "latency_p95": "cost.latency_p95",
    "memory_peak": "cost.memory_peak",
}
"""Columns of a summary, without their unit -> metric. A column ``mce`` is no such metric: ours is
computed from the errors."""

RELATIVE: Final = ("mce", "relative_mce")
"""Numbers relative to a reference, as ratio or in percent; the values must tell."""

_LOWER: Final = re.compile(r"(^|_)(mce|error|latency|time|energy|size|memory|loss|ece)(_|$)")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a column of numbers is.

    Attributes:
        metric: name of the metric.
        unit: our unit.
        better: ``higher``, ``lower`` or ``none``.
        factor: what a cell is multiplied by; None where the values must tell.
        note: what a reader must know; empty for nothing.
    """

    metric: str
    unit: str
    better: str
    factor: float | None = 1.0
    note: str = ""


def meaning_of(column: str) -> Meaning:
    """Return what the name of a column says: ``zip_mib``, ``latency_p90_s_raspberry_pi4``.

    A mapping may have put a metric there, with its unit after a colon: ``cost.bytes_zip:MiB``.

    Raises:
        UsageError: a metric has an unknown unit, or one that does not fit.
    """
    name, _, unit = column.partition(":")
    if "." in name:
        return stated(name, unit)
    words = column.split("_")
    is_bare = column in _SUMMARY or column in RELATIVE
    units = [i for i, word in enumerate(words) if i and word in UNITS and not is_bare]
    place = units[0] if units else None
    unit, device = "", ""
    if place is not None:
        unit, device = words[place], "_".join(words[place + 1 :])
        name = "_".join(words[:place])
    note = f"on {device}" if device else ""
    metric = _SUMMARY.get(name)
    if metric is None:
        return _unknown(f"{name}_{device}" if device else name, unit, note)
    known = known_metric(metric)
    assert known is not None, "the table holds known names"
    if unit and UNITS[unit][0] != known.unit:
        return _unknown(column, "", "")
    needs_unit = known.unit in ("fraction", "bytes", "seconds") and not unit
    factor = None if needs_unit else UNITS[unit][1] if unit else 1.0
    return Meaning(metric, known.unit, known.better.value, factor, note)


def stated(name: str, unit: str = "") -> Meaning:
    """Return what the name of a metric says, with the unit that its values are written in.

    Raises:
        UsageError: the metric or the unit is unknown, or they do not fit.
    """
    unit = unit.lower()
    if unit and unit not in UNITS:
        raise UsageError(f"unit of {name}: must be one of {', '.join(UNITS)}, got {unit!r}")
    ours, factor = UNITS[unit] if unit else ("", 1.0)
    if name.startswith(FOREIGN):
        return Meaning(name, ours or "ratio", _direction(name), factor)
    known = known_metric(name)
    if known is None:
        raise UsageError(
            f"{name}: must be a metric of shrinkproof, got an unknown name; write "
            f"{FOREIGN}{name.replace('.', '_')} for a number of your own"
        )
    if ours and ours != known.unit:
        raise UsageError(f"unit of {name}: must be a unit of {known.unit}, got {unit!r}")
    return Meaning(name, known.unit, known.better.value, factor)


def _unknown(name: str, unit: str, note: str) -> Meaning:
    ours, factor = UNITS[unit] if unit else ("ratio", 1.0)
    if name in RELATIVE:
        return Meaning(FOREIGN + name, "ratio", "lower", factor if unit else None, note)
    return Meaning(FOREIGN + name, ours, _direction(name), factor, note)


def _direction(name: str) -> str:
    return "lower" if _LOWER.search(name.removeprefix(FOREIGN)) else "none"
