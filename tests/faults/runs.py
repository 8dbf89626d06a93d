"""Runs that are disturbed: started, watched, killed, run again, and compared with a calm one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from shrinkproof.engines.inline import Inline
from shrinkproof.protocols import Engine
from shrinkproof.results import Results
from shrinkproof.study import Inputs, Study

from ..study_builder import comparable

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="needs /proc to see processes"
)


class Told:
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.stages: dict[str, int] = {}
        self.warnings: list[str] = []
        self.seconds: list[float] = []

    def begin(self, stage: str, total: int) -> None:
        self.stages[stage] = total

    def watch(self, detail: object) -> None:
        pass

    def advance(self, label: str) -> None:
        pass

    def end(self, stage: str, seconds: float) -> None:
        self.seconds.append(seconds)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def study_of(run: Path) -> Study:
    return Study(Inputs.from_json(json.loads((run / "inputs.json").read_text())))


def again(run: Path, engine: Engine | None = None) -> Told:
    """Run what is missing and return what was told."""
    told = Told()
    study_of(run).run(run, engine=engine or Inline(), progress=told)
    return told


def shards_of(run: Path, evaluator: str = "scores", condition: str | None = None) -> list[Path]:
    """Files of the cells of an evaluator, in the order of the plan."""
    return [
        run / "cells" / f"{cell.key}.jsonl"
        for cell in Results.load(run).cells
        if cell.evaluator == evaluator and condition in (None, str(cell.condition))
    ]


def forget(run: Path, shards: Iterable[Path]) -> None:
    """Let cells be measured again."""
    for shard in shards:
        shard.unlink()
        shutil.rmtree(run / "predictions" / shard.stem, ignore_errors=True)


def finished(run: Path) -> dict[str, tuple[int, int]]:
    """What is finished: file of each cell and candidate -> who it is, and when it was written.

    Sizes that wait for those of their baseline are not.
    """
    files = [*run.glob("candidates/*/complete.json")]
    files += [
        f for f in run.glob("cells/*.jsonl") if b"baseline was not made" not in f.read_bytes()
    ]
    return {
        str(file.relative_to(run)): (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in files
        if not file.parent.name.startswith(".tmp-")
    }


def assert_repaired(run: Path, calm: Path, kept: dict[str, tuple[int, int]] | None = None) -> None:
    """Check that a run is complete, equal to a calm one, and has done nothing twice.

    Args:
        run: the disturbed run.
        calm: one without any disturbance.
        kept: what had been finished before the last run, which must not have been made again.
    """
    now = finished(run)
    again = {name for name, mark in (kept or {}).items() if now[name] != mark}
    assert again == set(), "finished work was done again"
    results = Results.load(run)
    assert [(f["label"], f["traceback"]) for f in results.failures] == []
    assert results.progress["missing"] == 0
    assert {p.stem for p in run.glob("cells/*")} == {cell.key for cell in results.cells}
    assert [str(p) for p in run.glob("**/.tmp-*")] == []
    assert comparable(run) == comparable(calm)


def command(study: Path, run: Path, *options: str, workers: int = 2) -> list[str]:
    """The command line that runs a study."""
    engine = ["--engine", "processes", "--workers", str(workers)] if workers else []
    start = [sys.executable, "-m", "shrinkproof", "run", str(study), "--out", str(run)]
    return [*start, *(engine or ["--engine", "inline"]), *options]


def file_of(calm: Path) -> Path:
    """The study file of the run without disturbance."""
    return calm.parent / "study" / "study.yaml"


STARTED: list[Running] = []
"""Runs of the test that goes on."""


@dataclass
class Running:
    """A run in a session of its own, as a terminal starts it."""

    process: subprocess.Popen[bytes]
    text: str = ""

    @classmethod
    def start(cls, words: Sequence[str]) -> Running:
        process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        running = cls(process)
        STARTED.append(running)
        return running

    def put_away(self) -> None:
        """Leave nothing running, whatever has become of the test."""
        for pid in self.family() - {self.process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def wait_for(self, words: str, *, seconds: float = 300) -> None:
        assert self.process.stderr is not None
        end = time.monotonic() + seconds
        while words not in self.text:
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self.process.stderr], [], [], left)
            piece = os.read(self.process.stderr.fileno(), 65536) if ready else b""
            assert piece, f"{words!r} did not appear, only:\n{self.text}"
            self.text += piece.decode()

    def end(self, *, seconds: float = 300) -> int:
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

    def workers(self) -> list[int]:
        """Processes of the session that work."""
        return sorted(pid for pid in self.family() if _is_worker(pid))

    def dies_out(self, *, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.family() and time.monotonic() < end:
            time.sleep(0.05)
        return not self.family()


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _has_own_mounts() -> bool:
    try:
        done = subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
        )
    except OSError:
        return False
    return done.returncode == 0


own_mounts = pytest.mark.skipif(
    not _has_own_mounts(), reason="needs the right to mount disks that only its processes see"
)
