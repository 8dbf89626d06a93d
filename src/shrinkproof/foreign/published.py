"""Whether published means over corruptions are those that the published errors give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from shrinkproof.foreign.entries import ACCURACY
from shrinkproof.foreign.joined import Known, Name
from shrinkproof.foreign.units import FOREIGN
from shrinkproof.metrics.references import Reference, mce, relative_mce
from shrinkproof.metrics.robustness import Errors
from shrinkproof.protocols import Undefined

_COMPUTED: Final = {"mce": mce, "relative_mce": relative_mce}

_EQUAL: Final = 1e-9


def is_rounded(known: Mapping[Name, Known]) -> bool:
    """Return whether the published mCE are what only rounded corruption errors give."""
    gaps = _gaps(known, "mce")
    exact, rounded = (max(gaps[how], default=0.0) for how in (False, True))
    return rounded <= _EQUAL < exact


def compare_published(known: Mapping[Name, Known], *, rounded: bool) -> Iterator[str]:
    """Yield how far published mCE and relative mCE are from ours, exact and rounded.

    Args:
        known: the numbers of each candidate.
        rounded: whether the run shows rounded ones.
    """
    for name in _COMPUTED:
        gaps = _gaps(known, name)
        if gaps[False]:
            yield _sentence(name, gaps, rounded=rounded)


def _gaps(known: Mapping[Name, Known], name: str) -> dict[bool, list[float]]:
    """Return how far each published number is from ours, exact (False) and rounded (True)."""
    gaps: dict[bool, list[float]] = {False: [], True: []}
    for (model, _), numbers in known.items():
        published = numbers.alone.get(FOREIGN + name)
        if published is None:
            continue
        own, base = errors_of(numbers), errors_of(known[model, "baseline"])
        for how, found in gaps.items():
            ours = _COMPUTED[name](own, Reference("baseline", errors=base), rounded=how)
            if not isinstance(ours, Undefined):
                found.append(abs(ours - published.value))
    return gaps


def errors_of(numbers: Known) -> Errors:
    """Return the error rates of a candidate, each as one pseudo-image."""
    return {
        condition: np.array([round(1 - entry.value, 12)])
        for (_, condition, metric), entry in numbers.scores.items()
        if metric == ACCURACY
    }


def _sentence(name: str, gaps: Mapping[bool, list[float]], *, rounded: bool) -> str:
    own, other = (_part(gaps[how], rounded=how) for how in (rounded, not rounded))
    return f"published {name}, kept as {FOREIGN}{name}: {own}; {other}"


def _part(gaps: list[float], *, rounded: bool) -> str:
    equal = sum(gap <= _EQUAL for gap in gaps)
    text = f"{equal} of {len(gaps)} equal ours {'with' if rounded else 'without'} --rounded"
    if equal < len(gaps):
        text += f" (largest difference {100 * max(gaps):.2g} points)"
    return text
