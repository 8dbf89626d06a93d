"""Images per second of each corruption: ours, the published scripts, imagecorruptions.

    python benchmarks/corruptions.py                    severity 3 at 32 and 224 pixels, and memory
    python benchmarks/corruptions.py --severities 1-5 --sides 32 --only fog snow

One process, one thread, CPU time (other processes hardly disturb it), textured synthetic images.
The opponents take turns; each figure is the median of the turns. Ours runs as users run it,
through ``corrupt_batch``, in batches of 256 images of 32 pixels (8 and 32 of 224 pixels); drawing
the random numbers is part of every figure. At 32 pixels ours and the scripts use the constants of
CIFAR-10-C; imagecorruptions has only those of ImageNet-C. Where one of them does not run with
today's libraries, the reason is printed.

Needs the packages of the parity tests. The frost photos are looked for in ``--frost-dir``, else in
the folder that SHRINKPROOF_FROST_DIR names. Nothing is written.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Final

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.corruptions.presets import SETS
from shrinkproof.records import STANDARD_15, Condition

PRESET_OF: Final[Mapping[int, str]] = {32: "cifar", 64: "tiny", 224: "imagenet", 299: "inception"}
BATCHES: Final[Mapping[int, tuple[int, ...]]] = {32: (256,), 64: (64,), 224: (8, 32), 299: (4,)}
LEAST: Final = 0.1
"""Seconds of CPU time that one measurement lasts at least."""
GOALS: Final[Mapping[int, tuple[int, int]]] = {32: (20, 15), 224: (20, 4)}
"""Side -> how much faster than the scripts and than imagecorruptions the mean shall be."""
MEMORY_GOAL: Final = 1e9


@dataclass
class Opponent:
    """One way to corrupt images.

    Attributes:
        name: heading of its column.
        work: corruption, severity, number of calls -> nothing.
        images: images per call.
        times: corruption -> severity -> seconds per image of each turn.
        failed: corruption -> why it does not run.
    """

    name: str
    work: Callable[[str, int, int], None]
    images: int
    times: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str, severity: int) -> None:
        """Take one more turn, unless it is known to fail."""
        if name in self.failed:
            return
        try:
            seconds = self._seconds(name, severity)
        except Exception as error:  # an opponent may fail in any way; the table says how
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.failed[name] = text[:90]
            return
        self.times.setdefault(name, {}).setdefault(severity, []).append(seconds)

    def _seconds(self, name: str, severity: int) -> float:
        calls, spent = 1, 0.0
        if not self.times.get(name, {}).get(severity):
            self.work(name, severity, 1)  # tables, files and memory are ready from now on
        while True:
            start = time.process_time()
            self.work(name, severity, calls)
            spent = time.process_time() - start
            if spent >= LEAST:
                return spent / (calls * self.images)
            calls = max(calls + 1, int(1.2 * calls * LEAST / max(spent, LEAST / 50)))

    def milliseconds(self, name: str) -> float:
        """Return the mean over severities of the median over turns, ms per image."""
        return 1e3 * statistics.mean(statistics.median(t) for t in self.times[name].values())


def textured(count: int, side: int) -> NDArray[np.uint8]:
    """Return images with coarse and fine structure, (count, side, side, 3) uint8."""
    draws = np.random.default_rng(0)
    coarse = draws.uniform(0, 255, (count, 6, 6, 3)).astype(np.float32)
    smooth = [cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC) for image in coarse]
    fine = draws.normal(0, 12, (count, side, side, 3))
    return np.clip(np.stack(smooth) + fine, 0, 255).astype(np.uint8)


def ours(side: int, batch: int, photos: Path | None) -> Opponent:
    """Return our way, through the public path."""
    images, preset, index = textured(batch, side), PRESET_OF[side], np.arange(batch)

    def work(name: str, severity: int, calls: int) -> None:
        condition = Condition(name, severity)
        for _ in range(calls):
            corrupt_batch(images, condition, preset=preset, seed=0, index=index, frost_dir=photos)

    return Opponent(f"ours/{batch}", work, batch)


def scripts(side: int, photos: Path | None) -> Opponent:
    """Return the published scripts' way: one PIL image at a time."""
    from published_corruptions import Legacy, published

    images = [Image.fromarray(image) for image in textured(8, side)]
    preset, random = PRESET_OF[side], Legacy()

    def work(name: str, severity: int, calls: int) -> None:
        if name == "frost" and photos is None:
            raise FileNotFoundError("no frost photos")
        for call in range(calls):
            image = images[call % len(images)]
            published(name, image, severity, preset, random, photos=photos)

    return Opponent("scripts", work, 1)


def imagecorruptions(side: int) -> Opponent:
    """Return the way of the package imagecorruptions: one array at a time."""
    from imagecorruptions import corrupt

    images = textured(8, side)

    def work(name: str, severity: int, calls: int) -> None:
        for call in range(calls):
            corrupt(images[call % len(images)], severity=severity, corruption_name=name)

    return Opponent("imagecorr.", work, 1)


def compare(
    side: int, names: tuple[str, ...], severities: list[int], turns: int, photos: Path | None
) -> None:
    """Measure all in turns at one image size and print the table."""
    opponents = [ours(side, batch, photos) for batch in BATCHES[side]]
    rivals = [scripts(side, photos), imagecorruptions(side)]
    text = ", ".join(map(str, severities))
    print(f"\n{side} pixels, preset {PRESET_OF[side]}, severity {text}: images/s of CPU time")
    heads = [o.name for o in opponents] + [t for r in rivals for t in (r.name, "ratio")]
    print(f"{'':<18}" + "".join(f"{head:>12}" for head in heads))
    for name in names:
        for _ in range(turns):
            for severity in severities:
                for opponent in (*opponents, *rivals):
                    opponent.measure(name, severity)
        print(f"{name:<18}" + "".join(cells(name, opponents, rivals)), flush=True)
    for rival in rivals:
        summary(side, names, opponents[0], rival)
    for name, reason in opponents[0].failed.items():
        print(f"ours, {name}: {reason}")


def cells(name: str, opponents: list[Opponent], rivals: list[Opponent]) -> Iterator[str]:
    """Yield the cells of one row."""
    for opponent in opponents:
        known = name in opponent.times
        yield f"{1e3 / opponent.milliseconds(name):>12,.0f}" if known else f"{'fails':>12}"
    for rival in rivals:
        if name not in rival.times:
            yield f"{'does not run':>24}"
            continue
        rate = 1e3 / rival.milliseconds(name)
        yield f"{rate:>12,.0f}" if rate >= 20 else f"{rate:>12.2f}"
        best = opponents[0]
        known = name in best.times
        ratio = rival.milliseconds(name) / best.milliseconds(name) if known else 0.0
        yield f"{ratio:>11.1f}x" if known else f"{'':>12}"


def summary(side: int, names: tuple[str, ...], best: Opponent, rival: Opponent) -> None:
    """Print the ratio of the summed times of the 15 common corruptions, and who is slower."""
    both = [name for name in names if name in best.times and name in rival.times]
    common = [name for name in both if name in STANDARD_15]
    if common:
        mine, theirs = (sum(map(o.milliseconds, common)) for o in (best, rival))
        goal = GOALS.get(side, (None, None))[rival.name != "scripts"]
        print(
            f"{rival.name}: {theirs:.3g} ms per image over {len(common)} of the 15, ours "
            f"{mine:.3g} ms: {theirs / mine:.1f}x" + (f" (goal {goal}x)" if goal else "")
        )
    slower = [n for n in both if rival.milliseconds(n) < best.milliseconds(n)]
    print(f"  faster than ours: {', '.join(slower) or 'none'}")
    for name, reason in rival.failed.items():
        print(f"  {name} does not run: {reason}")


def peak(name: str, side: int, count: int, photos: Path | None) -> tuple[int, int]:
    """Return the memory that one corruption of a batch adds to a fresh process, and its peak."""
    cv2.setNumThreads(1)
    images = textured(count, side)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = _high_water()
    condition = Condition(name, 3)
    for _ in range(2):
        corrupt_batch(
            images,
            condition,
            preset=PRESET_OF[side],
            seed=0,
            index=np.arange(count),
            frost_dir=photos,
        )
    return _high_water() - before, _high_water()


def _high_water() -> int:
    """Return the largest resident size of this process since the last reset, bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def memory(names: tuple[str, ...], photos: Path | None) -> None:
    """Print the memory of each corruption for 32 images of 224 pixels, severity 3."""
    print("\n32 images of 224 pixels: added memory and peak of the process, MB (goal < 1,000)")
    if not Path("/proc/self/status").exists():
        print("not measured: no /proc")
        return
    task = partial(peak, side=224, count=32, photos=photos)
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for name, future in [(name, pool.submit(task, name)) for name in names]:
            try:
                added, top = future.result()
            except Exception as error:
                print(f"{name:<18} fails: {str(error)[:80]}")
                continue
            late = "" if top < MEMORY_GOAL else "  too much"
            print(f"{name:<18}{added / 1e6:>12,.0f}{top / 1e6:>12,.0f}{late}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 224], choices=PRESET_OF)
    parser.add_argument("--severities", default="3", help="one, or a range such as 1-5")
    parser.add_argument("--only", nargs="+", choices=SETS["all-corruptions"], metavar="NAME")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--frost-dir", type=Path, default=os.environ.get("SHRINKPROOF_FROST_DIR"))
    parser.add_argument("--no-memory", action="store_true")
    arguments = parser.parse_args()
    first, _, last = arguments.severities.partition("-")
    severities = list(range(int(first), int(last or first) + 1))
    names = tuple(arguments.only or SETS["all-corruptions"])
    photos = Path(arguments.frost_dir) if arguments.frost_dir else None

    warnings.simplefilter("ignore")  # the opponents' libraries warn about each other
    cv2.setNumThreads(1)
    packages = ("numpy", "scipy", "pillow", "opencv-python-headless", "scikit-image", "Wand")
    print(", ".join(f"{p} {version(p)}" for p in (*packages, "imagecorruptions")))
    print(f"Python {sys.version.split()[0]}, frost: {'photos' if photos else 'procedural'}")
    for side in arguments.sides:
        compare(side, names, severities, arguments.turns, photos)
    if not arguments.no_memory:
        memory(names, photos)


if __name__ == "__main__":
    main()
