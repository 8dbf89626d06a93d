"""Ctrl-C and termination of a real run with worker processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from shrinkproof.results import Results
from shrinkproof.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes"),
]


@dataclass
class Running:
    """A run in a session of its own, as a terminal starts it."""

    process: subprocess.Popen[bytes]
    text: str = ""

    def wait_for(self, words: str, *, seconds: float = 120) -> None:
        assert self.process.stderr is not None
        end = time.monotonic() + seconds
        while words not in self.text:
            ready, _, _ = select.select([self.process.stderr], [], [], end - time.monotonic())
            piece = os.read(self.process.stderr.fileno(), 65536) if ready else b""
            assert piece, f"{words!r} did not appear, only:\n{self.text}"
            self.text += piece.decode()

    def end(self, *, seconds: float) -> int:
        _, error = self.process.communicate(timeout=seconds)
        self.text += error.decode()
        return self.process.returncode

    def family(self) -> set[int]:
        """Processes of the session that live; a process waiting to be reaped does not."""
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it ended in between
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.add(int(stat.parent.name))
        return found

    def dies_out(self, *, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.family() and time.monotonic() < end:
            time.sleep(0.05)
        return not self.family()


def start(study: Path, run: Path) -> Running:
    command = [sys.executable, "-m", "shrinkproof", "run", str(study), "--out", str(run)]
    process = subprocess.Popen(
        [*command, "--engine", "processes", "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    return Running(process)


@pytest.mark.parametrize("moment", ["prepare: 5 to do", "measure: 1/8"])
def test_ctrl_c_ends_everything_and_the_next_run_completes(
    study_file: Path, tmp_path: Path, moment: str
) -> None:
    run = tmp_path / "run"
    running = start(study_file, run)
    running.wait_for(moment)
    time.sleep(0.05)  # workers have begun to import
    kept = Store(run).finished()
    os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does: to all of them
    assert running.end(seconds=15) == 130
    assert "what is finished is kept" in running.text
    assert "resource_tracker" not in running.text
    assert "Traceback" not in running.text
    assert running.dies_out(seconds=5)
    assert kept <= Store(run).finished()
    again = start(study_file, run)
    assert again.end(seconds=120) == 0
    assert Results.load(run).progress["missing"] == 0


def test_an_interrupt_of_the_driver_alone_ends_its_workers(
    study_file: Path, tmp_path: Path
) -> None:
    running = start(study_file, tmp_path / "run")
    running.wait_for("prepare: 2/5")
    os.kill(running.process.pid, signal.SIGINT)
    assert running.end(seconds=15) == 130
    assert "resource_tracker" not in running.text
    assert running.dies_out(seconds=5)


def test_a_terminated_run_leaves_neither_workers_nor_complaints(
    study_file: Path, tmp_path: Path
) -> None:
    running = start(study_file, tmp_path / "run")
    running.wait_for("prepare: 2/5")
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.end(seconds=60) == -signal.SIGTERM
    assert "resource_tracker" not in running.text
    assert running.dies_out(seconds=30)
