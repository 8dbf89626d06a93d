"""Time of everything that is derived from stored predictions, one core.

    python benchmarks/summary.py

Budget: 60 s of processor time for 12 candidates under 76 conditions with 2,000 images, 10 classes
and the metrics that a study has by default: flips, changes with intervals, null levels, temperature
scaling, robustness, classes, tests and ranks.
"""

from __future__ import annotations

import os
import resource
import time
from functools import cache

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN, SEVERITIES, STANDARD_15, Candidate, Cell, Condition
from shrinkproof.spec.schema import DEFAULT_SCORES
from shrinkproof.summary import Settings, Sweep, summarize

COUNT, CLASSES, RECIPES, REPLICATES, BUDGET = 2_000, 10, 10, 1_000, 60
CONDITIONS = (CLEAN, *(Condition(name, s) for name in STANDARD_15 for s in SEVERITIES))


def people() -> list[Candidate]:
    """Return a baseline, a dense control and recipes of one sweep."""
    recipes = [Candidate(f"r{k}", "net", f"prune{k}", control="ctl") for k in range(RECIPES)]
    return [
        Candidate("base", "net", "baseline", role="baseline"),
        Candidate("ctl", "net", "control", role="control", control="base"),
        *recipes,
    ]


@cache
def shared() -> tuple[np.ndarray, np.ndarray]:
    """Return what all candidates see in the images: logits and true classes."""
    draws = np.random.default_rng(0)
    target = draws.integers(0, CLASSES, COUNT)
    logits = draws.standard_normal((COUNT, CLASSES))
    logits[np.arange(COUNT), target] += 4
    return logits, target


def read(key: str) -> ClassificationPredictions:
    """Return the predictions of a cell: the later candidate and condition, the noisier."""
    row, column = (int(part) for part in key.split("@")[1:])
    logits, target = shared()
    noise = np.random.default_rng([row, column]).standard_normal((COUNT, CLASSES))
    noisy = (logits + noise * (0.5 + 0.1 * row + 0.02 * column)).astype(np.float32)
    return ClassificationPredictions(noisy, target, np.arange(COUNT))


def main() -> None:
    """Print processor time, numbers of rows and memory."""
    candidates = people()
    cells = [
        Cell(f"{split}@{row}@{column}", c.key, "scores", "artifact", split, condition)
        for row, c in enumerate(candidates)
        for column, condition in enumerate(CONDITIONS)
        for split in ("report", *(["select"] if condition.is_clean else []))
    ]
    sweep = Sweep("prune{k}", "k", tuple((float(k), f"prune{k}") for k in range(RECIPES)))
    settings = Settings(
        form="artifact",
        conditions=CONDITIONS,
        metrics=tuple(DEFAULT_SCORES),
        replicates=REPLICATES,
        seed=0,
        margins={"accuracy.top1": 0.01},
        sweeps=(sweep,),
    )
    start = time.process_time()
    found = summarize(candidates, cells, read, settings)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(candidates)} candidates, {len(CONDITIONS)} conditions, {COUNT:,} images: "
        f"{seconds:.1f} s (budget {BUDGET} s), {len(found.rows):,} rows, "
        f"{len(found.exhibits)} exhibits, {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
