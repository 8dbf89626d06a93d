"""Predictions of 50,000 images and 1,000 classes: memory, time and disk, and what rounding costs.

    python benchmarks/predictions.py

One cell is stored in parts, put together and scored with all fast metrics and 1,000-replicate
intervals, as a run does it; largest memory is that of a process of its own. Then the numbers of
10,000 images are compared between logits in single precision and as they are stored.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

if __name__ == "__main__":  # before numpy comes
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from shrinkproof.evaluators.scores import Scores
from shrinkproof.metrics import METRICS
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.predictions.half import LARGE, rounded
from shrinkproof.protocols import Undefined
from shrinkproof.records import Cell
from shrinkproof.store import Part, Store
from shrinkproof.study.scoring import Scoring, score

COUNT, CLASSES, PARTS, REPLICATES = 50_000, 1_000, 19, 1_000
FEW, CONFIDENCES = 10_000, (0.3, 1.0, 5.0)
FAST = tuple(n for n in METRICS if METRICS.get(n).is_fast and not n.startswith("detection."))
CELL = Cell("cell", "candidate", "scores", "artifact", "report")


def some(start: int, stop: int, classes: int, confidence: float = 1.0) -> ClassificationPredictions:
    """Return what a network could say: many classes, and mistakes that look like hits."""
    count = stop - start
    draws = np.random.default_rng([start, classes])
    target = draws.integers(0, classes, count)
    shown = np.where(draws.random(count) < 0.75, target, draws.integers(0, classes, count))
    logits = draws.standard_normal((count, classes), dtype=np.float32)
    logits += 5 * draws.standard_normal((count, 1), dtype=np.float32)
    logits[np.arange(count), shown] += draws.gamma(4.0, 1.0, count).astype(np.float32)
    return ClassificationPredictions(confidence * logits, target, np.arange(start, stop))


def parts() -> tuple[Part, ...]:
    """Return the parts of all images."""
    edges = np.linspace(0, COUNT, PARTS + 1).astype(int).tolist()
    return tuple(Part(i, PARTS, edges[i], edges[i + 1], COUNT) for i in range(PARTS))


def store_parts(store: Store) -> None:
    """Store what a candidate said of each part."""
    for part in parts():
        store.parts(CELL.key).write(part, some(part.start, part.stop, CLASSES), {})


def join(store: Store) -> None:
    """Put the parts together."""
    store.join_parts(CELL.key, parts())


def compute(store: Store) -> None:
    """Compute the numbers of the cell."""
    score(Scoring(str(store.path), Scores(metrics=FAST, replicates=REPLICATES), CELL))


STEPS = {
    "nothing, imports only": lambda _: None,
    "predictions of parts, made up and stored": store_parts,
    "parts put together": join,
    f"{len(FAST)} metrics with intervals": compute,
}


def alone(step: str, run: Path) -> None:
    """Do one step and print its time and the largest memory of this process."""
    start = time.perf_counter()
    STEPS[step](Store.create(run))
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{seconds:8.1f} s  {memory:6.2f} GB  {step}")


def compare() -> None:
    """Print how far each number moves by rounding, at most."""
    moved: dict[str, float] = defaultdict(float)
    for classes in (10, 100, 1_000):
        for confidence in CONFIDENCES:
            exact = some(0, FEW, classes, confidence)
            stored = rounded(exact, LARGE)
            for name in FAST:
                metric = METRICS.create(name)
                first, second = metric(exact), metric(stored)
                if not isinstance(first, Undefined):
                    moved[name] = max(moved[name], abs(first - second))
    print(f"largest change of a number by rounding, {FEW:,} images, 10 to 1,000 classes, logits")
    print(f"times {', '.join(map(str, CONFIDENCES))}")
    for name, change in moved.items():
        print(f"{change:10.1e}  {name}")


def main() -> None:
    """Print both tables, or do one step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()
    if arguments.step:
        alone(arguments.step, arguments.run)
        return
    print(
        f"{COUNT:,} images, {CLASSES:,} classes, {PARTS} parts; time and largest memory", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, "--run", str(run)]
            subprocess.run(command, check=True)
        size = sum(p.stat().st_size for p in (run / "predictions").rglob("*") if p.is_file())
        print(f"{size / 1e6:.0f} MB on disk; in single precision {4e-6 * COUNT * CLASSES:.0f} MB")
    compare()


if __name__ == "__main__":
    main()
