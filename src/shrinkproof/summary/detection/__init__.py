"""Numbers of detectors that need several cells: means over conditions, changes, calibration, boxes.

They are functions of the stored detections, as `shrinkproof.summary` says of classifiers. Average
precision is no mean over images, so what survives a condition are the values of each number on the
resampled data sets, (R,) each; whatever is calculated from several of them is calculated on each
data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from shrinkproof.metrics.heatmaps import HeatMaps
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate, Cell
from shrinkproof.summary.correlations import correlated
from shrinkproof.summary.detection.agreement import agreement
from shrinkproof.summary.detection.calibrated import (
    calibrated_numbers,
    calibrations,
    null_numbers,
)
from shrinkproof.summary.detection.changes import sight_changes
from shrinkproof.summary.detection.numbers import Name, Number
from shrinkproof.summary.detection.operating import (
    exchanges,
    operating_points,
    rates,
)
from shrinkproof.summary.detection.pictures import collect, hit_hardest, side_by_side
from shrinkproof.summary.detection.run import DetectionRun
from shrinkproof.summary.detection.split import (
    DetectionSight,
    DetectionSplit,
    ReadDetections,
    splits_of,
)
from shrinkproof.summary.detection.totals import totals_of
from shrinkproof.summary.hypotheses import p_values
from shrinkproof.summary.maps import Maps
from shrinkproof.summary.matched import matched
from shrinkproof.summary.potential import potentials
from shrinkproof.summary.ranks import ranked
from shrinkproof.summary.repeats import repeated
from shrinkproof.summary.resampled import resampled
from shrinkproof.summary.run import Run
from shrinkproof.summary.saliency import saliency_of
from shrinkproof.summary.split import Stored
from shrinkproof.summary.values import Derived, Exhibit, Settings, Summary

__all__ = ["ReadDetections", "summarize_detection"]

Found = Iterator[Derived | Exhibit]
Numbers = Mapping[Name, Number | Undefined]

EXTRAS: Final[tuple[Callable[[DetectionRun, DetectionSplit, DetectionSight], Numbers], ...]] = (
    rates,
    calibrated_numbers,
    null_numbers,
)
"""Further numbers of one candidate under one condition; they are compared as measured ones are."""

OF_SIGHTS: Final[
    tuple[
        Callable[
            [DetectionRun, DetectionSplit, DetectionSight, Mapping[str, DetectionSight]], Found
        ],
        ...,
    ]
] = (
    exchanges,
    collect,
    sight_changes,
)
"""What comes from one candidate under one condition, beside its baseline and its control."""

OF_CANDIDATES: Final[tuple[Callable[[DetectionRun, DetectionSplit, Candidate], Found], ...]] = (
    totals_of,
    agreement,
    hit_hardest,
    side_by_side,
)
"""What comes from all conditions of one candidate on one split."""

OF_RUNS: Final[tuple[Callable[[Run, Sequence[Derived]], Found], ...]] = (
    p_values,
    repeated,
    potentials,
    ranked,
    correlated,
    matched,
    saliency_of,
)
"""What comes from all candidates together, and from the numbers found before; as of classifiers."""


def summarize_detection(
    candidates: Sequence[Candidate],
    cells: Sequence[Cell],
    read: ReadDetections,
    settings: Settings,
    stored: Stored = lambda _: {},
    maps: Callable[[str], HeatMaps | None] = lambda _: None,
) -> Summary:
    """Return everything derived from a run of detectors.

    Args:
        candidates: baselines, controls and recipes.
        cells: finished cells.
        read: cell key -> stored detections, or None.
        settings: what else the numbers depend on; its task is ``detection``.
        stored: cell key -> the numbers stored with it.
        maps: cell key -> stored heat maps, or None.

    Raises:
        DataError: detections of two cells of a split are about different images.
    """
    splits = splits_of(cells, read, stored, settings)
    common = {name: split.common for name, split in splits.items()}
    run = DetectionRun(Run(candidates, common, settings, None, Maps(cells, maps, stored)), splits)
    found: list[Derived | Exhibit] = []
    for split in run.splits.values():
        found += _of_split(run, split)
    found += operating_points(run)
    for candidate in candidates:
        found += calibrations(run, candidate)
    for family in OF_RUNS:
        found += family(run.common, [row for row in found if isinstance(row, Derived)])
    return Summary(
        rows=tuple(row for row in found if isinstance(row, Derived)),
        exhibits=tuple(item for item in found if isinstance(item, Exhibit)),
        resampled=resampled(run.common),
    )


def _of_split(run: DetectionRun, split: DetectionSplit) -> Found:
    references = run.common.references
    ordered = sorted(run.common.candidates, key=lambda c: c.key not in references)
    for condition in run.settings.conditions:
        beside: dict[str, DetectionSight] = {}
        for candidate in ordered:
            sight = split.sight(candidate.key, condition)
            if sight is None:
                continue
            yield from _of_sight(run, split, sight, beside)
            # Numbers whose detections are lost cannot be paired with images: a gap, no mean.
            if sight.predictions is not None or not split.has_images:
                split.add(sight)
            if candidate.key in references:
                beside[candidate.key] = sight
    for candidate in run.common.candidates:
        if candidate.key in split.tallies:
            for family in OF_CANDIDATES:
                yield from family(run, split, candidate)


def _of_sight(
    run: DetectionRun,
    split: DetectionSplit,
    sight: DetectionSight,
    beside: Mapping[str, DetectionSight],
) -> Found:
    split.see(sight.candidate, sight.place, sight.numbers)
    extra: dict[Name, Number | Undefined] = {}
    for numbers in EXTRAS:
        extra |= numbers(run, split, sight)
    yield from split.emit(sight.candidate, sight.place, extra, sight.caveats, sight.stated)
    sight.numbers |= {n: v for n, v in extra.items() if not isinstance(v, Undefined)}
    for family in OF_SIGHTS:
        yield from family(run, split, sight, beside)
