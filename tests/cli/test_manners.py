"""What every command shares: exit codes, streams, colors, pipes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shrinkproof import results
from shrinkproof.cli import main

from .conftest import Call

COLORS = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;\d+)*m")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reslts", "x"), "No such command 'reslts'. Did you mean 'results'?"),
        (("results",), "Missing argument 'DIR'"),
        (("results", "a", "b"), "unexpected extra argument"),
        (("results", "a", "--jsn"), "No such option: --jsn"),
        (("--nonsense",), "No such option: --nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_shows_usage_and_what_is_wrong(
    call: Call, arguments: tuple[str, ...], message: str
) -> None:
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: shrinkproof")
    assert "--help" in done.err
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_bug_shows_where_to_report_it(
    call: Call, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise RuntimeError("the unthinkable")

    monkeypatch.setattr(results.Results, "load", broken)
    done = call("results", finished_run)
    assert (done.code, done.out) == (3, "")
    assert "RuntimeError: the unthinkable" in done.err
    assert "bug in shrinkproof" in done.err
    assert "/issues" in done.err


def test_an_interrupt_says_that_finished_work_is_kept(
    call: Call, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(results.Results, "load", interrupted)
    done = call("results", finished_run)
    assert (done.code, done.out) == (130, "")
    assert "what is finished is kept" in done.err
    assert "Traceback" not in done.err


def test_main_exits_with_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["shrinkproof", "nonsense"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert "shrinkproof" in capsys.readouterr().out


def test_the_module_runs_like_the_command(spawn: Call) -> None:
    done = spawn("--version")
    assert (done.code, done.err) == (0, "")
    assert spawn("nonsense").code == 2


@pytest.mark.slow
def test_pipes_get_no_escape_codes(spawn: Call, finished_run: Path) -> None:
    for arguments in (("results", finished_run), ("--help",), ("nonsense",)):
        done = spawn(*arguments)
        assert "\x1b" not in done.out + done.err


def on_terminal(arguments: list[str]) -> str:
    """Return what a command writes on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "shrinkproof", *arguments], stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the terminal has no other end any more
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    assert process.wait(60) == 0
    return text.decode()


def test_colors_on_a_terminal_unless_the_user_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert COLORS.search(on_terminal(["--help"]))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLORS.search(on_terminal(["--help"]))


def test_a_reader_that_leaves_early_is_no_error(finished_run: Path) -> None:
    command = [sys.executable, "-m", "shrinkproof", "results", str(finished_run), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(60), error) == (0, "")
