"""Time to write a set like CIFAR-10-C: 15 corruptions x 5 severities x 10,000 images, 2.3 GB.

Run it alone on an idle machine: ``python benchmarks/corrupted_set.py``. Budget: 60 s on two cores,
starting the workers, hashing and bringing everything to the disk included.

    --data REFERENCE   images of a data reference, e.g. cifar10:test with SHRINKPROOF_CIFAR10;
                       smooth random images if absent
    --dir DIR          where to write (and remove) the set: the disk matters
    --only NAME ...    some corruptions or sets of them
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import load_images
from shrinkproof.engines.processes import Processes
from shrinkproof.records import STANDARD_15
from shrinkproof.stored.writing import write_corrupted_set

COUNT, SIDE = 10_000, 32
BUDGET = 60.0


def smooth_images() -> ImageSet:
    """Return images with the size, number and rough spectrum of the CIFAR-10 test set."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (COUNT, 6, 6, 3), dtype=np.uint8)
    pixels = np.stack([cv2.resize(c, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for c in coarse])
    return ImageSet(
        source="smooth random images",
        images=pixels,
        shape=(SIDE, SIDE),
        target=np.arange(COUNT, dtype=np.int64) % 10,
        classes=tuple("0123456789"),
        index=np.arange(COUNT, dtype=np.int64),
        hashes=np.array([f"{i:016x}" for i in range(COUNT)], dtype="U16"),
        preset="cifar",
    )


class Shares:
    """Progress that remembers how long the units of each corruption took, by the clock."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = 0.0

    def begin(self, stage: str, total: int) -> None:
        """Start the clock."""
        del stage, total
        self._last = time.perf_counter()

    def advance(self, label: str) -> None:
        """Give the time since the last unit to this one."""
        now = time.perf_counter()
        self.seconds[label.partition(":")[0]] += now - self._last
        self._last = now

    def end(self, stage: str, seconds: float) -> None:
        """Ignore it."""


def main() -> int:
    """Print the times; return 1 where the budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="")
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--only", nargs="+", default=list(STANDARD_15))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    cifar10 = os.environ.get("SHRINKPROOF_CIFAR10")
    roots = {"cifar10": Path(cifar10)} if cifar10 else {}
    images = load_images(arguments.data, roots) if arguments.data else smooth_images()
    shares = Shares()
    if arguments.dir is not None:
        arguments.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        start = time.perf_counter()
        written = write_corrupted_set(
            images,
            Path(folder) / "set",
            corruptions=arguments.only,
            engine=Processes(workers=arguments.workers),
            progress=shares,
        )
        seconds = time.perf_counter() - start
        size = sum(p.stat().st_size for p in written.folder.rglob("*") if p.is_file())
        again = time.perf_counter()
        write_corrupted_set(images, written.folder, corruptions=arguments.only)
        again = time.perf_counter() - again
    for name, share in shares.seconds.items():
        print(f"{name:<20}{share:7.1f} s")
    for condition, failure in written.failures.items():
        print(f"failed {condition}: {failure.message}")
    print(f"{images.source}: {len(images)} images, {arguments.workers} workers")
    rate = size / 1e6 / seconds
    print(f"{seconds:.1f} s, {size / 1e6:.0f} MB, {rate:.0f} MB/s; again {again:.2f} s")
    return int(seconds > BUDGET or bool(written.failures))


if __name__ == "__main__":
    sys.exit(main())
