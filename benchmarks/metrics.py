"""Time of all additive and fixed-bin metrics with 1,000-replicate intervals, one core.

    python benchmarks/metrics.py

Budget: 100 ms for 10,000 images and 10 classes, weights given (they are made once per data set).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.calibration import reliability
from shrinkproof.metrics.temperature import fit_temperature
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.statistics import bootstrap_weights, intervals

COUNT, CLASSES, REPLICATES, ROUNDS = 10_000, 10, 1_000, 7


def milliseconds(work: Callable[[], object]) -> float:
    """Return the fastest of several runs: other processes can only add time."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def fresh() -> ClassificationPredictions:
    """Return predictions that no metric has seen, so nothing is cached."""
    draws = np.random.default_rng(0)
    target = draws.integers(0, CLASSES, COUNT)
    logits = draws.normal(size=(COUNT, CLASSES)).astype(np.float32)
    logits[np.arange(COUNT), target] += 3
    return ClassificationPredictions(logits=logits, target=target, index=np.arange(COUNT))


def main() -> None:
    """Print one line for each piece of work."""
    metrics = [METRICS.create(name) for name in METRICS]
    weights = bootstrap_weights(COUNT, replicates=REPLICATES, seed=0)
    waiting = [fresh() for _ in range(2 * ROUNDS)]
    known = fresh()

    def values() -> list[float]:
        predictions = waiting.pop()
        return [metric(predictions) for metric in metrics]

    def everything() -> object:
        predictions = waiting.pop()
        for metric in metrics:
            metric(predictions)
        return intervals({m.name: m.terms(predictions) for m in metrics}, weights)

    print(f"{COUNT:,} images, {CLASSES} classes, {REPLICATES:,} replicates, one thread, best of 7")
    for text, work in (
        ("weights, once per data set", lambda: bootstrap_weights(COUNT, seed=0)),
        ("5 metrics", values),
        ("5 metrics with intervals (budget 100 ms)", everything),
        ("reliability diagram", lambda: reliability(known)),
        ("temperature", lambda: fit_temperature(known.logits, known.target)),
    ):
        print(f"{milliseconds(work):8.1f} ms  {text}")


if __name__ == "__main__":
    main()
