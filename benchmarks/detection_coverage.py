"""How often the intervals of D-ECE, LaECE and LaACE contain the truth: planted detectors.

    python benchmarks/detection_coverage.py                     the table of the documentation
    python benchmarks/detection_coverage.py --simulations 1000  the same with less noise
    python benchmarks/detection_coverage.py --changes           changes of two detectors

A world is a distribution of scores and a function that gives the probability of being right at each
score. Each image has a random number of detections, some of them right or wrong together. The truth
is the error of the world in the bins of the metric.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from shrinkproof.metrics.binning import equal_width
from shrinkproof.metrics.detection.gaps import Gaps, in_cells, mean_gap
from shrinkproof.metrics.detection.intervals import (
    gap_change_interval,
    gap_interval,
    mean_change_interval,
    mean_interval,
)
from shrinkproof.statistics import Interval, bootstrap_weights

SCORES = ("flat", "sharp", "low", "extreme")
SHAPES = (("calibrated", 0.0), ("over-confident", 0.05), ("over-confident", 0.2), ("in turn", 0.1))
IMAGES = ((30, 12), (72, 3), (72, 12), (300, 3), (300, 12))
"""Images and mean number of detections in each."""
BINS = 25
LEAST = 0.3
FIT = 0.75
"""Mean IoU of right detections where localization counts."""
OTHERS = (0.05, 0.5)
"""Share of detections that two detectors do not have in common."""
SPREAD = 20.0
"""Sum of the two parameters of the distribution of the IoU of right detections."""
POPULATION = 400_000


@dataclass(frozen=True)
class World:
    """A detector with known calibration error.

    Attributes:
        metric: ``d_ece``, ``laece`` or ``laace``.
        scores: ``flat`` from the threshold on, ``sharp`` towards the largest score, ``low`` towards
            the threshold, ``extreme`` nothing below 0.9 of the largest.
        shape: who is over-confident: nobody, everybody, or every other bin.
        error: by how much.
        images: number of images.
        detections: mean number of detections in an image.
        together: share of the detections of an image that are right or wrong together.
        classes: number of classes; class k is 1/k as frequent as the first.
    """

    metric: str
    scores: str
    shape: str
    error: float
    images: int
    detections: int
    together: float
    classes: int = 1

    @property
    def fit(self) -> float:
        """Mean IoU of right detections; 1 where it does not count."""
        return 1.0 if self.metric == "d_ece" else FIT


@dataclass(frozen=True)
class Pair:
    """Two detectors on the same images.

    Attributes:
        first: the candidate.
        second: the baseline; of the same metric, classes, images and detections.
        others: share of the detections that do not depend on those of the first.
    """

    first: World
    second: World
    others: float


@dataclass(frozen=True)
class Found:
    """What the intervals of many simulated data sets did.

    Attributes:
        covered: share of the stated ones that contain the truth.
        stated: number of data sets with an interval.
        truth: the error of the world.
        estimate: mean estimate.
        width: median width of the stated ones.
    """

    covered: float
    stated: int
    truth: float
    estimate: float
    width: float


@cache
def population(scores: str, fit: float) -> NDArray[np.float64]:
    """Return equally likely scores of a world; right detections can be as frequent as claimed."""
    share = (np.arange(POPULATION) + 0.5) / POPULATION
    if scores == "extreme":
        return np.asarray(fit * (1 - 0.1 * betaincinv(1, 6, share)))
    shapes = {"flat": (1, 1), "sharp": (4, 1), "low": (1, 4)}
    return np.asarray(LEAST + (fit - LEAST) * betaincinv(*shapes[scores], share))


def claimed(world: World, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the score would have to be, precision times mean IoU."""
    if world.shape == "in turn":
        odd = equal_width(score, BINS) % 2
        return np.clip(score - world.error * (2 * odd - 1), 0.0, world.fit)
    return np.clip(score - world.error, 0.0, world.fit)


@cache
def truth(world: World) -> float:
    """Return the error of the world."""
    score = population(world.scores, world.fit)
    if world.metric == "laace":
        draws = np.random.default_rng(0)
        right = draws.random(len(score)) < claimed(world, score) / world.fit
        return float(np.abs(score - right * overlaps(world, draws, len(score))).mean())
    gap = score - claimed(world, score)
    return float(np.abs(np.bincount(equal_width(score, BINS), gap)).sum() / len(score))


def overlaps(world: World, draws: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return the IoU of right detections, 1 where it does not count."""
    if world.fit == 1:
        return np.ones(count)
    return np.asarray(draws.beta(SPREAD * world.fit, SPREAD * (1 - world.fit), count))


@dataclass(frozen=True)
class Luck:
    """What chance decides about the detections of one data set.

    Attributes:
        image: (m,) image of each.
        rank: (m,) how high its score is among all scores of the world, 0 to 1.
        luck: (m,) it is right where this is below the probability of being right.
        label: (m,) its class.
    """

    image: NDArray[np.int64]
    rank: NDArray[np.float64]
    luck: NDArray[np.float64]
    label: NDArray[np.int64]


def drawn(world: World, draws: np.random.Generator) -> Luck:
    """Return the chance of one data set."""
    # Images differ in how many detections they hold: variance 1.5 times the Poisson one and more.
    mean_N = world.detections * draws.gamma(1.5, 1 / 1.5, world.images)
    image = np.repeat(np.arange(world.images), draws.poisson(mean_N))
    count = len(image)
    together = draws.random(count) < world.together
    luck = np.where(together, draws.random(world.images)[image], draws.random(count))
    share = np.cumsum(1 / np.arange(1, world.classes + 1))
    label = np.searchsorted(share / share[-1], draws.random(count))
    return Luck(image, draws.random(count), luck, label)


def renewed(luck: Luck, share: float, draws: np.random.Generator) -> Luck:
    """Return the chance of another detector on the same images; some detections are others."""
    is_new = draws.random(len(luck.image)) < share
    fresh = draws.random((2, len(luck.image)))
    rank = np.where(is_new, fresh[0], luck.rank)
    return replace(luck, rank=rank, luck=np.where(is_new, fresh[1], luck.luck))


def simulated(
    world: World, luck: Luck, draws: np.random.Generator
) -> tuple[Gaps, NDArray[np.bool_]]:
    """Return the gaps of one data set and which detections are right."""
    everything = population(world.scores, world.fit)
    score = everything[(luck.rank * len(everything)).astype(np.int64)]
    right = luck.luck < claimed(world, score) / world.fit
    overlap = right * overlaps(world, draws, len(score))
    gap, key = score - overlap, equal_width(score, BINS)
    if world.metric == "laace":
        gap, key = np.abs(gap), np.zeros_like(key)
    return in_cells(luck.image, luck.label, key, gap, images=world.images), right


def simulate(world: World, simulations: int, *, replicates: int = 300, seed: int = 0) -> Found:
    """Return what the intervals of many data sets of a world did."""
    draws = np.random.default_rng(seed)
    weights = bootstrap_weights(world.images, replicates=replicates, seed=seed)
    estimates, intervals = [], []
    for _ in range(simulations):
        gaps, right = simulated(world, drawn(world, draws), draws)
        estimates.append(mean_gap(gaps) if gaps.parts else 0.0)
        if world.metric == "laace":
            intervals.append(mean_interval(gaps, weights, world.images))
        else:
            intervals.append(gap_interval(gaps, right, weights, world.images))
    return found_of(intervals, estimates, truth(world))


def simulate_changes(
    pair: Pair, simulations: int, *, replicates: int = 300, seed: int = 0
) -> Found:
    """Return what the intervals of the change did, first world minus second."""
    draws = np.random.default_rng(seed)
    images = pair.first.images
    weights = bootstrap_weights(images, replicates=replicates, seed=seed)
    estimates, intervals = [], []
    for _ in range(simulations):
        luck = drawn(pair.first, draws)
        other = renewed(luck, pair.others, draws)
        first, right = simulated(pair.first, luck, draws)
        second, also = simulated(pair.second, other, draws)
        estimates.append(mean_gap(first) - mean_gap(second))
        if pair.first.metric == "laace":
            intervals.append(mean_change_interval((first, second), weights, images))
        else:
            found = gap_change_interval((first, second), (right, also), weights, images)
            intervals.append(found)
    return found_of(intervals, estimates, truth(pair.first) - truth(pair.second))


def found_of(intervals: Sequence[Interval], estimates: Sequence[float], target: float) -> Found:
    """Return what some intervals did."""
    ends = [(i.low, i.high) for i in intervals if i.low is not None and i.high is not None]
    inside = sum(low <= target <= high for low, high in ends)
    return Found(
        inside / len(ends) if ends else float("nan"),
        len(ends),
        target,
        float(np.mean(estimates)),
        float(np.median([high - low for low, high in ends])) if ends else float("nan"),
    )


def worlds() -> Iterator[World]:
    """Yield all worlds of the table."""
    for metric, classes in (("d_ece", 1), ("laece", 1), ("laece", 3), ("laece", 20), ("laace", 3)):
        for images, detections in IMAGES:
            for scores in SCORES:
                for shape, error in SHAPES:
                    for together in (0.0, 0.3):
                        yield World(
                            metric, scores, shape, error, images, detections, together, classes
                        )


def pairs() -> Iterator[Pair]:
    """Yield all pairs of the table of changes: some of the worlds, against two baselines."""
    for world in worlds():
        is_large = world.images >= 72 and world.detections == 12
        if world.together and is_large and world.classes < 20 and world.error in (0.0, 0.2):
            for error in (0.0, 0.05):
                shape = "over-confident" if error else "calibrated"
                for others in OTHERS:
                    yield Pair(world, replace(world, shape=shape, error=error), others)


def main() -> None:
    """Print coverage for each metric, number of classes and size, then the worst worlds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--metric", choices=("d_ece", "laece", "laace"))
    parser.add_argument("--changes", action="store_true")
    asked = parser.parse_args()
    results: dict[World | Pair, Found] = {}
    if asked.changes:
        for pair in pairs():
            if asked.metric in (None, pair.first.metric):
                results[pair] = simulate_changes(pair, asked.simulations)
    else:
        for world in worlds():
            if asked.metric in (None, world.metric):
                results[world] = simulate(world, asked.simulations)
    show(results, asked.simulations)


def show(results: Mapping[World | Pair, Found], simulations: int) -> None:
    """Print the table and the worst worlds."""
    rows: dict[tuple[str, int, int, int], list[Found]] = {}
    for case, found in results.items():
        world = case.first if isinstance(case, Pair) else case
        key = (world.metric, world.classes, world.images, world.detections)
        rows.setdefault(key, []).append(found)
    print(
        "| metric | classes | images | detections per image | worlds | lowest coverage | highest |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for key, all_found in rows.items():
        often = [found for found in all_found if found.stated >= simulations / 4]
        ends = "- | -"
        if often:
            low, high = min(f.covered for f in often), max(f.covered for f in often)
            ends = f"{low:.1%} | {high:.1%}"
        print(f"| {' | '.join(map(str, key))} | {len(often)} of {len(all_found)} | {ends} |")
    wrong = max((1 - f.covered) * f.stated / simulations for f in results.values() if f.stated)
    print(f"\nlargest share of data sets with a wrong interval: {wrong:.1%}")
    print("lowest coverage:")
    often_stated = [item for item in results.items() if item[1].stated >= simulations / 4]
    for case, found in sorted(often_stated, key=lambda item: item[1].covered)[:10]:
        print(case, found)


if __name__ == "__main__":
    main()
