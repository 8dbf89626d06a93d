"""One finished run of the detection study, made once for every test of a process."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from .detection_builder import write_detection_study

_PLACE = tempfile.TemporaryDirectory(prefix="detection-run-")


@functools.cache
def detection_run() -> Path:
    """Return the run directory; read only."""
    from shrinkproof.study import Study

    folder = Path(_PLACE.name)
    Study.load(write_detection_study(folder / "study")).run(folder / "run")
    return folder / "run"
