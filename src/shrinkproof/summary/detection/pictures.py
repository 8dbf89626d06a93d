"""Images with boxes drawn on them: those that compression hit hardest, and some side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.detection.exchanged import Exchanged
from shrinkproof.metrics.detection.matching import match
from shrinkproof.metrics.detection.operating import OperatingPoint, per_image
from shrinkproof.metrics.robustness import corruptions_of
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, Candidate, Condition, Json
from shrinkproof.summary.classes import class_names
from shrinkproof.summary.detection.run import DetectionRun
from shrinkproof.summary.detection.split import DetectionSight, DetectionSplit
from shrinkproof.summary.values import Exhibit

# Shape suffixes: N images, M detections.

IMAGES: Final = "detected-images"
SCENES: Final = "detected-scenes"

SHOWN: Final = 6
"""How many images hit hardest are shown of a candidate, half of them clean."""

SHOWN_SCENES: Final = 4
"""How many images are shown side by side."""

Marks = Mapping[str, NDArray[np.bool_]]
"""Word -> (M,) the detections that it describes."""


def collect(
    run: DetectionRun,
    split: DetectionSplit,
    sight: DetectionSight,
    beside: Mapping[str, DetectionSight],  # noqa: ARG001
) -> Iterator[Exhibit]:
    """Keep what the pictures need of one candidate under one condition; yield nothing yet."""
    point = run.operating_point(sight.candidate)
    if split.name == run.common.printing and not isinstance(point, Undefined):
        if sight.predictions is not None:
            _keep_scenes(split, sight, sight.predictions, point)
        if sight.exchanged is not None:
            _keep_hits(split, sight, sight.exchanged)
    yield from ()


def hit_hardest(
    run: DetectionRun, split: DetectionSplit, candidate: Candidate
) -> Iterator[Exhibit]:
    """Yield the images where compression cost the most boxes, clean and corrupted.

    Counted are right boxes of the baseline that the candidate lost, and wrong boxes that it has and
    the baseline has not. Each image is shown once, clean or under the condition that costs it most.
    """
    found = _head(run, split, candidate)
    if found is not None:
        hits = split.shown.hits.get(candidate.key, [])
        found["affected"] = len({value["index"] for value in hits})
        found["images"] = _hardest(hits)
        yield Exhibit(IMAGES, found)


def side_by_side(
    run: DetectionRun, split: DetectionSplit, candidate: Candidate
) -> Iterator[Exhibit]:
    """Yield some images with the boxes of baseline and candidate, clean and corrupted.

    The images are spread evenly over those with objects, and are the same for all candidates; each
    stands beside itself under a corruption of middle severity, where the study has any.
    """
    found = _head(run, split, candidate)
    if found is None:
        return
    baseline = run.common.baseline(candidate).key
    for at, condition in _scenes(split):
        boxes = {
            f"{who}_{how}": split.shown.boxes.get((key, at, condition_))
            for who, key in (("baseline", baseline), ("candidate", candidate.key))
            for how, condition_ in (("clean", CLEAN), ("corrupted", condition))
            if condition_ is not None
        }
        if None not in boxes.values():
            named = {"condition": "" if condition is None else str(condition)}
            found["images"].append({**_image(split, at), **named, **boxes})
    yield Exhibit(SCENES, found)


def _head(run: DetectionRun, split: DetectionSplit, candidate: Candidate) -> Json | None:
    """Return what an exhibit says besides its images; None where there is no exhibit."""
    if candidate.role == "baseline" or split.name != run.common.printing or not split.has_images:
        return None
    baseline, point = run.common.baseline(candidate), run.operating_point(candidate.key)
    is_alone = baseline.key not in split.tallies
    reason = f"{baseline.label} was not measured" if is_alone else ""
    return {
        "model": candidate.model,
        "candidate": candidate.label,
        "baseline": baseline.label,
        "split": split.name,
        "threshold": None if isinstance(point, Undefined) else point.threshold,
        "images": [],
        "reason": point.reason if isinstance(point, Undefined) else reason,
    }


def _keep_hits(split: DetectionSplit, sight: DetectionSight, found: Exchanged) -> None:
    """Keep all images under one condition in which boxes were lost or added."""
    baseline, candidate = found.baseline, found.candidate
    lost_N = per_image(baseline.image[found.lost & found.was_right], split.count)
    new_N = per_image(candidate.image[found.new & found.is_wrong], split.count)
    hits = split.shown.hits.setdefault(sight.candidate, [])
    for rank, at in enumerate(np.argsort(-(lost_N + new_N), kind="stable").tolist()):
        if not lost_N[at] + new_N[at]:
            break
        value = {
            "index": int(baseline.index[at]),
            "condition": str(sight.condition),
            "lost": int(lost_N[at]),
            "new": int(new_N[at]),
        }
        # One image is shown once, so the worst ones of each condition are enough.
        if rank < SHOWN:
            value |= _image(split, at)
            value |= _sides(split, found, at)
        hits.append(value)


def _sides(split: DetectionSplit, found: Exchanged, at: int) -> Json:
    """Return the boxes of both in one image, with what became of each."""
    kept_D, flipped_D = (np.zeros(len(found.new), dtype=bool) for _ in range(2))
    kept_D[found.partner[found.kept]] = True
    flipped_D[found.partner[found.flipped]] = True
    return {
        "baseline": _boxes(
            split,
            found.baseline,
            at,
            {"right": found.was_right, "wrong": found.was_wrong},
            {"kept": found.kept, "flipped": found.flipped, "lost": found.lost},
        ),
        "candidate": _boxes(
            split,
            found.candidate,
            at,
            {"right": found.is_right, "wrong": found.is_wrong},
            {"kept": kept_D, "flipped": flipped_D, "new": found.new},
        ),
    }


def _hardest(hits: Sequence[Json]) -> list[Json]:
    """Return half clean and half corrupted images, as far as there are; the worst first."""
    drawn = sorted((value for value in hits if "objects" in value), key=lambda value: -_cost(value))
    chosen: dict[int, Json] = {}
    for is_clean, most in ((True, SHOWN // 2), (False, SHOWN)):
        for value in drawn:
            if (value["condition"] == str(CLEAN)) is is_clean and len(chosen) < most:
                chosen.setdefault(value["index"], value)
    return sorted(chosen.values(), key=lambda value: -_cost(value))


def _cost(value: Json) -> int:
    return int(value["lost"] + value["new"])


def _keep_scenes(
    split: DetectionSplit,
    sight: DetectionSight,
    predictions: DetectionPredictions,
    point: OperatingPoint,
) -> None:
    """Keep the boxes of one candidate in the images that are shown side by side."""
    matching = match(predictions, point.iou)
    counts_M = predictions.score >= point.threshold
    states = {"right": matching.right & counts_M, "wrong": matching.wrong & counts_M}
    states["ignored"] = matching.ignored & counts_M
    for at, condition in _scenes(split):
        if sight.condition in (CLEAN, condition):
            boxes = _boxes(split, predictions, at, states)
            split.shown.boxes[sight.candidate, at, sight.condition] = boxes


def _scenes(split: DetectionSplit) -> list[tuple[int, Condition | None]]:
    """Return the images that are shown side by side, and under which corruption each."""
    filled = np.flatnonzero(np.diff(split.objects.offsets))
    places = np.unique(np.linspace(0, len(filled) - 1, min(SHOWN_SCENES, len(filled))).astype(int))
    wanted = split.settings.conditions
    middle = []
    for name in corruptions_of(wanted):
        own = sorted(condition for condition in wanted if condition.corruption == name)
        middle.append(own[len(own) // 2])
    spread = [len(middle) * rank // max(1, len(places)) for rank in range(len(places))]
    conditions = [middle[at] if middle else None for at in spread]
    return list(zip(filled[places].tolist(), conditions, strict=True))


def _image(split: DetectionSplit, at: int) -> Json:
    """Return which image it is and what is true of it."""
    objects = split.objects
    names = class_names(split.settings, split.first.num_classes)
    rows = range(int(objects.offsets[at]), int(objects.offsets[at + 1]))
    return {
        "index": int(split.first.index[at]),
        "size": objects.sizes[at].tolist(),
        "objects": [
            {
                "box": _rounded(objects.boxes[row]),
                "class": names[int(objects.label[row])],
                "crowd": bool(objects.crowd[row]),
            }
            for row in rows
        ],
    }


def _boxes(
    split: DetectionSplit,
    predictions: DetectionPredictions,
    at: int,
    states: Marks,
    fates: Marks | None = None,
) -> list[Json]:
    """Return the boxes of an image that count; ``ignored`` are neither right nor wrong."""
    names = class_names(split.settings, split.first.num_classes)
    marks = states if fates is None else fates
    found = []
    for row in range(int(predictions.offsets[at]), int(predictions.offsets[at + 1])):
        if not any(mark_M[row] for mark_M in marks.values()):
            continue
        value: Json = {
            "box": _rounded(predictions.boxes[row]),
            "class": names[int(predictions.label[row])],
            "score": round(float(predictions.score[row]), 4),
            "state": _word(states, row) or "ignored",
        }
        found.append(value if fates is None else {**value, "fate": _word(fates, row)})
    return found


def _word(marks: Marks, row: int) -> str:
    return next((word for word, mark_M in marks.items() if mark_M[row]), "")


def _rounded(box_4: NDArray[np.floating]) -> list[float]:
    return [round(float(value), 2) for value in box_4]
