"""What was measured, as a small table that others can read and `import` takes."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shrinkproof.errors import UsageError
from shrinkproof.records import Condition, Json, Record
from shrinkproof.results.recording import measured_records

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

TIDY_COLUMNS: Final = (
    *("study", "model", "variant", "split", "condition", "metric"),
    *("value", "low", "high", "count", "unit", "note"),
)
"""Columns of `tidy_rows`, those of the tidy layout of imported tables and the study's name."""

_SIMULATED: Final = {"simulated": "simulated arithmetic, not the deployed file"}
"""Basis -> what a reader must know of a number."""

_CONTROL: Final = "control."
_DENSE: Final = "dense-"
"""How a control is called where nothing tells a control from a recipe."""


def write_tidy(results: Results, path: Path, metrics: Sequence[str] = ()) -> Path:
    """Write `tidy_rows` as CSV and return the path; equal rows make equal files.

    Args:
        results: the run.
        path: ends in ``.csv``, or in ``.csv.gz`` to be compressed.
        metrics: names of those that are wanted; all where empty.

    Raises:
        UsageError: another ending, or a metric was not measured.
        StoreError: the file cannot be written.
    """
    if not path.name.endswith((".csv", ".csv.gz")):
        raise UsageError(f"--tidy: the file must end in .csv or .csv.gz, got {path.name!r}")
    text = io.StringIO()
    writer = csv.DictWriter(text, TIDY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tidy_rows(results, metrics))
    content = text.getvalue().encode("utf-8")
    results.store.write_bytes(
        path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content
    )
    return path


def tidy_rows(results: Results, metrics: Sequence[str] = ()) -> Iterator[Json]:
    """Yield a row per number that was measured on all images of the printed split, and per cost.

    Derived numbers are left out: whoever reads the table computes them again. Values have six
    significant digits. A further training is a variant with its number, ``int8#1``; a control
    is called ``dense-`` and its name.

    Args:
        results: the run.
        metrics: names of those that are wanted; all where empty.

    Raises:
        UsageError: a metric was not measured.
    """
    found = [record for record in measured_records(results) if _is_printed(results, record)]
    known = sorted({record.metric for record in found})
    for name in metrics:
        if name not in known:
            raise UsageError(f"--metric: must be one of {', '.join(known)}, got {name!r}")
    for record in found:
        if not metrics or record.metric in metrics:
            yield dict(zip(TIDY_COLUMNS, _cells(record), strict=True))


def _is_printed(results: Results, record: Record) -> bool:
    """Return whether tables print a record; heat maps are printed in the only form they have."""
    return (
        record.value is not None
        and not record.slice
        and record.evaluator != "fidelity"
        and record.split in ("", results.printing)
        and (record.evaluator == "saliency" or record.form in ("", results.form))
    )


def _cells(record: Record) -> tuple[object, ...]:
    name = record.recipe
    if name.startswith(_CONTROL):
        name = _DENSE + name.removeprefix(_CONTROL)
    return (
        record.study,
        record.model,
        name + (f"#{record.repeat}" if record.repeat else ""),
        record.split,
        str(Condition(record.condition, record.severity)) if record.condition else "",
        record.metric,
        *(None if x is None else f"{x:.6g}" for x in (record.value, record.low, record.high)),
        record.count,
        record.unit,
        "; ".join(text for text in (_SIMULATED.get(record.basis), record.reason) if text),
    )
