"""The command ``shrinkproof``: no logic, only calls; options live with their command group.

Exit codes: 0 done; 1 finished, but something failed or no candidate satisfies the constraints;
2 wrong usage or wrong study file; 3 a bug in shrinkproof; 130 interrupted, 143 terminated and 129
hung up, as shells number them: finished work is kept.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

DONE: Final = 0
UNFINISHED: Final = 1
WRONG_USE: Final = 2
BUG: Final = 3
INTERRUPTED: Final = 130

_KEPT: Final = "what is finished is kept, run the same command again"
_ENDED_BY: Final = 128
"""What shells add to the number of a signal."""


class _Ended(KeyboardInterrupt):
    """Somebody has told this process to end; everything is left as after Ctrl-C.

    Attributes:
        signal: who told it: SIGTERM, as Slurm before its time limit, or SIGHUP.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    from shrinkproof.errors import ShrinkproofError

    try:
        with _ending_in_order():
            code = _call(arguments)
        sys.stdout.flush()  # a reader that has gone shows here, not when the interpreter ends
    except ShrinkproofError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_USE
    except _Ended as end:
        _say(f"ended by {end.signal.name}; {_KEPT}\n")
        return _ENDED_BY + end.signal
    except KeyboardInterrupt:
        _say(f"\ninterrupted; {_KEPT}\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has had enough
        _forget_output()
        return DONE
    except Exception:
        traceback.print_exc()
        sys.stderr.write(
            "\nThis is a bug in shrinkproof. Please report it with the lines above at "
            "https://github.com/shrinkproof/shrinkproof/issues\n"
        )
        return BUG
    return code


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does, with its workers and scratch files.

    Who ignores a signal, as ``nohup`` does, goes on ignoring it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    mine = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python gives the frame
    signal.signal(number, signal.SIG_IGN)  # told twice, the process ends as it has begun to
    raise _Ended(number)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that has hung up takes no last words
        sys.stderr.write(text)


def _call(arguments: list[str]) -> int:
    """Parse and call; typer's own runner would turn interrupts and broken pipes into its codes."""
    import typer
    from typer.main import get_command

    from shrinkproof.cli.application import app

    # Only one of typer's exceptions for wrong command lines is public; this is their root.
    wrong_use: type[Any] = typer.BadParameter.__mro__[2]
    try:
        command = get_command(app)
        with command.make_context("shrinkproof", arguments) as context:
            code = command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except wrong_use as error:
        error.show()  # usage, a hint, and what is wrong
        return WRONG_USE
    return code if isinstance(code, int) else DONE


def _forget_output() -> None:
    """Let the interpreter end in silence: it flushes the output once more, to nobody."""
    import os

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
