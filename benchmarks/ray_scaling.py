"""How the passes of one study scale over Ray workers and processes of this machine.

    python benchmarks/ray_scaling.py [--images 1000] [--turns 3] [--workers 1 2 4]

A ResNet-20 without training and 7 pruned ones are shown random images under 16 conditions, by one
process that does nothing else (inline), by processes, and by Ray workers; all on one thread each,
in turns, from the same prepared candidates. The cluster of a turn is started before its clock is;
that its workers import torch and load the candidates is part of the time, as in a real run.

Then follows what travels per pass: the item to the worker, the result back, and the predictions
that the worker writes into the run directory. From these and the time of a pass follows when the
driver, the network or the file system would end the scaling; docs/performance.md argues it.
"""

from __future__ import annotations

import argparse
import pickle
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from passes import random_study

from shrinkproof.engines.holding import held
from shrinkproof.engines.inline import Inline
from shrinkproof.engines.processes import Processes
from shrinkproof.engines.ray import Ray
from shrinkproof.environment import usable_cores
from shrinkproof.study import Study

CONDITIONS = {name: [1, 2, 3, 4, 5] for name in ("gaussian_noise", "contrast", "jpeg_compression")}


class Counting:
    """An engine that notes how large the items and results of another one are.

    Args:
        engine: the one that works.
    """

    name = "counting"

    def __init__(self, engine: Inline) -> None:
        self.engine = engine
        self.sizes: list[tuple[int, int]] = []

    @property
    def beside(self) -> int:
        """What the other engine says."""
        return self.engine.beside

    def map(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield what the other engine yields."""
        for item, result in self.engine.map(work, items):
            self.sizes.append((len(pickle.dumps((work, item))), len(pickle.dumps(result))))
            yield item, result


def prepared(folder: Path, images: int) -> Study:
    """Return a study that needs no data; its candidates are prepared in ``folder/run``."""
    study = random_study(folder, CONDITIONS, images)
    study.run(folder / "run", stage="prepare")
    return study


def seconds(study: Study, folder: Path, engine: Any) -> float:
    """Return how long an engine needs for all passes, from the prepared candidates."""
    run = folder / "turn"
    shutil.copytree(folder / "run", run)
    with held(engine):
        start = time.perf_counter()
        study.run(run, engine=engine, stage="measure")
        taken = time.perf_counter() - start
    written = sum(path.stat().st_size for path in (run / "predictions").rglob("*.npy"))
    shutil.rmtree(run)
    if isinstance(engine, Counting):
        tell(engine.sizes, taken, written)
    return taken


def tell(sizes: list[tuple[int, int]], taken: float, written: int) -> None:
    """Print what a pass costs and moves."""
    count = len(sizes)
    items, results = (statistics.mean(column) for column in zip(*sizes, strict=True))
    print(
        f"a pass: {taken / count:.2f} s, item {items / 1e3:.1f} kB, result {results / 1e3:.1f} kB, "
        f"predictions {written / count / 1e6:.2f} MB"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    told = parser.parse_args()
    engines: dict[str, Any] = {"inline": Inline()}
    for make in (Processes, Ray):
        engines.update({f"{make.name} {count}": make(workers=count) for count in told.workers})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = prepared(folder, told.images)
        plan = study.plan()
        passes = len({(cell.split, cell.condition) for cell in plan.cells if cell.split})
        print(
            f"{usable_cores()} cores, {len(plan.candidates)} candidates, {passes} passes of "
            f"{told.images} images, {told.turns} turns"
        )
        seconds(study, folder, Counting(Inline()))
        taken: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(told.turns):
            for name, engine in engines.items():
                taken[name].append(seconds(study, folder, engine))
    for name, times in taken.items():
        one = taken[f"{name.partition(' ')[0]} {told.workers[0]}"] if " " in name else times
        ratio = statistics.median(a / b for a, b in zip(one, times, strict=True))
        print(f"{name:<12} {statistics.median(times):7.1f} s   {ratio:5.2f} x")


if __name__ == "__main__":
    main()
