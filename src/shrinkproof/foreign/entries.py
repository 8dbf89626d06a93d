"""What a table of foreign results says: one entry per number, whatever the layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.errors import DataError, UnknownNameError, UsageError
from shrinkproof.foreign.sheet import IGNORE, Row, Sheet, normalized
from shrinkproof.foreign.units import FOREIGN, RELATIVE, UNITS, Meaning, meaning_of, stated
from shrinkproof.metrics.names import PREFIXES, known_metric
from shrinkproof.records import CLEAN, Condition

Layout = Literal["conditions", "summary", "tidy"]
Scale = Literal["auto", "percent", "fraction"]

ACCURACY: Final = "accuracy.top1"

ON_FRONT: Final = f"{FOREIGN}on_published_front"
"""1 for a candidate that others have on their front, else 0."""

NO_INTERVAL: Final = "measured elsewhere; no per-image data"
"""Why foreign numbers have no interval of ours."""

LAYOUTS: Final[Mapping[Layout, str]] = {
    "conditions": "[dataset], model, variant, corruption, severity, error or accuracy",
    "summary": "[dataset], model, variant, and columns of numbers such as accuracy_percent, "
    "compression_ratio, zip_mib, latency_p95_ms",
    "tidy": "[dataset], model, variant, [split], condition (or corruption and severity), metric, "
    "value, [low, high, count, unit, note]",
}
"""The layouts we know, by their columns; any order, those in brackets may be missing."""

_WORDS: Final = ("clean", "none", "original", "uncorrupted", "natural")
"""How tables call images that nothing was done to."""

_SHORT: Final[Mapping[str, str]] = {
    "defocus": "defocus_blur",
    "glass": "glass_blur",
    "motion": "motion_blur",
    "zoom": "zoom_blur",
    "gaussian": "gaussian_noise",
    "shot": "shot_noise",
    "impulse": "impulse_noise",
    "elastic": "elastic_transform",
    "jpeg": "jpeg_compression",
    "pixel": "pixelate",
    "bright": "brightness",
}

_ABOUT: Final = ("dataset", "model", "variant", "split", "group", "condition", "corruption")
_STATED: Final = ("on_published_pareto_front", "on_pareto_front", "pareto")
"""Columns that say who is on the front of others."""

_SPLITS: Final[Mapping[str, str]] = {"test": "report", "val": "select", "validation": "select"}
"""Other words for our splits."""

_COMPUTED: Final = ("robustness.", "flips.", "fidelity.", *(p.text for p in PREFIXES))

_TIDY: Final = ("metric", "value", "low", "high", "count", "unit", "note")

_PERCENT_RATIO: Final = 10
"""An mCE above 10 times the reference's errors is a percentage."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One number of a table.

    Attributes:
        dataset: name of the data set; empty where the table has none.
        model: name of the network.
        variant: name of what was done to it.
        split: ``report`` or ``select``.
        condition: of the images; None for a number that needs none.
        metric: its name.
        value: the number, in our unit.
        unit: our unit.
        better: ``higher``, ``lower`` or ``none``.
        place: file and line.
        low: lower end of a published interval.
        high: upper end.
        count: images behind it; 0 where nobody says.
        note: what a reader must know.
    """

    dataset: str
    model: str
    variant: str
    split: str
    condition: Condition | None
    metric: str
    value: float
    unit: str
    better: str
    place: str
    low: float | None = None
    high: float | None = None
    count: int = 0
    note: str = ""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.place.rpartition(":")[0]


def layout_of(sheet: Sheet) -> Layout:
    """Return the layout that the header of a table shows.

    Raises:
        DataError: none; the message lists what was found and what is known.
    """
    columns = set(sheet.columns)
    if {"model", "variant"} <= columns:
        if {"metric", "value"} <= columns:
            return "tidy"
        has_place = "condition" in columns or {"corruption", "severity"} <= columns
        if has_place and any(_error_column(column) for column in columns):
            return "conditions"
        if "corruption" not in columns and any(_numbers(sheet)):
            return "summary"
    known = "".join(f"\n  {name}: {text}" for name, text in LAYOUTS.items())
    raise DataError(
        f"{sheet.name}:1: the header must be one of the known layouts, got "
        f"{', '.join(sheet.found)}.\nKnown layouts:{known}\n"
        "Say which column is which with --mapping, for example: --mapping network=model "
        "--mapping method=variant"
    )


def entries_of(sheet: Sheet, layout: Layout, scale: Scale, words: Mapping[str, str]) -> list[Entry]:
    """Return all numbers of a table.

    Args:
        sheet: the table.
        layout: how it is arranged.
        scale: how errors and accuracies are written; ``auto`` lets the values tell.
        words: further names of corruptions -> ours.

    Raises:
        DataError: a cell is wrong; the message has the line.
    """
    reading = {"conditions": _conditions, "summary": _summary, "tidy": _tidy}[layout]
    return list(reading(sheet, scale, words))


def ignored_columns(sheet: Sheet, layout: Layout) -> list[str]:
    """Return the columns that are not read, as the file calls them, but for names of groups."""
    if layout == "summary":
        used = {*_ABOUT, *_numbers(sheet), *_stated_fronts(sheet), IGNORE}
    elif layout == "conditions":
        used = {*_ABOUT, "severity", _errors_of(sheet), IGNORE}
    else:
        used = {*_ABOUT, "severity", *_TIDY, IGNORE}
    return [sheet.found[i] for i, column in enumerate(sheet.columns) if column not in used]


def _about(sheet: Sheet, row: Row) -> tuple[str, str, str, str]:
    found = []
    for column in ("dataset", "model", "variant"):
        text = row.cells.get(column, "")
        if not text and column in sheet.columns:
            raise DataError(
                f"{sheet.place(row)}: {sheet.original(column)} must not be empty; fill it in"
            )
        found.append(text)
    name = row.cells.get("split") or "report"
    split = _SPLITS.get(name.lower(), name)
    if split not in ("select", "report"):
        raise DataError(
            f"{sheet.place(row)}: split must be select or report, got {name!r}; leave the column "
            f"out with --mapping '{sheet.original('split')}={IGNORE}'"
        )
    return found[0], found[1], found[2], split


def _condition(sheet: Sheet, row: Row, words: Mapping[str, str]) -> Condition:
    """Return the condition of a row.

    Raises:
        DataError: it is none; the message has the line.
    """
    name, severity = row.cells.get("corruption", ""), row.cells.get("severity", "")
    if "condition" in sheet.columns:
        name, _, severity = row.cells["condition"].partition(":")
    corruption = _corruption(sheet, row, name, words)
    level = severity.removesuffix(".0") or "0"
    if level not in ("0", "1", "2", "3", "4", "5") or (corruption == "clean") != (level == "0"):
        raise DataError(
            f"{sheet.place(row)}: severity must be 1 to 5, and 0 only for clean, got "
            f"{severity!r} for {name!r}"
        )
    return CLEAN if corruption == "clean" else Condition(corruption, int(level))


def _corruption(sheet: Sheet, row: Row, name: str, words: Mapping[str, str]) -> str:
    plain = normalized(words.get(name, name))
    if plain in _WORDS:
        return "clean"
    plain = _SHORT.get(plain, plain)
    if plain not in CORRUPTIONS:
        problem = UnknownNameError("corruption", name, CORRUPTIONS)
        raise DataError(
            f"{sheet.place(row)}: {problem}; map it with --mapping '{name}=ours', or remove the row"
        )
    return plain


# per-condition errors


def _error_column(column: str) -> str:
    """Return ``error`` or ``accuracy`` for a column that holds one, with or without its unit."""
    name, _, unit = column.replace(":", "_").rpartition("_")
    found = name if unit in UNITS and UNITS[unit][0] == "fraction" else column
    return found if found in ("error", "accuracy") else ""


def _errors_of(sheet: Sheet) -> str:
    """Return the column of errors; that of accuracies where there is none."""
    found = [column for column in sheet.columns if _error_column(column)]
    return min(found, key=lambda column: _error_column(column) != "error")


def _conditions(sheet: Sheet, scale: Scale, words: Mapping[str, str]) -> Iterator[Entry]:
    column = _errors_of(sheet)
    kind = _error_column(column)
    unit = "" if column == kind else column[len(kind) + 1 :]
    factor = UNITS[unit][1] if unit else _factor(sheet, column, scale)
    for row in sheet.rows:
        dataset, model, variant, split = _about(sheet, row)
        share = _share(sheet, row, column, sheet.needed(row, column), factor)
        yield Entry(
            dataset,
            model,
            variant,
            split,
            _condition(sheet, row, words),
            ACCURACY,
            round(1 - share, 12) if kind == "error" else share,
            "fraction",
            "higher",
            sheet.place(row),
        )


def _share(sheet: Sheet, row: Row, column: str, value: float, factor: float) -> float:
    """Return a fraction, 0 to 1.

    Raises:
        DataError: it is out of range.
    """
    top = 1 if factor == 1 else 100
    if not 0 <= value <= top:
        how = "a fraction" if factor == 1 else "a percentage"
        raise DataError(
            f"{sheet.place(row)}: {sheet.original(column)} must be 0 to {top}, as the column is "
            f"read as {how}, got {value:g}; correct it, or state --scale percent or fraction"
        )
    return round(value * factor, 12)


def _factor(sheet: Sheet, column: str, scale: Scale) -> float:
    """Return what makes the values of a column fractions.

    The values tell: all are 0 to 1, or all are 0 or 1 to 100. Anything between is no evidence for
    either, and a wrong guess would be off by a factor of 100.

    Raises:
        DataError: they do not tell; the line is that of the value in the minority.
    """
    if column in sheet.percents:
        return 0.01
    if scale != "auto":
        return 0.01 if scale == "percent" else 1.0
    values = [(row, value) for row in sheet.rows if (value := sheet.number(row, column))]
    above = [(row, value) for row, value in values if value > 1]
    below = [(row, value) for row, value in values if value < 1]
    if above and below:
        row, value = min((above, below), key=len)[0]
        others = "at most 1" if value > 1 else "above 1"
        raise DataError(
            f"{sheet.place(row)}: {sheet.original(column)} must be fractions (0 to 1) in all rows "
            f"or percent in all rows, got {value:g} where most are {others}; correct it, or state "
            "--scale percent or --scale fraction"
        )
    return 0.01 if above else 1.0


# numbers per candidate


def _numbers(sheet: Sheet) -> list[str]:
    """Return the columns that hold numbers of a candidate."""
    return [
        column
        for column in sheet.columns
        if column not in (*_ABOUT, *_STATED, "severity", IGNORE) and sheet.is_numeric(column)
    ]


def _stated_fronts(sheet: Sheet) -> list[str]:
    """Return the columns of 0 and 1 that say who is on the front of others."""
    return [
        column
        for column in _STATED
        if column in sheet.columns and {row.cells[column] for row in sheet.rows} <= {"0", "1"}
    ]


def _summary(sheet: Sheet, scale: Scale, words: Mapping[str, str]) -> Iterator[Entry]:
    del words  # a summary names no corruptions
    columns = [(column, *_column(sheet, column, scale)) for column in _numbers(sheet)]
    for row in sheet.rows:
        dataset, model, variant, split = _about(sheet, row)
        for column in _stated_fronts(sheet)[:1]:
            on = float(row.cells[column])
            yield Entry(
                *(dataset, model, variant, split, None),
                *(ON_FRONT, on, "count", "none", sheet.place(row)),
            )
        for column, meaning, factor in columns:
            raw = sheet.number(row, column)
            if raw is None:
                continue
            known = known_metric(meaning.metric)
            value = round(raw * factor, 12)
            if meaning.unit == "fraction" and known is not None:
                value = _share(sheet, row, column, raw, factor)
            if column == "error":
                value = round(1 - value, 12)
            elif value < 0 and known is not None:
                raise DataError(
                    f"{sheet.place(row)}: {sheet.original(column)} must not be negative, got "
                    f"{raw:g}"
                )
            at_condition = known is not None and known.per_condition
            yield Entry(
                dataset,
                model,
                variant,
                split,
                CLEAN if at_condition else None,
                meaning.metric,
                value,
                meaning.unit,
                meaning.better,
                sheet.place(row),
                note="; ".join(t for t in (f"column {sheet.original(column)}", meaning.note) if t),
            )


def _column(sheet: Sheet, column: str, scale: Scale) -> tuple[Meaning, float]:
    """Return what a column is, and what its cells are multiplied by.

    Raises:
        DataError: the column needs a unit that nobody gives, or holds what we compute.
    """
    if _error_column(column) == "error":
        meaning = meaning_of(column.replace("error", "accuracy", 1))
    else:
        try:
            meaning = meaning_of(column)
        except UsageError as error:
            raise DataError(f"{sheet.name}:1: {error}") from error
    _refuse_computed(f"{sheet.name}:1", meaning.metric)
    if column in sheet.percents and meaning.unit in ("fraction", "ratio"):
        return meaning, 0.01
    if meaning.factor is not None:
        return meaning, meaning.factor
    if meaning.metric.removeprefix(FOREIGN) in RELATIVE:
        top = max(sheet.number(row, column) or 0.0 for row in sheet.rows)
        return meaning, 0.01 if top > _PERCENT_RATIO else 1.0
    if meaning.unit == "fraction":
        return meaning, _factor(sheet, column, scale)
    fitting = [name for name, (ours, _) in UNITS.items() if ours == meaning.unit]
    raise DataError(
        f"{sheet.name}:1: {sheet.original(column)} must state its unit, got none; rename it, or "
        f"write --mapping '{sheet.original(column)}={meaning.metric}:{fitting[-1]}' (one of "
        f"{', '.join(fitting)})"
    )


def _refuse_computed(place: str, metric: str) -> None:
    if metric.startswith(_COMPUTED):
        raise DataError(
            f"{place}: {metric} must be computed here, from the errors under each condition; keep "
            f"a published one as {FOREIGN}{metric.rpartition('.')[2]}"
        )


# one number per row


def _tidy(sheet: Sheet, scale: Scale, words: Mapping[str, str]) -> Iterator[Entry]:
    for row in sheet.rows:
        dataset, model, variant, split = _about(sheet, row)
        name, unit = row.cells["metric"], row.cells.get("unit", "")
        is_error = name in ("error", "top1_error")
        spelled = ACCURACY if is_error else name
        try:
            meaning = stated(spelled, unit)
        except UsageError as error:
            raise DataError(f"{sheet.place(row)}: {error}") from error
        _refuse_computed(sheet.place(row), meaning.metric)
        factor = 1.0 if meaning.factor is None else meaning.factor
        if meaning.metric == ACCURACY and not unit:
            factor = 0.01 if scale == "percent" or "value" in sheet.percents else 1.0
        value, low, high = (
            _scaled(sheet, row, column, factor, meaning) for column in ("value", "low", "high")
        )
        if value is None:
            raise DataError(f"{sheet.place(row)}: value must be a number, got an empty cell")
        if is_error:
            value, low, high = (
                None if end is None else round(1 - end, 12) for end in (value, high, low)
            )
        assert value is not None, "it was checked before"
        count = sheet.number(row, "count") if "count" in sheet.columns else None
        yield Entry(
            dataset,
            model,
            variant,
            split,
            _tidy_condition(sheet, row, words, meaning.metric),
            meaning.metric,
            value,
            meaning.unit,
            meaning.better,
            sheet.place(row),
            low,
            high,
            int(count or 0),
            row.cells.get("note", ""),
        )


def _scaled(sheet: Sheet, row: Row, column: str, factor: float, meaning: Meaning) -> float | None:
    raw = sheet.number(row, column) if column in sheet.columns else None
    if raw is None:
        return None
    if meaning.metric == ACCURACY:
        return _share(sheet, row, column, raw, factor)
    return round(raw * factor, 12)


def _tidy_condition(
    sheet: Sheet, row: Row, words: Mapping[str, str], metric: str
) -> Condition | None:
    known = known_metric(metric)
    has_place = any(row.cells.get(column) for column in ("condition", "corruption"))
    if known is not None and not known.per_condition:
        return None
    if not has_place and known is not None:
        raise DataError(
            f"{sheet.place(row)}: {metric} must have a condition, got none; write clean, or for "
            "example fog:3"
        )
    return _condition(sheet, row, words) if has_place else None
