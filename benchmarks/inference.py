"""What precision, memory format, compiling and the batch cost or gain, in turns.

    python benchmarks/inference.py                    every network, float32 and bfloat16
    python benchmarks/inference.py --compile          also compiled (minutes)
    python benchmarks/inference.py --device cuda      on a GPU, float16 too
    python benchmarks/inference.py --files            batches of the exported files instead

Networks without training on random images; on a CPU one thread. Each line is one network and batch:
milliseconds per image of the PyTorch form as it is by default (float32, contiguous, layer by
layer), and how many times as fast the others are in the same turns; above 1 is faster. With
``--files`` each line is one exported network: images per second in batches of 1 to 256, divided by
those of the batch that ``data.batch: auto`` takes.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from shrinkproof import torchvision_ops
from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.forward import Forward, on_gpu
from shrinkproof.artifacts.session import Session
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, load_model
from shrinkproof.spec.inference import auto_batch

Predict = Callable[[Any], Any]

SIDES = {"resnet20": 32, "resnet18": 224, "mobilenet_v2": 224, "resnet50": 224}
BATCHES = {
    "cpu": {32: (1, 16, 64, 256), 224: (1, 4, 16, 64)},
    "cuda": {32: (64, 256, 1024, 4096), 224: (16, 64, 256, 1024)},
}
FILES = (1, 4, 16, 64, 256)
TURNS = 5
SECONDS = 0.3
"""How long a turn of one predictor lasts, if a batch does not last longer."""


def network(name: str) -> nn.Module:
    """Return a network without training, in evaluation mode."""
    if name == "resnet20":
        spec = ModelSpec(use="cifar:resnet20", classes=10, preprocess=Preprocess(), seen=())
        return load_model(spec, {}).module
    torchvision_ops.ensure()
    import torchvision

    made: nn.Module = getattr(torchvision.models, name)(weights=None)
    return made.eval()


def forwards(module: nn.Module, device: str, *, compiled: bool) -> dict[str, Predict]:
    """Return every way to run a network by its name, the default first."""
    precisions = ["float32", "bfloat16", *(["float16"] if device == "cuda" else [])]
    ways = itertools.product(
        [False, *([True] if compiled else [])], precisions, ["contiguous", "channels_last"]
    )
    return {
        f"{precision} {layout}{' compiled' * is_compiled}": Forward(
            copy.deepcopy(module),
            device=device,
            precision=precision,
            memory_format=layout,
            is_compiled=is_compiled,
        )
        for is_compiled, precision, layout in ways
    }


def seconds_per_image(
    predicts: Mapping[str, Predict], inputs: Mapping[str, Any]
) -> dict[str, list[float]]:
    """Return the CPU or GPU time per image of each predictor, a number for each turn."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    rounds = {}
    for name, predict in predicts.items():
        predict(inputs[name])
        start = clock()
        predict(inputs[name])
        rounds[name] = max(1, int(SECONDS / max(1e-6, clock() - start)))
    found: dict[str, list[float]] = {name: [] for name in predicts}
    for _ in range(TURNS):
        for name, predict in predicts.items():
            start = clock()
            for _ in range(rounds[name]):
                predict(inputs[name])
            found[name].append((clock() - start) / rounds[name] / len(inputs[name]))
    return found


def images(count: int, side: int) -> np.ndarray:
    """Return preprocessed random images."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 3, side, side), dtype=np.float32)


def compare_forwards(names: list[str], device: str, *, compiled: bool) -> None:
    """Print how fast each way to run each network is, against the default."""
    for name in names:
        predicts = forwards(network(name), device, compiled=compiled)
        for batch in BATCHES[device][SIDES[name]]:
            inputs: Any = images(batch, SIDES[name])
            inputs = on_gpu(inputs) if device == "cuda" else inputs
            found = seconds_per_image(predicts, dict.fromkeys(predicts, inputs))
            first, *others = found.items()
            print(
                f"{name:<13} batch {batch:<5} {1e3 * statistics.median(first[1]):8.3f} ms", end=""
            )
            for way, times in others:
                gain = statistics.median(a / b for a, b in zip(first[1], times, strict=True))
                print(f"   {way} {gain:.2f}", end="")
            print(flush=True)


def compare_batches(names: list[str]) -> None:
    """Print how fast exported files are in batches of several sizes, against the automatic one."""
    for name in names:
        side = SIDES[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(network(name), torch.zeros(1, 3, side, side), path, changes=())
            session = Session(path)
        taken = auto_batch(side * side, "cpu")
        sizes = sorted({*FILES, taken})
        inputs = {str(size): images(size, side) for size in sizes}
        found = seconds_per_image(dict.fromkeys(inputs, session), inputs)
        own = found[str(taken)]
        print(f"{name:<13} batch {taken:<4} {1e3 * statistics.median(own):8.3f} ms", end="")
        for size in sizes:
            gain = statistics.median(a / b for a, b in zip(own, found[str(size)], strict=True))
            print(f"   {size}: {gain:.2f}", end="")
        print(flush=True)


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--files", action="store_true")
    parser.add_argument("networks", nargs="*", default=[*SIDES])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.files:
        compare_batches(arguments.networks)
    else:
        compare_forwards(arguments.networks, arguments.device, compiled=arguments.compile)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
