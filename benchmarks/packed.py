"""Packed files of ResNet-18 with 16 levels per tensor: bytes, exactness, load time and latency.

    python benchmarks/packed.py

Goals: the packed ONNX file has at most 6.2 MB (46.8 MB before) and gives the logits of the
unpacked one bit for bit in ONNX Runtime; packing 25 million weights, proof included, takes about a
second. It ends with 1 where one is missed. Random weights: bytes and time do not depend on them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shrinkproof import torchvision_ops
from shrinkproof.artifacts.candidate import load_candidate, write_candidate
from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.packed import read_packed, write_packed
from shrinkproof.artifacts.session import Session
from shrinkproof.compressors.cluster import Clustering
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.records import Candidate, Change
from shrinkproof.tasks import Classification

LIMIT = 6_200_000
LOADS, TURNS, WARMUP = 7, 40, 5
MANY = 25_000_000


def resnet18() -> nn.Module:
    """Return torchvision's ResNet-18 with random weights, in evaluation mode."""
    torchvision_ops.ensure()
    import torchvision

    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet18(weights=None)
    return model.eval()


def clustered(model: nn.Module, example: torch.Tensor) -> tuple[nn.Module, tuple[Change, ...]]:
    """Return the model with 16 levels in each convolution and in the linear layer."""
    context = Context(
        task=Classification(),
        example=example,
        device=torch.device("cpu"),
        stream=lambda *parts: stream("packed", *parts),
    )
    start = time.perf_counter()
    made = Recipe((Clustering(levels=16),)).apply(model, context)
    print(f"clustering {time.perf_counter() - start:.2f} s")
    return made


def seconds_to_load(path: Path) -> float:
    """Return the median time of opening a session."""
    times = []
    for _ in range(LOADS):
        start = time.perf_counter()
        Session(path)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def latency_ratio(one: Path, other: Path, inputs: NDArray[np.float32]) -> tuple[float, float]:
    """Return the median latency of the second file, and its ratio to the first's; in turns."""
    sessions = [Session(one), Session(other)]
    times: list[list[float]] = [[], []]
    for turn in range(WARMUP + TURNS):
        for session, column in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session(inputs)
            if turn >= WARMUP:
                column.append(time.perf_counter() - start)
    medians = [statistics.median(column) for column in times]
    return medians[1], medians[1] / medians[0]


def megabytes(path: Path) -> str:
    """Return the size of a file, readable."""
    return f"{path.stat().st_size / 1e6:.2f} MB"


def compare(folder: Path) -> bool:
    """Compare packed and unpacked files of the same weights; return whether the goals are met."""
    example = torch.zeros(1, 3, 224, 224)
    original = resnet18()
    module, changes = clustered(original, example)
    before, plain = folder / "before.onnx", folder / "plain.onnx"
    export_onnx(original, example, before)
    export_onnx(module, example, plain)
    start = time.perf_counter()
    candidate = Candidate(key="0123456789abcdef", model="resnet18", recipe="16 levels")
    write_candidate(folder, module=module, changes=changes, candidate=candidate, example=example)
    print(f"writing the candidate {time.perf_counter() - start:.2f} s")
    packed = folder / "model.onnx"
    inputs = np.random.default_rng(0).normal(size=(4, 3, 224, 224)).astype(np.float32)
    exact = np.array_equal(Session(packed)(inputs), Session(plain)(inputs))
    print(f"ONNX file: original {megabytes(before)}, 16 levels unpacked {megabytes(plain)}")
    print(f"ONNX file packed: {megabytes(packed)} (goal 6.20 MB), bit for bit equal: {exact}")
    loads = seconds_to_load(plain), seconds_to_load(packed)
    print(f"loading: unpacked {loads[0]:.3f} s, packed {loads[1]:.3f} s")
    median, ratio = latency_ratio(plain, packed, inputs[:1])
    print(f"latency: packed {1e3 * median:.1f} ms, {ratio:.3f} of the unpacked file's")
    dense = folder / "weights.safetensors"
    weights = folder / "weights.packed.safetensors"
    print(f"weights: dense {megabytes(dense)}, packed {megabytes(weights)}")
    same = module.state_dict()
    loaded = load_candidate(folder, original, packed=True).state_dict()
    equal = all(torch.equal(loaded[name], tensor) for name, tensor in same.items())
    return exact and equal and packed.stat().st_size <= LIMIT


def timed(label: str, work: Callable[[], object]) -> None:
    """Print how long some work took."""
    start = time.perf_counter()
    work()
    print(f"  {label} {time.perf_counter() - start:.2f} s")


def pack_many(folder: Path) -> None:
    """Print how long 25 million weights take in each form."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(MANY, generator=generator)
    table = torch.linspace(-2, 2, 32)
    leveled = table[torch.bucketize(dense, (table[1:] + table[:-1]) / 2)]
    scale = torch.full((1,), 0.04)
    on_grid = (dense / scale).round().clamp(-127, 127) * scale + 0.0
    forms = {
        "dense": {"w": dense},
        "32 levels": {"w": leveled},
        "70 % zeros": {"w": torch.where(dense.abs() > 1.04, dense, 0.0)},
        "70 % zeros, 32 levels": {"w": torch.where(dense.abs() > 1.04, leveled, 0.0)},
        "8-bit integers": {"w": on_grid, "w_scale": scale},
    }
    for name, state in forms.items():
        path = folder / "many"
        form = write_packed(path, state)["w"].form
        print(f"{MANY:,} weights, {name}: {megabytes(path)} as {form}")
        timed("writing and proving", partial(write_packed, path, state))
        timed("reading", partial(read_packed, path))


def main() -> int:
    """Print sizes and times; return 1 where a goal is missed."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        reached = compare(Path(name))
        pack_many(Path(name))
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
