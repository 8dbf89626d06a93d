"""Numbers that need several cells: means over conditions, changes, temperature, agreement.

They are functions of the stored predictions, never truth of their own, and can be recomputed from
a run directory alone. Everything about one split uses one matrix of bootstrap weights, so that
changes against the baseline and against a control are paired image by image. One condition at a
time is in memory; what survives it are sums per image.

A family of derived numbers is a function of one file and one line in one of the tables below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from shrinkproof.metrics.heatmaps import HeatMaps
from shrinkproof.metrics.references import Reference
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate, Cell
from shrinkproof.summary.changes import sight_changes
from shrinkproof.summary.classes import recalls
from shrinkproof.summary.correlations import correlated
from shrinkproof.summary.exemplars import hit_hardest
from shrinkproof.summary.fidelity import agreement
from shrinkproof.summary.hypotheses import p_values
from shrinkproof.summary.maps import Maps
from shrinkproof.summary.matched import matched
from shrinkproof.summary.nulls import null_numbers
from shrinkproof.summary.potential import potentials
from shrinkproof.summary.ranks import ranked
from shrinkproof.summary.repeats import repeated
from shrinkproof.summary.resampled import resampled
from shrinkproof.summary.robustness import robustness
from shrinkproof.summary.run import Run
from shrinkproof.summary.saliency import saliency_of
from shrinkproof.summary.samples import flips
from shrinkproof.summary.scaling import scaled_numbers, temperatures, with_doubts
from shrinkproof.summary.split import Sight, Split, Totals, splits_of
from shrinkproof.summary.totals import totals_of
from shrinkproof.summary.values import (
    CORRUPTED,
    POOLED,
    Derived,
    Exhibit,
    Number,
    Read,
    Resampled,
    Settings,
    Summary,
    Sweep,
)

__all__ = [
    "CORRUPTED",
    "POOLED",
    "Derived",
    "Exhibit",
    "Resampled",
    "Settings",
    "Summary",
    "Sweep",
    "summarize",
    "winner_optimism",
]

Found = Iterator[Derived | Exhibit]

EXTRAS: Final[tuple[Callable[[Run, Split, Sight], Mapping[str, Number | Undefined]], ...]] = (
    scaled_numbers,
    null_numbers,
)
"""Further numbers of one candidate under one condition; they are compared as measured ones are."""

OF_SIGHTS: Final[tuple[Callable[[Run, Split, Sight, Mapping[str, Sight]], Found], ...]] = (
    flips,
    sight_changes,
)
"""What comes from one candidate under one condition, beside its baseline and its control."""

OF_CANDIDATES: Final[tuple[Callable[[Run, Split, Candidate], Found], ...]] = (
    totals_of,
    robustness,
    agreement,
    recalls,
    hit_hardest,
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
"""What comes from all candidates together, and from the numbers found before."""


def summarize(
    candidates: Sequence[Candidate],
    cells: Sequence[Cell],
    read: Read,
    settings: Settings,
    stored: Callable[[str], Mapping[str, float]] = lambda _: {},
    reference: Callable[[Split], Reference | Undefined] | None = None,
    maps: Callable[[str], HeatMaps | None] = lambda _: None,
) -> Summary:
    """Return everything derived from a run.

    Args:
        candidates: baselines, controls and recipes.
        cells: finished cells.
        read: cell key -> stored predictions, or None.
        settings: what else the numbers depend on.
        stored: cell key -> the numbers stored with it, for metrics without terms per image.
        reference: gives what corruption errors are divided by where that is a network of another
            run; None for one of this run, as the settings say.
        maps: cell key -> stored heat maps, or None.
    """
    splits = splits_of(cells, read, stored, settings)
    run = Run(candidates, splits, settings, reference, Maps(cells, maps, stored))
    found: list[Derived | Exhibit] = []
    for split in run.splits.values():
        found += _of_split(run, split)
    for candidate in candidates:
        found += temperatures(run, candidate)
    for family in OF_RUNS:
        found += family(run, [row for row in found if isinstance(row, Derived)])
    return Summary(
        rows=tuple(with_doubts(run, row) for row in found if isinstance(row, Derived)),
        exhibits=tuple(item for item in found if isinstance(item, Exhibit)),
        resampled=resampled(run),
    )


def _of_split(run: Run, split: Split) -> Found:
    ordered = sorted(run.candidates, key=lambda c: c.key not in run.references)
    for condition in run.settings.conditions:
        references: dict[str, Sight] = {}
        for candidate in ordered:
            sight = split.sight(candidate.key, condition)
            if sight is None:
                continue
            yield from _of_sight(run, split, sight, references)
            # Numbers whose predictions are lost cannot be paired with images: a gap, no mean.
            if sight.predictions is not None or not split.has_images:
                split.totals.setdefault(candidate.key, Totals()).add(sight)
            if candidate.key in run.references:
                references[candidate.key] = sight
    for candidate in run.candidates:
        if candidate.key in split.totals:
            for family in OF_CANDIDATES:
                yield from family(run, split, candidate)


def _of_sight(run: Run, split: Split, sight: Sight, references: Mapping[str, Sight]) -> Found:
    extra: dict[str, Number | Undefined] = {}
    for numbers in EXTRAS:
        extra |= numbers(run, split, sight)
    caveats = {(name, *sight.place): text for name, text in sight.caveats.items()}
    yield from split.emit(
        sight.candidate, {(name, *sight.place): n for name, n in extra.items()}, caveats
    )
    split.see(sight)
    sight.numbers |= {name: n for name, n in extra.items() if not isinstance(n, Undefined)}
    for family in OF_SIGHTS:
        yield from family(run, split, sight, references)


def winner_optimism(
    candidates: Sequence[Candidate],
    cells: Sequence[Cell],
    read: Read,
    settings: Settings,
    split: str,
) -> float | None:
    """Return by how much the winner's error looks too small on the split that chose it, at most.

    Whoever takes the candidate with the smallest mean error and quotes that error on the same
    images is too optimistic, most of all where all candidates are equal: then the bias is the
    expected minimum of the deviations of their means, -E min_k (m*_k - m_k), estimated from the
    resampled data sets (after Efron 1983, doi:10.2307/2288636). Correlation between candidates
    makes it smaller and is accounted for.

    The error is the mean over the corrupted conditions, or the clean one where there are none.
    None where fewer than two candidates can be chosen.
    """
    # Predictions alone say who is right: no metric is needed.
    images = splits_of(cells, read, lambda _: {}, replace(settings, metrics=())).get(split)
    if images is None:
        return None
    errors = []
    corrupted = [c for c in settings.conditions if not c.is_clean] or list(settings.conditions)
    for candidate in candidates:
        if candidate.role == "control":
            continue
        sights = [images.sight(candidate.key, condition) for condition in corrupted]
        known = [s.errors() for s in sights if s is not None and s.predictions is not None]
        found = [errors_N for errors_N in known if errors_N is not None]
        if len(found) == len(corrupted):
            errors.append(np.mean(found, axis=0, dtype=np.float64))
    return images.optimism(np.stack(errors)) if len(errors) > 1 else None
