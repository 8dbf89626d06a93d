"""How often the intervals of calibration errors contain the truth: a simulation with known truth.

    python benchmarks/coverage.py                     the table of docs/calibration-intervals.md
    python benchmarks/coverage.py --simulations 2000  the same with less noise
    python benchmarks/coverage.py --changes           changes of two models on the same images

A world is a distribution of confidences and a function that gives the probability of being correct
at each confidence. Predictions are drawn from it as logits and go through the metric and the
interval that the package uses. The truth is the calibration error of the world in the bins of the
sample. A pair of worlds has two models on the same images whose confidences and outcomes are
correlated.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from shrinkproof.metrics.calibration import EqualMassCalibrationError, ExpectedCalibrationError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.statistics import Interval, bootstrap_weights, difference, interval

CONFIDENCES = ("certain", "sharp", "extreme", "medium", "flat")
SHAPES = ("uniform", "top", "alternating")
LIKENESS = {
    "independent": (1.0, 0.0),
    "related": (0.3, 0.9),
    "close": (0.05, 0.99),
    "nearly equal": (0.005, 0.9999),
}
"""Noise between the logits of the confidences of both models, correlation of their outcomes."""
POPULATION = 400_000
CLASSES = 10
GROUP = 10
CORRELATION = 0.3


@dataclass(frozen=True)
class World:
    """A model with known miscalibration.

    Attributes:
        confidence: ``certain`` models are wrong once in 700 images if calibrated; ``sharp`` and
            ``extreme`` have most of their mass near 1, as networks do after training; ``medium``
            and ``flat`` spread it.
        shape: who is over-confident: everybody (``uniform``), only confidences above 14/15
            (``top``), or over- and under-confident bins in turn (``alternating``).
        error: calibration error, mean of |confidence - probability of being correct|.
        count: number of images.
        bins: number of bins.
        metric: ``equal-width`` or ``equal-mass``.
        is_grouped: images come in groups of 10 whose outcomes are correlated.
    """

    confidence: str
    shape: str
    error: float
    count: int
    bins: int = 15
    metric: str = "equal-width"
    is_grouped: bool = False


@dataclass(frozen=True)
class Pair:
    """Two models on the same images.

    Attributes:
        first: world of the first model; its count, bins, metric and groups are those of both.
        shape: who is over-confident in the second model, ``under`` for under-confidence.
        error: calibration error of the second model.
        likeness: how much the models agree, see `LIKENESS`.
    """

    first: World
    shape: str
    error: float
    likeness: str


@dataclass(frozen=True)
class Coverage:
    """What a simulation found.

    Attributes:
        stated: number of simulations in which an interval was stated.
        covered: share of the stated intervals that contain the truth.
        above: share whose lower end is above the truth.
        below: share whose upper end is below the truth.
        low: mean lower end.
        high: mean upper end.
        estimate: mean estimate where an interval was stated.
        truth: mean truth.
    """

    stated: int
    covered: float
    above: float
    below: float
    low: float
    high: float
    estimate: float
    truth: float


def draw_confidence(kind: str, count: int, draws: np.random.Generator) -> NDArray[np.float64]:
    """Return confidences of a world, (N,)."""
    if kind == "certain":
        values = 1 - 10.0 ** -draws.uniform(2, 5, count)
    elif kind == "sharp":
        values = draws.beta(8, 0.35, count)
    elif kind == "extreme":
        values = 1 - 10.0 ** -draws.uniform(0.3, 6, count)
    elif kind == "medium":
        values = draws.beta(5, 1.5, count)
    else:
        values = draws.uniform(1 / CLASSES, 1, count)
    return np.clip(values, 1 / CLASSES + 1e-6, 1 - 1e-7)


def accuracy(world: World, confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of being correct at each confidence."""
    return _shifted(world.shape, _shift(world), confidence) if world.error else confidence


def _shifted(shape: str, size: float, confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    direction = np.full_like(confidence, -1.0 if shape == "under" else 1.0)
    if shape == "top":
        direction = (confidence > 14 / 15).astype(float)
    elif shape == "alternating":
        direction = np.where(np.ceil(confidence * 15).astype(int) % 2 == 0, 1.0, -1.0)
    return np.clip(confidence - size * direction, 0, 1)


@cache
def _population(kind: str) -> NDArray[np.float64]:
    return draw_confidence(kind, POPULATION, np.random.default_rng(12))


@cache
def _shift(world: World) -> float:
    """Return the shift that gives the wanted calibration error, by bisection."""
    confidence = _population(world.confidence)
    low, high = 0.0, 2.0
    for _ in range(30):
        size = (low + high) / 2
        gap = np.abs(_shifted(world.shape, size, confidence) - confidence).mean()
        low, high = (size, high) if gap < world.error else (low, size)
    return low


def _predictions(
    confidence: NDArray[np.float64], is_correct: NDArray[np.bool_]
) -> ClassificationPredictions:
    logits = np.repeat(np.log((1 - confidence) / (CLASSES - 1))[:, None], CLASSES, axis=1)
    logits[:, 0] = np.log(confidence)
    return ClassificationPredictions(
        logits=logits.astype(np.float32),
        target=np.where(is_correct, 0, 1).astype(np.int64),
        index=np.arange(len(confidence)),
    )


def _draw(world: World, draws: np.random.Generator) -> ClassificationPredictions:
    confidence = draw_confidence(world.confidence, world.count, draws)
    uniform = ndtr(_normal(world, draws)) if world.is_grouped else draws.random(world.count)
    return _predictions(confidence, uniform < accuracy(world, confidence))


def _normal(world: World, draws: np.random.Generator) -> NDArray[np.float64]:
    """Return normal numbers, correlated within groups."""
    if not world.is_grouped:
        return draws.standard_normal(world.count)
    shared = np.repeat(draws.standard_normal(world.count // GROUP), GROUP)
    own = draws.standard_normal(world.count)
    return np.asarray(np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own)


def _moved(
    likeness: str, confidence: NDArray[np.float64], draws: np.random.Generator
) -> NDArray[np.float64]:
    """Return the confidences of the second model."""
    noise = LIKENESS[likeness][0] * draws.standard_normal(len(confidence))
    odds = confidence / (1 - confidence) * np.exp(noise)
    return np.clip(odds / (1 + odds), 1 / CLASSES + 1e-6, 1 - 1e-7)


def _draw_pair(
    pair: Pair, draws: np.random.Generator
) -> tuple[ClassificationPredictions, ClassificationPredictions]:
    world, alike = pair.first, LIKENESS[pair.likeness][1]
    confidence = draw_confidence(world.confidence, world.count, draws)
    moved = _moved(pair.likeness, confidence, draws)
    normal = _normal(world, draws)
    other = np.sqrt(alike) * normal + np.sqrt(1 - alike) * _normal(world, draws)
    return (
        _predictions(confidence, ndtr(normal) < accuracy(world, confidence)),
        _predictions(moved, ndtr(other) < accuracy(_second(pair), moved)),
    )


def _second(pair: Pair) -> World:
    return replace(pair.first, shape=pair.shape, error=pair.error)


def simulate(world: World, simulations: int, *, seed: int = 0, replicates: int = 500) -> Coverage:
    """Return how often the 95 % interval contains the truth of a world."""
    weights, group_count, metric = _tools(world, seed, replicates)

    def once(draws: np.random.Generator) -> tuple[Interval, float, float]:
        predictions = _draw(world, draws)
        terms = metric.terms(predictions)
        found = interval(terms, weights, group_count=group_count)
        inner = _inner_edges(world, predictions, terms.values)
        return found, metric(predictions), _binned_truth(world, "", inner) if world.error else 0.0

    return _summary(world, simulations, seed, once)


def simulate_change(
    pair: Pair, simulations: int, *, seed: int = 0, replicates: int = 500
) -> Coverage:
    """Return how often the 95 % interval of the change contains the true change of a pair."""
    weights, group_count, metric = _tools(pair.first, seed, replicates)
    worlds = (pair.first, _second(pair))

    def once(draws: np.random.Generator) -> tuple[Interval, float, float]:
        both = _draw_pair(pair, draws)
        terms = [metric.terms(predictions) for predictions in both]
        found = interval(difference(*terms), weights, group_count=group_count)
        estimates = [metric(predictions) for predictions in both]
        truths = [
            _binned_truth(world, likeness, _inner_edges(world, predictions, item.values))
            if world.error
            else 0.0
            for world, likeness, predictions, item in zip(
                worlds, ("", pair.likeness), both, terms, strict=True
            )
        ]
        return found, estimates[0] - estimates[1], truths[0] - truths[1]

    return _summary(pair.first, simulations, seed, once)


def _tools(
    world: World, seed: int, replicates: int
) -> tuple[NDArray[np.float32], int | None, ExpectedCalibrationError | EqualMassCalibrationError]:
    groups = np.arange(world.count) // GROUP if world.is_grouped else None
    weights = bootstrap_weights(world.count, groups=groups, replicates=replicates, seed=seed)
    make = ExpectedCalibrationError if world.metric == "equal-width" else EqualMassCalibrationError
    return weights, world.count // GROUP if world.is_grouped else None, make(bins=world.bins)


def _summary(
    world: World,
    simulations: int,
    seed: int,
    once: Callable[[np.random.Generator], tuple[Interval, float, float]],
) -> Coverage:
    draws = np.random.default_rng([seed, world.count, world.bins])
    rows = []
    for _ in range(simulations):
        found, estimate, truth = once(draws)
        if found.low is not None and found.high is not None:
            rows.append((found.low, found.high, estimate, truth))
    if not rows:
        return Coverage(0, *[float("nan")] * 7)
    low, high, estimates, truths = np.array(rows).T
    is_above, is_below = truths < low - 1e-12, truths > high + 1e-12
    return Coverage(
        stated=len(rows),
        covered=float((~is_above & ~is_below).mean()),
        above=float(is_above.mean()),
        below=float(is_below.mean()),
        low=float(low.mean()),
        high=float(high.mean()),
        estimate=float(estimates.mean()),
        truth=float(truths.mean()),
    )


def _inner_edges(
    world: World, predictions: ClassificationPredictions, values: NDArray[np.float64]
) -> tuple[float, ...]:
    """Return the edges between the bins of the sample."""
    if world.metric == "equal-width":
        return tuple(np.arange(1, world.bins) / world.bins)
    confidence = np.exp(predictions.logits[:, 0].astype(np.float64))
    upper = np.zeros(values.shape[1])
    np.maximum.at(upper, np.abs(values).argmax(axis=1), confidence)
    return tuple(np.sort(upper)[:-1])


@cache
def _cumulated_gap(world: World, likeness: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sorted confidences of the population and the cumulated gap before each."""
    confidence = _population(world.confidence)
    if likeness:
        confidence = _moved(likeness, confidence, np.random.default_rng(13))
    confidence = np.sort(confidence)
    gap = confidence - accuracy(world, confidence)
    return confidence, np.concatenate([[0.0], np.cumsum(gap)])


def _binned_truth(world: World, likeness: str, inner: tuple[float, ...]) -> float:
    """Return the calibration error of the world in the bins of the sample."""
    confidence, cumulated = _cumulated_gap(world, likeness)
    ends = np.searchsorted(confidence, inner, side="right")
    cuts = cumulated[np.concatenate([[0], ends, [len(confidence)]])]
    return float(np.abs(np.diff(cuts)).sum() / POPULATION)


def worlds() -> list[World]:
    """Return the worlds of the published table."""
    settings: list[tuple[int, int, str, bool]] = [
        (300, 15, "equal-width", False),
        (1_000, 15, "equal-width", False),
        (2_000, 15, "equal-width", False),
        (10_000, 15, "equal-width", False),
        (1_000, 50, "equal-width", False),
        (300, 15, "equal-mass", False),
        (2_000, 15, "equal-mass", False),
        (3_000, 15, "equal-width", True),
    ]
    return [
        World(confidence, shape, error, count, bins, metric, is_grouped)
        for count, bins, metric, is_grouped in settings
        for confidence in CONFIDENCES
        for shape, error in [("uniform", 0.0)]
        + [(shape, error) for error in (0.02, 0.05) for shape in SHAPES]
    ]


def pairs() -> list[Pair]:
    """Return the pairs of the published table."""
    settings: list[tuple[int, int, str, bool]] = [
        (300, 15, "equal-width", False),
        (1_000, 15, "equal-width", False),
        (1_000, 50, "equal-width", False),
        (2_000, 15, "equal-mass", False),
        (3_000, 15, "equal-width", True),
        (10_000, 15, "equal-width", False),
    ]
    nobody = ("uniform", 0.0)
    errors: list[tuple[tuple[str, float], tuple[str, float]]] = [
        (nobody, nobody),
        (("uniform", 0.05), nobody),
        (nobody, ("uniform", 0.05)),
        (("uniform", 0.05), ("uniform", 0.05)),
        (("uniform", 0.02), ("uniform", 0.03)),
        (("top", 0.05), ("alternating", 0.05)),
        (("uniform", 0.02), ("under", 0.02)),
    ]
    return [
        Pair(World(confidence, *first, count, bins, metric, is_grouped), *second, likeness)
        for count, bins, metric, is_grouped in settings
        for confidence in ("certain", "sharp", "flat")
        for first, second in errors
        for likeness in LIKENESS
    ]


def main() -> None:
    """Print one line for each world, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--changes", action="store_true", help="two models on the same images")
    parser.add_argument("--images", type=int, help="only worlds with so many images")
    options = parser.parse_args()
    (_print_changes if options.changes else _print_worlds)(options.simulations, options.images)


def _print_changes(simulations: int, images: int | None) -> None:
    print(
        "| images | bins | groups of 10 | confidences | error of a | error of b | models | true "
        "| stated | covered | truth below | truth above | mean estimate | mean interval |"
    )
    print("|" + " --- |" * 14)
    for pair in pairs():
        if images in (None, pair.first.count):
            found = simulate_change(pair, simulations)
            shown = [_of_whom(world) for world in (pair.first, _second(pair))]
            cells = [*_setting(pair.first), *shown, pair.likeness, *_cells(found, simulations)]
            print(f"| {' | '.join(cells)} |", flush=True)


def _print_worlds(simulations: int, images: int | None) -> None:
    print(
        "| images | bins | groups of 10 | confidences | error of | true | stated | covered "
        "| truth below | truth above | mean estimate | mean interval |"
    )
    print("|" + " --- |" * 12)
    for world in worlds():
        if images in (None, world.count):
            found = simulate(world, simulations)
            shape = world.shape if world.error else "nobody"
            cells = [*_setting(world), shape, *_cells(found, simulations)]
            print(f"| {' | '.join(cells)} |", flush=True)


def _of_whom(world: World) -> str:
    return f"{world.shape} {world.error:g}" if world.error else "nobody"


def _setting(world: World) -> list[str]:
    grouped = "yes" if world.is_grouped else "no"
    return [f"{world.count:,}", f"{world.bins} {world.metric}", grouped, world.confidence]


def _cells(found: Coverage, simulations: int) -> list[str]:
    """Return what was found; dashes where no interval was stated."""
    if not found.stated:
        return ["-", "0%", "-", "-", "-", "-", "-"]
    shares: Sequence[float] = (found.covered, found.above, found.below)
    return [
        f"{found.truth:.4f}",
        f"{found.stated / simulations:.0%}",
        *[f"{share:.1%}" for share in shares],
        f"{found.estimate:.4f}",
        f"{found.low:.4f} to {found.high:.4f}",
    ]


if __name__ == "__main__":
    main()
