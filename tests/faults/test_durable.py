"""Power failures: what a name points to is on the disk before the name is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.atomic import replace_file, sync_folder
from shrinkproof.errors import StoreError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import Candidate
from shrinkproof.store import Store


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Flushes and renames as they happen, each with the name of what it is about."""
    found: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def flushed(handle: int) -> None:
        found.append(("flush", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    def renamed(self: Path, target: Path) -> Path:
        found.append(("rename", Path(target).name))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    return found


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="needs /proc to see what is flushed"
)


def test_a_file_is_flushed_then_named_then_its_folder_flushed(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    replace_file(tmp_path / "file", lambda file: file.write(b"content"))
    (first, scratch), second, third = calls
    assert first == "flush"
    assert scratch.startswith(".tmp-")
    assert (second, third) == (("rename", "file"), ("flush", tmp_path.name))


def test_every_file_of_a_candidate_is_flushed_before_it_has_its_name(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    store = Store.create(tmp_path / "run")

    def write(folder: Path) -> dict[str, int]:
        (folder / "weights").write_text("all")
        (folder / "model").write_text("all")
        return {}

    store.write_candidate(Candidate("aa", "net", "baseline", role="baseline"), write)
    named = calls.index(("rename", "aa"))
    complete = calls.index(("rename", "complete.json"))
    for name in ("weights", "model"):
        assert calls.index(("flush", name)) < complete < named
    assert calls.index(("flush", "candidates")) > named


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Error numbers with which a file system answers flushes of folders; none by default."""
    codes: list[int] = []
    fsync = os.fsync

    def flushed(handle: int) -> None:
        if codes and Path(f"/proc/self/fd/{handle}").resolve().is_dir():
            raise OSError(codes[0], os.strerror(codes[0]))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flushed)
    return codes


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_file_systems_that_cannot_flush_a_folder_are_written_to(
    tmp_path: Path, refusing: list[int], code: int
) -> None:
    refusing.append(code)
    replace_file(tmp_path / "file", lambda file: file.write(b"content"))
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_folder_that_cannot_be_flushed_for_a_real_reason_is_told(
    tmp_path: Path, refusing: list[int]
) -> None:
    refusing.append(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)
    with pytest.raises(StoreError, match="cannot be written"):
        replace_file(tmp_path / "file", lambda file: file.write(b"content"))


def test_the_folder_of_predictions_is_on_the_disk_before_its_cell_is(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    store = Store.create(tmp_path / "run")
    logits, ones = np.zeros((4, 2), np.float32), np.ones(4, np.int64)
    store.write_predictions("00ff", ClassificationPredictions(logits, ones, np.arange(4)))
    assert [name for kind, name in calls if kind == "rename"] == ["logits.npy", "samples.parquet"]
    assert calls[-1] == ("flush", "predictions")
