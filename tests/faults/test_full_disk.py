"""A disk that refuses: each write of a run in turn, and a real disk that is full, then freed."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.atomic import replace_file
from shrinkproof.errors import StoreError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.results import Results
from shrinkproof.store import Store

from .runs import again, assert_repaired, command, file_of, finished, forget, own_mounts, shards_of


class Refusing:
    """Lets the n-th call of a function fail as the operating system does, and only that one.

    Args:
        function: what is called through.
        number: which call fails, from 1.
        code: the number of the error.
    """

    def __init__(self, function: Callable[..., object], number: int, code: int) -> None:
        self.function = function
        self.left = number
        self.code = code

    def __call__(self, *values: object, **named: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code))
        return self.function(*values, **named)


KINDS = {
    "disk full when flushed": (os, "fsync", errno.ENOSPC),
    "rename lost": (Path, "rename", errno.EIO),
}


@contextlib.contextmanager
def refused(kind: str, number: int) -> Iterator[Refusing]:
    """Let the n-th flush or rename of a run fail."""
    place, name, code = KINDS[kind]
    refusing = Refusing(getattr(place, name), number, code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, lambda *values, **named: refusing(*values, **named))
        yield refusing


def without_cells(calm: Path, run: Path) -> None:
    """Copy a run that lacks two conditions and a size."""
    shutil.copytree(calm, run)
    scores, sizes = shards_of(run), shards_of(run, "size")
    forget(run, [scores[0], scores[7], sizes[1]])


def without_a_candidate(calm: Path, run: Path) -> None:
    """Copy a run that lacks a candidate, too: the one that sizes are divided by."""
    without_cells(calm, run)
    baseline = next(c for c in Results.load(run).candidates if c.role == "baseline")
    shutil.rmtree(run / "candidates" / baseline.key)


def refuse_each(
    copy: Callable[[Path, Path], None], calm: Path, folder: Path, kind: str, step: int
) -> int:
    """Let writes fail one at a time, each in a copy of its own; return how many there are."""
    number = 1
    while True:
        run = folder / f"run-{number}"
        copy(calm, run)
        with refused(kind, number) as refusing, contextlib.suppress(StoreError):
            again(run)
        if refusing.left > 0:
            return number - refusing.left
        kept = finished(run)
        again(run)
        assert_repaired(run, calm, kept)
        shutil.rmtree(run)
        number += step


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_write_that_fails_costs_nothing_finished(
    finished_run: Path, tmp_path: Path, kind: str
) -> None:
    assert refuse_each(without_cells, finished_run, tmp_path, kind, step=5) > 10


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_each_write_may_fail(finished_run: Path, tmp_path: Path, kind: str) -> None:
    assert refuse_each(without_a_candidate, finished_run, tmp_path, kind, step=1) > 10


@pytest.mark.parametrize("limit", [100, 8_000, 79_000, 80_100])
def test_arrays_that_do_not_fit_are_not_cut_off_in_silence(tmp_path: Path, limit: int) -> None:
    values = np.ones(10_000)
    with largest_file(limit), pytest.raises(StoreError, match="cannot be written: the disk"):
        replace_file(tmp_path / "values.npy", lambda file: np.save(file, values))
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def largest_file(count: int) -> Iterator[None]:
    """Let the operating system refuse files of more bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [10, 3_000, 15_000, 16_100, 17_000, 30_000])
def test_predictions_that_do_not_fit_are_explained_and_leave_nothing(
    tmp_path: Path, limit: int
) -> None:
    store = Store.create(tmp_path / "run")
    rng = np.random.default_rng(0)
    found = ClassificationPredictions(
        rng.normal(size=(2_000, 2)).astype(np.float32),
        rng.integers(0, 2, 2_000),
        rng.permutation(2_000),
    )
    with largest_file(limit), pytest.raises(StoreError, match=r"cannot be written: the disk"):
        store.write_predictions("00ff", found)
    assert store.read_predictions("00ff") is None
    assert list(tmp_path.glob("**/.*")) == []
    store.write_predictions("00ff", found)
    assert store.read_predictions("00ff") is not None


@pytest.mark.slow
@pytest.mark.long
@own_mounts
@pytest.mark.parametrize("size", [40, 200, 400, 600])
def test_a_full_disk_that_is_freed(finished_run: Path, tmp_path: Path, size: int) -> None:
    (disk := tmp_path / "disk").mkdir()
    words = command(file_of(finished_run), disk / "run", workers=0)
    script = f"""
        mount -t tmpfs -o size={size}k tmpfs {disk} || exit 9
        "$@" 2> {tmp_path}/full; echo $? > {tmp_path}/code
        cp -a {disk}/run {tmp_path}/kept
        mount -o remount,size=64m {disk} && "$@" 2> {tmp_path}/freed && cp -a {disk}/run {tmp_path}
    """
    subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", *words], check=True, timeout=300)
    assert (tmp_path / "code").read_text().strip() == "2"
    assert "cannot be written: the disk is full; free some space" in (tmp_path / "full").read_text()
    assert "Traceback" not in (tmp_path / "full").read_text()
    kept, now = tmp_path / "kept", tmp_path / "run"
    for shard in kept.glob("cells/*.jsonl"):
        assert shard.read_bytes() == (now / "cells" / shard.name).read_bytes()
    assert_repaired(now, finished_run)
