"""The tidy table behind the page, by candidate, number and condition.

Where a number exists as ``twin`` and as ``artifact``, a candidate is shown in one form throughout:
the form in which the study measures if its quality was measured there, the other one if not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from shrinkproof import records
from shrinkproof.errors import UsageError
from shrinkproof.metrics.detection.names import MISS_RATE
from shrinkproof.metrics.names import CHANGE, bare_name, without_prefixes
from shrinkproof.records import COLUMNS
from shrinkproof.report import wording

Row = wording.Row
Place = tuple[str, int]
"""Condition and severity, as in the table."""


_USED: Final = (
    *("model", "recipe", "repeat", "form", "split", "slice", "condition", "severity", "metric"),
    *("value", "unit", "better", "low", "high", "count", "basis", "status", "reason"),
    "environment",
)
"""Columns that the page reads."""

_SLICED: Final = f"^(({CHANGE})?{MISS_RATE}$|{CHANGE}accuracy.recall$|saliency.)".replace(
    ".", "[.]"
)
"""Metrics of parts of the images that the page shows."""


def label_of(row: Row) -> str:
    """Return the label of the candidate a row belongs to."""
    return records.label_of(row["model"], row["recipe"], row["repeat"])


@dataclass(frozen=True, slots=True)
class Cell:
    """One number as the page prints it.

    Attributes:
        text: value with unit, or ``not measured``, ``undefined`` or ``failed``.
        interval: ``92.9 to 94.1``; empty where none is stated.
        note: what the reader must know about this number, or why it has no value; empty for
            nothing.
        state: ``ok``, ``contaminated``, ``undefined``, ``failed`` or ``absent``.
        verdict: ``better``, ``worse``, ``same`` or ``open`` for changes; empty otherwise.
        value: the number itself, in the table's unit, or None.
    """

    text: str
    interval: str = ""
    note: str = ""
    state: str = "ok"
    verdict: str = ""
    value: float | None = None


ABSENT = Cell(wording.NOT_MEASURED, state="absent")


def cell_of(row: Row | None) -> Cell:
    """Return how a row's value is printed; rows of changes are signed and judged."""
    if row is None:
        return ABSENT
    value = row["value"]
    if value is None:
        return Cell(row["status"], note=reason_of(row), state=row["status"])
    is_change = wording.is_change(row["metric"])
    show = wording.difference if is_change else wording.amount
    return Cell(
        show(row["metric"], row["unit"], value),
        interval=wording.span(row),
        note=row["reason"],
        state=row["status"],
        verdict=verdict_of(row) if is_change else "",
        value=value,
    )


def reason_of(row: Row) -> str:
    """Return why a row has no value, or must not be trusted."""
    return row["reason"] or "no reason was recorded"


def verdict_of(row: Row) -> str:
    """Return what a change means: an interval that covers zero shows no difference.

    Returns:
        ``better`` or ``worse`` where the interval excludes zero, ``same`` where it does not or
        where low, value and high are all zero, ``open`` where no interval or direction is stated.
    """
    low, high, better = row["low"], row["high"], row["better"]
    if low is None or high is None or better not in ("higher", "lower"):
        return "open"
    if low <= 0 <= high:
        return "same"
    return "better" if (low > 0) == (better == "higher") else "worse"


@dataclass(frozen=True, slots=True)
class Unusual:
    """Numbers of one candidate and metric that lack a value, or must not be trusted.

    Attributes:
        row: metric, status, reason, split, slice, form and candidate, which they share.
        places: where they belong.
    """

    row: Row
    places: tuple[Place, ...]


class Rows:
    """Rows of the table, indexed for the page.

    Args:
        table: tidy table with the columns of ``shrinkproof.records.COLUMNS``.
        quality: the metric that decides in which form a candidate is shown.
        printing: split whose numbers are printed.
        form: form in which the study measures; the other one only serves the agreement.
        detailed: metrics that are looked up at single severities, besides ``quality``.

    Raises:
        UsageError: a column is missing.
    """

    def __init__(
        self,
        table: pl.DataFrame,
        *,
        quality: str,
        printing: str = "report",
        form: str = "artifact",
        detailed: Collection[str] = (),
    ) -> None:
        missing = [column for column in COLUMNS if column not in table.columns]
        if missing:
            raise UsageError(
                f"records: the report needs the columns of every table of records, "
                f"{', '.join(missing)} missing; pass the tidy table unchanged"
            )
        self.quality = quality
        self.printing = printing
        self.printed = (printing, "")  # costs read no images and have no split
        self._index: dict[tuple[str, str, str, Place], list[Row]] = defaultdict(list)
        self._places: dict[str, dict[Place, None]] = defaultdict(dict)
        self._every: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self._units: dict[str, tuple[str, str]] = {}
        self._identity: dict[str, tuple[str, str, int]] = {}
        self.environments: dict[str, dict[str, None]] = defaultdict(dict)
        # Single severities are most of a table; only few metrics are ever looked up there.
        shown = [metric for name in (quality, *detailed) for metric in (name, CHANGE + name)]
        wanted = (pl.col("severity") == 0) | pl.col("metric").is_in(shown)
        for row in table.filter((pl.col("slice") == "") & wanted).select(_USED).to_dicts():
            self._add(row)
        self.form = {label: self._form(label, form) for label in {key[0] for key in self._index}}
        self.unusual = _unusual(table)
        self._sliced = table.filter(
            (pl.col("slice") != "")
            & (pl.col("split") == printing)
            & pl.col("metric").str.contains(_SLICED)
        ).select(_USED)

    def _add(self, row: dict[str, Any]) -> None:
        label, place = label_of(row), (row["condition"], row["severity"])
        self._index[label, row["split"], row["metric"], place].append(row)
        self._every[label, row["metric"]].append(row)
        self._identity[label] = (row["model"], row["recipe"], row["repeat"])
        self._units.setdefault(row["metric"], (row["unit"], row["better"]))
        if row["split"] in self.printed:
            self._places[row["metric"]][place] = None
        if row["metric"].startswith("cost.latency") and row["environment"]:
            self.environments[label][row["environment"]] = None

    def _form(self, label: str, wanted: str) -> str:
        rows = self._index.get((label, self.printing, self.quality, ("clean", 0)), [])
        forms = [row["form"] for row in rows if row["value"] is not None]
        return wanted if wanted in forms else forms[0] if forms else ""

    def find(
        self,
        label: str,
        metric: str,
        place: Place = ("", 0),
        splits: Sequence[str] = (),
    ) -> Row | None:
        """Return the row of a number in the candidate's form, or None if it was not measured.

        Without ``splits``, it is one of the printed numbers.
        """
        for split in splits or self.printed:
            rows = self._index.get((label, split, metric, place))
            if rows:
                wanted = self.form.get(label, "")
                return min(rows, key=lambda row: (row["form"] != wanted, row["form"]))
        return None

    def every(self, label: str, metric: str) -> Iterator[Row]:
        """Yield all rows of a metric, in every form, split and condition."""
        yield from self._every.get((label, metric), ())

    def places(self, metric: str) -> tuple[Place, ...]:
        """Return where a metric was reported, in the order of the table."""
        return tuple(self._places.get(metric, ()))

    def metrics(self) -> tuple[str, ...]:
        """Return all metrics of the table, in its order."""
        return tuple(self._units)

    def spelled(self, name: str) -> str:
        """Return how the table spells a metric, with its settings; the name where it has none."""
        known = (m for m in self._units if bare_name(m) == name and without_prefixes(m) == m)
        return name if name in self._units else next(known, name)

    def slices(self, label: str, metric: str, place: Place) -> dict[str, Row]:
        """Return the rows of a metric about parts of the images, by the part."""
        if label not in self._identity:
            return {}
        model, recipe, repeat = self._identity[label]
        found = self._sliced.filter(
            (pl.col("model") == model)
            & (pl.col("recipe") == recipe)
            & (pl.col("repeat") == repeat)
            & (pl.col("metric") == metric)
            & (pl.col("condition") == place[0])
            & (pl.col("severity") == place[1])
        ).to_dicts()
        wanted = self.form.get(label, "")
        found.sort(key=lambda row: row["form"] == wanted)  # the last one of a part is kept
        order = dict.fromkeys(row["slice"] for row in found)
        by_part = {row["slice"]: row for row in found}
        return {part: by_part[part] for part in order}

    def unit(self, metric: str) -> tuple[str, str]:
        """Return unit and better direction of a metric; empty strings where it is unknown."""
        return self._units.get(metric, ("", ""))


def _unusual(table: pl.DataFrame) -> list[Unusual]:
    """Return what lacks a value or must not be trusted, one item for all places of a metric."""
    shared = [
        *("metric", "status", "reason", "model", "recipe", "repeat"),
        *("split", "slice", "form"),
    ]
    found = (
        table.filter(pl.col("status") != "ok")
        .group_by(shared, maintain_order=True)
        .agg("condition", "severity")
        .to_dicts()
    )
    return [
        Unusual(row, tuple(zip(row.pop("condition"), row.pop("severity"), strict=True)))
        for row in found
    ]


def short_names(labels: Iterable[str]) -> Mapping[str, str]:
    """Return the labels without the model's name where all share one model."""
    labels = list(labels)
    models = {label.split("/", 1)[0] for label in labels}
    if len(models) > 1:
        return {label: label for label in labels}
    return {label: label.split("/", 1)[-1] for label in labels}
