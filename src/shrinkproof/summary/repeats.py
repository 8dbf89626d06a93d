"""What another training would have shown: numbers over the repeats of a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from shrinkproof.metrics.names import ACROSS_REPEATS, ACROSS_REPEATS_SD
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate
from shrinkproof.statistics import Interval
from shrinkproof.statistics.repeats import across_repeats
from shrinkproof.summary.known import Known
from shrinkproof.summary.run import Run
from shrinkproof.summary.values import CORRUPTED, Derived, Number, measured

FAMILIES: Final = ("accuracy.", "calibration.", "robustness.", "detection.")
"""Metrics that are summarized over repeats."""


def repeated(run: Run, rows: Sequence[Derived]) -> Iterator[Derived]:
    """Yield mean and standard deviation over the repeats of each recipe, clean and corrupted.

    They stand with the first repeat, on the split whose numbers are printed. Their intervals are
    about training noise on these images; those of single candidates are about images.
    """
    known = Known(run, rows)
    planned = Counter((candidate.model, candidate.recipe) for candidate in run.candidates)
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in run.candidates:
        if known.split is not None and candidate.key in known.split.totals:
            groups.setdefault((candidate.model, candidate.recipe), []).append(candidate)
    for group in groups.values():
        if len(group) < 2:
            continue
        first = min(group, key=lambda candidate: candidate.repeat)
        lacking = planned[first.model, first.recipe] - len(group)
        for place in ("clean", CORRUPTED):
            for metric in known.metrics(first.key, place):
                if metric.startswith(FAMILIES):
                    yield from _over(known, first, group, metric, place, lacking)


def _over(
    known: Known,
    first: Candidate,
    group: Sequence[Candidate],
    metric: str,
    place: str,
    lacking: int,
) -> Iterator[Derived]:
    """Yield mean and standard deviation of one number; ``lacking`` repeats were not measured."""
    found = [known.value(candidate.key, metric, place) for candidate in group]
    values = [value for value in found if value is not None]
    mean: Number | Undefined
    sd: Number | Undefined
    if len(values) < len(found):
        mean = sd = Undefined(f"only {len(values)} of {len(found)} repeats have this number")
        stated = Interval()
    else:
        over = across_repeats(values)
        mean, stated = over.mean, over.interval
        sd = 0.0 if over.sd is None else over.sd
    text = f"over {len(found)} trainings; it is about training noise, not about images"
    if lacking:
        text += f"; {lacking} more failed or are missing, which can make the rest look better"
    split = known.split
    assert split is not None, "there are candidates"
    for prefix, number, shown in (
        (ACROSS_REPEATS, mean, stated),
        (ACROSS_REPEATS_SD, sd, Interval(reason="a standard deviation, without an interval")),
    ):
        value = measured(prefix + metric, number, shown, count=split.count, caveat=text)
        yield Derived(first.key, split.name, place, 0, split.form, value)
