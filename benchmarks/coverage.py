"""How often the intervals of calibration errors contain the truth: a simulation with known truth.

    python benchmarks/coverage.py                     the table of docs/calibration-intervals.md
    python benchmarks/coverage.py --simulations 2000  the same with less noise

A world is a distribution of confidences and a function that gives the probability of being correct
at each confidence. Predictions are drawn from it as logits and go through the metric and the
interval that the package uses. The truth is the calibration error of the world in the bins of the
sample.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from functools import cache

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from shrinkproof.metrics.calibration import EqualMassCalibrationError, ExpectedCalibrationError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.statistics import bootstrap_weights, interval

CONFIDENCES = ("certain", "sharp", "extreme", "medium", "flat")
SHAPES = ("uniform", "top", "alternating")
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
    direction = np.ones_like(confidence)
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


def _draw(world: World, draws: np.random.Generator) -> ClassificationPredictions:
    confidence = draw_confidence(world.confidence, world.count, draws)
    is_correct = _uniform(world, draws) < accuracy(world, confidence)
    logits = np.repeat(np.log((1 - confidence) / (CLASSES - 1))[:, None], CLASSES, axis=1)
    logits[:, 0] = np.log(confidence)
    return ClassificationPredictions(
        logits=logits.astype(np.float32),
        target=np.where(is_correct, 0, 1).astype(np.int64),
        index=np.arange(world.count),
    )


def _uniform(world: World, draws: np.random.Generator) -> NDArray[np.float64]:
    """Return uniform numbers, correlated within groups by a Gaussian copula."""
    if not world.is_grouped:
        return draws.random(world.count)
    shared = np.repeat(draws.standard_normal(world.count // GROUP), GROUP)
    own = draws.standard_normal(world.count)
    return np.asarray(ndtr(np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own))


def simulate(world: World, simulations: int, *, seed: int = 0, replicates: int = 500) -> Coverage:
    """Return how often the 95 % interval contains the truth of a world."""
    draws = np.random.default_rng([seed, world.count, world.bins])
    groups = np.arange(world.count) // GROUP if world.is_grouped else None
    weights = bootstrap_weights(world.count, groups=groups, replicates=replicates, seed=seed)
    make = ExpectedCalibrationError if world.metric == "equal-width" else EqualMassCalibrationError
    metric = make(bins=world.bins)
    group_count = world.count // GROUP if world.is_grouped else None
    rows = []
    for _ in range(simulations):
        predictions = _draw(world, draws)
        terms = metric.terms(predictions)
        truth = _truth(world, predictions, terms.values)
        found = interval(terms, weights, group_count=group_count)
        if found.low is not None and found.high is not None:
            rows.append((found.low, found.high, metric(predictions), truth))
    if not rows:
        return Coverage(0, *[float("nan")] * 7)
    low, high, estimate, truth = np.array(rows).T
    return Coverage(
        stated=len(rows),
        covered=float(((low <= truth) & (truth <= high)).mean()),
        above=float((truth < low).mean()),
        below=float((truth > high).mean()),
        low=float(low.mean()),
        high=float(high.mean()),
        estimate=float(estimate.mean()),
        truth=float(truth.mean()),
    )


def _truth(
    world: World, predictions: ClassificationPredictions, values: NDArray[np.float64]
) -> float:
    """Return the calibration error of the world in the bins of the sample."""
    if not world.error:
        return 0.0
    if world.metric == "equal-width":
        return _equal_width_truth(world)
    confidence = np.exp(predictions.logits[:, 0].astype(np.float64))
    upper = np.zeros(values.shape[1])
    np.maximum.at(upper, np.abs(values).argmax(axis=1), confidence)
    return _binned_truth(world, np.sort(upper)[:-1])


@cache
def _equal_width_truth(world: World) -> float:
    return _binned_truth(world, np.arange(1, world.bins) / world.bins)


def _binned_truth(world: World, inner: NDArray[np.float64]) -> float:
    confidence = _population(world.confidence)
    gap = confidence - accuracy(world, confidence)
    bins = np.searchsorted(inner, confidence, side="left")
    return float(np.abs(np.bincount(bins, gap)).sum() / POPULATION)


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


def main() -> None:
    """Print one line for each world, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=400)
    simulations = parser.parse_args().simulations
    print(
        "| images | bins | groups of 10 | confidences | error of | true | stated | covered "
        "| truth below | truth above | mean estimate | mean interval |"
    )
    print("|" + " --- |" * 12)
    for world in worlds():
        print(_row(world, simulate(world, simulations), simulations), flush=True)


def _row(world: World, found: Coverage, simulations: int) -> str:
    """Return one line of the table; dashes where no interval was stated."""
    cells = [
        f"{world.count:,}",
        f"{world.bins} {world.metric}",
        "yes" if world.is_grouped else "no",
        world.confidence,
        world.shape if world.error else "nobody",
    ]
    if found.stated:
        cells += [f"{found.truth:.4f}", f"{found.stated / simulations:.0%}"]
        cells += [f"{share:.1%}" for share in (found.covered, found.above, found.below)]
        cells += [f"{found.estimate:.4f}", f"{found.low:.4f} to {found.high:.4f}"]
    else:
        cells += ["-", "0%", "-", "-", "-", "-", "-"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
