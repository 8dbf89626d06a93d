"""The tables that da Silva et al. 2025 published, as fractions and with our names of methods."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Final

TABLE: Final = "dasilva2025.csv"
"""Our transcription: means over corruptions and ratios from the authors' published results, one row
for each data set, network and variant; `shrinkproof import` reads it, too."""

ORIGINAL: Final = "original"

_PARTS: Final[Mapping[str, str]] = {"p50": "prune", "c16": "cluster"}
"""Published part of a variant -> ours."""
_PERCENT: Final = frozenset({"accuracy_percent", "mean_error_percent", "mce", "relative_mce"})
_FRONT: Final = "on_published_pareto_front"

Row = tuple[str, str, str]
"""Data, network, method."""


def method_of(variant: str) -> str:
    """Return our name of a published variant: ``p50+c16+int8`` is ``prune+cluster+int8``."""
    return "+".join(_PARTS.get(part, part) for part in variant.split("+"))


@cache
def published_rows() -> Mapping[Row, Mapping[str, float]]:
    """Return (data, network, method) -> published column -> value; percent become fractions."""
    text = (files(__package__) / TABLE).read_text("utf-8")
    found: dict[Row, Mapping[str, float]] = {}
    for row in csv.DictReader(text.splitlines()):
        key = (row.pop("dataset"), row.pop("model"), method_of(row.pop("variant")))
        found[key] = {name: _value(name, cell) for name, cell in row.items()}
    return found


def published_column(name: str, column: str) -> Mapping[Row, Mapping[str, float]]:
    """Return (data, network, method) -> {column: value} of one published column.

    Args:
        name: of the column in the file.
        column: how a claim calls it.
    """
    return {key: {column: row[name]} for key, row in published_rows().items()}


def published_front() -> Mapping[str, tuple[str, ...]]:
    """Return data -> ``network/method`` of the published members of the front."""
    return _by_data(key for key, row in published_rows().items() if row[_FRONT])


def published_count(value: float) -> Mapping[str, tuple[int, int]]:
    """Return data -> how many compressed variants have at most this mCE, and of how many."""
    rows = {key: row for key, row in published_rows().items() if key[2] != ORIGINAL}
    every = _by_data(rows)
    some = _by_data(key for key, row in rows.items() if row["mce"] <= value)
    return {data: (len(some.get(data, ())), len(members)) for data, members in every.items()}


def _by_data(keys: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for data, network, method in keys:
        found[data] = (*found.get(data, ()), f"{network}/{method}")
    return found


def _value(name: str, cell: str) -> float:
    # Rounded, so that 100.0 percent of the reference is 1 and not a bit more.
    return round(float(cell) / 100, 6) if name in _PERCENT else float(cell)
