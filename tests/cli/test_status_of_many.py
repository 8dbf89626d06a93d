"""What ``status`` prints of a run in which many candidates lack cells."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from shrinkproof.cli.tables import print_status


def lines_of(count: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed where so many candidates lack three cells each."""
    results = SimpleNamespace(
        progress={
            "prepared": count,
            "candidates": count,
            "done": 0,
            "cells": 3 * count,
            "failed": 0,
            "missing": 3 * count,
        },
        failures=(),
        by_key={},
        spec=SimpleNamespace(scale_note=""),
        store=SimpleNamespace(in_progress=lambda wanted: []),
        missing={f"net/r{number}": 3 for number in range(count)},
    )
    print_status(results)  # type: ignore[arg-type]  # the parts of results that are read
    return capsys.readouterr().out.splitlines()


def test_fifty_candidates_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(50, capsys)
    assert lines[1:51] == [f"missing: net/r{number}: 3 cell(s)" for number in range(50)]
    assert lines[51:] == ["Run the same command again: it does what is missing."]


def test_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(1_340, capsys)
    assert lines[51] == "missing: 1290 more candidates: 3870 cell(s); --csv lists all"
    assert len(lines) == 53
