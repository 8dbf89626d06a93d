"""Ctrl-C and the signals that end a run from outside: its workers end too, kept work is kept."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from shrinkproof.results import Results
from shrinkproof.store import Store

from .runs import Running, assert_repaired, command, file_of, finished, needs_proc

pytestmark = [pytest.mark.slow, needs_proc]


@pytest.fixture
def study(finished_run: Path) -> Path:
    return file_of(finished_run)


@pytest.mark.parametrize(
    "moment", [pytest.param("prepare: 5 to do", marks=pytest.mark.long), "measure: 1/8"]
)
def test_ctrl_c_ends_everything_and_the_next_run_completes(
    study: Path, finished_run: Path, tmp_path: Path, moment: str
) -> None:
    run = tmp_path / "run"
    running = Running.start(command(study, run))
    running.wait_for(moment)
    time.sleep(0.05)  # workers have begun to import
    kept = Store(run).finished()
    os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does: to all of them
    assert running.end(seconds=60) == 130
    assert "what is finished is kept" in running.text
    assert "resource_tracker" not in running.text
    assert "Traceback" not in running.text
    assert running.dies_out(seconds=30)
    assert kept <= Store(run).finished()
    marks = finished(run)
    assert Running.start(command(study, run)).end() == 0
    assert Results.load(run).progress["missing"] == 0
    assert_repaired(run, finished_run, marks)


@pytest.mark.long
def test_ctrl_c_twice_ends_no_worse(study: Path, tmp_path: Path) -> None:
    running = Running.start(command(study, tmp_path / "run"))
    running.wait_for("prepare: 2/5")
    for _ in range(2):
        os.killpg(running.process.pid, signal.SIGINT)
        time.sleep(0.02)
    assert running.end(seconds=60) == 130
    assert "what is finished is kept" in running.text
    assert running.dies_out(seconds=30)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        signal.SIGTERM,
        pytest.param(signal.SIGHUP, marks=pytest.mark.long),
    ],
)
def test_a_signal_to_the_driver_alone_ends_its_workers(
    study: Path, tmp_path: Path, number: signal.Signals
) -> None:
    running = Running.start(command(study, tmp_path / "run"))
    running.wait_for("prepare: 2/5")
    os.kill(running.process.pid, number)
    assert running.end(seconds=60) == 128 + number
    assert "what is finished is kept, run the same command again" in running.text
    assert "resource_tracker" not in running.text
    assert "Traceback" not in running.text
    assert running.dies_out(seconds=30)
    assert not list(tmp_path.glob("run/cells/.tmp-*"))


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_the_end_of_a_time_limit_is_taken_up_by_the_next_run(
    study: Path, finished_run: Path, tmp_path: Path, workers: int
) -> None:
    """Slurm sends SIGTERM to all processes of a job at once."""
    run = tmp_path / "run"
    running = Running.start(command(study, run, workers=workers))
    running.wait_for("measure: 2/8")
    os.killpg(running.process.pid, signal.SIGTERM)
    assert running.end(seconds=60) == 143, running.text
    assert "ended by SIGTERM; what is finished is kept" in running.text
    assert "Traceback" not in running.text
    assert running.dies_out(seconds=30)
    kept = finished(run)
    assert kept
    assert Running.start(command(study, run, workers=workers)).end() == 0
    assert_repaired(run, finished_run, kept)


@pytest.mark.long
def test_a_terminal_that_closes_does_not_end_what_ignores_it(study: Path, tmp_path: Path) -> None:
    words = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command(study, tmp_path / "run")]
    running = Running.start([*words, "--only", "*/baseline"])
    running.wait_for("prepare: 1 to do")
    os.killpg(running.process.pid, signal.SIGHUP)
    assert running.end(seconds=120) == 0, running.text
