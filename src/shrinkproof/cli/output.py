"""JSON on the standard output: one documented object with the version of its form."""

from __future__ import annotations

import json
from typing import Any, Final

import typer

VERSION: Final = 1
"""Raise it when a key of a printed object changes its meaning or goes away."""


def print_json(**values: Any) -> None:
    """Print one JSON object on one line; NaN and infinities are refused, they are not JSON."""
    typer.echo(json.dumps({"version": VERSION, **values}, allow_nan=False))
