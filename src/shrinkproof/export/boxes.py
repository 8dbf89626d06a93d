"""Do the exported files of a detector find the same boxes? Compared on real images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shrinkproof.artifacts.export import AGREEMENT
from shrinkproof.detecting import Detector
from shrinkproof.errors import ExportError
from shrinkproof.evaluators.answers import BoxAnswers
from shrinkproof.evaluators.subject import Scene
from shrinkproof.export.agreement import SMALL, Comparison
from shrinkproof.export.program import Predict
from shrinkproof.metrics.detection.boxes import groups_of, overlapping_rows, paired_iou
from shrinkproof.metrics.detection.names import THRESHOLD
from shrinkproof.models.loaded import Preprocess
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.records import Candidate
from shrinkproof.results import Results

# Shape suffixes: A and B detections, P pairs of them.

OVERLAP = 0.5
"""Smallest IoU of a box that two forms both have."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the outputs of two forms are apart, before boxes are chosen.

    Attributes:
        difference: largest difference of a number.
        limit: largest difference that may come from the order of sums.
    """

    difference: float
    limit: float


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What several forms of a detector say of the same images.

    Attributes:
        boxes: name of the form -> its detections.
        gaps: (later form, earlier form) -> how far their outputs are apart.
    """

    boxes: Mapping[str, DetectionPredictions]
    gaps: Mapping[tuple[str, str], Gap]


def found_by(
    scene: Scene,
    preprocess: Preprocess,
    detector: Detector,
    forms: Mapping[str, Predict],
    count: int,
) -> Found:
    """Return what several forms find in the first images of a scene.

    Whole batches of the study are predicted: a shorter one may be summed in another order. Outputs
    are forgotten batch by batch, because those of a detector are large.

    Args:
        scene: the images.
        preprocess: from images to inputs.
        detector: the uncompressed network, whose rule makes boxes of all forms' outputs.
        forms: name -> from inputs to outputs.
        count: number of images.

    Raises:
        ModelError: the outputs of a form are not finite.
        ExportError: the outputs of two forms are not of one shape.
    """
    first = scene.images.take(np.arange(count, dtype=np.int64))
    answers = {name: BoxAnswers(first, detector, preprocess) for name in forms}
    pairs = [(later, earlier) for earlier, later in combinations(forms, 2)]
    apart, largest = dict.fromkeys(pairs, 0.0), dict.fromkeys(forms, 0.0)
    done = 0
    for positions, images in scene.batches():
        inputs = preprocess(images)
        outputs = {name: predict(inputs) for name, predict in forms.items()}
        for name, values in outputs.items():
            largest[name] = max(largest[name], float(np.abs(values).max(initial=0.0)))
            answers[name].add(positions, values, (images.shape[1], images.shape[2]))
        for pair in pairs:
            apart[pair] = max(apart[pair], _apart(pair, outputs))
        done += len(positions)
        if done >= count:
            break
    return Found(
        boxes={name: each.predictions() for name, each in answers.items()},
        gaps={p: Gap(apart[p], AGREEMENT * largest[p[1]] + SMALL) for p in pairs},
    )


def _apart(pair: tuple[str, str], outputs: Mapping[str, NDArray[np.float32]]) -> float:
    one, two = (outputs[name] for name in pair)
    if one.shape != two.shape:
        raise ExportError(
            f"{pair[0]}: outputs must have the shape of {pair[1]}, {two.shape}, got {one.shape}; "
            "make the candidate again in a new run directory"
        )
    return float(np.abs(one.astype(np.float64) - two.astype(np.float64)).max(initial=0.0))


def compared_boxes(
    first: tuple[str, DetectionPredictions],
    second: tuple[str, DetectionPredictions],
    condition: str,
    *,
    threshold: float,
    gap: Gap | None = None,
) -> Comparison:
    """Return how far two forms of a detector agree.

    A box with at least the threshold's score is had by both where the other form has one of its
    class in the same image with an IoU of at least `OVERLAP`, whatever that one's score: a score
    that moves across the threshold takes no box away.

    Args:
        first: name and detections of what was loaded again.
        second: name and detections of what it is compared with.
        condition: state of the images.
        threshold: smallest score of the boxes that are looked for.
        gap: how far the outputs are apart, where these decide; None where boxes do.
    """
    (name, one), (other, two) = first, second
    here, there = _looked_for(one, two, threshold), _looked_for(two, one, threshold)
    moved = max(here.moved, there.moved)
    return Comparison(
        first=name,
        second=other,
        condition=condition,
        images=len(one),
        same=here.same + there.same,
        boxes=here.count + there.count,
        difference=moved if gap is None else gap.difference,
        limit=None if gap is None else gap.limit,
    )


@dataclass(frozen=True, slots=True)
class _Looked:
    """What became of boxes that were looked for: their number, how many are there, how far off."""

    count: int
    same: int
    moved: float


def _looked_for(one: DetectionPredictions, two: DetectionPredictions, threshold: float) -> _Looked:
    """Look in ``two`` for the boxes of ``one``.

    ``moved`` is the largest difference of a score, or of an IoU from 1, of all boxes; a box that
    is not there counts with its whole score.
    """
    rows_P, others_P, overlap_P = overlapping_rows(
        one.boxes, groups_of(one), two.boxes, groups_of(two)
    )
    off_P = np.maximum(
        np.abs(one.score[rows_P].astype(np.float64) - two.score[others_P]),
        1 - paired_iou(one.boxes[rows_P], two.boxes[others_P]),
    )
    moved_A = one.score.astype(np.float64)
    is_there_A = np.zeros(len(moved_A), dtype=bool)
    enough_P = overlap_P >= OVERLAP
    is_there_A[rows_P[enough_P]] = True
    np.minimum.at(moved_A, rows_P[enough_P], off_P[enough_P])
    counts_A = one.score >= threshold
    return _Looked(
        count=int(counts_A.sum()),
        same=int((is_there_A & counts_A).sum()),
        moved=float(moved_A.max(initial=0.0)),
    )


def box_comparisons(
    found: Found,
    stored: tuple[str, DetectionPredictions],
    condition: str,
    *,
    measured: str,
    threshold: float,
    has_exact: bool,
    integers: str,
) -> Iterator[Comparison]:
    """Yield the measured form against the run, and every file against those before it.

    Args:
        found: what the files find.
        stored: name and detections of what the run has kept.
        condition: state of the images.
        measured: the form that the run has measured.
        threshold: smallest score of the boxes that are looked for.
        has_exact: whether floating-point forms give the same numbers in the same places.
        integers: form that computes with integers; empty where there is none.
    """
    own = (measured, found.boxes[measured])
    yield compared_boxes(own, stored, condition, threshold=threshold)
    for (name, other), gap in found.gaps.items():
        is_exact = has_exact and integers not in (name, other)
        yield compared_boxes(
            (name, found.boxes[name]),
            (other, found.boxes[other]),
            condition,
            threshold=threshold,
            gap=gap if is_exact else None,
        )


def threshold_of(results: Results, candidate: Candidate) -> float:
    """Return the score threshold of a candidate's network; 0, so that all count, without one."""
    found = [
        record.value
        for record in results.records
        if (record.metric, record.model) == (THRESHOLD, candidate.model)
        and record.value is not None
    ]
    return found[0] if found else 0.0


def chooses_inside(path: Path) -> bool:
    """Return whether a network chooses boxes inside.

    Of two boxes that score the same up to rounding it may choose the other one, and then all that
    follow are in other places of the output.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return any(node.op_type == "NonMaxSuppression" for node in graph.node)
