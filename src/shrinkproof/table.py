"""Records as tables: a tidy polars frame, and the numbers that selectors mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shrinkproof.metrics.robustness import CORRUPTED
from shrinkproof.records import COLUMNS, Condition, Record, label_of
from shrinkproof.selectors import Selector

if TYPE_CHECKING:
    import polars as pl

_NAMED: Final = 5
"""Conditions or parts that a reason names; the others are counted."""

_INTEGERS: Final = frozenset({"repeat", "severity", "count"})
_FLOATS: Final = frozenset({"value", "low", "high"})


def record_frame(records: Iterable[Record]) -> pl.DataFrame:
    """Return the records as a tidy frame, one row each, columns in `COLUMNS` order."""
    import polars as pl

    schema = {
        name: pl.Int64 if name in _INTEGERS else pl.Float64 if name in _FLOATS else pl.String
        for name in COLUMNS
    }
    rows = list(records)
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    return pl.DataFrame(columns, schema=schema)


@dataclass(frozen=True, slots=True)
class Number:
    """A value with its interval, or the reason why there is none.

    Attributes:
        value: the number, None where it is missing.
        low: lower end of the interval.
        high: upper end.
        reason: why there is no number, or its caveat.
        status: ``ok``, ``undefined``, ``failed``, ``contaminated`` or ``missing``.
        count: images behind it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    status: str = "missing"
    count: int = 0


class Numbers:
    """The records of a run, found by candidate, split and selector.

    Args:
        records: all records of a run, both forms.
        form: form in which candidates are measured; the other one only serves their agreement.
        conditions: all that the study wants; a mean over the severities of a corruption exists
            only where none of them is missing.
    """

    def __init__(
        self, records: Iterable[Record], form: str, conditions: Iterable[Condition]
    ) -> None:
        self._severities: dict[str, set[int]] = {}
        for condition in conditions:
            self._severities.setdefault(condition.corruption, set()).add(condition.severity)
        self._rows: dict[tuple[str, str, str, str], list[Record]] = {}
        for record in records:
            if record.evaluator == "scores" and record.form != form:
                continue
            label = label_of(record.model, record.recipe, record.repeat)
            key = (label, record.split, record.metric, record.slice)
            self._rows.setdefault(key, []).append(record)

    def find(self, label: str, split: str, selector: Selector) -> Number:
        """Return the number that a selector means for a candidate on a split."""
        places = dict.fromkeys((split, ""))  # costs are of no split, and count once
        found = [
            self._rows.get((label, place, selector.metric, selector.part), ()) for place in places
        ]
        every = [row for some in found for row in some]
        rows = [row for row in every if _matches(row, selector)]
        if selector.part and not every:
            return Number(None, reason=self._parts_of(label, places, selector))
        if not rows and selector.part and selector.condition == CORRUPTED:
            return self._over_all(every, selector, split)
        if not rows:
            return Number(None, reason=f"{selector} was not measured on {split}")
        if not selector.condition and len({(r.condition, r.severity) for r in rows}) > 1:
            example = Selector(selector.metric, rows[0].condition, part=selector.part)
            return Number(None, reason=f"{selector} needs a condition, for example {example}")
        direct = [row for row in rows if row.severity == selector.severity]
        if len(direct) == 1:
            return _number(direct[0])
        if selector.condition and not selector.severity:
            wanted = self._severities.get(selector.condition, set())
            missing = sorted(wanted - {row.severity for row in rows})
            if missing:
                levels = ", ".join(map(str, missing))
                return Number(None, reason=f"{selector}: severity {levels} is missing on {split}")
        return _mean(rows)

    def _over_all(self, rows: Sequence[Record], selector: Selector, split: str) -> Number:
        """Return the mean of a part of the images over all corrupted conditions of the study."""
        corrupted = [row for row in rows if row.severity]
        measured = {(row.condition, row.severity) for row in corrupted}
        missing = [
            str(Condition(name, level))
            for name, levels in self._severities.items()
            for level in sorted(levels - {0})
            if (name, level) not in measured
        ]
        if not corrupted or missing:
            rest = f" and {len(missing) - _NAMED} more" * (len(missing) > _NAMED)
            places = ", ".join(missing[:_NAMED]) + rest or "every condition"
            return Number(None, reason=f"{selector}: {places} is missing on {split}")
        return _mean(corrupted)

    def _parts_of(self, label: str, places: Iterable[str], selector: Selector) -> str:
        """Return that a part of the images does not exist, and which do."""
        known = {
            key[3]
            for key in self._rows
            if key[:3] in {(label, place, selector.metric) for place in places} and key[3]
        }
        column = selector.part.partition("=")[0]
        near = sorted(part for part in known if part.startswith(f"{column}=")) or sorted(known)
        rest = f" and {len(near) - _NAMED} more" * (len(near) > _NAMED)
        if not near:
            return f"{selector} was not measured on {next(iter(places))}"
        there = f"there are {', '.join(near[:_NAMED])}{rest}"
        return f"{selector} was not measured: no image is of {selector.part}; {there}"


def _matches(row: Record, selector: Selector) -> bool:
    if not selector.condition:
        return True
    if row.condition != selector.condition:
        return False
    return not selector.severity or row.severity == selector.severity


def _number(row: Record) -> Number:
    return Number(row.value, row.low, row.high, row.reason, row.status, row.count)


def _mean(rows: Sequence[Record]) -> Number:
    """Return the mean over severities; without an interval, as the rows share their images."""
    values = [row.value for row in rows]
    broken = next((row for row in rows if row.value is None), None)
    if broken is not None:
        return _number(broken)
    mean = sum(v for v in values if v is not None) / len(values)
    return Number(mean, reason=f"mean over {len(rows)} conditions", status=rows[0].status)
