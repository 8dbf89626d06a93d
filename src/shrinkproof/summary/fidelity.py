"""Whether the exported file gives the answers of its PyTorch counterpart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shrinkproof.records import CLEAN, Candidate
from shrinkproof.statistics import Terms
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Split
from shrinkproof.summary.values import Derived, Key


def agreement(run: Run, split: Split, candidate: Candidate) -> Iterator[Derived]:  # noqa: ARG001
    """Yield on which share of the clean images twin and artifact predict the same class."""
    twin = split.predictions(candidate.key, CLEAN, "twin")
    artifact = split.predictions(candidate.key, CLEAN, "artifact")
    if twin is None or artifact is None:
        return
    same_N1 = (twin.prediction() == artifact.prediction()).astype(np.float32)[:, None]
    key: Key = ("fidelity.agreement", "clean", 0)
    terms = Terms(values=same_N1, kind="mean", is_binary=True)
    yield from split.emit(candidate.key, {key: terms})
