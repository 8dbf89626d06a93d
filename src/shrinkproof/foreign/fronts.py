"""Fronts of tables, for each data set alone, and whether a published one is ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from shrinkproof.decision.pareto import nondominated
from shrinkproof.foreign.entries import ACCURACY, ON_FRONT
from shrinkproof.foreign.joined import Known, Name
from shrinkproof.foreign.published import errors_of
from shrinkproof.metrics.references import Reference, mce
from shrinkproof.protocols import Better, Undefined
from shrinkproof.records import CLEAN

RATIO: Final = "cost.compression_ratio_zip"

_BETTER: Final = (Better.LOWER, Better.HIGHER, Better.HIGHER)


def fronts(known: Mapping[Name, Known], *, rounded: bool) -> Iterator[str]:
    """Yield the front of each of several data sets, and how published fronts compare with ours.

    Fronts are about mCE, compression ratio and clean accuracy, and pool the networks of a data set.

    Args:
        known: the numbers of each candidate.
        rounded: whether the run shows rounded mCE.
    """
    is_corrupted = any(not c.is_clean for n in known.values() for _, c, _ in n.scores)
    if is_corrupted and not any(RATIO in numbers.alone for numbers in known.values()):
        yield "no table has a compression ratio: the front is about errors and accuracy alone"
    groups: dict[str, dict[Name, Known]] = {}
    for name, numbers in known.items():
        entry = next(iter((*numbers.scores.values(), *numbers.alone.values())))
        groups.setdefault(entry.dataset, {})[name] = numbers
    for dataset, members in groups.items():
        ours = {how: _front(members, rounded=how) for how in (rounded, not rounded)}
        if not ours[rounded]:
            continue
        about = f" of {dataset}" if dataset else ""
        if len(groups) > 1:
            yield f"the front{about} alone: {_listed(ours[rounded])}"
        if all(ON_FRONT in numbers.alone for numbers in members.values()):
            published = {name for name, n in members.items() if n.alone[ON_FRONT].value}
            parts = [_compared(published, mine, rounded=how) for how, mine in ours.items()]
            yield f"the published front{about}, {len(published)} candidates: {'; '.join(parts)}"


def _front(members: Mapping[Name, Known], *, rounded: bool) -> set[Name]:
    """Return who is on the front; none where a number is unknown everywhere."""
    points: dict[Name, tuple[float, float, float]] = {}
    for name, numbers in members.items():
        base = members.get((name[0], "baseline"))
        top1 = next(
            (e for (_, c, m), e in numbers.scores.items() if (c, m) == (CLEAN, ACCURACY)), None
        )
        if base is None or top1 is None or RATIO not in numbers.alone:
            continue
        found = mce(
            errors_of(numbers), Reference("baseline", errors=errors_of(base)), rounded=rounded
        )
        if not isinstance(found, Undefined):
            points[name] = (round(found, 12), numbers.alone[RATIO].value, top1.value)
    on_front = nondominated(list(points.values()), _BETTER)
    return {name for name, is_on in zip(points, on_front.tolist(), strict=True) if is_on}


def _compared(published: set[Name], ours: set[Name], *, rounded: bool) -> str:
    how = "with" if rounded else "without"
    if published == ours:
        return f"equal to ours {how} --rounded"
    parts = [
        f"{words} {_listed(names)}"
        for words, names in (("also has", ours - published), ("lacks", published - ours))
        if names
    ]
    return f"{how} --rounded ours {' and '.join(parts)}"


def _listed(names: set[Name]) -> str:
    return ", ".join(sorted("/".join(name) for name in names))
