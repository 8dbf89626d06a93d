"""What a reader must know before believing a comparison of two candidates."""

from __future__ import annotations

from collections.abc import Iterator

from shrinkproof.results.pairs import Pair
from shrinkproof.results.sides import Side


def pair_caveats(pair: Pair) -> Iterator[str]:
    """Yield one sentence for each."""
    for side in (pair.first, pair.second):
        note = side.results.spec.scale_note
        yield from [f"{side.label}: {note}"] if note else []
    if pair.other_images:
        yield (
            f"not paired: {pair.other_images}; intervals treat the images as two independent "
            "samples, and there is no test"
        )
    else:
        left = [c for c in pair.shared if not pair.other_corruption(c)]
        reasons = dict.fromkeys(why for c in left if (why := pair.unpaired(c)))
        yield from (f"not paired: {why}" for why in reasons)
    others = dict.fromkeys(why for c in pair.shared if (why := pair.other_corruption(c)))
    yield from (f"not compared: {why}" for why in others)
    yield from _differences(pair)
    for side in (pair.first, pair.second):
        results = side.results
        found = results.data["contamination"].get(side.candidate.model, {})
        if found.get(results.printing):
            yield f"{side.label}: contaminated, {found[results.printing]}"
        if results.deciding == results.printing and results.spec.select is not None:
            yield (
                f"{side.label}: its run chose and measured on the same images "
                f"({results.printing}), so a chosen candidate looks better than it is"
            )
        for failure in results.failures:
            if failure["key"] in {side.candidate.key, *_keys(side)}:
                yield f"{side.label}: failed: {failure['message']}"


def _keys(side: Side) -> set[str]:
    return {c.key for c in side.results.cells if c.candidate == side.candidate.key}


def _differences(pair: Pair) -> Iterator[str]:
    """Yield how the two were measured differently."""
    own, other = pair.first.results, pair.second.results
    if own.form != other.form:
        yield (
            f"{pair.first.label} was measured as {own.form}, {pair.second.label} as {other.form}: "
            "part of a difference may come from the form"
        )
    if own.printing != other.printing:
        yield f"{pair.first.label} is about {own.printing}, {pair.second.label} {other.printing}"
    alone = set(pair.first.conditions) ^ set(pair.second.conditions)
    if alone:
        yield (
            "the runs have other conditions, so means over these are not compared: "
            + ", ".join(sorted(str(c) for c in alone))
        )
    timed = "cost.latency_median"
    has_times = all(side.machines(timed) for side in (pair.first, pair.second))
    if has_times and not pair.is_one_machine(timed):
        yield "times were not measured on the same machine and runtime and are not compared"
