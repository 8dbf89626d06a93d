"""Work in a process that has done nothing before."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from shrinkproof.errors import ModelError

A = TypeVar("A")
B = TypeVar("B")

_COMMAND: Final = "from shrinkproof.artifacts.fresh import serve; serve()"
_SET_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

_WORDS: Final = 300
"""Characters of the last line of a process that died that stand in the message."""


def run_fresh(
    work: Callable[[A], B], argument: A, *, variables: Mapping[str, str] | None = None
) -> B:
    """Return what a function gives in a fresh Python process.

    The process imports only what the function needs: no main module is run again and nothing is
    forked, so that threads, imports and settings of the caller have no effect there.

    Args:
        work: a module-level function.
        argument: what it is given; it and the result are pickled.
        variables: environment variables to set besides the caller's.

    Raises:
        ModelError: the function raised, or the process was killed; the message has the last
            line that it wrote, the notes have all of them.
    """
    paths = (path or os.getcwd() for path in sys.path)  # noqa: PTH109 - a string is wanted
    done = subprocess.run(
        [sys.executable, "-P", "-c", _COMMAND],
        input=pickle.dumps((work, argument)),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(variables or {})},
        check=False,
    )
    if done.returncode == 0 and done.stdout:
        result: B = pickle.loads(done.stdout)
        return result
    told = done.stderr.decode(errors="replace").strip()
    last = told.splitlines()[-1][:_WORDS] if told else "it wrote nothing"
    error = ModelError(
        f"{work.__name__}: a fresh process must end with a result, got exit code "
        f"{done.returncode}: {last}"
    )
    error.add_note(told)
    raise error


def serve() -> None:
    """Do one piece of work: read it from standard input, write the result to standard output."""
    _end_with_caller()
    # What the work prints must not get between the bytes of the result.
    answer = os.dup(1)
    os.dup2(2, 1)
    work, argument = pickle.load(sys.stdin.buffer)
    result: Any = work(argument)
    with os.fdopen(answer, "wb") as stream:
        pickle.dump(result, stream)


def _end_with_caller() -> None:
    """Let this process be killed when its caller is: it would slow down what is timed next.

    Only Linux can do that; elsewhere it ends with its work.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
