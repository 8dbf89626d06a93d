"""The command ``shrinkproof``: no logic, only calls; options live with their command group.

Exit codes: 0 done; 1 finished, but something failed or no candidate satisfies the constraints;
2 wrong usage or wrong study file; 3 a bug in shrinkproof; 130 interrupted, finished work is kept.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any, Final

DONE: Final = 0
UNFINISHED: Final = 1
WRONG_USE: Final = 2
BUG: Final = 3
INTERRUPTED: Final = 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    from shrinkproof.errors import ShrinkproofError

    try:
        code = _call(arguments)
        sys.stdout.flush()  # a reader that has gone shows here, not when the interpreter ends
    except ShrinkproofError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_USE
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; what is finished is kept, run the same command again\n")
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
