"""Clocks that jump, and disks whose clock is another: nothing is swept away, nothing is redone."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shrinkproof.atomic import ABANDONED, is_abandoned, scratch_in
from shrinkproof.store import Store

from .runs import again, assert_repaired, finished, forget, needs_proc, shards_of

CENTURY = 3_155_760_000


@pytest.mark.parametrize("jump", [pytest.param(-CENTURY, marks=pytest.mark.slow), CENTURY])
def test_files_of_another_time_are_not_made_again(
    finished_run: Path, run_copy: Path, jump: float
) -> None:
    now = max(0.0, time.time() + jump)
    for path in run_copy.glob("**/*"):
        os.utime(path, (now, now))
    forget(run_copy, shards_of(run_copy)[:1])
    kept = finished(run_copy)
    assert again(run_copy).stages == {"measure": 1}
    assert_repaired(run_copy, finished_run, kept)


@pytest.mark.slow
def test_a_clock_that_runs_backwards_shows_nowhere(
    finished_run: Path, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = itertools.count(int(time.time()), -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(hours)))
    forget(run_copy, [*shards_of(run_copy)[:2], *shards_of(run_copy, "latency")])
    told = again(run_copy)
    assert told.stages.keys() == {"measure", "latency"}
    assert all(0 <= seconds < 60 for seconds in told.seconds)
    assert_repaired(run_copy, finished_run)


@needs_proc
@pytest.mark.parametrize("age", [0, 10 * ABANDONED])
def test_only_the_end_of_a_writer_on_this_machine_counts(tmp_path: Path, age: float) -> None:
    mine = scratch_in(tmp_path)
    mine.write_text("half")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    other = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    other.write_text("half")
    now = time.time() + age
    assert not is_abandoned(mine, now)
    assert is_abandoned(other, now)


def test_age_counts_for_writers_of_other_machines(tmp_path: Path) -> None:
    foreign = tmp_path / f".tmp-0123456789ab-{os.getpid()}-0"
    foreign.write_text("half")
    now = foreign.stat().st_mtime
    assert not is_abandoned(foreign, now)
    assert not is_abandoned(foreign, now - CENTURY)
    assert not is_abandoned(foreign, now + ABANDONED - 1)
    assert is_abandoned(foreign, now + ABANDONED)


def test_the_age_is_told_by_the_clock_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "run")
    foreign = store.path / "cells" / ".tmp-0123456789ab-1-0"
    foreign.write_text("half")
    monkeypatch.setattr(time, "time", lambda: foreign.stat().st_mtime + CENTURY)
    Store.create(store.path)
    assert foreign.exists()
