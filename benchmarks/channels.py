"""Channel pruning by half: how long it takes, and how much faster the exported file is.

    python benchmarks/channels.py                      ResNet-50 and MobileNetV2
    python benchmarks/channels.py densenet121 ...      these networks of torchvision

Random weights, 224 pixels, L1 norm, the ratio of each layer, widths in multiples of 8, one thread.
Pruning includes finding the tied channels, cutting them and the comparison with the silenced
network. torch-pruning (where it is installed) prunes the same network with the same settings in
turns with ours. Latency is that of one image in ONNX Runtime; dense and pruned file take turns.
The pruned network is also written with 8-bit integers, ranges from random images.
Run it on an idle machine. It ends with 1 where a budget is missed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.session import Session
from shrinkproof.compressors.channels import ChannelPruning
from shrinkproof.compressors.quantize import StaticQuantization
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.tasks import Classification
from shrinkproof.torchvision_ops import ensure

TURNS = 3
REPEATS = 40
WARMUP = 5
SIDE = 224

SECONDS = {"resnet50": 2.0}
"""Most seconds for pruning half of the channels."""

SPEEDUP = {"resnet50": 3.0, "mobilenet_v2": 2.0}
"""Least ratio of the latencies, dense over pruned."""


def network(name: str) -> torch.nn.Module:
    """Return a network of torchvision with random weights."""
    ensure()
    import torchvision

    torch.manual_seed(0)
    model: torch.nn.Module = torchvision.models.get_model(name, weights=None)
    return model.eval()


SMALLER = {"resnet50": 13.0}
"""Least ratio of the files, dense over pruned with 8-bit integers."""


class Noise:
    """Random images, which set the ranges of activations."""

    count = 8

    def batches(self, size: int, **_: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the images in batches."""
        images = torch.randn(self.count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        for part in images.split(size):
            yield part, torch.zeros(len(part), dtype=torch.int64)


def context() -> Context:
    """Return what the steps may use: an example and random images."""
    return Context(
        task=Classification(),
        example=torch.zeros(1, 3, SIDE, SIDE),
        device=torch.device("cpu"),
        stream=stream,
        calibration=Noise(),
    )


def ours(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model pruned in place by us."""
    pruned, _ = ChannelPruning(ratio=0.5, scope="layer").apply(model, context())
    return pruned


def theirs(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model pruned in place by torch-pruning."""
    import torch_pruning

    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    pruner = torch_pruning.pruner.MetaPruner(
        model,
        torch.zeros(1, 3, SIDE, SIDE),
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        round_to=8,
        ignored_layers=linear[-1:],
    )
    pruner.step()
    return model


def seconds(work: Callable[[Any], Any], items: Sequence[Any]) -> list[float]:
    """Return the time that the work takes for each item."""
    times = []
    for item in items:
        start = time.perf_counter()
        work(item)
        times.append(time.perf_counter() - start)
    return times


def pruning(name: str) -> tuple[float, float | None]:
    """Return the median seconds of our pruning and of torch-pruning's, in turns."""
    model = network(name)
    ours(copy.deepcopy(model))
    mine: list[float] = []
    other: list[float] = []
    for _ in range(TURNS):
        mine += seconds(ours, [copy.deepcopy(model)])
        if _is_installed():
            other += seconds(theirs, [copy.deepcopy(model)])
    return statistics.median(mine), statistics.median(other) if other else None


def _is_installed() -> bool:
    import importlib.util

    return importlib.util.find_spec("torch_pruning") is not None


def latency(name: str, folder: Path) -> tuple[float, float, float]:
    """Return the median milliseconds of the dense and the pruned file, and the median ratio."""
    model = network(name)
    pruned, (change,) = Recipe((ChannelPruning(ratio=0.5, scope="layer"),)).apply(model, context())
    files = []
    for label, module in (("dense", model), ("pruned", pruned)):
        files.append(folder / f"{name}-{label}.onnx")
        export_onnx(module, context().example, files[-1])
    got = change.achieved
    print(
        f"  {name}: parameters {got['params_before'] / 1e6:.2f} -> {got['params'] / 1e6:.2f} M, "
        f"MACs {got['macs_before'] / 1e9:.3f} -> {got['macs'] / 1e9:.3f} G, "
        f"files {' -> '.join(f'{f.stat().st_size / 1e6:.2f}' for f in files)} MB, "
        f"difference {got['difference']:.1e}"
    )
    sessions = [Session(file, threads=1) for file in files]
    inputs = np.random.default_rng(0).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    turns = []
    for turn in range(WARMUP + REPEATS):
        pair = [seconds(session, [inputs])[0] for session in sessions]
        if turn >= WARMUP:
            turns.append(pair)
    dense, small = (statistics.median(t[i] for t in turns) for i in (0, 1))
    ratio = statistics.median(t[0] / t[1] for t in turns)
    return 1000 * dense, 1000 * small, ratio


def shrunk(name: str, folder: Path) -> float:
    """Return how many times smaller the pruned file with 8-bit integers is."""
    steps = (ChannelPruning(ratio=0.5, scope="layer"), StaticQuantization())
    module, changes = Recipe(steps).apply(network(name), context())
    file = folder / f"{name}-int8.onnx"
    report = export_onnx(module, context().example, file, changes=changes)
    dense = (folder / f"{name}-dense.onnx").stat().st_size
    print(f"  {name}: pruned and 8-bit {report.bytes / 1e6:.2f} MB, {dense / report.bytes:.1f}x")
    return dense / report.bytes


def main() -> int:
    """Print the table; return 1 where a budget is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["resnet50", "mobilenet_v2"])
    names = parser.parse_args().networks
    torch.set_num_threads(1)
    missed = []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            mine, other = pruning(name)
            dense, small, ratio = latency(name, Path(folder))
            rows.append((name, mine, other, dense, small, ratio))
            smaller = shrunk(name, Path(folder))
            if smaller < SMALLER.get(name, 0.0):
                missed.append(f"{name}: {smaller:.1f} times smaller, goal {SMALLER[name]:g}")
            if mine > SECONDS.get(name, float("inf")):
                missed.append(f"{name}: {mine:.2f} s, budget {SECONDS[name]:g} s")
            if ratio < SPEEDUP.get(name, 0.0):
                missed.append(f"{name}: {ratio:.2f} times as fast, goal {SPEEDUP[name]:g}")
    print(f"{'network':<20} {'prune s':>8} {'torch-pruning s':>16} {'dense ms':>9} "
          f"{'pruned ms':>10} {'ratio':>6}")  # fmt: skip
    for name, mine, other, dense, small, ratio in rows:
        shown = "-" if other is None else f"{other:.2f}"
        print(f"{name:<20} {mine:8.2f} {shown:>16} {dense:9.1f} {small:10.1f} {ratio:6.2f}")
    print("\n".join(missed) or "all goals met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
