"""Memory and disk of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shrinkproof.study.estimate.neighbors import looked_of
from shrinkproof.study.estimate.rates import Made, Rates
from shrinkproof.study.estimate.work import Explanation, Work, predictions_of

_FLOAT: Final = 4
"""Bytes of a logit in memory, and of a bootstrap weight."""

_WEIGHTS: Final = 2
"""Copies of the bootstrap weights of a split that a worker holds while it computes metrics."""


def memory_of(
    work: Work, rates: Rates, made: Mapping[str, Made], replicates: int, room: float
) -> float:
    """Return the highest bytes of memory of one worker: while it trains, or during a pass.

    Args:
        work: what there is to do.
        rates: what each piece takes.
        made: what each candidate takes.
        replicates: bootstrap replicates of the intervals.
        room: bytes that the loaded candidates may fill.
    """
    peaks = [rates.peak]
    for showing in work.passes:
        split = work.splits[showing.split]
        loaded = min(room, sum(made[key].resident for key in {key for key, _ in showing.cells}))
        answers = len(showing.cells) * split.count * split.classes * _FLOAT / split.parts
        weights = _WEIGHTS * replicates * split.count * _FLOAT
        peaks.append(rates.idle + loaded + answers + weights)
    return max(peaks)


def disk_of(work: Work, rates: Rates, made: Mapping[str, Made]) -> dict[str, float]:
    """Return the bytes that are there in the end, by kind; kinds of nothing are left out.

    Args:
        work: what there is to do.
        rates: what each piece takes.
        made: what each candidate takes.
    """
    ended = 0.0 if rates.ended is None else rates.ended.bytes
    found = {
        "candidates": sum(made[making.candidate.key].bytes for making in work.making),
        "predictions": sum(len(s.cells) * _stored(work, rates, s.split) for s in work.passes),
        "heat maps": sum(_maps(work, rates, each) for each in work.explaining),
        "tables": ended * work.scored if work.missing else 0.0,
    }
    return {name: size for name, size in found.items() if size}


def _stored(work: Work, rates: Rates, split: str) -> float:
    """Return the bytes of a cell's predictions."""
    if split in rates.scored:
        return rates.scored[split].bytes
    return predictions_of(work.splits[split])


def _maps(work: Work, rates: Rates, each: Explanation) -> float:
    looked = looked_of(rates, each)
    images = min(work.explained, work.splits[each.split].count)
    baselines = sum(key in work.baselines for key in each.candidates)
    others = len(each.candidates) - baselines
    return images * (baselines * looked.bytes_baseline + others * looked.bytes)
