"""What the driver of a large study costs: planning, reading, resuming, and each cell.

    python benchmarks/driver.py            a plan of about 100,000 cells, some ten minutes
    python benchmarks/driver.py --small    a plan of about 10,000 cells

20 networks x 67 candidates x 78 cells: the 15 common corruptions at five severities. Nothing is
trained or predicted: the run directory is filled with made-up numbers as `Store` writes them, each
with an interval. Commands and readers run in fresh processes, so that their memory is their own.

The second table is what a cell costs besides corruption and forward passes, 10,000 images and 10
classes: networks that answer at once stand for the candidates, so that what is left is loading,
preprocessing, predictions and their samples to disk, metrics with intervals of 1,000 replicates,
and the shard, which waits for the disk. Budgets: plan 5 s, status 2 s, cell 50 ms. The third one is
what a further cell costs when everything is derived in the end, in one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import numpy as np

from shrinkproof.environment import capture, environment_key
from shrinkproof.evaluators.scores import Scores
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.models.loaded import Preprocess
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Candidate, Cell, Condition
from shrinkproof.spec.schema import DEFAULT_SCORES
from shrinkproof.store import Shard, Store
from shrinkproof.study import Study
from shrinkproof.study.plan import Plan, scores_of
from shrinkproof.summary import Settings, summarize

TURNS: Final = 3
IMAGES, CLASSES, CANDIDATES = 10_000, 10, 8
PLAN_BUDGET, STATUS_BUDGET, CELL_BUDGET = 5.0, 2.0, 0.050

NETWORK = """
  net{number}:
    use: import:networks_of_driver:net{number}
    classes: 10
    preprocess: {{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
    input_shape: [3, 32, 32]
    seen: []"""

STUDY = """
study: large
models:{networks}
data:
  calibrate: {{use: arrays:images.npz, count: 64}}
  split: {{from: arrays:images.npz, report: rest}}
  preset: cifar
recipes:
  prune{{ratio}}:
    grid: {{ratio: [{ratios}]}}
    steps: [{{prune.weights: {{ratio: "{{ratio}}"}}}}]
conditions:
  common: {{use: common-corruptions, severities: [1, 2, 3, 4, 5]}}
measure:
  intervals: {{replicates: 1000}}
"""

READ = """
import resource
import sys
import time

from shrinkproof.results import Results

def line(what, start):
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{seconds:10.3f} s  {what}; up to here at most {memory:,.0f} MB", flush=True)

start = time.perf_counter()
found = Results.load(sys.argv[1])
line("Results.load", start)
start = time.perf_counter()
count = len(found.shards)
line(f".shards ({count:,} cells)", start)
start = time.perf_counter()
_ = found.summary
line(f".summary ({len(found.summary.rows):,} derived numbers; there are no predictions)", start)
start = time.perf_counter()
count = len(found.records)
line(f".records ({count:,} rows)", start)
start = time.perf_counter()
frame = found.frame()
line(".frame()", start)
"""


def write_study(folder: Path, networks: int, recipes: int) -> Study:
    """Return a study of so many candidates; its networks are never made."""
    lines = [f"def net{k}():\n    raise NotImplementedError\n" for k in range(networks)]
    (folder / "networks_of_driver.py").write_text("\n".join(lines))
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (1000, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, target=np.arange(1000) % 10)
    text = STUDY.format(
        networks="".join(NETWORK.format(number=k) for k in range(networks)),
        ratios=", ".join(f"{0.95 * (k + 1) / recipes:.4f}" for k in range(recipes)),
    )
    (folder / "study.yaml").write_text(text)
    return Study.load(folder / "study.yaml")


def fill(store: Store, study: Study, plan: Plan) -> None:
    """Write the run directory that the study would have in the end, without predictions."""
    environment = capture()
    key = environment_key(environment)
    store.write_text(store.path / "study.yaml", study.inputs.text)
    store.write_json("inputs.json", study.inputs.as_json())
    store.write_environment(key, environment)
    told = asdict(plan)
    store.write_json(
        "data.json", {name: told[name] for name in ("splits", "notes", "contamination", "origins")}
    )
    for candidate in plan.candidates:
        folder = store.candidate(candidate.key)
        folder.mkdir()
        (folder / "complete.json").write_text('{"size": {}}\n')
    store.write_cells(shards_of(plan, scores_of(study.inputs), key))


def shards_of(plan: Plan, scores: Scores, environment: str) -> Iterator[Shard]:
    """Yield a finished shard of each cell, with made-up numbers."""
    draws, versions = np.random.default_rng(0), scores.versions()
    sizes = (Measurement("cost.bytes", 1e5, "bytes", "lower"),)
    for cell in plan.cells:
        if cell.evaluator == "scores":
            drawn = zip(scores.metrics, draws.uniform(0.3, 0.9, len(scores.metrics)), strict=True)
            found = tuple(
                Measurement(
                    *(name, float(value), "fraction", "lower"),
                    *(float(value) - 0.01, float(value) + 0.01, "bootstrap", 1000),
                )
                for name, value in drawn
            )
            yield Shard(cell, found, environment, versions)
        else:
            sizes = [
                Measurement(f"cost.{n}", 1e5, "bytes", "lower") for n in ("bytes", "bytes_zip")
            ]
            yield Shard(cell, tuple(sizes), environment, {"size": 1})


def seconds(work: Callable[[], object], turns: int = TURNS) -> float:
    """Return the median wall time of several calls."""
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def command(*arguments: str) -> Callable[[], object]:
    """Return what runs a program in a fresh process."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def large(folder: Path, networks: int, recipes: int) -> None:
    """Print what a large plan costs."""
    study = write_study(folder, networks, recipes)
    plan = study.plan()
    count, run = len(plan.cells), folder / "run"
    store = Store.create(run)
    print(f"{count:,} cells of {len(plan.candidates):,} candidates")
    show(seconds(study.plan), "plan", PLAN_BUDGET)
    show(seconds(lambda: store.write_plan(plan.candidates, plan.cells)), "plan written")
    show(seconds(store.read_plan), "plan read")
    start = time.perf_counter()
    fill(store, study, plan)
    print(f"({time.perf_counter() - start:.0f} s to make up the run directory)")
    show(seconds(store.finished), "names of the finished cells")
    status = command("-m", "shrinkproof", "status", str(run))
    show(seconds(status), "shrinkproof status, the whole command", STATUS_BUDGET)
    show(seconds(command("-m", "shrinkproof", "--help")), "of it Python and imports (--help)")
    subprocess.run([sys.executable, "-c", READ, str(run)], check=True)
    show(seconds(lambda: study.run(run), 1), "run again: nothing to do, summary kept")


def show(measured: float, what: str, budget: float | None = None) -> None:
    """Print one line."""
    goal = "" if budget is None else f"   (budget {budget:g} s)"
    print(f"{measured:10.3f} s  {what}{goal}")
    sys.stdout.flush()


@dataclass(frozen=True)
class Answering:
    """Answers without looking; stands for a network.

    Attributes:
        logits: (images, classes) float32.
    """

    logits: np.ndarray

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return logits (n, classes) for n inputs."""
        return self.logits[: len(inputs)]


def cells(folder: Path) -> None:
    """Print what one cell costs beside corruption and forward passes."""
    study = write_study(folder, 1, 1)
    store = Store.create(folder / "run")
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, target=np.arange(IMAGES) % CLASSES)
    shown = study.inputs.splits(["report"]).sets["report"]
    scores = scores_of(study.inputs).fast()
    versions, batch = scores.versions(), study.inputs.batch_of(shown)
    scene = Scene(shown, CLEAN, None, batch)
    answer = Answering(draws.normal(size=(batch, CLASSES)).astype(np.float32))
    preprocess = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

    def subject(number: int) -> Subject:
        cell = Cell(f"{number:016x}", "candidate", "scores", "artifact", "report", Condition())
        return Subject(
            cell=cell, predict=answer, preprocess=preprocess, num_classes=CLASSES, scene=scene,
            keep=lambda predictions: store.write_predictions(cell.key, predictions),
        )  # fmt: skip

    def measured(count: int) -> float:
        start = time.perf_counter()
        for found, outcome in scores.measure([subject(k) for k in range(count)], CLEAN):
            store.write_cell(Shard(found.cell, tuple(outcome), "machine", versions))
        return time.perf_counter() - start

    def preprocessed() -> None:
        for _, pixels in scene.batches():
            preprocess(pixels)

    measured(1)
    eight, one = (statistics.median(measured(n) for _ in range(TURNS)) for n in (CANDIDATES, 1))
    print(f"\nper cell, {IMAGES:,} images, {CLASSES} classes, {len(scores.metrics)} fast metrics")
    show((eight - one) / (CANDIDATES - 1), "each further candidate of a pass", CELL_BUDGET)
    show(eight / CANDIDATES, f"each of {CANDIDATES}, with their share of the pass", CELL_BUDGET)
    show(seconds(preprocessed), "of the pass: preprocessing, once for all candidates")
    shard = store.read_cell(f"{0:016x}")
    assert shard is not None, "it has just been written"
    show(seconds(lambda: store.write_cell(shard), 9), "of the cell: the driver, which writes it")


def summaries(count: int, classes: int) -> float:
    """Return the processor time that derived numbers of a further cell take."""
    draws = np.random.default_rng(0)
    target = draws.integers(0, classes, count)
    pool = draws.standard_normal((count, classes), dtype=np.float32)
    candidates = [
        Candidate("base", "net", "baseline", role="baseline"),
        *(Candidate(f"r{k}", "net", f"prune{k}", control="base") for k in range(3)),
    ]
    conditions = (CLEAN, Condition("fog", 3))
    settings = Settings(
        form="artifact",
        conditions=conditions,
        metrics=tuple(DEFAULT_SCORES),
        replicates=1000,
        seed=0,
    )
    made = 0.0

    def read(key: str) -> ClassificationPredictions:
        nonlocal made
        start = time.process_time()
        logits = np.roll(pool, 1 + int(key), axis=0)
        logits[np.arange(count), target] += 3
        found = ClassificationPredictions(logits, target, np.arange(count))
        made += time.process_time() - start
        return found

    def spent(number: int) -> float:
        nonlocal made
        made = 0.0
        pairs = [(c, condition) for c in candidates[:number] for condition in conditions]
        found = [
            Cell(str(k), c.key, "scores", "artifact", "report", condition)
            for k, (c, condition) in enumerate(pairs)
        ]
        start = time.process_time()
        summarize(candidates[:number], found, read, settings)
        return time.process_time() - start - made

    further = (len(candidates) - 2) * len(conditions)
    return (spent(len(candidates)) - spent(2)) / further


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large(Path(folder), *((2, 66) if arguments.small else (20, 66)))
    with tempfile.TemporaryDirectory() as folder:
        cells(Path(folder))
    print("\nderived numbers of a further cell, in the end")
    for count, classes in ((IMAGES, CLASSES), (50_000, 1_000)):
        show(summaries(count, classes), f"{count:,} images, {classes:,} classes")


if __name__ == "__main__":
    main()
