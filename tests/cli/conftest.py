"""Calls of the command line, in this process and in another one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from shrinkproof import cli


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Call = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns, no GPU, and nothing of the caller's settings."""
    for name in [n for n in os.environ if n.startswith("SHRINKPROOF_")]:
        monkeypatch.delenv(name)
    for name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("SHRINKPROOF_COMPRESS_DEVICE", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process."""

    def call(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        found = capfd.readouterr()
        return Outcome(code, found.out, found.err)

    return call


@pytest.fixture
def spawn() -> Call:
    """Run a command in a process of its own, its output going into pipes."""

    def spawn(*arguments: str | Path) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "shrinkproof", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return spawn


@pytest.fixture
def half_run(run_copy: Path) -> Path:
    """A run without one of its recipes, and without half the cells of another."""
    import shutil

    from shrinkproof.results import Results

    found = Results.load(run_copy)
    keys = {candidate.label: candidate.key for candidate in found.candidates}
    shutil.rmtree(run_copy / "candidates" / keys["net/prune0.8"])
    cells = [c.key for c in found.cells if c.candidate == keys["net/prune0.8"]]
    cells += [c.key for c in found.cells if c.candidate == keys["net/cluster8"]][:5]
    for key in cells:
        (run_copy / "cells" / f"{key}.jsonl").unlink()
    return run_copy
