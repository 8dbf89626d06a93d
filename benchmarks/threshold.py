"""Global magnitude pruning of 25 million weights: ours against torch.nn.utils.prune.

    python benchmarks/threshold.py

The layers have the shapes of ResNet-50's, with random weights. Both run in turns in one process on
one thread. Compared are finding the threshold with the masks that follow from it (the ranking of
`prune.weights` against `global_unstructured`, which ranks and attaches masks), and the whole step.
Budget: at least 10 times faster, with the same masks.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from shrinkproof.compressors.constraint import Mask, constraints_of
from shrinkproof.compressors.lowest import lowest_of
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.tasks import Classification

RATIO, ROUNDS = 0.7, 3

STAGES = ((3, 256, 64), (4, 512, 128), (6, 1024, 256), (3, 2048, 512))
"""Blocks, output channels and inner channels of ResNet-50's stages."""


def network() -> nn.Sequential:
    """Return the convolutions and the head of a ResNet-50, without batch normalization."""
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, bias=False)]
    width = 64
    for blocks, out, inner in STAGES:
        layers.append(nn.Conv2d(width, out, 1, bias=False))
        for _ in range(blocks):
            layers.append(nn.Conv2d(width, inner, 1, bias=False))
            layers.append(nn.Conv2d(inner, inner, 3, bias=False))
            layers.append(nn.Conv2d(inner, out, 1, bias=False))
            width = out
    layers.append(nn.Linear(2048, 1000, bias=False))
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.05, generator=generator)
    return nn.Sequential(*layers).eval()


def context() -> Context:
    """Return what a step without images needs."""
    return Context(
        task=Classification(),
        example=torch.zeros(1, 3, 8, 8),
        device=torch.device("cpu"),
        stream=stream,
    )


def seconds(work: Callable[[], object]) -> float:
    """Return how long a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(model: nn.Sequential) -> object:
    """Run the whole step."""
    step = WeightPruning(ratio=RATIO, layers="conv+linear", floor=0.0)
    return step.apply(model, context())


def ranking(model: nn.Sequential) -> object:
    """Score, rank and return which weights go."""
    scores = [layer.weight.detach().abs().numpy().ravel() for layer in model]
    sizes = [s.size for s in scores]
    return lowest_of(np.concatenate(scores), sizes, RATIO, scope="global", floor=0.02)


def theirs(model: nn.Sequential) -> object:
    """Let torch rank all weights and attach its masks."""
    parameters = [(layer, "weight") for layer in model]
    return prune.global_unstructured(parameters, prune.L1Unstructured, amount=RATIO)


def peak() -> float:
    """Return the largest memory of this process so far in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Print times, ratios, memory, and whether the masks agree."""
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {"ranking": [], "whole step": [], "torch": []}
    started = peak()
    memory = {}
    for _ in range(ROUNDS):
        for name, work in (("ranking", ranking), ("whole step", ours), ("torch", theirs)):
            model = network()
            times[name].append(seconds(lambda work=work, model=model: work(model)))
            memory.setdefault(name, peak())
            if name == "whole step":
                left = [constraints_of(layer)[0] for layer in model]
    weights = sum(layer.weight.numel() for layer in model)
    same = all(
        isinstance(rule, Mask) and torch.equal(rule.mask, layer.weight_mask.bool())
        for rule, layer in zip(left, model, strict=True)
    )
    print(f"{weights:,} weights in {len(model)} tensors, one thread, median of {ROUNDS} in turns")
    reference = float(np.median(times["torch"]))
    for name, taken in times.items():
        median = float(np.median(taken))
        print(f"{median:7.2f} s  {reference / median:5.1f}x  {name}")
    print(f"same masks: {same}")
    print(f"peak memory: {started:.0f} MB at the start, then at most")
    for name, value in memory.items():
        print(f"{value:7.0f} MB  after the first {name}")


if __name__ == "__main__":
    main()
