"""The command ``shrinkproof``: no logic, only calls; options live with their command group.

Exit codes: 0 done; 1 finished, but something failed or no candidate satisfies the constraints;
2 wrong usage or wrong study file; 3 a bug in shrinkproof; 130 interrupted, finished work is kept.
"""

from __future__ import annotations

import sys
import traceback
from typing import Final

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
        return _call(arguments)
    except ShrinkproofError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_USE
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; what is finished is kept, run the same command again\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has had enough
        sys.stderr.close()
        return DONE
    except Exception:
        traceback.print_exc()
        sys.stderr.write(
            "\nThis is a bug in shrinkproof. Please report it with the lines above at "
            "https://github.com/shrinkproof/shrinkproof/issues\n"
        )
        return BUG


def _call(arguments: list[str]) -> int:
    from shrinkproof.cli.application import app

    code = app(arguments, prog_name="shrinkproof", standalone_mode=False)
    return code if isinstance(code, int) else DONE
