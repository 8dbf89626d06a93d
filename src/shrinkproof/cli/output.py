"""JSON and CSV on the standard output, in documented forms."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import typer

VERSION: Final = 1
"""Raise it when a key of a printed object changes its meaning or goes away."""


def print_json(**values: Any) -> None:
    """Print one JSON object on one line; NaN and infinities are refused, they are not JSON."""
    typer.echo(json.dumps({"version": VERSION, **values}, allow_nan=False))


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Print rows with a header; what has no value is an empty field.

    Args:
        rows: of the same columns each.
        columns: the header where there may be no row.
    """
    names = list(columns) or list(rows[0]) if rows or columns else []
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
