"""Differences to the baseline and to the control of equal training, paired image by image."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from shrinkproof.metrics.names import (
    CHANGE,
    FROM_CONTROL,
    NULL_MEAN,
    NULL_P,
    NULL_Q95,
    SCALED_BY_BASELINE,
)
from shrinkproof.protocols import Undefined
from shrinkproof.statistics import Terms, difference
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Sight, Split
from shrinkproof.summary.values import Derived, Key, Number, value_of

_UNCOMPARED = (NULL_P, NULL_Q95, "flips.")
"""Numbers that are comparisons themselves, or whose difference would say nothing new."""

_PAIRED = ("mean", "absolute-sum")
"""Kinds of terms whose differences have terms."""


def changes(
    split: Split,
    candidate: str,
    prefix: str,
    own: Mapping[Key, Number],
    other: Mapping[Key, Number],
) -> list[Derived]:
    """Return the differences of every number that both have."""
    found: dict[Key, Number | Undefined] = {}
    for key, number in own.items():
        is_compared = not key[0].startswith(_UNCOMPARED) and SCALED_BY_BASELINE not in key[0]
        if key in other and is_compared:
            found[prefix + key[0], key[1], key[2]] = minus(number, other[key])
    caveats = {key: null_note(key[0]) for key in found if NULL_MEAN in key[0]}
    return split.emit(candidate, found, caveats)


def minus(a: Number, b: Number) -> Number:
    """Return the difference of two numbers, paired where both have terms per image."""
    if isinstance(a, Terms) and isinstance(b, Terms) and a.kind == b.kind and a.kind in _PAIRED:
        return difference(a, b)
    return value_of(a) - value_of(b)


def null_note(metric: str) -> str:
    """Return what the difference of two null levels says."""
    return (
        f"how much {metric.rpartition(NULL_MEAN)[2]} would differ if both models were perfectly "
        "calibrated"
    )


def compared(run: Run, key: str, references: Container[str]) -> Iterator[tuple[str, str]]:
    """Yield ``(prefix, key)`` of everybody a candidate is compared with.

    Args:
        run: knows who is compared with whom.
        key: key of the candidate.
        references: keys of everybody who can be compared with.
    """
    candidate = run.by_key[key]
    if candidate.role == "baseline":
        return
    baseline = run.baseline(candidate).key
    if baseline in references:
        yield CHANGE, baseline
    control = run.control(candidate)
    if control is not None and control.key in references:
        yield FROM_CONTROL, control.key


def sight_changes(
    run: Run, split: Split, sight: Sight, references: Mapping[str, Sight]
) -> Iterator[Derived]:
    """Yield what changed under one condition."""
    own = _placed(sight)
    for prefix, key in compared(run, sight.candidate, references):
        yield from changes(split, sight.candidate, prefix, own, _placed(references[key]))


def _placed(sight: Sight) -> dict[Key, Number]:
    return {(metric, *sight.place): number for metric, number in sight.numbers.items()}
