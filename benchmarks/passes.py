"""What a pass costs beyond its bare forward passes and one corruption of the images.

    python benchmarks/passes.py            a ResNet-20 without training on 1,000 random images
    python benchmarks/passes.py RUN        a finished run, e.g. of studies/cifar10-resnet20.yaml

For a few conditions, in turns and in one process on one thread: (a) the pass as the engine runs it
(reading, corruption, preprocessing, all candidates, predictions to disk, metrics with intervals),
(b) one corruption of the same images plus the bare forward passes of the same candidates on inputs
that are ready in memory. The budget is 1.15 with at least 8 candidates.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from shrinkproof.artifacts.session import Session
from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.records import Condition
from shrinkproof.results import Results
from shrinkproof.study import Inputs, Study
from shrinkproof.study.work.measuring import Pass, measure
from shrinkproof.study.work.workplace import forget_workplace

TURNS = 3

STUDY = """
study: random
models:
  resnet20:
    use: cifar:resnet20
    preprocess: {mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
    seen: []
data:
  calibrate: {use: arrays:images.npz, count: 64}
  split: {from: arrays:images.npz, report: rest}
  preset: cifar
  batch: 250
recipes:
  prune{ratio}:
    grid: {ratio: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]}
    steps: [{prune.weights: {ratio: "{ratio}"}}]
conditions:
"""

CONDITIONS = {
    name: [3] for name in ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression")
}


def random_study(folder: Path, conditions: dict[str, list[int]], images: int = 1000) -> Study:
    """Return a study that needs no data and costs what CIFAR-10 costs."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels, target=np.arange(images) % 10)
    lines = [f"  {name}: {severities}\n" for name, severities in conditions.items()]
    (folder / "study.yaml").write_text(STUDY + "".join(lines))
    return Study.load(folder / "study.yaml")


def random_run(folder: Path) -> Path:
    """Return a run of such a study."""
    random_study(folder, CONDITIONS).run(folder / "run")
    return folder / "run"


def main() -> None:
    """Print the ratio for each condition."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments.run or random_run(Path(folder)))


def compare(run: Path) -> None:
    """Measure both ways in turns and print their ratio."""
    results = Results.load(run)
    inputs = Inputs.from_json(results.store.read_json("inputs.json"))
    images = inputs.splits([results.printing]).sets[results.printing]
    cells = [c for c in results.cells if c.split == results.printing and c.form == results.form]
    cells = [c for c in cells if c.evaluator == "scores"]
    conditions = sorted({c.condition for c in cells if not c.condition.is_clean})
    sessions = [
        Session(results.store.candidate(c.key) / "model.onnx", threads=inputs.spec.threads)
        for c in results.candidates
    ]
    batch = inputs.batch_of(images)
    shape = (3, *images.shape)
    ready = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
    count = len(images)
    print(f"{len(sessions)} candidates, {count} images of {shape}, batches of {batch}")

    def bare(condition: Condition) -> float:
        start = time.perf_counter()
        for positions, pixels in images.batches(batch):
            corrupt_batch(
                pixels,
                condition,
                preset=inputs.preset(images),
                seed=inputs.spec.seed,
                index=images.index[positions],
            )
            for session in sessions:
                session(ready[: len(positions)])
        return time.perf_counter() - start

    def whole(condition: Condition) -> float:
        wanted = tuple(c for c in cells if c.condition == condition)
        start = time.perf_counter()
        measure(Pass(str(run), results.printing, condition, wanted))
        return time.perf_counter() - start

    forget_workplace()
    whole(conditions[0])  # loads the sessions, which a worker does once
    ratios = []
    for condition in conditions[-3:]:
        pairs = [(whole(condition), bare(condition)) for _ in range(TURNS)]
        ours, theirs = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        ratios.append(ours / theirs)
        print(f"{condition!s:<22} pass {ours:6.2f} s   bare {theirs:6.2f} s   {ours / theirs:.3f}")
    worst = max(ratios)
    print(f"median {statistics.median(ratios):.3f}, worst {worst:.3f}, budget 1.15")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
