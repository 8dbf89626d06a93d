"""SIGKILL at random moments: nothing finished is lost, and the records are those of a calm run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.results import Results

from ..study_builder import comparable


def start(study: Path, run: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "shrinkproof", "run", str(study), "--out", str(run)]
    command += ["--engine", "processes", "--workers", str(workers)]
    with run.with_suffix(".log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def finish(study: Path, run: Path) -> None:
    code = start(study, run, workers=2).wait(timeout=300)
    assert code == 0, run.with_suffix(".log").read_text()


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_driver(finished_run: Path, tmp_path: Path, seed: int) -> None:
    study, run = finished_run.parent / "study" / "study.yaml", tmp_path / "run"
    moments = np.random.default_rng(seed).uniform(2.0, 12.0, 2)
    finished: set[str] = set()
    for moment in moments:
        process = start(study, run, workers=2)
        deadline = time.monotonic() + moment
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = {p.name for p in (run / "cells").glob("*.jsonl")} if run.exists() else set()
        assert finished <= now
        finished = now
    finish(study, run)
    assert comparable(run) == comparable(finished_run)
    assert Results.load(run).progress["missing"] == 0


@pytest.mark.slow
def test_killed_workers_cost_a_retry_only(finished_run: Path, tmp_path: Path) -> None:
    study, run = finished_run.parent / "study" / "study.yaml", tmp_path / "run"
    process = start(study, run, workers=2)
    killed = 0
    rng = np.random.default_rng(5)
    while process.poll() is None and killed < 2:
        time.sleep(rng.uniform(1.5, 4.0))
        workers = children(process.pid) if process.poll() is None else []
        spawned = [pid for pid in workers if is_worker(pid)]
        if spawned:
            os.kill(spawned[rng.integers(len(spawned))], signal.SIGKILL)
            killed += 1
    assert process.wait(timeout=300) == 0, run.with_suffix(".log").read_text()
    assert killed
    assert comparable(run) == comparable(finished_run)


def is_worker(pid: int) -> bool:
    try:
        return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_driver(finished_run: Path, tmp_path: Path) -> None:
    study = finished_run.parent / "study" / "study.yaml"
    process = start(study, tmp_path / "run", workers=2)
    deadline = time.monotonic() + 60
    workers: list[int] = []
    while len(workers) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        workers = [pid for pid in children(process.pid) if is_worker(pid)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(is_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(is_alive(pid) for pid in workers)
