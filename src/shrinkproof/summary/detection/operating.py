"""What detectors miss and invent at the operating point, and which boxes compression exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Final

from shrinkproof.metrics.detection.exchanged import exchanged
from shrinkproof.metrics.detection.names import (
    FALSE_PER_IMAGE,
    FLIPPED,
    LOST,
    MISS_RATE,
    NEW,
    THRESHOLD,
)
from shrinkproof.metrics.detection.operating import OperatingPoint, false_per_image, missed
from shrinkproof.metrics.detection.rates import Rate
from shrinkproof.protocols import Undefined
from shrinkproof.statistics import Interval
from shrinkproof.summary.classes import class_names
from shrinkproof.summary.detection.numbers import Name, Number
from shrinkproof.summary.detection.run import DetectionRun
from shrinkproof.summary.detection.split import DetectionSight, DetectionSplit
from shrinkproof.summary.values import Derived, Exhibit, measured

OPERATING_POINT: Final = "operating-point"

_EXCHANGED: Final = {LOST: "lost", NEW: "new", FLIPPED: "flipped"}
"""Names of the numbers about exchanged boxes, and how they are called there."""

_SEEN: Final = "; the threshold was chosen on these images, so the baseline looks too good on them"


def operating_points(run: DetectionRun) -> Iterator[Derived | Exhibit]:
    """Yield the score threshold of each model, or why there is none; it stands with the baseline.

    It is the one of the highest F1 on the baseline's clean images of the select split, and holds
    for all candidates of the model on all splits.
    """
    judged = run.splits.get(run.common.printing)
    if judged is None or not judged.has_images:
        return
    for baseline in run.common.candidates:
        if baseline.role != "baseline" or baseline.key not in judged.tallies:
            continue
        found = run.operating_point(baseline.key)
        split = judged if isinstance(found, Undefined) else run.splits["select"]
        if isinstance(found, Undefined):
            row = measured(THRESHOLD, found)
        else:
            stated = Interval(reason=f"highest F1, {found.f1:.3g}; chosen, without an interval")
            row = measured(THRESHOLD, found.threshold, stated, count=split.count)
        yield Derived(baseline.key, split.name, "clean", 0, split.form, row)
        value = {"reason": found.reason} if isinstance(found, Undefined) else asdict(found)
        yield Exhibit(
            OPERATING_POINT,
            {"model": baseline.model, "baseline": baseline.label, "split": split.name} | value,
        )


def rates(
    run: DetectionRun, split: DetectionSplit, sight: DetectionSight
) -> Mapping[Name, Number | Undefined]:
    """Return the miss rate, overall, by class and by size, and the wrong boxes per image."""
    point = _point(run, split, sight)
    if point is None or sight.predictions is None:
        return {}
    found = missed(sight.predictions, point.threshold, point.iou)
    names = class_names(run.settings, sight.predictions.num_classes)
    wrong = false_per_image(sight.predictions, point.threshold, point.iou)
    shares: dict[Name, Rate] = {
        (MISS_RATE, ""): found.overall,
        **{(MISS_RATE, f"class={n}"): r for n, r in zip(names, found.by_class, strict=True)},
        **{(MISS_RATE, f"size={size}"): rate for size, rate in found.by_size.items()},
        (FALSE_PER_IMAGE, ""): wrong,
    }
    names_of_boxes = (MISS_RATE, FALSE_PER_IMAGE, *_EXCHANGED)
    protocol = point.protocol + (_SEEN if split.name == "select" else "")
    split.protocols[sight.candidate] |= dict.fromkeys(names_of_boxes, protocol)
    sight.stated |= {name: split.rate_interval(rate) for name, rate in shares.items()}
    return {name: rate.replicated(split.weights) for name, rate in shares.items()}


def exchanges(
    run: DetectionRun,
    split: DetectionSplit,
    sight: DetectionSight,
    beside: Mapping[str, DetectionSight],
) -> Iterator[Derived]:
    """Yield lost, new and flipped boxes against the baseline under the same condition."""
    point = _point(run, split, sight)
    baseline = run.common.baseline(run.common.by_key[sight.candidate]).key
    other = beside.get(baseline)
    if point is None or sight.predictions is None or baseline == sight.candidate:
        return
    if other is None or other.predictions is None:
        return
    sight.exchanged = exchanged(sight.predictions, other.predictions, point.threshold, point.iou)
    every = sight.exchanged.rates()
    shares = {(name, ""): every[called] for name, called in _EXCHANGED.items()}
    found = {name: rate.replicated(split.weights) for name, rate in shares.items()}
    stated = {name: split.rate_interval(rate) for name, rate in shares.items()}
    yield from split.emit(sight.candidate, sight.place, found, stated=stated)
    sight.numbers |= {n: v for n, v in found.items() if not isinstance(v, Undefined)}


def _point(
    run: DetectionRun, split: DetectionSplit, sight: DetectionSight
) -> OperatingPoint | None:
    """Return the operating point where numbers of the split are printed or decide, else None."""
    if split.name not in (run.common.printing, run.settings.deciding):
        return None
    found = run.operating_point(sight.candidate)
    return None if isinstance(found, Undefined) else found  # a row of its own says why
