"""What `shrinkproof plan` says a study will cost, and what it then costs.

    python benchmarks/estimate.py              a small study with random images
    python benchmarks/estimate.py STUDY [--root NAME=PATH ...] [--limit N] [--out DIR]

The study is probed, then really run into a new directory, and both are printed for each stage with
their ratio. The budget is 25 % for the whole study. On a machine that other programs use, ``--cpu``
compares processor seconds of all processes instead of the time that passes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shrinkproof.cli.options import roots
from shrinkproof.cli.planned import spelled_bytes
from shrinkproof.cli.study import engine_of
from shrinkproof.study import Study
from shrinkproof.study.estimate import Estimate, Stage, estimate_study, work_of
from shrinkproof.study.estimate.desk import bytes_of

BUDGET = 0.25

STUDY = """
study: estimate
models:
  resnet20:
    use: cifar:resnet20
    preprocess: {mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
    seen: []
data:
  train: arrays:train.npz
  calibrate: {use: arrays:train.npz, count: 256}
  split: {from: arrays:test.npz, select: 500, report: rest}
  preset: cifar
  batch: 250
recipes:
  prune{ratio}:
    grid: {ratio: [0.3, 0.5, 0.7, 0.9]}
    steps:
      - prune.weights: {ratio: "{ratio}"}
      - finetune: {epochs: 1, learning_rate: 0.01, augment: [crop, flip], precision: bfloat16}
  int8: {steps: [quantize.static]}
  cluster16: {steps: [fold, cluster: {levels: 16}]}
conditions:
  quick: {use: quick-five, severities: [1, 3, 5]}
measure:
  cost: {latency: {}}
"""


@dataclass
class Watch:
    """Progress that notes what every stage takes.

    Attributes:
        clock: seconds.
        seconds: stage -> what it took.
        ended: when the last stage ended.
    """

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)
    ended: float = 0.0

    def __post_init__(self) -> None:
        self.ended = self.clock()

    def begin(self, stage: str, total: int) -> None:
        """Note when a stage begins; what came before the first one was the plan."""
        if not self.seconds:
            self.seconds["plan"] = self.clock() - self.ended
        self._begun = self.clock()
        print(f"{stage}: {total} to do", file=sys.stderr)

    def watch(self, detail: Callable[[], str]) -> None:
        """Ignore it."""

    def advance(self, label: str) -> None:
        """Ignore it."""

    def end(self, stage: str, seconds: float) -> None:  # noqa: ARG002 - of another clock
        """Note what a stage has taken."""
        self.ended = self.clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + self.ended - self._begun

    def warn(self, message: str) -> None:
        """Print it."""
        print(f"warning: {message}", file=sys.stderr)


def processor() -> float:
    """Return the processor seconds of this process and of those that it has waited for."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


def synthetic(folder: Path) -> Path:
    """Return a study that needs no data."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 6000), ("test", 2000)):
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=images, target=np.arange(count) % 10)
    (folder / "study.yaml").write_text(STUDY)
    return folder / "study.yaml"


def main() -> None:
    """Estimate a study, run it, and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", type=Path)
    parser.add_argument("--root", action="append")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, help="a new run directory, which is kept")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the probe")
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = arguments.study or synthetic(Path(folder))
        study = Study.load(file, roots=roots(arguments.root), limit=arguments.limit)
        out = arguments.out or Path(folder) / "run"
        if out.exists():
            parser.error(f"--out: must be a new directory, got {out}")
        compare(study, out, arguments.workers, arguments.seconds, is_cpu=arguments.cpu)


def compare(study: Study, out: Path, workers: int | None, seconds: float, *, is_cpu: bool) -> None:
    """Estimate a study, run it, and print both."""
    clock = processor if is_cpu else time.perf_counter
    engine = engine_of("auto", workers, study.spec.threads)
    start = clock()
    plan = study.plan()
    planned = clock() - start
    work = work_of(study.spec, plan)
    estimate, rates = estimate_study(
        study.inputs,
        work,
        workers=engine.beside,
        seconds=seconds,
        clock="cpu" if is_cpu else "wall",
        planned=planned,
        progress=Watch(clock),
    )
    print(f"probe: {rates.seconds:.0f} s", *(f"note: {note}" for note in estimate.notes), sep="\n")
    watch = Watch(clock)
    results = study.run(out, engine=engine, progress=watch)
    results.report()
    watch.seconds["summary"] = clock() - watch.ended
    for failure in results.failures:
        print(f"failed: {failure['label']}: {failure['message']}")
    print_ratios(estimate, watch.seconds, is_cpu=is_cpu)
    print_sizes(estimate, out)


def print_ratios(estimate: Estimate, seconds: dict[str, float], *, is_cpu: bool) -> None:
    """Print what was estimated and what was measured of every stage."""
    told = {stage.name: _taken(stage, is_cpu=is_cpu) for stage in estimate.stages}
    unit = "processor seconds" if is_cpu else "seconds"
    print(f"{unit:<20}{'estimated':>10}{'measured':>10}{'ratio':>8}")
    for name in dict.fromkeys([*told, *seconds]):
        _print_row(name, told.get(name, 0.0), seconds.get(name, 0.0))
    ratio = _print_row("all", sum(told.values()), sum(seconds.values()))
    verdict = "within" if abs(ratio - 1) <= BUDGET else "outside of"
    print(f"{verdict} the budget of {100 * BUDGET:.0f} %")


def _taken(stage: Stage, *, is_cpu: bool) -> float:
    return stage.work if is_cpu else stage.seconds


def _print_row(name: str, estimated: float, measured: float) -> float:
    ratio = estimated / measured if measured else float("nan")
    print(f"{name:<20}{estimated:>10.1f}{measured:>10.1f}{ratio:>8.2f}")
    return ratio


def print_sizes(estimate: Estimate, out: Path) -> None:
    """Print memory and disk, estimated and measured."""
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"memory of a worker: {spelled_bytes(estimate.memory)}, at most {spelled_bytes(peak)}")
    whole = sum(estimate.disk.values())
    print(f"disk: {spelled_bytes(whole)}, measured {spelled_bytes(bytes_of(out))}")


if __name__ == "__main__":
    main()
