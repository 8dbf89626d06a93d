"""H-Rank of VGG-16-BN over 640 CIFAR-10 images: a plain batched call against both of our modes.

    python benchmarks/hrank.py               640 images, two threads
    python benchmarks/hrank.py --images 128  a fifth of the work

The plain call is ``torch.linalg.matrix_rank`` on the same feature maps, batch after batch and layer
after layer, as H-Rank is usually written. The three take turns on the maps of each layer and batch,
so a busy machine is fair to all of them. The network has random weights and the batch norm
statistics of the images. Images are those of the CIFAR-10 test set in the development data (the
folder that SHRINKPROOF_DEV_DATA names, else ``shared/data`` beside the checkout), else the digits
of scikit-learn.

Budget on two cores: exact at least 1.8 times and fast at least 5 times as fast as the plain call.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shrinkproof.compressors.criteria.following import follow, read_maps
from shrinkproof.compressors.criteria.rank import (
    Ranks,
    exact_ranks,
    fast_ranks,
    plain_ranks,
    rank_threads,
)
from shrinkproof.models.cifar_vgg import vgg

BATCH = 128
WAYS = ("plain", "exact", "fast")


@dataclass
class Tally:
    """What was measured on the maps of one size.

    Attributes:
        wall: way -> seconds of each call.
        processor: way -> seconds of all cores together.
        maps: number of maps.
        ranks: sum of their ranks.
        wrong: way -> number of maps whose rank differs from the plain call's.
        far: way -> sum of the differences.
    """

    wall: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    processor: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WAYS, 0.0))
    maps: int = 0
    ranks: int = 0
    wrong: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WAYS, 0))
    far: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WAYS, 0))

    def compare(self, ranks: Ranks, matrices: Tensor) -> None:
        """Time the three ways on some maps."""
        work: dict[str, Callable[[], Tensor]] = {
            "plain": lambda: plain_ranks(matrices),
            "exact": lambda: ranks(exact_ranks, matrices),
            "fast": lambda: ranks(fast_ranks, matrices),
        }
        found = {}
        for way in WAYS:
            wall, processor = time.perf_counter(), time.process_time()
            found[way] = work[way]()
            self.processor[way] += time.process_time() - processor
            self.wall[way].append(time.perf_counter() - wall)
        self.maps += len(matrices)
        self.ranks += int(found["plain"].sum())
        for way in WAYS:
            off = (found[way] - found["plain"]).abs()
            self.wrong[way] += int((off > 0).sum())
            self.far[way] += int(off.sum())


def pixels(count: int) -> tuple[str, NDArray[np.uint8]]:
    """Return the name of the images and the first of them, (count, 32, 32, 3)."""
    root = os.environ.get("SHRINKPROOF_DEV_DATA")
    folder = Path(root) if root else Path(__file__).resolve().parents[2] / "shared" / "data"
    sheet = folder / "cifar10" / "test.webp"
    if sheet.exists():
        from PIL import Image

        with Image.open(sheet) as file:
            tiles = np.asarray(file.convert("RGB")).reshape(100, 32, 100, 32, 3)
        return "CIFAR-10", tiles.transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)[:count]
    from shrinkproof.data.digits import Digits

    return "digits", Digits().load("", {}).images[:count]


def network(inputs: Tensor) -> nn.Module:
    """Return VGG-16-BN with random weights and the batch norm statistics of some images."""
    torch.manual_seed(0)
    model = vgg(16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(inputs)
    return model.eval()


def measure(images: NDArray[np.uint8]) -> tuple[dict[int, Tally], float]:
    """Return side of the maps -> what was measured, and the seconds of everything else."""
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    inputs = (inputs - 0.47) / 0.25
    model = network(inputs[:BATCH])
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    trail = follow(model, layers, inputs[:1])
    chains = {layer: trail.chains(layer) for layer in layers}
    tallies: dict[int, Tally] = {}
    begin = time.perf_counter()
    with rank_threads() as ranks:

        def use(_: tuple[str, ...], maps: Tensor) -> None:
            tally = tallies.setdefault(maps.shape[-1], Tally())
            tally.compare(ranks, maps.flatten(0, 1).contiguous())

        for batch in inputs.split(BATCH):
            read_maps(model, chains, batch, use)
    rest = time.perf_counter() - begin - sum(sum(t.wall[w]) for t in tallies.values() for w in WAYS)
    return tallies, rest


def ratios(seconds: dict[str, float]) -> str:
    """Return the three times and how much faster than the plain call the two modes are."""
    plain, exact, fast = (seconds[way] for way in WAYS)
    return (
        f"plain {plain:6.2f} s, exact {exact:6.2f} s, fast {fast:6.2f} s: "
        f"exact {plain / exact:5.2f}x, fast {plain / fast:5.2f}x"
    )


def main() -> None:
    """Print one line for each map size and the totals."""
    parser = argparse.ArgumentParser(description="H-Rank against a plain batched call.")
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source, images = pixels(options.images)
    tallies, rest = measure(images)
    print(f"{len(images)} images of {source}, {options.threads} threads, batches of {BATCH}")
    for side, tally in tallies.items():
        wall = {way: sum(tally.wall[way]) for way in WAYS}
        print(f"{side:2d} x {side:<2d} {tally.maps:8d} maps  {ratios(wall)}")
    every = list(tallies.values())
    print(f"sum of the calls       {ratios({w: sum(sum(t.wall[w]) for t in every) for w in WAYS})}")
    medians = {w: sum(float(np.median(t.wall[w])) * len(t.wall[w]) for t in every) for w in WAYS}
    print(f"medians of each size   {ratios(medians)}")
    print(f"processor, all cores   {ratios({w: sum(t.processor[w] for t in every) for w in WAYS})}")
    count = sum(t.maps for t in every)
    print(f"passes through the network and comparisons {rest:.2f} s")
    print(f"mean rank {sum(t.ranks for t in every) / count:.4f} of {count} maps")
    for way in WAYS[1:]:
        wrong, far = sum(t.wrong[way] for t in every), sum(t.far[way] for t in every)
        print(
            f"{way}: {wrong} maps differ ({wrong / count:.5%}), mean difference {far / count:.7f}"
        )


if __name__ == "__main__":
    main()
