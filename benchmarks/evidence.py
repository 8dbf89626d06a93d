"""Time and memory of what `score` adds: all other metrics, null levels, and the reference's loop.

    python benchmarks/evidence.py

Budgets: 3 s for 10,000 images and 10 classes; 60 s and 4 GB for everything about 50,000 images and
1,000 classes; and 10 times the speed of looping the ECE of netcal and of uncertainty-calibration
over resampled data sets. One core; each part is timed in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import numpy as np

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.calibration import ExpectedCalibrationError
from shrinkproof.metrics.null import nulls
from shrinkproof.metrics.temperature import fit_temperature
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.statistics import bootstrap_weights, intervals

REPLICATES, LOOPED = 1_000, 20


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of one run: other processes do not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def make(count: int, classes: int) -> ClassificationPredictions:
    """Return predictions that no metric has seen, right for about two thirds of the images."""
    draws = np.random.default_rng(0)
    target = draws.integers(0, classes, count)
    logits = draws.standard_normal(size=(count, classes), dtype=np.float32)
    logits[np.arange(count), target] += 1.1 + np.log(classes) / 2
    return ClassificationPredictions(logits=logits, target=target, index=np.arange(count))


def report(text: str, spent: float, budget: float | None = None) -> float:
    """Print one line and return the time."""
    allowed = "" if budget is None else f" (budget {budget:g} s)"
    print(f"{1e3 * spent:10.1f} ms  {text}{allowed}", flush=True)
    return spent


def measured(
    predictions: ClassificationPredictions, metrics: list[Any], weights: Any
) -> Callable[[], object]:
    """Return work: the values of some metrics, and intervals of those that have terms."""

    def work() -> object:
        for metric in metrics:
            metric(predictions)
        terms = {metric.name: metric.terms(predictions) for metric in metrics}
        return intervals({key: item for key, item in terms.items() if item is not None}, weights)

    return work


def everything(count: int, classes: int, budget: float) -> None:
    """Time every metric, every interval and every null level of one condition."""
    print(f"\n{count:,} images, {classes:,} classes, {REPLICATES:,} replicates")
    predictions = make(count, classes)
    metrics = [METRICS.create(name) for name in METRICS]
    fast = [metric for metric in metrics if metric.is_fast]
    others = [metric for metric in metrics if not metric.is_fast]
    weights = bootstrap_weights(count, replicates=REPLICATES, seed=0)
    nulls(make(300, 3), metrics, replicates=2, seed=0)  # scipy is loaded once per command
    parts = [
        report(
            f"{len(fast)} fast metrics, intervals", seconds(measured(predictions, fast, weights))
        )
    ]
    for metric in others:
        spent = seconds(measured(predictions, [metric], weights))
        parts.append(report(f"{metric.name}{_with_interval(metric, predictions)}", spent))
    slow = sum(parts[1:])
    spent = seconds(lambda: nulls(predictions, fast, replicates=REPLICATES, seed=0))
    parts.append(report("null levels of fast metrics", spent))
    spent = seconds(lambda: nulls(predictions, others, replicates=REPLICATES, seed=0))
    parts.append(report("null levels of the others", spent))
    if classes <= 10:
        report("others and null levels", slow + sum(parts[-2:]), budget)
        return
    spent = seconds(lambda: fit_temperature(predictions.logits, predictions.target))
    parts.append(report("temperature", spent))
    report("everything", sum(parts), budget)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{peak:10.2f} GB  peak memory (budget 4 GB), weights and logits included")


def _with_interval(metric: Any, predictions: ClassificationPredictions) -> str:
    return "" if metric.terms(predictions) is None else ", interval"


def against_loops() -> None:
    """Time 1,000 resampled ECEs against other packages that are called once for each."""
    predictions = make(10_000, 10)
    prob = np.exp(predictions.log_prob())
    draws = np.random.default_rng(0)
    samples = [draws.integers(0, len(prob), len(prob)) for _ in range(LOOPED)]
    metric = ExpectedCalibrationError(bins=15)

    def ours() -> object:
        weights = bootstrap_weights(len(prob), replicates=REPLICATES, seed=0)
        return intervals({"ece": metric.terms(predictions)}, weights)

    print(f"\n{REPLICATES:,} resampled ECEs of 10,000 images; loops: {LOOPED} samples, scaled up")
    own = report("ours, weights included", min(seconds(ours) for _ in range(3)))
    for text, one in references().items():

        def looped(one: Callable[[Any, Any], object] = one) -> None:
            for rows in samples:
                one(prob[rows], predictions.target[rows])

        spent = min(seconds(looped) for _ in range(2)) * REPLICATES / LOOPED
        report(f"{text}: {spent / own:.0f} times ours (at least 10)", spent)


def references() -> dict[str, Callable[[Any, Any], object]]:
    """Return the ECE of the other packages that are installed."""
    found: dict[str, Callable[[Any, Any], object]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations on import
        if find_spec("netcal"):
            from netcal.metrics import ECE

            found["netcal"] = ECE(15).measure
        if find_spec("calibration"):
            import calibration

            found["uncertainty-calibration"] = lambda p, y: calibration.get_ece(p, y, num_bins=15)
    return found


PARTS: dict[str, Callable[[], None]] = {
    "small": lambda: everything(10_000, 10, budget=3),
    "large": lambda: everything(50_000, 1_000, budget=60),
    "loops": against_loops,
}


def main() -> None:
    """Run one part, or each part in a process of its own so that peak memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", nargs="?", choices=PARTS)
    part = parser.parse_args().part
    if part is not None:
        PARTS[part]()
        return
    for each in PARTS:
        subprocess.run([sys.executable, str(Path(__file__)), each], check=True)


if __name__ == "__main__":
    main()
