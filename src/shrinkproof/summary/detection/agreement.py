"""Whether the exported file finds the boxes of its PyTorch counterpart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from shrinkproof.metrics.detection.boxes import has_counterpart
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

    A box that reaches the threshold in one form is had by both where the other one has a box of
    its class there, whatever that one's score: a score that moves across the threshold takes no
    box away. The boxes of both forms are counted.
    """
    twin = split.predictions(candidate.key, CLEAN, "twin")
    artifact = split.predictions(candidate.key, CLEAN, "artifact")
    if twin is None or artifact is None:
        return
    point = run.operating_point(candidate.key)
    threshold = THRESHOLD if isinstance(point, Undefined) else point.threshold
    part_N, whole_N = np.zeros(len(twin)), np.zeros(len(twin))
    for one, other in ((twin, artifact), (artifact, twin)):
        counts = one.score >= threshold
        whole_N += per_image(one.image[counts], len(one))
        part_N += per_image(one.image[counts & has_counterpart(one, other, IOU)], len(one))
    share = Rate(part_N, whole_N, "neither has a box that reaches the threshold")
    name: Name = ("fidelity.agreement", "")
    caveat = (
        f"share of the boxes with score >= {threshold:.3g} in one form that the other one has, "
        f"IoU >= {IOU:g}, at any score"
    )
    yield from split.emit(
        candidate.key,
        ("clean", 0),
        {name: share.replicated(split.weights)},
        {name: caveat},
        {name: split.rate_interval(share)},
    )
