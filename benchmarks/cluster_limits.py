"""Where scaling ends on a cluster: the useful number of workers, and which limit sets it.

    python benchmarks/cluster_limits.py                     ImageNet-C with 20 candidates
    python benchmarks/cluster_limits.py --forward-ms 9 0.2 --disk-gb-s 0.2

Nothing is measured: it is arithmetic on measured times, which are arguments. The defaults are those
of docs/performance.md, which says where each comes from and what the formulas are. The pieces of
work and the bytes are those that the program makes of such a study.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Final

from shrinkproof.predictions.half import LARGE
from shrinkproof.study.work.parts import PIXELS

WORKERS: Final = (1, 4, 16, 64, 256, 1024)
EFFICIENT: Final = 0.8
"""Share of their time that workers must not spend on starting."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A study on a cluster; times in seconds, sizes in bytes.

    Attributes:
        images: images of the split.
        side: pixels of one side of an image.
        classes: number of classes.
        candidates: number of candidates.
        conditions: clean images and every corruption at every severity.
        forward: one image through one network, on one worker.
        prepare: reading and corrupting one image, in the thread beside the network.
        beside: whether that thread has a core of its own.
        image: bytes of one image on the shared disk.
        start: until a worker has imported, read the study and loaded the candidates.
        bandwidth: bytes per second of the shared disk.
        driver: the driver's time for one finished cell.
        summary: derived numbers of one cell, in the driver.
        plan: planning, and whatever else happens once.
    """

    images: int
    side: int
    classes: int
    candidates: int
    conditions: int
    forward: float
    prepare: float
    beside: bool
    image: float
    start: float
    bandwidth: float
    driver: float
    summary: float
    plan: float

    @property
    def cells(self) -> int:
        """Measured cells."""
        return self.candidates * self.conditions

    @property
    def parts(self) -> int:
        """Parts of one pass."""
        share = max(self.side**2 / PIXELS, self.classes / LARGE)
        return max(1, math.ceil(self.images * share))

    @property
    def pieces(self) -> int:
        """Pieces of work that workers take."""
        return self.parts * self.conditions

    @property
    def piece(self) -> float:
        """Seconds of one piece: the thread overlaps where it has a core of its own."""
        network, thread = self.candidates * self.forward, self.prepare
        each = max(network, thread) if self.beside else network + thread
        return self.images / self.parts * each

    @property
    def work(self) -> float:
        """Seconds of all pieces on one worker."""
        return self.pieces * self.piece

    @property
    def moved(self) -> float:
        """Bytes of one piece: images read, predictions written, read and written again joined."""
        images = self.images / self.parts
        logits = self.images * self.classes
        # Large ones are half precision, with the largest logit of each row in single precision.
        answer = 2 * self.classes + 4 if logits > LARGE else 4 * self.classes
        times = 3 if self.parts > 1 else 1
        return images * (self.image + times * self.candidates * answer)

    @property
    def serial(self) -> float:
        """Seconds in which one process works and the others wait."""
        return self.plan + self.cells * self.summary

    def measuring(self, workers: int) -> float:
        """Return the seconds until so many workers have done all pieces."""
        rounds = math.ceil(self.pieces / workers)
        busy = min(workers, self.pieces)
        slowed = max(
            1.0, busy * self.moved / self.piece / self.bandwidth, busy / self.limits["driver"]
        )
        return self.start + rounds * self.piece * slowed

    @property
    def limits(self) -> dict[str, float]:
        """Workers at which each limit alone is reached.

        No more workers than pieces can work; starting may take a fifth of their time; the disk and
        the driver serve no more; from there on the summary lasts longer than measuring.
        """
        spare = 1 / EFFICIENT - 1
        return {
            "pieces": self.pieces,
            "start": spare * self.work / self.start,
            "shared disk": self.bandwidth * self.piece / self.moved,
            "driver": self.piece * self.parts / (self.candidates * self.driver),
            "summary": self.work / self.serial,
        }


def show(name: str, cluster: Cluster) -> None:
    """Print what happens with more and more workers."""
    total = cluster.images * cluster.conditions * cluster.candidates
    read = cluster.images * cluster.conditions * cluster.image
    print(
        f"\n{name}: {total / 1e6:.0f} million forward passes in {cluster.pieces:,} pieces of "
        f"{cluster.piece:,.0f} s ({cluster.conditions} conditions x {cluster.parts} parts), "
        f"{cluster.work / 3600:,.0f} hours on one worker\n"
        f"reads {read / 1e9:,.0f} GB, moves {cluster.pieces * cluster.moved / 1e9:,.0f} GB in all, "
        f"{cluster.moved / cluster.piece / 1e6:.2f} MB/s per worker; one process alone, before "
        f"and after, {cluster.serial / 60:.0f} min"
    )
    for workers in WORKERS:
        seconds = cluster.measuring(workers)
        print(
            f"{workers:>8,} workers   measuring {seconds / 3600:>7,.1f} h, busy "
            f"{100 * cluster.work / (workers * seconds):>3.0f} %   "
            f"whole {(seconds + cluster.serial) / 3600:>7,.1f} h"
        )
    for limit, count in sorted(cluster.limits.items(), key=lambda item: item[1]):
        print(f"{limit:>16}: {count:>12,.0f} workers")


def main() -> None:
    """Print a cluster of cores and one of GPUs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--conditions", type=int, default=76)
    parser.add_argument("--forward-ms", type=float, nargs=2, default=(30.0, 0.5),
                        metavar=("CORE", "GPU"))  # fmt: skip
    parser.add_argument("--prepare-ms", type=float, default=6.0)
    parser.add_argument("--image-kb", type=float, default=110.0)
    parser.add_argument("--start-s", type=float, default=20.0)
    parser.add_argument("--disk-gb-s", type=float, default=1.0)
    parser.add_argument("--driver-ms", type=float, default=20.0)
    parser.add_argument("--summary-s", type=float, default=1.45)
    parser.add_argument("--plan-s", type=float, default=60.0)
    a = parser.parse_args()
    for name, milliseconds, beside in zip(
        ("cores", "GPUs"), a.forward_ms, (False, True), strict=True
    ):
        cluster = Cluster(
            images=a.images,
            side=a.side,
            classes=a.classes,
            candidates=a.candidates,
            conditions=a.conditions,
            forward=milliseconds / 1e3,
            prepare=a.prepare_ms / 1e3,
            beside=beside,
            image=a.image_kb * 1e3,
            start=a.start_s,
            bandwidth=a.disk_gb_s * 1e9,
            driver=a.driver_ms / 1e3,
            summary=a.summary_s,
            plan=a.plan_s,
        )
        show(name, cluster)


if __name__ == "__main__":
    main()
