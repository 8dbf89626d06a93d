"""What a latency stage costs, and how far its ratios can be trusted.

    python benchmarks/latency.py [--stages 5]

Networks for small images (32 x 32, without training) stand for candidates; one of them is the
baseline once more, so its true ratio is 1. Cost: one candidate, and eight of them, with the default
settings (fresh processes, memory included), beside the time that the inferences of one process
after the other would take without any start. Stability: the ratios of several stages. It ends with
1 where a budget is exceeded: 2.5 s for one candidate, or where the interval of the baseline against
itself misses 1 by more than 5 %. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.session import Session
from shrinkproof.evaluators.latency import Latency
from shrinkproof.evaluators.subject import Subject
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, load_model
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Cell, Failure

SHAPE = (3, 32, 32)
BASELINE = "resnet20"
NAMES = (BASELINE, "resnet20b", "resnet32", "resnet56", "resnet8w8")
CANDIDATES = (*NAMES, BASELINE, "resnet20b", "resnet32")
BUDGET = 2.5
TOLERANCE = 0.05


def write_networks(folder: Path) -> None:
    """Export every network into a directory of its own."""
    for name in NAMES:
        spec = ModelSpec(use=f"cifar:{name}", classes=10, preprocess=Preprocess(), seen=())
        (folder / name).mkdir()
        module = load_model(spec, {}).module
        export_onnx(module, torch.zeros(1, *SHAPE), folder / name / "model.onnx")


def subjects_of(folder: Path, names: tuple[str, ...]) -> list[Subject]:
    """Return the candidates of these names, with numbers that tell equal ones apart."""
    return [
        Subject(
            cell=Cell(f"{number}-{name}", name, "latency", "artifact"),
            predict=lambda inputs: inputs,
            preprocess=Preprocess(),
            num_classes=10,
            folder=folder / name,
            reference=folder / BASELINE,
            facts={"input_shape": SHAPE},
        )
        for number, name in enumerate(names)
    ]


def stage(subjects: list[Subject]) -> tuple[float, dict[str, dict[str, Measurement]]]:
    """Return how long a latency stage takes, and what it finds by candidate and metric."""
    start = time.perf_counter()
    found = {}
    for subject, outcome in Latency().measure(subjects, CLEAN):
        if isinstance(outcome, Failure):
            raise SystemExit(f"{subject.key}: {outcome.message}")
        found[subject.key] = {m.metric: m for m in outcome}
    return time.perf_counter() - start, found


def bare(folder: Path, names: tuple[str, ...]) -> float:
    """Return the time of the bare inferences, each candidate in turns with its baseline."""
    evaluator = Latency()
    count = evaluator.processes * (evaluator.repeats + evaluator.warmup)
    inputs = torch.zeros(1, *SHAPE).numpy()
    seconds = 0.0
    for name in (*names, *[BASELINE] * len(names)):
        session = Session(folder / name / "model.onnx")
        start = time.perf_counter()
        for _ in range(count):
            session(inputs)
        seconds += time.perf_counter() - start
    return seconds


def show_cost(folder: Path) -> float:
    """Print what stages cost; return the time of a stage with one candidate."""
    print(f"{'stage':<16}{'seconds':>9}{'bare inferences':>18}")
    times = []
    for names in ((BASELINE,), CANDIDATES):
        seconds, _ = stage(subjects_of(folder, names))
        times.append(seconds)
        word = "candidate" if len(names) == 1 else "candidates"
        print(f"{f'{len(names)} {word}':<16}{seconds:>9.2f}{bare(folder, names):>18.2f}")
    return times[0]


def show_stability(folder: Path, stages: int) -> float:
    """Print the ratios of several stages; return how far an interval misses the true ratio 1."""
    subjects = subjects_of(folder, CANDIDATES)
    runs = [stage(subjects)[1] for _ in range(stages)]
    print(f"\n{'candidate':<16}{'ratio':>8}{'spread':>9}{'interval':>10}{'memory MB':>11}")
    worst = 0.0
    for subject in subjects:
        ratios = [run[subject.key]["cost.latency_ratio"] for run in runs]
        values = [ratio.value or 0.0 for ratio in ratios]
        middle = statistics.median(values)
        spread = (max(values) - min(values)) / middle
        width = statistics.median((r.high or 0.0) - (r.low or 0.0) for r in ratios) / middle
        memory = statistics.median(
            run[subject.key]["cost.memory_peak"].value or 0.0 for run in runs
        )
        row = f"{subject.key:<16}{middle:>8.3f}{spread:>9.1%}{width:>10.1%}{memory / 1e6:>11.1f}"
        if subject.folder == subject.reference:
            misses = [max((r.low or 0.0) - 1, 1 - (r.high or 0.0), 0.0) for r in ratios]
            row += f"   holds 1 in {misses.count(0.0)} of {stages} stages"
            worst = max(worst, *misses)
        print(row)
    return worst


def main() -> int:
    """Print both tables; return 1 where a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_networks(folder)
        alone = show_cost(folder)
        worst = show_stability(folder, arguments.stages)
    print(f"\none candidate {alone:.2f} s (budget {BUDGET}), 1 missed by {worst:.1%} at most")
    return int(alone > BUDGET or worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
