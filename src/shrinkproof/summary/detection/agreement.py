"""Whether the exported file finds the boxes of its PyTorch counterpart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shrinkproof.metrics.detection.exchanged import exchanged
from shrinkproof.metrics.detection.operating import per_image
from shrinkproof.metrics.detection.rates import Rate
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, Candidate
from shrinkproof.summary.detection.numbers import Name
from shrinkproof.summary.detection.run import DetectionRun
from shrinkproof.summary.detection.split import DetectionSplit
from shrinkproof.summary.values import Derived

THRESHOLD: Final = 0.5
"""Smallest score of the boxes that count where the model has no operating point."""

IOU: Final = 0.5
"""Smallest overlap of two boxes that are one."""


def agreement(run: DetectionRun, split: DetectionSplit, candidate: Candidate) -> Iterator[Derived]:
    """Yield which share of the boxes on clean images twin and artifact both have.

    That is the number of boxes that both have with the same class, divided by the number of boxes
    that at least one of them has.
    """
    twin = split.predictions(candidate.key, CLEAN, "twin")
    artifact = split.predictions(candidate.key, CLEAN, "artifact")
    if twin is None or artifact is None:
        return
    point = run.operating_point(candidate.key)
    threshold = THRESHOLD if isinstance(point, Undefined) else point.threshold
    found = exchanged(artifact, twin, threshold, IOU)
    both = per_image(twin.image[found.kept], len(twin))
    twin_N = per_image(twin.image[twin.score >= threshold], len(twin))
    artifact_N = per_image(artifact.image[artifact.score >= threshold], len(twin))
    share = Rate(both, twin_N + artifact_N - both, "neither has a box that reaches the threshold")
    name: Name = ("fidelity.agreement", "")
    caveat = f"share of the boxes with score >= {threshold:.3g} that both have, IoU >= {IOU:g}"
    yield from split.emit(
        candidate.key,
        ("clean", 0),
        {name: share.replicated(split.weights)},
        {name: caveat},
        {name: split.rate_interval(share)},
    )
