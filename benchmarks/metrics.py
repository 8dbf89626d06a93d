"""Time of all additive and fixed-bin metrics with 1,000-replicate intervals, one core.

    python benchmarks/metrics.py

Budget: 100 ms for 10,000 images and 10 classes, weights given (they are made once per data set).
What is computed once for all metrics, such as the softmax, is shown as a line of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.calibration import reliability
from shrinkproof.metrics.derived import derived
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


def fresh(count: int = COUNT, classes: int = CLASSES) -> ClassificationPredictions:
    """Return predictions that no metric has seen, so nothing is cached."""
    draws = np.random.default_rng(0)
    target = draws.integers(0, classes, count)
    logits = draws.standard_normal(size=(count, classes), dtype=np.float32)
    logits[np.arange(count), target] += 3
    return ClassificationPredictions(logits=logits, target=target, index=np.arange(count))


def main() -> None:
    """Print one line for each piece of work."""
    metrics = [METRICS.create(name) for name in METRICS if METRICS.get(name).is_fast]
    weights = bootstrap_weights(COUNT, replicates=REPLICATES, seed=0)
    waiting = [fresh() for _ in range(3 * ROUNDS)]
    known = fresh()

    def values() -> list[object]:
        predictions = waiting.pop()
        return [metric(predictions) for metric in metrics]

    def everything() -> object:
        predictions = waiting.pop()
        for metric in metrics:
            metric(predictions)
        terms = {metric.name: metric.terms(predictions) for metric in metrics}
        return intervals({name: t for name, t in terms.items() if t is not None}, weights)

    print(f"{COUNT:,} images, {CLASSES} classes, {REPLICATES:,} replicates, one thread, best of 7")
    for text, work in (
        ("weights, once per data set", lambda: bootstrap_weights(COUNT, seed=0)),
        ("softmax and what follows from it, once for all", lambda: derived(waiting.pop())),
        (f"{len(metrics)} fast metrics", values),
        (f"{len(metrics)} fast metrics with intervals (budget 100 ms)", everything),
        ("reliability diagram", lambda: reliability(known)),
        ("temperature", lambda: fit_temperature(known.logits, known.target)),
    ):
        print(f"{milliseconds(work):8.1f} ms  {text}")
    print("each metric alone, with its interval where it has terms, softmax known")
    for metric in metrics:

        def alone(metric: Any = metric) -> object:
            metric(known)
            terms = metric.terms(known)
            return None if terms is None else intervals({"": terms}, weights)

        print(f"{milliseconds(alone):8.1f} ms  {metric.name}")


if __name__ == "__main__":
    main()
