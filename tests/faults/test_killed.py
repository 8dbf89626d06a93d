"""SIGKILL at random moments: nothing finished is lost, and the records are those of a calm run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from .runs import Running, again, assert_repaired, command, file_of, finished, needs_proc

pytestmark = [pytest.mark.slow, needs_proc]

MANY = [pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 12)]


@pytest.mark.parametrize("seed", [0, *MANY])
def test_killed_driver(finished_run: Path, tmp_path: Path, seed: int) -> None:
    words = command(file_of(finished_run), run := tmp_path / "run")
    kept: dict[str, tuple[int, int]] = {}
    for moment in np.random.default_rng(seed).uniform(2.0, 12.0, 2):
        running = Running.start(words)
        _wait(running, moment)
        running.process.kill()
        running.process.wait()
        assert running.dies_out(seconds=60), "workers outlive their driver"
        now = finished(run)
        assert kept.items() <= now.items(), "finished work is lost or done again"
        kept = now
    last = Running.start(words)
    assert last.end() == 0, last.text
    assert_repaired(run, finished_run, kept)


@pytest.mark.parametrize("seed", [0, *MANY])
def test_killed_workers_cost_a_retry_only(finished_run: Path, tmp_path: Path, seed: int) -> None:
    running = Running.start(command(file_of(finished_run), run := tmp_path / "run"))
    rng = np.random.default_rng(seed)
    killed: list[int] = []
    while running.process.poll() is None and len(killed) < 2:
        _wait(running, rng.uniform(1.5, 4.0))
        living = running.workers()
        if living:
            killed.append(living[rng.integers(len(living))])
            os.kill(killed[-1], signal.SIGKILL)
    assert killed
    # Twice the same item is a failure, which the next run tries again.
    assert running.end() in (0, 1), running.text
    if running.process.returncode:
        assert "the worker process ended with exit code -9 2 times" in running.text
        kept = finished(run)
        assert Running.start(command(file_of(finished_run), run)).end() == 0
        assert_repaired(run, finished_run, kept)
    kept = finished(run)
    again(run)  # takes away the file that a worker was just writing
    assert_repaired(run, finished_run, kept)


def _wait(running: Running, seconds: float) -> None:
    """Wait, but not longer than the run goes on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and running.process.poll() is None:
        time.sleep(0.05)
