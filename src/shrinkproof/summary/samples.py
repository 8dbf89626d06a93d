"""Which images changed: flips against the baseline and against the control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shrinkproof.errors import DataError
from shrinkproof.metrics.flips import flip_terms, mismatch
from shrinkproof.metrics.names import CHANGE
from shrinkproof.summary.changes import compared
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Sight, Split
from shrinkproof.summary.values import Derived, Number


def flips(
    run: Run, split: Split, sight: Sight, references: Mapping[str, Sight]
) -> Iterator[Derived]:
    """Yield churn, negative and positive flips; the means over conditions come from the totals.

    Raises:
        DataError: predictions of two cells of a split are about different images.
    """
    if sight.predictions is None:
        return
    _check_images(run, split, sight)
    found: dict[str, Number] = {}
    for prefix, key in compared(run, sight.candidate, references):
        other = references[key].predictions
        if other is not None:
            suffix = "" if prefix == CHANGE else "_from_control"
            terms = flip_terms(sight.predictions, other)
            found |= {name + suffix: item for name, item in terms.items()}
    sight.numbers |= found
    yield from split.emit(
        sight.candidate, {(name, *sight.place): number for name, number in found.items()}
    )


def _check_images(run: Run, split: Split, sight: Sight) -> None:
    """Check that a cell is about the images of the split, in their order.

    Every comparison and every mean over conditions pairs images by their position.
    """
    first = split.images
    if first is None or sight.predictions is None:
        return
    problem = mismatch(sight.predictions.index, sight.predictions.target, first.index, first.target)
    if problem:
        one, other = (
            f"{run.by_key[key].label} under {condition}"
            for key, condition in (
                (sight.candidate, sight.condition),
                (first.candidate, first.condition),
            )
        )
        raise DataError(
            f"{split.name} split: {one} and {other} are about different images ({problem}); "
            "measure both on the same images"
        )
