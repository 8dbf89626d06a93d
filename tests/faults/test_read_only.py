"""A run directory that may only be read: it is read, and running it says what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .runs import again, assert_repaired, command, file_of, finished, forget, own_mounts, shards_of


def read_only(run: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Run commands that see a directory on a read-only disk, until one fails."""
    script = f"mount --bind {run} {run} && mount -o remount,ro,bind {run} || exit 9\n"
    script += "\n".join(" ".join(words) + " || exit" for words in commands)
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
@own_mounts
def test_a_read_only_run_is_read_but_not_run(finished_run: Path, run_copy: Path) -> None:
    forget(run_copy, shards_of(run_copy)[:1])
    (run_copy / "summary.jsonl").unlink()
    kept = finished(run_copy)
    here = [sys.executable, "-m", "shrinkproof"]
    reading = read_only(
        run_copy, [*here, "status", str(run_copy)], [*here, "results", str(run_copy)]
    )
    assert reading.returncode == 0, reading.stderr
    running = read_only(run_copy, command(file_of(finished_run), run_copy, workers=0))
    assert running.returncode == 2, running.stderr
    assert "it is on a read-only disk; choose another directory" in running.stderr
    assert "Traceback" not in running.stderr
    again(run_copy)
    assert_repaired(run_copy, finished_run, kept)
