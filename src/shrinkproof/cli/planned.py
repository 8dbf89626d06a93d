"""What a study wants and what it will cost, on the terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape

from shrinkproof.cli.tables import console_of, empty_table

if TYPE_CHECKING:
    from rich.console import Console

    from shrinkproof.study.estimate import Estimate, Rates, Work
    from shrinkproof.study.plan import Plan

_NONE: Final = "-"

_UNITS: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
"""Bytes of each unit, the largest first."""

_TIMES: Final = ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min"))
"""Seconds of each unit, the largest first."""

_ENOUGH: Final = 1.5
"""How many of a unit there must be before it is taken."""

_PRECISE: Final = 10.0
"""From here on a number is printed without decimals."""


def spelled_bytes(size: float) -> str:
    """Return a size in the unit that leaves few digits."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{_few_digits(size / unit)} {name}"
    return f"{size:.0f} bytes"


def spelled_seconds(seconds: float) -> str:
    """Return a time in the unit that leaves few digits; an estimate has no more."""
    for unit, name in _TIMES:
        if seconds >= _ENOUGH * unit:
            return f"{_few_digits(seconds / unit)} {name}"
    return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"


def _few_digits(number: float) -> str:
    return f"{number:.0f}" if number >= _PRECISE else f"{number:.1f}"


def print_plan(plan: Plan, work: Work) -> None:
    """Print the candidates and the cells of a plan, and how much work they are."""
    console = console_of()
    table = empty_table("candidate", "role", "compared with", "cells", left=3)
    labels = {candidate.key: candidate.label for candidate in plan.candidates}
    cells = Counter(cell.candidate for cell in plan.cells)
    for candidate in plan.candidates:
        control = labels.get(candidate.control, _NONE)
        table.add_row(
            escape(candidate.label), candidate.role, escape(control), str(cells[candidate.key])
        )
    console.print(table)
    for name, split in plan.splits.items():
        console.print(f"{name}: {split['count']} images of {split['source']}", markup=False)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)
    for model, splits in plan.contamination.items():
        for name, reason in splits.items():
            console.print(f"contaminated: {model} on {name}: {reason}", markup=False)
    passes = {(c.split, c.condition) for c in plan.cells if c.evaluator == "scores"}
    console.print(
        f"{len(plan.candidates)} candidates, {len(plan.cells)} cells in {len(passes)} passes",
        markup=False,
    )
    for line in _work_lines(work):
        console.print(line, markup=False)


def _work_lines(work: Work) -> list[str]:
    """Return how much there is to do, in a few lines."""
    if work.is_done:
        return ["nothing is left to do"]
    parts = f", in {work.parts} parts" if work.parts > len(work.passes) else ""
    lines = [
        f"to do: {len(work.making)} candidates, {work.trained} of them trained on "
        f"{work.training:,} images in all; {work.missing} cells",
        f"{len(work.passes)} passes with {work.forwards:,} predictions of an image{parts}",
    ]
    written = work.predictions
    stored = "" if written is None else f"; {spelled_bytes(written)} of predictions are stored"
    lines.append(f"{spelled_bytes(work.read)} of pixels are read{stored}")
    return lines


def print_estimate(estimate: Estimate, rates: Rates) -> None:
    """Print what a study will cost, as far as a probe can tell."""
    console = console_of()
    console.print()
    table = empty_table("stage", "pieces", "lasts", "one worker", left=1)
    for stage in estimate.stages:
        table.add_row(
            stage.name,
            str(stage.items),
            spelled_seconds(stage.seconds),
            spelled_seconds(stage.work),
        )
    table.add_row("all", "", spelled_seconds(estimate.seconds), spelled_seconds(estimate.work))
    console.print(table)
    many = f"{estimate.workers} workers" if estimate.workers > 1 else "1 worker"
    console.print(
        f"\nEstimated for {many}, from {spelled_seconds(rates.seconds)} of measuring with "
        f"{rates.processes} on this machine; it may be wrong by a quarter.",
        markup=False,
    )
    _print_sizes(console, estimate)
    for note in estimate.notes:
        console.print(f"note: {note}", markup=False)


def _print_sizes(console: Console, estimate: Estimate) -> None:
    """Print memory and disk."""
    console.print(f"memory: {spelled_bytes(estimate.memory)} in each worker at most", markup=False)
    if estimate.disk:
        parts = ", ".join(f"{n} {spelled_bytes(size)}" for n, size in estimate.disk.items())
        whole = spelled_bytes(sum(estimate.disk.values()))
        console.print(f"disk: {whole} in the end ({parts})", markup=False)


def json_of(work: Work) -> dict[str, Any]:
    """Return how much there is to do, as plain JSON values."""
    return {
        "candidates": len(work.making),
        "trained": work.trained,
        "training_images": work.training,
        "cells": work.missing,
        "passes": len(work.passes),
        "parts": work.parts,
        "forwards": work.forwards,
        "bytes_read": work.read,
        "bytes_of_predictions": work.predictions,
    }
