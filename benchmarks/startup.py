"""How long a cold start takes: import, ``--help``, and ``check`` of a study with 100 cells.

Each number is the median over fresh processes, wall clock, Python's own start included. Run it on
an idle machine: ``python benchmarks/startup.py``. It ends with 1 where a budget is exceeded.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STARTS = 7

STUDY = """
study: hundred
models:
  net:
    use: import:some_module:network
    classes: 4
    preprocess: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
    input_shape: [3, 16, 16]
    seen: []
data:
  calibrate: {use: arrays:train.npz, count: 32}
  split: {from: arrays:test.npz, select: 60, report: 60}
  preset: cifar
recipes:
  prune{ratio}:
    grid: {ratio: [0.3, 0.5, 0.7, 0.9]}
    steps:
      - prune.weights: {ratio: "{ratio}"}
conditions:
  gaussian_noise: [1, 3, 5]
  defocus_blur: [1, 3, 5]
  fog: [1, 3, 5]
"""
"""5 candidates x (10 conditions x 2 splits + agreement + size): 110 cells."""


def median_ms(command: list[str]) -> float:
    """Return the median wall time of fresh processes, in milliseconds."""
    times = []
    for _ in range(STARTS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> int:
    """Print the table; return 1 where a budget is exceeded."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study.yaml"
        study.write_text(STUDY)
        for name in ("train.npz", "test.npz", "some_module.py"):
            (study.parent / name).touch()  # check looks whether files are there, it reads none
        program = [sys.executable, "-m", "shrinkproof"]
        empty = median_ms([sys.executable, "-c", "pass"])
        rows = (
            ("import shrinkproof", [sys.executable, "-c", "import shrinkproof"], 100),
            ("shrinkproof --help", [*program, "--help"], 400),
            ("shrinkproof check STUDY", [*program, "check", str(study)], 1000),
        )
        print(
            f"{'what':<26}{'ms':>8}{'budget':>9}   (median of {STARTS}; bare Python: {empty:.0f})"
        )
        worst = 0.0
        for what, command, budget in rows:
            found = median_ms(command)
            worst = max(worst, found / budget)
            print(f"{what:<26}{found:>8.0f}{budget:>9}")
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(main())
